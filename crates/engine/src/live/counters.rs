//! The counters. Each worker writes only its own cache lines; readers add them up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::seldom::Seldom;
use pointsman_table::{InstanceName, Protocol, ServiceName, Target};

use super::bounded::Bounded;
use super::health::{FlipCount, Health, Places, Room, Slots};
use super::load::{Load, Turns};

/// Upper bounds of the latency histogram's buckets, microseconds.
pub(super) const BUCKETS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
/// Least time between two log lines about failed requests of one service, or of none, and about failed connects to one
/// instance, in milliseconds.
pub(super) const FAILED: u64 = 10_000;
/// How many kinds of faults an engine may have.
pub const MAX_FAULTS: usize = 64;

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, by the one writer. Not a read-modify-write: no bus lock.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Subtracts, by the one writer.
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    /// The number now, for any reader.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of an instance, or of a service's requests without one; one set per worker, on its own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Requests, or TCP connections, that ended.
    pub requests: Counter,
    /// Responses to clients by class, 1xx first.
    pub responses: [Counter; 5],
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// Open now.
    pub active: Counter,
    /// Failed connects.
    pub connect_failures: Counter,
    /// Requests sent again, or to another instance, by [`RetryReason`].
    pub reasons: [Counter; REASONS.len()],
    /// Whether `active` is part of the instance's [`Load`].
    adds_up: AtomicBool,
    /// Answers that were 5xx or broken, if the service has `eject`.
    pub errors: Counter,
}

/// Why a request was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The connection failed.
    Connect,
    /// It broke before an answer.
    Reset,
    /// No answer came in time.
    Timeout,
    /// The answer had a status that is retried.
    Status,
}

/// The names of the reasons, in their order.
pub const REASONS: [&str; 4] = ["connect", "reset", "timeout", "status"];

impl Counters {
    /// Counts a request that is sent again.
    pub fn retried(&self, reason: RetryReason) {
        self.reasons[reason as usize].add(1);
    }
}

/// Of requests that were sent again, by [`RetryReason`], those that were sent before: not those whose connection failed.
pub fn sent_again(reasons: [u64; REASONS.len()]) -> u64 {
    [RetryReason::Reset, RetryReason::Timeout, RetryReason::Status].map(|reason| reasons[reason as usize]).iter().sum()
}

/// A latency histogram; one per worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Latency {
    pub(super) buckets: [Counter; BUCKETS.len() + 1],
    pub(super) micros: Counter,
}

impl Latency {
    /// Adds one request that took this long.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].add(1);
        self.micros.add(micros);
    }
}

/// The place of a latency among the buckets, the last of which has no bound.
pub fn latency_bucket(took: Duration) -> usize {
    bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

fn bucket(micros: u64) -> usize {
    BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len())
}

/// Bodies that are compressed; one per worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Compressed {
    /// Their bytes before.
    pub before: Counter,
    /// Their bytes after.
    pub after: Counter,
    /// Bodies that were not compressed, because so many others were at that moment.
    pub passed: Counter,
}

/// The state of one service that workers share.
#[derive(Debug)]
pub struct ServiceShared {
    /// Latencies, one histogram per worker.
    pub latency: Box<[Latency]>,
    /// Requests that reached no instance: local replies.
    pub unserved: Box<[Counters]>,
    /// Requests that got no place, or left the queue for one, and were refused; one per worker.
    pub shed: Box<[Counter]>,
    /// Requests beyond the `rate_limit`, one per worker.
    pub limited: Box<[Counter]>,
    /// The queue of requests while every instance is at its `maxconn`.
    pub room: Arc<Room>,
    /// What only services with `retries` or `limit/requests` have.
    pub bounded: OnceLock<Box<Bounded>>,
    /// What only services with `compress` have.
    compressed: OnceLock<Box<[Compressed]>>,
    /// Increases whenever one of its instances is ejected, tried again or restored.
    pub flips: Arc<FlipCount>,
    /// Places for instances that are ejected for their answers.
    pub places: Places,
    /// Whether too few instances are healthy to leave any out.
    panic: AtomicBool,
    /// The rate limit of log lines about its requests.
    pub lines: Seldom,
    /// Whose turn it is.
    pub turns: Turns,
}

impl ServiceShared {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            latency: per_worker(workers),
            unserved: per_worker(workers),
            shed: per_worker(workers),
            limited: per_worker(workers),
            room: Arc::default(),
            bounded: OnceLock::new(),
            compressed: OnceLock::new(),
            flips: Arc::default(),
            places: Places::default(),
            panic: AtomicBool::default(),
            lines: Seldom::new(FAILED),
            turns: Turns::default(),
        }
    }

    /// What workers share of a service with `retries` or `limit/requests`, created on first use.
    pub fn bounded(&self) -> &Bounded {
        self.bounded.get_or_init(|| Box::new(Bounded::new(self.unserved.len())))
    }

    /// A worker's counters of bodies that are compressed, created on first use.
    pub fn compressed(&self, worker: usize) -> &Compressed {
        &self.compressed.get_or_init(|| per_worker(self.unserved.len()))[worker]
    }

    /// Bytes of bodies before they were compressed, and after, and how many bodies were not compressed for want of memory.
    pub(super) fn compression(&self) -> [u64; 3] {
        let all = self.compressed.get().map(|all| &**all).unwrap_or_default();
        let sum = |of: fn(&Compressed) -> &Counter| all.iter().map(|one| of(one).get()).sum();
        [sum(|one| &one.before), sum(|one| &one.after), sum(|one| &one.passed)]
    }

    /// Requests or connections that wait, for an instance or for a place.
    pub(super) fn queued(&self) -> u64 {
        self.room.queued() + self.bounded.get().map_or(0, |bounded| bounded.queue.queued())
    }

    /// Whether too few instances are healthy to leave any out.
    pub fn is_in_panic(&self) -> bool {
        self.panic.load(Relaxed)
    }

    /// Notes whether too few instances are healthy. Returns what was known before.
    pub fn set_panic(&self, panic: bool) -> bool {
        self.panic.swap(panic, Relaxed)
    }
}

/// The state of one instance that workers share.
#[derive(Debug)]
pub struct InstanceShared {
    /// Counters, one set per worker.
    pub workers: Box<[Counters]>,
    /// Whether it works, or is ejected.
    pub health: Health,
    /// When it was first seen, milliseconds since the registry began.
    pub began: u64,
    /// How much of its `maxconn` is used.
    pub slots: Arc<Slots>,
    /// The rate limit of log lines about failed connects.
    pub lines: Seldom,
    /// Its open work and latency, if the service's balance needs them.
    pub load: Load,
}

impl InstanceShared {
    /// Whether it has counted anything.
    pub(super) fn had_work(&self) -> bool {
        self.workers
            .iter()
            .any(|worker| worker.requests.get() + worker.active.get() + worker.connect_failures.get() > 0)
    }

    /// Counts one more open request or connection of a worker.
    pub fn begin(&self, worker: usize) {
        let counters = &self.workers[worker];
        counters.active.add(1);
        if counters.adds_up.load(Relaxed) {
            self.load.add(1);
        }
    }

    /// Counts one less.
    pub fn end(&self, worker: usize) {
        let counters = &self.workers[worker];
        counters.active.sub(1);
        if counters.adds_up.load(Relaxed) {
            self.load.sub(1);
        }
    }

    /// From now on a worker's open work is part of [`Load`], or is not. By that worker.
    pub fn add_up(&self, worker: usize, wanted: bool) {
        let counters = &self.workers[worker];
        match (counters.adds_up.swap(wanted, Relaxed), wanted) {
            (false, true) => self.load.add(counters.active.get()),
            (true, false) => self.load.sub(counters.active.get()),
            _ => {}
        }
    }

    /// Requests that ended here or were sent again after they had been sent here, and errors, over all workers.
    pub fn answered(&self) -> (u64, u64) {
        let sum = |of: fn(&Counters) -> u64| self.workers.iter().map(of).sum();
        let requests =
            |counters: &Counters| counters.requests.get() + sent_again(counters.reasons.each_ref().map(Counter::get));
        (sum(requests), sum(|counters| counters.errors.get()))
    }

    /// Its open requests or connections, over all workers.
    pub fn active(&self) -> u64 {
        self.workers.iter().map(|worker| worker.active.get()).sum()
    }
}

/// A worker's own counters.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Client connections open now.
    pub open: Counter,
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections refused for `limit/connections`.
    pub refused: Counter,
    /// Client connections that wait for a request now.
    pub idle: Counter,
    /// Client connections that were idle and closed to make room for others.
    pub evicted: Counter,
    /// Points that clients' HTTP/2 frames cost because they moved nothing.
    pub glitches: Counter,
    /// How many idle connections other workers ask this one to close. Others write it, but only at the connection
    /// limit.
    asked: AtomicU64,
    /// Another worker has no descriptor left, and wants this one's idle connections to instances closed.
    short: AtomicBool,
    pub(super) faults: [Counter; MAX_FAULTS],
    pub(super) handshakes: [Counter; HANDSHAKES.len()],
}

/// Kinds of TLS handshakes: the version, and whether a session was resumed.
pub(super) const HANDSHAKES: [(&str, bool); 4] = [("1.2", false), ("1.2", true), ("1.3", false), ("1.3", true)];

/// Nothing counted yet.
impl Default for WorkerStats {
    fn default() -> Self {
        let [open, accepted, refused, idle, evicted, glitches] = std::array::from_fn(|_| Counter::default());
        let asked = AtomicU64::new(0);
        let faults = std::array::from_fn(|_| Counter::default());
        let handshakes = std::array::from_fn(|_| Counter::default());
        let short = AtomicBool::new(false);
        Self { open, accepted, refused, idle, evicted, glitches, asked, short, faults, handshakes }
    }
}

impl WorkerStats {
    /// Counts a fault, by its index in the registry's fault names.
    pub fn fault(&self, place: usize) {
        if let Some(counter) = self.faults.get(place) {
            counter.add(1);
        }
    }

    /// Counts a TLS handshake that is done.
    pub fn handshake(&self, is_tls13: bool, is_resumed: bool) {
        self.handshakes[2 * usize::from(is_tls13) + usize::from(is_resumed)].add(1);
    }

    /// Asks this worker, on behalf of another, to close an idle connection. `false`: it has no more.
    pub(super) fn ask_for_room(&self) -> bool {
        let has_more = self.idle.get() > self.asked.load(Relaxed);
        if has_more {
            self.asked.fetch_add(1, Relaxed);
        }
        has_more
    }

    /// Another worker needs descriptors.
    pub(super) fn ask_for_descriptors(&self) {
        self.short.store(true, Relaxed);
    }

    /// Whether another worker has needed descriptors since the last call.
    pub fn take_short(&self) -> bool {
        self.short.load(Relaxed) && self.short.swap(false, Relaxed)
    }

    /// How many idle connections other workers have asked this one to close since the last call.
    pub fn take_asked(&self) -> u64 {
        if self.asked.load(Relaxed) == 0 { 0 } else { self.asked.swap(0, Relaxed) }
    }
}

pub(super) fn per_worker<T: Default>(workers: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(workers).collect()
}

pub(super) type ServiceKey = (Protocol, ServiceName);
/// The `bool` says whether it speaks TLS: one address may work in plain text and fail with TLS, or the other way round.
pub(super) type InstanceKey = (Protocol, ServiceName, InstanceName, (Target, bool));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_take_one_pair_of_cache_lines() {
        assert_eq!(size_of::<Counters>(), 128);
    }
}
