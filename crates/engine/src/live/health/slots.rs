//! How much of an instance's `maxconn` is used. Queues nobody: that is [`Room`](super::Room).

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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
