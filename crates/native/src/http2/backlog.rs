//! How many bytes of responses one client's connection holds in our memory: a client that does not read may ask for a
//! hundred at once, and open all windows. Reads and sends nothing.
//!
//! ```text
//! instance ── allowance ──> queued (no window is open) ── poll_room ──> given (the socket is full) ──> written
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::net::buffer::Size;

/// How many queued bytes make us read from instances a page at a time, and little at first; and a few kilobytes.
const SOME: usize = 32 * 1024;
const MUCH: usize = 64 * 1024;
/// How many bytes may wait for the socket.
const MOST: usize = 128 * 1024;

/// Bytes of responses that a client has not taken.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// How much to read of a response at once.
    allowance: Rc<Cell<Size>>,
    /// They wait for a window.
    queued: Cell<usize>,
    /// They have a window, and wait for the socket.
    given: Cell<usize>,
    /// When the client took some last, coarse time.
    moved: Cell<u64>,
    /// Streams with a window that wait for the socket.
    waiting: RefCell<Vec<Waker>>,
}

impl Default for Backlog {
    fn default() -> Self {
        let allowance = Rc::new(Cell::new(Size::Large));
        Self {
            allowance,
            queued: Cell::default(),
            given: Cell::default(),
            moved: Cell::default(),
            waiting: RefCell::default(),
        }
    }
}

impl Backlog {
    /// How much to read of a response at once, now and later.
    pub(crate) fn allowance(&self) -> Rc<Cell<Size>> {
        Rc::clone(&self.allowance)
    }

    /// Bytes wait for a window.
    pub(crate) fn queue(&self, count: usize) {
        self.set_queued(self.queued.get() + count);
    }

    /// They do no longer.
    pub(crate) fn unqueue(&self, count: usize) {
        self.set_queued(self.queued.get() - count);
    }

    fn set_queued(&self, count: usize) {
        self.queued.set(count);
        self.allowance.set(match count {
            ..SOME => Size::Large,
            SOME..MUCH => Size::Page,
            MUCH.. => Size::Head,
        });
    }

    /// Bytes wait for the socket.
    pub(crate) fn give(&self, count: usize) {
        self.given.set(self.given.get() + count);
    }

    /// Waits until few enough bytes wait for the socket.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.given.get() < MOST {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The socket took bytes. Those around bodies count too, which errs by little. `now`: coarse time.
    pub(crate) fn written(&self, count: usize, now: u64) {
        self.moved.set(now);
        self.given.set(self.given.get().saturating_sub(count));
        if self.given.get() < MOST / 2 {
            self.wake();
        }
    }

    /// When the socket took bytes last, coarse time.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// The socket took all there was: bytes of streams that were reset are never written.
    pub(crate) fn flushed(&self) {
        self.given.set(0);
        self.wake();
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_queued_the_less_is_read() {
        let backlog = Backlog::default();
        let allowance = backlog.allowance();
        assert_eq!(allowance.get(), Size::Large);
        backlog.queue(SOME);
        assert_eq!(allowance.get(), Size::Page);
        backlog.queue(MUCH - SOME);
        assert_eq!(allowance.get(), Size::Head);
        backlog.unqueue(MUCH);
        assert_eq!(allowance.get(), Size::Large);
    }

    #[test]
    fn who_waits_for_the_socket_is_woken_when_it_has_taken_half() {
        let (backlog, context) = (Backlog::default(), Context::from_waker(Waker::noop()));
        backlog.give(MOST);
        assert!(backlog.poll_room(&context).is_pending());
        backlog.written(MOST / 2, 0);
        assert_eq!(backlog.waiting.borrow().len(), 1);
        backlog.written(1, 0);
        assert_eq!(backlog.waiting.borrow().len(), 0);
        backlog.give(MOST);
        assert!(backlog.poll_room(&context).is_pending());
        backlog.flushed();
        assert!(backlog.poll_room(&context).is_ready());
    }
}
