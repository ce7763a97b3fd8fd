//! Whether the other side of a connection makes progress. That is what it acknowledged, not what our socket took: the
//! kernel takes megabytes at once, and tells that there is room again only when a third of them is gone. Reads and sends
//! nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use crate::net::deadline::{Deadline, millis};
use crate::net::stream::Written;

/// Looks that a limit is divided into: a peer that stands still is cut at most this part of the limit late.
const LOOKS: u32 = 4;
/// The shortest and the longest time between two looks, milliseconds.
const SOON: u64 = 100;
const SELDOM: u64 = 5_000;

/// When bytes last moved on a connection.
#[derive(Debug)]
pub(crate) struct Pace<'t> {
    clock: &'t Deadline,
    /// Coarse time.
    moved: &'t Cell<u64>,
    limit: Duration,
    /// How often to look, coarse time.
    every: u64,
    /// When to look next, coarse time.
    next: Cell<u64>,
    /// Bytes that were not acknowledged at the last look. `None`: there was none.
    queued: Cell<Option<usize>>,
}

impl<'t> Pace<'t> {
    /// `moved`: when bytes last moved, coarse time; may be shared by both directions. `limit`: how long they may not.
    pub(crate) fn new(clock: &'t Deadline, moved: &'t Cell<u64>, limit: Duration) -> Self {
        let every = millis(limit / LOOKS).clamp(SOON, SELDOM);
        Self { clock, moved, limit, every, next: Cell::new(clock.now() + every), queued: Cell::new(None) }
    }

    /// How often to look, coarse time.
    pub(crate) fn every(&self) -> u64 {
        self.every
    }

    /// When the other side has stood still for too long, coarse time.
    pub(crate) fn late(&self) -> u64 {
        self.clock.later(self.moved.get(), self.limit)
    }

    /// Bytes moved just now.
    pub(crate) fn moved(&self) {
        self.moved.set(self.clock.now());
    }

    /// Does the work, and looks again whenever it has to wait.
    pub(crate) async fn watching<F: Future>(&self, to: &impl Written, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            let done = work.as_mut().poll(context);
            if done.is_pending() {
                self.look(to);
            }
            done
        })
        .await
    }

    /// Looks again, if it is time: to be called whenever nothing can be done but wait. Bytes that are found waiting at the
    /// first look count as moving, as nobody knows for how long they have been waiting.
    pub(crate) fn look(&self, to: &impl Written) {
        let now = self.clock.now();
        if now < self.next.get() {
            return;
        }
        self.next.set(now + self.every);
        let queued = to.unacknowledged();
        let before = self.queued.replace(Some(queued));
        if before.map_or(queued > 0, |before| queued < before) {
            // A time to come says that the other side owes nothing now.
            self.moved.set(self.moved.get().max(now));
        }
    }
}
