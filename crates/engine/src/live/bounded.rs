//! What the workers share about a service with `retries` or `limit/requests`: its budget of retries, its places and
//! their queue. A service without these keys has none of it, and no request of it writes here.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::health::{Room, Slots};

/// Over how many seconds retries are compared with requests.
const WINDOW: u64 = 10;
/// Seconds that are remembered: the window, and the one that is now.
const SECONDS: usize = WINDOW as usize + 1;
/// How many retries a second are always allowed, however few requests there are.
const FLOOR: u64 = 3;
/// How many requests must be done before their time tells anything.
const MEASURED: u64 = 16;
/// The share of the newest request in the mean, as a divisor.
const WEIGHT: u64 = 16;
/// While requests take less than this, microseconds, few are measured: nobody waits long behind them, and the clock would
/// cost them more than all else here.
const QUICK: u64 = 10_000;
/// One of so many is measured then. A prime: requests come in patterns.
const SAMPLED: u64 = 7;
/// No request counts for more than so many times the mean: one long stream says little about the next request.
const OUTLIER: u64 = 8;

/// The shared part of a service with `retries` or `limit/requests`.
#[derive(Debug)]
pub struct Bounded {
    /// Its budget of retries.
    pub budget: Budget,
    /// Its places: `limit/requests`.
    pub places: Slots,
    /// The queue for them.
    pub queue: Room,
    /// How long its requests take.
    pub spans: Spans,
}

impl Bounded {
    pub(super) fn new(workers: usize) -> Self {
        // No idle connection holds a place.
        Self { budget: Budget::new(workers), places: Slots::new(0), queue: Room::default(), spans: Spans::default() }
    }

    /// Whether a request that joined the queue now would most likely wait for longer than this. `false` until enough
    /// requests are measured, and for the first in the queue.
    pub fn is_hopeless(&self, limit: NonZeroU32, patience: Duration) -> bool {
        self.expected_wait(limit).is_some_and(|wait| wait > patience)
    }

    /// How long a request that joined the queue now would most likely wait. `None`: too few requests are measured.
    pub fn expected_wait(&self, limit: NonZeroU32) -> Option<Duration> {
        let ahead = u32::try_from(self.queue.queued()).unwrap_or(u32::MAX);
        Some(self.spans.mean()?.saturating_mul(ahead) / limit.get())
    }
}

/// Requests and retries of the last seconds. Each worker writes its own, and one that wants to retry reads all.
#[derive(Debug)]
pub struct Budget(Box<[Spending]>);

/// One worker's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Spending([Second; SECONDS]);

#[derive(Debug, Default)]
struct Second {
    /// Which second it is, plus one.
    stamp: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
}

impl Budget {
    fn new(workers: usize) -> Self {
        Self(std::iter::repeat_with(Spending::default).take(workers).collect())
    }

    /// Counts a request. `now`: coarse time.
    pub fn request(&self, worker: usize, now: u64) {
        add_one(&self.0[worker].at(now).requests);
    }

    /// Counts a retry if it is within this share of the requests, per cent, or within the floor.
    pub fn retry(&self, worker: usize, now: u64, share: u32) -> bool {
        let (requests, retries) = self.0.iter().map(|one| one.sum(now)).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let allowed = (requests * u64::from(share) / 100).max(FLOOR * WINDOW);
        let is_allowed = retries < allowed;
        if is_allowed {
            add_one(&self.0[worker].at(now).retries);
        }
        is_allowed
    }
}

/// Adds one, by the one writer. Not a read-modify-write: no bus lock.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Spending {
    fn at(&self, now: u64) -> &Second {
        let stamp = now / 1_000 + 1;
        let second = &self.0[stamp as usize % SECONDS];
        if second.stamp.load(Relaxed) != stamp {
            // A reader in between counts too little.
            second.requests.store(0, Relaxed);
            second.retries.store(0, Relaxed);
            second.stamp.store(stamp, Relaxed);
        }
        second
    }

    fn sum(&self, now: u64) -> (u64, u64) {
        let now = now / 1_000 + 1;
        let recent = self.0.iter().filter(|second| second.stamp.load(Relaxed) + WINDOW > now);
        recent.fold((0, 0), |(requests, retries), second| {
            (requests + second.requests.load(Relaxed), retries + second.retries.load(Relaxed))
        })
    }
}

/// How long requests held their places: a moving mean. Losing one of several that end at once does no harm.
#[derive(Debug, Default)]
pub struct Spans {
    /// Those that began.
    begun: AtomicU64,
    /// Those that were measured.
    count: AtomicU64,
    /// Microseconds.
    mean: AtomicU64,
    /// The last one, microseconds.
    last: AtomicU64,
}

impl Spans {
    /// Counts one that begins. Returns whether it is to be measured.
    pub fn begin(&self) -> bool {
        let (begun, count) = (self.begun.load(Relaxed), self.count.load(Relaxed));
        self.begun.store(begun.wrapping_add(1), Relaxed);
        count < MEASURED || self.last.load(Relaxed) >= QUICK || begun.is_multiple_of(SAMPLED)
    }

    /// Adds one that is over.
    pub fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last.store(took, Relaxed);
        let (count, mean) = (self.count.load(Relaxed), self.mean.load(Relaxed));
        let took = if count < MEASURED { took } else { took.min(mean.saturating_mul(OUTLIER).max(1_000)) };
        let weight = (count + 1).min(WEIGHT);
        let next = mean - mean / weight + took / weight;
        self.mean.store(next, Relaxed);
        self.count.store(count.saturating_add(1), Relaxed);
    }

    fn mean(&self) -> Option<Duration> {
        (self.count.load(Relaxed) >= MEASURED).then(|| Duration::from_micros(self.mean.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Rank;

    #[test]
    fn retries_are_a_share_of_the_requests_of_all_workers() {
        let budget = Budget::new(2);
        let retried = |now: u64, share: u32| (0..1_000).filter(|n| budget.retry(n % 2, now, share)).count();
        assert_eq!(retried(0, 20), 30, "three a second are always allowed");
        assert_eq!(retried(5_000, 20), 0, "in ten seconds");
        assert_eq!(retried(10_000, 20), 30, "the first second is forgotten");
        (0..400).for_each(|n| budget.request(n % 2, 10_500));
        assert_eq!(retried(10_900, 20), 50, "80 of 400, 30 of which were spent");
        assert_eq!(retried(10_900, 100), 320);
        assert_eq!(retried(1_000_000, 100), 30);
    }

    #[test]
    fn few_of_the_quick_are_measured_and_all_of_the_slow() {
        let spans = Spans::default();
        let measured = |count: u64, took: Duration| {
            let measured = (0..count).filter(|_| spans.begin());
            measured.inspect(|_| spans.add(took)).count()
        };
        assert_eq!(measured(MEASURED, Duration::from_millis(1)), 16);
        assert_eq!(measured(70, Duration::from_millis(1)), 10);
        let slow = Duration::from_secs(1);
        measured(SAMPLED, slow);
        assert_eq!(measured(80, slow), 80);
    }

    #[test]
    fn a_wait_is_hopeless_when_it_is_measured_to_be() {
        let bounded = Bounded::new(1);
        let (two, patience) = (NonZeroU32::new(2).unwrap(), Duration::from_secs(1));
        let _waiting: Vec<_> = (0..21).map(|_| bounded.queue.enter(Rank::New).unwrap()).collect();
        (0..15).for_each(|_| bounded.spans.add(Duration::from_millis(100)));
        assert!(!bounded.is_hopeless(two, patience), "not measured yet");
        bounded.spans.add(Duration::from_millis(100));
        assert!(bounded.is_hopeless(two, patience), "21 of 100 ms in two places take longer than 1 s");
        assert!(!bounded.is_hopeless(two, 2 * patience));
        bounded.spans.add(Duration::from_secs(3_600));
        assert!(!bounded.is_hopeless(two, 2 * patience), "one long stream does not change that");
        (0..200).for_each(|_| bounded.spans.add(Duration::from_millis(1)));
        assert!(!bounded.is_hopeless(two, patience), "it is quick now");
    }
}
