//! Whether the other side of a connection makes progress. Progress is what it acknowledged, not what our socket took:
//! the kernel takes megabytes at once, and reports room again only when a third of them is gone. Reads and sends
//! nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use crate::net::deadline::{Deadline, millis};
use crate::net::stream::Written;

/// Looks per limit: a stalled peer is cut off at most one look late.
const LOOKS: u32 = 4;
/// The fewest acknowledged bytes per second that count as progress: otherwise a peer that takes one now and then would
/// hold its connection, and an instance's slot, for days.
pub(crate) const LEAST: u64 = 128;
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
    /// Bytes that were not acknowledged at the last look. `None`: there was no look yet.
    queued: Cell<Option<usize>>,
}

impl<'t> Pace<'t> {
    /// `moved`: when bytes last moved, coarse time; may be shared by both directions. `limit`: the longest time without
    /// movement.
    pub(crate) fn new(clock: &'t Deadline, moved: &'t Cell<u64>, limit: Duration) -> Self {
        let every = millis(limit / LOOKS).clamp(SOON, SELDOM);
        Self { clock, moved, limit, every, next: Cell::new(clock.now() + every), queued: Cell::new(None) }
    }

    /// How often to look, coarse time.
    pub(crate) fn every(&self) -> u64 {
        self.every
    }

    /// When the other side will have stalled for too long, coarse time.
    pub(crate) fn late(&self) -> u64 {
        self.clock.later(self.moved.get(), self.limit)
    }

    /// Notes that bytes moved just now.
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

    /// Looks again, if it is time. Called whenever a task has to wait. Unacknowledged bytes at the first look count as
    /// progress, because it is unknown how long they have been queued.
    pub(crate) fn look(&self, to: &impl Written) {
        let now = self.clock.now();
        if now < self.next.get() {
            return;
        }
        self.next.set(now + self.every);
        let queued = to.unacknowledged();
        let moved = match self.queued.get() {
            None => queued > 0,
            Some(before) => queued < before && (queued == 0 || (before - queued) as u64 >= self.least(now)),
        };
        // If too few bytes were acknowledged so far, they count at the next look.
        if moved || self.queued.get().is_none_or(|before| queued > before) {
            self.queued.set(Some(queued));
        }
        if moved {
            // A time in the future means that the other side owes nothing now.
            self.moved.set(self.moved.get().max(now));
        }
    }

    /// How many bytes must be acknowledged by now to be progress.
    fn least(&self, now: u64) -> u64 {
        now.saturating_sub(self.moved.get()).saturating_mul(LEAST) / 1_000
    }
}
