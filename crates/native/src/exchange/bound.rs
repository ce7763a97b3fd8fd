//! What is left to one request of a service with bounds: attempts, time, its place. Decides nothing.

use std::cell::{Cell, OnceCell};

use pointsman_table::Retries;

use crate::net::deadline::Deadline;
use crate::pool::admission::Admitted;

/// What is left to a request.
#[derive(Debug)]
pub(crate) struct Remainder {
    /// When it is sent again; `None`: as without the key.
    pub(crate) retries: Option<Retries>,
    /// How many attempts may follow.
    left: Cell<u32>,
    /// How often it has paused before an attempt.
    pauses: Cell<u32>,
    /// It was sent again because an idle connection turned out to be closed.
    pub(crate) renewed: Cell<bool>,
    /// Until when it must be done, coarse time, with a slot for that wait.
    ends: Option<(Deadline, u64)>,
    /// Its place in `limit/requests`.
    pub(crate) place: OnceCell<Admitted>,
}

impl Remainder {
    pub(crate) fn new(retries: Option<Retries>, ends: Option<(Deadline, u64)>) -> Self {
        Self {
            left: Cell::new(retries.map_or(0, |retries| retries.times)),
            retries,
            pauses: Cell::new(0),
            renewed: Cell::new(false),
            ends,
            place: OnceCell::new(),
        }
    }

    /// Until when it must be done, coarse time, with a slot for that wait.
    pub(crate) fn ends(&self) -> Option<(&Deadline, u64)> {
        self.ends.as_ref().map(|(deadline, at)| (deadline, *at))
    }

    /// How many attempts may follow.
    pub(crate) fn left(&self) -> u32 {
        self.left.get()
    }

    /// Takes attempts away.
    pub(crate) fn spend(&self, attempts: u32) {
        self.left.set(self.left.get().saturating_sub(attempts));
    }

    /// How often it has paused before; counts one more.
    pub(crate) fn pause(&self) -> u32 {
        self.pauses.replace(self.pauses.get() + 1)
    }
}
