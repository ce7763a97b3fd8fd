//! HTTP/2 connections of one `Via`, shared by requests: a few, as requests are put together for as long as there is room.
//! One is opened at a time; requests that it may have room for wait for it. Opens none itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::fault::Fault;
use crate::http2::connection::{Call, SharedConnection};

/// The shared connections of a worker to one place.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    connections: RefCell<Vec<Rc<SharedConnection>>>,
    upcoming: RefCell<Option<Rc<Upcoming>>>,
}

/// A connection that is being opened.
#[derive(Debug, Default)]
pub(crate) struct Upcoming {
    done: Notify,
    failed: Cell<Option<Fault>>,
}

/// Who opens the next connection.
#[derive(Debug)]
pub(crate) enum Opener<'a> {
    /// The caller.
    We(Opens<'a>),
    /// Another request does, already.
    Another(Rc<Upcoming>),
}

/// The right to open the next connection. When it is dropped, those that wait look again.
#[derive(Debug)]
pub(crate) struct Opens<'a> {
    sharing: &'a Sharing,
    upcoming: Rc<Upcoming>,
}

impl Sharing {
    /// A place on the first connection that has one.
    pub(crate) fn place(&self) -> Option<Call> {
        self.connections.borrow().iter().find_map(SharedConnection::place)
    }

    /// Shares a new connection.
    pub(crate) fn add(&self, connection: Rc<SharedConnection>) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|one| one.is_open());
        connections.push(connection);
    }

    /// Who opens the next connection.
    pub(crate) fn opener(&self) -> Opener<'_> {
        let mut current = self.upcoming.borrow_mut();
        match &*current {
            Some(upcoming) => Opener::Another(Rc::clone(upcoming)),
            None => {
                let upcoming = Rc::clone(current.insert(Rc::default()));
                Opener::We(Opens { sharing: self, upcoming })
            }
        }
    }

    /// Keeps the connections that are open and stay. Requests on the others are finished.
    pub(crate) fn retain(&self, stays: impl Fn(&SharedConnection) -> bool) {
        self.connections.borrow_mut().retain(|one| one.is_open() && stays(one));
    }

    /// How many connections have no request.
    pub(crate) fn idle(&self) -> usize {
        self.connections.borrow().iter().filter(|one| !one.is_busy()).count()
    }
}

impl Upcoming {
    /// Waits until the connection is open.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub(crate) async fn wait(&self) -> Result<(), Fault> {
        self.done.notified().await;
        self.failed.get().map_or(Ok(()), Err)
    }
}

impl Opens<'_> {
    /// Opening failed: so it did for those that wait.
    pub(crate) fn fail(self, fault: Fault) {
        self.upcoming.failed.set(Some(fault));
    }
}

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.sharing.upcoming.take();
        self.upcoming.done.notify_waiters();
    }
}
