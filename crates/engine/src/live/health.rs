//! Whether an instance takes connections and has room, and who waits for it. Shared by all workers, written only when
//! that changes. Picks nothing.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

/// Connect failures in a row that take an instance out of rotation.
const FAILURES: u32 = 3;
/// The first time out, milliseconds; it doubles with each spell up to [`LONGEST_OUT`].
const FIRST_OUT: u64 = 1_000;
/// The longest time out, milliseconds.
const LONGEST_OUT: u64 = 60_000;
/// How many requests may wait for room in one service, all workers together.
const WAITING: u32 = 1_024;

/// Whether an instance lets us connect. Written only when that changes.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    spells: AtomicU32,
    out_until: AtomicU64,
    /// A request tries it again after a spell; the others wait for its verdict.
    on_trial: AtomicBool,
}

impl Health {
    /// Whether it may get work. `now`: milliseconds since the registry began.
    pub fn is_up(&self, now: u64) -> bool {
        self.out_until.load(Relaxed) <= now
    }

    /// A request is about to connect. The first one after a spell is the trial: for `wait` milliseconds no other
    /// request goes there.
    pub fn approach(&self, now: u64, wait: u64) {
        if self.spells.load(Relaxed) == 0 {
            return;
        }
        let until = self.out_until.load(Relaxed);
        if until <= now && self.out_until.compare_exchange(until, now + wait, Relaxed, Relaxed).is_ok() {
            self.on_trial.store(true, Relaxed);
        }
    }

    /// It took a connection. `true`: it was out of rotation before.
    pub fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) == 0 {
            return false;
        }
        self.failures.store(0, Relaxed);
        self.out_until.store(0, Relaxed);
        self.on_trial.store(false, Relaxed);
        self.spells.swap(0, Relaxed) > 0
    }

    /// It did not take a connection. `Some`: it is out of rotation now, for so long.
    pub fn failed(&self, now: u64) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let tried = self.on_trial.swap(false, Relaxed);
        if failures < FAILURES || !(tried || self.is_up(now)) {
            return None;
        }
        let spell = self.spells.fetch_add(1, Relaxed).min(16);
        let out = (FIRST_OUT << spell).min(LONGEST_OUT);
        self.out_until.store(now + out, Relaxed);
        Some(Duration::from_millis(out))
    }
}

/// How much of an instance's `maxconn` is used: the one number that workers must share to keep.
#[derive(Debug, Default)]
pub struct Slots {
    used: AtomicU32,
}

impl Slots {
    /// Takes a slot if one is free.
    pub fn take(&self, limit: NonZeroU32) -> bool {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < limit.get()).then_some(used + 1)).is_ok()
    }

    /// Whether all are taken.
    pub fn is_full(&self, limit: NonZeroU32) -> bool {
        self.used.load(Relaxed) >= limit.get()
    }

    /// Gives a slot back.
    pub fn give(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
}

/// Where requests wait, in the order in which they came, while all instances of a service are at their `maxconn`.
#[derive(Debug, Default)]
pub struct Room {
    waiting: AtomicU32,
    freed: Notify,
}

impl Room {
    /// Whether anyone waits: who comes now has to wait too.
    pub fn has_queue(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// A slot was given back, or may be: the first in the queue looks.
    pub fn call_next(&self) {
        self.freed.notify_one();
    }

    /// Waits until `take` gives something. `None`: too many wait already.
    pub async fn wait<T>(&self, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        let place = Place::take(&self.waiting)?;
        let mut behind = place.behind;
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on no call is missed, not even one between looking and waiting.
            freed.as_mut().enable();
            if let Some(taken) = if behind { None } else { take() } {
                // There may be room for one more.
                self.call_next();
                return Some(taken);
            }
            freed.await;
            behind = false;
        }
    }
}

/// A place in the queue for a slot; left on drop, also when the wait is given up.
struct Place<'a> {
    waiting: &'a AtomicU32,
    behind: bool,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU32) -> Option<Self> {
        let add = |count: u32| (count < WAITING).then_some(count + 1);
        let before = waiting.fetch_update(Relaxed, Relaxed, add).ok()?;
        Some(Self { waiting, behind: before > 0 })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_take_an_instance_out_for_a_growing_while() {
        let health = Health::default();
        assert_eq!(health.failed(0), None);
        assert_eq!(health.failed(0), None);
        assert!(health.is_up(0));
        assert_eq!(health.failed(0), Some(Duration::from_secs(1)));
        assert!(!health.is_up(999));
        assert!(health.is_up(1_000));
        assert_eq!(health.failed(1_000), Some(Duration::from_secs(2)));
        assert!(health.succeeded());
        assert!(health.is_up(1_000));
        assert_eq!(health.failed(1_000), None, "a success starts the count again");
    }

    #[test]
    fn time_out_is_bounded() {
        let health = Health::default();
        let mut now = 0;
        let longest = (0..40)
            .filter_map(|_| {
                now += 100_000;
                health.failed(now)
            })
            .max();
        assert_eq!(longest, Some(Duration::from_secs(60)));
    }

    #[test]
    fn after_a_spell_one_request_tries_for_all() {
        let health = Health::default();
        assert_eq!([(); 3].map(|()| health.failed(0)), [None, None, Some(Duration::from_secs(1))]);
        health.approach(1_000, 500);
        assert!(!health.is_up(1_400), "the others go elsewhere while it is tried");
        assert_eq!(health.failed(1_500), Some(Duration::from_secs(2)));
        assert_eq!(health.failed(1_500), None, "one verdict a spell");
        health.approach(3_500, 500);
        assert!(health.succeeded());
        assert!(health.is_up(3_500));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_freed_slot_goes_to_the_first_that_waits() {
        let (slots, room, one) = (Slots::default(), Room::default(), NonZeroU32::MIN);
        assert!(slots.take(one));
        let order = std::cell::RefCell::new(Vec::new());
        let wait = async |name| {
            assert!(room.wait(|| slots.take(one).then_some(())).await.is_some());
            order.borrow_mut().push(name);
            slots.give();
            room.call_next();
        };
        tokio::join!(wait("first"), wait("second"), async {
            slots.give();
            room.call_next();
        });
        assert_eq!(*order.borrow(), ["first", "second"]);
        assert!(!room.has_queue() && !slots.is_full(one));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_queue_is_bounded_and_left_when_given_up() {
        let room = Room::default();
        room.waiting.store(WAITING, Relaxed);
        assert_eq!(room.wait(|| Some(())).await, None);
        room.waiting.store(0, Relaxed);
        let limit = Duration::from_millis(1);
        assert!(tokio::time::timeout(limit, room.wait(|| None::<()>)).await.is_err());
        assert!(!room.has_queue());
    }
}
