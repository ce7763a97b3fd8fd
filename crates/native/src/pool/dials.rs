//! New connections that one request asked for, for whoever notes them. Opens none.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::view::InstanceLive;
use crate::fault::Fault;

/// A new connection that was asked for.
#[derive(Debug)]
pub(crate) struct DialNote {
    pub(crate) instance: Rc<InstanceLive>,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Why there is none.
    pub(crate) fault: Option<Fault>,
}

/// All those since they were taken last.
#[derive(Debug, Default)]
pub(crate) struct Dials(RefCell<Vec<DialNote>>);

impl Dials {
    /// Adds one.
    #[cold]
    pub(super) fn add(&self, dial: DialNote) {
        self.0.borrow_mut().push(dial);
    }

    /// Takes them all.
    pub(crate) fn take(&self) -> Vec<DialNote> {
        self.0.take()
    }
}
