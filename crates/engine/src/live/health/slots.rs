//! How much of an instance's `maxconn` is used: by work, and by connections that workers keep idle. The queue is
//! [`Room`](super::Room).

#![expect(
    clippy::disallowed_types,
    reason = "locked only where a `maxconn` is used up and idle connections are in the way"
)]

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// How much of an instance's `maxconn` is used: the one number that workers must share, to keep the limit.
///
/// A worker's idle connection holds a place too, until it is used or closed. Work has priority: a request that takes a
/// slot and needs a new connection has surplus idle ones closed.
#[derive(Debug)]
pub struct Slots {
    /// Requests and connections at work.
    used: AtomicU32,
    /// Idle connections of each worker.
    kept: Box<[AtomicU32]>,
    /// Requests that wait for an idle connection to be closed.
    seekers: AtomicU32,
    freed: Notify,
}

impl Slots {
    pub(in crate::live) fn new(workers: usize) -> Self {
        let kept = std::iter::repeat_with(AtomicU32::default).take(workers).collect();
        Self { used: AtomicU32::default(), kept, seekers: AtomicU32::default(), freed: Notify::default() }
    }

    /// Takes a slot if one is free.
    pub fn take(&self, limit: NonZeroU32) -> bool {
        self.used.fetch_update(SeqCst, SeqCst, |used| (used < limit.get()).then_some(used + 1)).is_ok()
    }

    /// Whether all are taken.
    pub fn is_full(&self, limit: NonZeroU32) -> bool {
        self.used.load(SeqCst) >= limit.get()
    }

    /// Gives a slot back.
    pub fn give(&self) {
        self.used.fetch_sub(1, SeqCst);
        self.tell();
    }

    /// Counts an idle connection of a worker, until the returned place is dropped.
    pub fn keep(self: &Arc<Self>, worker: usize) -> IdlePlace {
        self.kept[worker].fetch_add(1, SeqCst);
        IdlePlace { slots: Arc::clone(self), worker }
    }

    /// Whether work and idle connections together exceed the limit.
    pub fn is_over(&self, limit: NonZeroU32) -> bool {
        let kept: u32 = self.kept.iter().map(|kept| kept.load(SeqCst)).sum();
        self.used.load(SeqCst).saturating_add(kept) > limit.get()
    }

    /// Whether a request waits for an idle connection to be closed.
    pub fn is_sought(&self) -> bool {
        self.seekers.load(SeqCst) > 0
    }

    /// Waits until work and idle connections together are within the limit. `ask`: asks a worker to close some.
    pub async fn fit(&self, limit: NonZeroU32, ask: impl Fn(usize)) {
        let _seeker = Seeker::new(&self.seekers);
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on no notification is missed, not even between the check and the wait.
            freed.as_mut().enable();
            if !self.is_over(limit) {
                return;
            }
            self.most_kept().into_iter().for_each(&ask);
            freed.await;
        }
    }

    /// The worker that keeps the most idle connections.
    fn most_kept(&self) -> Option<usize> {
        let kept = self.kept.iter().map(|kept| kept.load(SeqCst)).enumerate().filter(|(_, kept)| *kept > 0);
        kept.max_by_key(|(_, kept)| *kept).map(|(worker, _)| worker)
    }

    fn tell(&self) {
        if self.is_sought() {
            self.freed.notify_waiters();
        }
    }
}

/// An idle connection's place in an instance's `maxconn`.
#[derive(Debug)]
pub struct IdlePlace {
    slots: Arc<Slots>,
    worker: usize,
}

impl IdlePlace {
    /// Whether it is a place of this instance.
    pub fn is_of(&self, slots: &Arc<Slots>) -> bool {
        Arc::ptr_eq(&self.slots, slots)
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.slots.kept[self.worker].fetch_sub(1, SeqCst);
        self.slots.tell();
    }
}

/// Counts a waiting request, until dropped.
struct Seeker<'a>(&'a AtomicU32);

impl<'a> Seeker<'a> {
    fn new(seekers: &'a AtomicU32) -> Self {
        seekers.fetch_add(1, SeqCst);
        Self(seekers)
    }
}

impl Drop for Seeker<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Other workers' requests to one worker: close idle connections to instances whose `maxconn` is used up.
#[derive(Debug, Default)]
pub struct Asked {
    /// No instance is in it twice, so the number of instances bounds it.
    wanted: Mutex<Vec<Wanted>>,
    news: Notify,
}

/// The slots of an instance to which a worker must keep fewer idle connections, and its `maxconn`.
pub type Wanted = (Arc<Slots>, NonZeroU32);

impl Asked {
    /// Asks for idle connections to this instance to be closed.
    pub fn ask(&self, slots: &Arc<Slots>, limit: NonZeroU32) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted.iter().any(|(known, _)| Arc::ptr_eq(known, slots)) {
            wanted.push((Arc::clone(slots), limit));
        }
        drop(wanted);
        self.news.notify_one();
    }

    /// Waits until there are requests, and takes them.
    pub async fn next(&self) -> Vec<Wanted> {
        self.news.notified().await;
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn idle_connections_hold_places_until_work_wants_them() {
        let (slots, asked, one) = (Arc::new(Slots::new(2)), Asked::default(), NonZeroU32::MIN);
        let kept = slots.keep(1);
        assert!(!slots.is_full(one) && !slots.is_over(one), "it is in nobody's way");
        assert!(slots.take(one) && slots.is_over(one));
        let fit = slots.fit(one, |worker| {
            assert_eq!(worker, 1);
            asked.ask(&slots, one);
        });
        tokio::join!(fit, async {
            let wanted = asked.next().await;
            assert!(wanted.len() == 1 && kept.is_of(&wanted[0].0) && slots.is_sought());
            drop(kept);
        });
        assert!(!slots.is_over(one) && !slots.is_sought());
    }
}
