//! The queue of a service whose instances are all at their `maxconn`: first come, first served, over all workers.
//! Counts no slots: the request whose turn it is tries to take one.
//!
//! ```text
//! enter ─> Waiting ──call──> Called ──looked──> Waiting ──(found one)──> left, and the next one is called
//!             ^                 ^                  │
//!             └──────call───────┴──── Passed <─────┘ found none that this request may use; those behind it may look
//! ```
//!
//! The order is fair: a free slot calls the first in the queue, and a new request queues behind those that wait. A
//! request that lost its instance goes before those that never had one, because it came earlier. A request whose client
//! has half-closed its connection goes behind all others.

#![expect(clippy::disallowed_types, reason = "locked only while requests queue, never by one that finds room")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The queue of requests while all instances of a service are at their `maxconn`.
///
/// No call is lost: a request is counted before it looks for a slot, and a slot is given back before the count is read,
/// so one of the two sees the other. That holds for sequentially consistent operations only, here and in
/// [`Slots`](super::Slots).
#[derive(Debug, Default)]
pub struct Room {
    /// How many wait. Written under the lock, read by everyone.
    waiting: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeMap<Ticket, Waiter>,
    /// Those that have not passed: the first of them is next.
    looking: BTreeSet<Ticket>,
    /// How many may use only some instances.
    particular: usize,
    entered: u64,
}

/// The order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    rank: Rank,
    number: u64,
}

/// A request's class in the queue, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It had an instance and lost it, so it came before all that never had one.
    Returning,
    /// It had no instance yet.
    New,
    /// Its client half-closed the connection, and may have left: all others go first.
    HalfClosed,
}

/// What a request in the queue may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any slot that is given back.
    Any,
    /// Those of some instances: its client sticks to one, or it has tried the others.
    Some,
}

#[derive(Debug)]
struct Waiter {
    state: State,
    needs: Needs,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has changed since it looked, or those before it have to look first.
    Waiting,
    /// Called: it looks now.
    Called,
    /// It may use none of the free slots: those behind it may look.
    Passed,
}

impl Room {
    /// How many requests may queue for one service, all workers together, if no key says.
    pub const MOST: u32 = 1_024;

    /// Whether any request waits: new ones must wait too.
    pub fn has_queue(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// How many wait.
    pub fn queued(&self) -> u64 {
        self.waiting.load(SeqCst).into()
    }

    /// Calls the first in the queue to look: a slot was given back, or other instances take work, so there may be room.
    pub fn call(&self) {
        if self.has_queue() {
            let mut queue = self.lock();
            queue.recall();
            let next = queue.call_next();
            drop(queue);
            next.into_iter().for_each(Waker::wake);
        }
    }

    /// A place in the queue. `None`: too many wait already.
    pub fn enter(&self, rank: Rank) -> Option<Place<'_>> {
        self.enter_within(rank, Needs::Any, Self::MOST)
    }

    /// The same for a queue of this length. Requests that may use only some instances have as many places of their own:
    /// while their instances are full, they keep no place from those that others could serve.
    pub fn enter_within(&self, rank: Rank, needs: Needs, most: u32) -> Option<Place<'_>> {
        let mut queue = self.lock();
        if queue.of(needs) >= most as usize {
            return None;
        }
        queue.entered += 1;
        let ticket = Ticket { rank, number: queue.entered };
        let is_first = queue.looking.first().is_none_or(|first| ticket < *first);
        let state = if is_first { State::Called } else { State::Waiting };
        queue.add(ticket, Waiter { state, needs, waker: None });
        self.count(&queue);
        drop(queue);
        Some(Place { room: self, ticket })
    }

    fn count(&self, queue: &Queue) {
        // There are at most twice as many as `enter_within` allows, and no memory holds 2^32 of them.
        self.waiting.store(queue.waiters.len() as u32, SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// How many wait of this kind.
    fn of(&self, needs: Needs) -> usize {
        match needs {
            Needs::Any => self.waiters.len() - self.particular,
            Needs::Some => self.particular,
        }
    }

    fn add(&mut self, ticket: Ticket, waiter: Waiter) {
        self.particular += usize::from(waiter.needs == Needs::Some);
        self.looking.insert(ticket);
        self.waiters.insert(ticket, waiter);
    }

    fn remove(&mut self, ticket: Ticket) {
        self.looking.remove(&ticket);
        let waiter = self.waiters.remove(&ticket);
        self.particular -= usize::from(waiter.is_some_and(|waiter| waiter.needs == Needs::Some));
    }

    /// Has those that have passed look again.
    fn recall(&mut self) {
        if self.looking.len() < self.waiters.len() {
            self.waiters.values_mut().filter(|waiter| waiter.state == State::Passed).for_each(Waiter::wait);
            self.looking = self.waiters.keys().copied().collect();
        }
    }

    /// Calls the first that has not passed. The caller wakes it once the lock is released.
    fn call_next(&mut self) -> Option<Waker> {
        let next = self.waiters.get_mut(self.looking.first()?)?;
        next.state = State::Called;
        next.waker.take()
    }
}

impl Waiter {
    fn wait(&mut self) {
        self.state = State::Waiting;
    }
}

/// A place in the queue. Dropping it leaves the queue, with or without a slot, and calls the next one.
#[derive(Debug)]
pub struct Place<'a> {
    room: &'a Room,
    ticket: Ticket,
}

impl Place<'_> {
    /// Waits until it is this request's turn to look for a slot. If it finds none, it waits again.
    pub async fn turn(&self) {
        poll_fn(|context| self.poll_turn(context)).await;
    }

    fn poll_turn(&self, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.room.lock();
        let Some(waiter) = queue.waiters.get_mut(&self.ticket) else { return Poll::Ready(()) };
        if waiter.state == State::Called {
            waiter.wait();
            return Poll::Ready(());
        }
        waiter.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Calls the first in the queue to look, as [`Room::call`] does, if this is the first of all: so that requests that
    /// look again now and then do so once for all of them.
    pub fn call_if_first(&self) {
        let is_first = self.room.lock().waiters.first_key_value().is_some_and(|(first, _)| *first == self.ticket);
        if is_first {
            self.room.call();
        }
    }

    /// Lets those behind it look: it found no slot that it may use, but they may find one.
    pub fn pass(&self) {
        let mut queue = self.room.lock();
        let waiter = queue.waiters.get_mut(&self.ticket);
        // If it was called meanwhile, it looks again first.
        let Some(waiter) = waiter.filter(|waiter| waiter.state != State::Called) else { return };
        waiter.state = State::Passed;
        queue.looking.remove(&self.ticket);
        let next = queue.call_next();
        drop(queue);
        next.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.room.lock();
        queue.remove(self.ticket);
        self.room.count(&queue);
        let next = queue.call_next();
        drop(queue);
        next.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
