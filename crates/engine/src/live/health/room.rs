//! The queue of a service whose instances are all at their `maxconn`. Counts no slots: whoever waits tries to take one.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::sync::Notify;

/// How many requests may wait for room in one service, all workers together.
const WAITING: u32 = 1_024;

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
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::live::Slots;

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
