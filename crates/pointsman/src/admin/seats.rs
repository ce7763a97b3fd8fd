//! The places of the admin pages' connections. When all are taken, a new connection replaces the one with the oldest
//! last request, so that silent clients and slow readers shut nobody out. Reads and writes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded number of places.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    most: usize,
    shared: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts requests and connections: the later, the higher.
    turn: AtomicU64,
    seats: Mutex<BTreeMap<u64, Arc<Sitting>>>,
}

/// How a place is used.
#[derive(Debug)]
struct Sitting {
    /// When it was accepted, or began its last request.
    turn: AtomicU64,
    /// We are preparing the answer to its request. Sending it does not count: a slow reader may never finish.
    answering: AtomicBool,
    /// It gets the messages of an open page.
    streaming: AtomicBool,
    leave: Notify,
}

impl Seats {
    /// This many places.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, shared: Arc::default() }
    }

    /// A place for a new connection; another one leaves if all are taken.
    pub(crate) fn take(&self) -> Seat {
        if self.taken().len() >= self.most {
            self.dismiss();
        }
        let turn = self.shared.next();
        let [answering, streaming] = [false, false].map(AtomicBool::new);
        let place = Arc::new(Sitting { turn: AtomicU64::new(turn), answering, streaming, leave: Notify::new() });
        self.taken().insert(turn, Arc::clone(&place));
        Seat { id: turn, place, shared: Arc::clone(&self.shared) }
    }

    /// Dismisses the connection that has been without a request for longest; one that waits for our answer, or has an open
    /// page, only if all do. Returns whether there was one.
    pub(crate) fn dismiss(&self) -> bool {
        let mut taken = self.taken();
        let rank = |(_, place): &(&u64, &Arc<Sitting>)| {
            let is_used = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
            (is_used(&place.answering) || is_used(&place.streaming), place.turn.load(Ordering::Relaxed))
        };
        let Some(id) = taken.iter().min_by_key(rank).map(|(id, _)| *id) else { return false };
        if let Some(place) = taken.remove(&id) {
            place.leave.notify_one();
        }
        true
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Sitting>>> {
        self.shared.taken()
    }
}

impl Taken {
    fn next(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Sitting>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: u64,
    place: Arc<Sitting>,
    shared: Arc<Taken>,
}

impl Seat {
    /// Waits until the place is needed by another connection.
    pub(crate) async fn dismissed(&self) {
        self.place.leave.notified().await;
    }

    /// Ends the connection: its client does not read.
    pub(crate) fn give_up(&self) {
        self.place.leave.notify_one();
    }

    /// It was heard of now.
    pub(crate) fn renew(&self) {
        self.place.turn.store(self.shared.next(), Ordering::Relaxed);
    }

    /// An answer without end begins.
    pub(crate) fn begin_stream(&self) {
        self.place.streaming.store(true, Ordering::Relaxed);
    }

    /// It ends.
    pub(crate) fn end_stream(&self) {
        self.place.streaming.store(false, Ordering::Relaxed);
    }

    /// Whether such an answer is being sent.
    pub(crate) fn is_streaming(&self) -> bool {
        self.place.streaming.load(Ordering::Relaxed)
    }

    /// Runs `answer` for a request that has just arrived.
    pub(crate) async fn answer<T>(&self, answer: impl Future<Output = T>) -> T {
        self.renew();
        self.place.answering.store(true, Ordering::Relaxed);
        let answer = answer.await;
        self.place.answering.store(false, Ordering::Relaxed);
        answer
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.taken().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    fn is_dismissed(seat: &Seat) -> bool {
        seat.dismissed().now_or_never().is_some()
    }

    #[test]
    fn who_has_been_silent_for_longest_leaves() {
        let seats = Seats::new(3);
        let [first, second, third] = [seats.take(), seats.take(), seats.take()];
        first.answer(ready(())).now_or_never().unwrap();
        let _fourth = seats.take();
        assert_eq!([&first, &second, &third].map(is_dismissed), [false, true, false]);
        drop(third);
        let _fifth = seats.take();
        assert!(!is_dismissed(&first), "there was a free place");
    }

    #[test]
    fn who_waits_for_our_answer_stays_unless_all_do() {
        let seats = Seats::new(2);
        let [first, second] = [seats.take(), seats.take()];
        assert!(first.answer(pending::<()>()).now_or_never().is_none());
        let third = seats.take();
        assert_eq!([&first, &second].map(is_dismissed), [false, true]);
        assert!(third.answer(pending::<()>()).now_or_never().is_none());
        let _fourth = seats.take();
        assert_eq!([&first, &third].map(is_dismissed), [true, false]);
    }

    #[test]
    fn an_open_page_stays_unless_all_are() {
        let seats = Seats::new(2);
        let [page, silent] = [seats.take(), seats.take()];
        page.begin_stream();
        let third = seats.take();
        assert_eq!([&page, &silent].map(is_dismissed), [false, true]);
        third.begin_stream();
        page.renew();
        let _fourth = seats.take();
        assert_eq!([&page, &third].map(is_dismissed), [false, true]);
    }

    #[test]
    fn nobody_can_leave_an_empty_room() {
        let seats = Seats::new(1);
        assert!(!seats.dismiss());
        drop(seats.take());
        assert!(!seats.dismiss());
    }
}
