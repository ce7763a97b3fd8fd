//! Counters and health, keyed by (service, instance, address). They survive every table.
//! Each worker writes only its own cache lines; readers add them up. No lock is taken per request.

mod health;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_table::{Instance, InstanceName, Protocol, Service, ServiceName, Target};

pub use health::{Circuit, ConnectEvent, EjectionRules, Flip, FlipCount, Health, Room, Slots};
use snapshot::Addressed;
pub use snapshot::{Histogram, InstanceStats, ServiceStats, Snapshot, Totals, Working};

/// Upper bounds of the latency histogram's buckets, microseconds.
const BUCKETS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
/// How many kinds of faults an engine may have.
pub const MAX_FAULTS: usize = 64;
/// How long counters of something that left the table are kept.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// A number that one worker writes and anyone reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, by the one writer. Not a read-modify-write: no bus lock.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Takes away, by the one writer.
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    /// The number now, for any reader.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted of an instance, or of a service where no instance was reached; one a worker, on its own lines.
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
    /// At work now.
    pub active: Counter,
    /// Connections that were not taken.
    pub connect_failures: Counter,
    /// Requests sent again.
    pub retries: Counter,
}

/// A latency histogram; one a worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Latency {
    buckets: [Counter; BUCKETS.len() + 1],
    micros: Counter,
}

impl Latency {
    /// Adds one request that took this long.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].add(1);
        self.micros.add(micros);
    }
}

/// What all workers know of one service.
#[derive(Debug)]
pub struct ServiceShared {
    /// Latencies, one histogram a worker.
    pub latency: Box<[Latency]>,
    /// Requests of which no instance saw anything: answered by a fault of ours.
    pub unserved: Box<[Counters]>,
    /// Where requests wait while every instance is at its `maxconn`.
    pub room: Arc<Room>,
    /// Moves whenever one of its instances is ejected, tried again or restored.
    pub flips: Arc<FlipCount>,
}

impl ServiceShared {
    fn new(workers: usize) -> Self {
        Self {
            latency: per_worker(workers),
            unserved: per_worker(workers),
            room: Arc::default(),
            flips: Arc::default(),
        }
    }
}

/// What all workers know of one instance.
#[derive(Debug)]
pub struct InstanceShared {
    /// Counters, one set a worker.
    pub workers: Box<[Counters]>,
    /// Whether it takes connections.
    pub health: Health,
    /// How much of its `maxconn` is used.
    pub slots: Slots,
}

impl InstanceShared {
    /// Requests or connections that it works on now, all workers together.
    pub fn active(&self) -> u64 {
        self.workers.iter().map(|worker| worker.active.get()).sum()
    }
}

/// What a worker counts of itself.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Client connections open now.
    pub open: Counter,
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections refused for `limit/connections`.
    pub refused: Counter,
    faults: [Counter; MAX_FAULTS],
}

/// Nothing counted yet.
impl Default for WorkerStats {
    fn default() -> Self {
        let [open, accepted, refused] = std::array::from_fn(|_| Counter::default());
        Self { open, accepted, refused, faults: std::array::from_fn(|_| Counter::default()) }
    }
}

impl WorkerStats {
    /// Counts a fault, by its place among the names that [`Registry::new`] was given.
    pub fn fault(&self, place: usize) {
        if let Some(counter) = self.faults.get(place) {
            counter.add(1);
        }
    }
}

type ServiceKey = (Protocol, ServiceName);
/// The same instance at another address, or over TLS now, is as healthy as its connections there are.
type InstanceKey = (Protocol, ServiceName, InstanceName, (Target, bool));

/// Everything that is counted, and what is known of instances.
#[derive(Debug)]
pub struct Registry {
    epoch: Instant,
    faults: &'static [&'static str],
    workers: Box<[WorkerStats]>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    services: HashMap<ServiceKey, Kept<ServiceShared>, foldhash::fast::RandomState>,
    instances: HashMap<InstanceKey, Kept<InstanceShared>, foldhash::fast::RandomState>,
}

/// Something shared with workers, and when no worker was seen to hold it any more.
#[derive(Debug)]
struct Kept<T> {
    shared: Arc<T>,
    left: Option<Instant>,
}

impl<T> Kept<T> {
    fn new(shared: T) -> Self {
        Self { shared: Arc::new(shared), left: None }
    }

    fn take(&mut self) -> Arc<T> {
        self.left = None;
        Arc::clone(&self.shared)
    }

    fn is_worth_keeping(&mut self, now: Instant) -> bool {
        if Arc::strong_count(&self.shared) > 1 {
            self.left = None;
            return true;
        }
        now.saturating_duration_since(*self.left.get_or_insert(now)) < FORGET_AFTER
    }
}

impl Registry {
    /// A registry for this many workers of an engine with these faults, [`MAX_FAULTS`] at most.
    pub fn new(workers: usize, faults: &'static [&'static str]) -> Self {
        debug_assert!(faults.len() <= MAX_FAULTS, "some faults would not be counted");
        Self { epoch: Instant::now(), faults, workers: per_worker(workers), known: Mutex::default() }
    }

    /// When it began: the zero of every coarse clock.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// What one worker counts of itself.
    pub fn worker(&self, worker: usize) -> &WorkerStats {
        &self.workers[worker]
    }

    /// Open client connections, all workers together.
    pub fn open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.open.get()).sum()
    }

    /// What is shared of a service, made when it is first asked for.
    pub fn service(&self, service: &Service) -> Arc<ServiceShared> {
        self.lock().service(service, self.workers.len()).take()
    }

    /// What is shared of an instance reached this way, made when it is first asked for.
    pub fn instance(&self, service: &Service, instance: &Instance) -> Arc<InstanceShared> {
        let workers = self.workers.len();
        let mut known = self.lock();
        let flips = Arc::clone(&known.service(service, workers).shared.flips);
        let shared =
            || InstanceShared { workers: per_worker(workers), health: Health::new(&flips), slots: Slots::default() };
        let way = (instance.target.clone(), instance.tls);
        let key = (service.protocol, service.name.clone(), instance.name.clone(), way);
        known.instances.entry(key).or_insert_with(|| Kept::new(shared())).take()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what left the table more than ten minutes ago.
    pub fn forget(&self) {
        self.lock().forget(Instant::now());
    }

    /// All counters now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let clock = u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX);
        let known = self.lock();
        Snapshot {
            services: known.stats(clock),
            connections_open: self.open(),
            connections_total: self.workers.iter().map(|worker| worker.accepted.get()).sum(),
            connections_refused: self.workers.iter().map(|worker| worker.refused.get()).sum(),
            faults: self.faults(),
        }
    }

    /// The instances that have work now, in whichever table they are or were.
    pub fn working(&self) -> Vec<Working> {
        let known = self.lock();
        let mut sums: HashMap<(Protocol, &ServiceName, &InstanceName), u64> = HashMap::new();
        for ((protocol, service, instance, _), kept) in &known.instances {
            match kept.shared.active() {
                0 => {}
                active => *sums.entry((*protocol, service, instance)).or_default() += active,
            }
        }
        let working = sums.into_iter().map(|((protocol, service, instance), active)| Working {
            protocol,
            service: service.to_string(),
            instance: instance.to_string(),
            active,
        });
        let mut working: Vec<_> = working.collect();
        working.sort_unstable();
        working
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let count = |index: usize| self.workers.iter().map(|worker| worker.faults[index].get()).sum();
        self.faults.iter().enumerate().map(|(index, name)| (*name, count(index))).collect()
    }
}

impl Known {
    fn service(&mut self, service: &Service, workers: usize) -> &mut Kept<ServiceShared> {
        let key = (service.protocol, service.name.clone());
        self.services.entry(key).or_insert_with(|| Kept::new(ServiceShared::new(workers)))
    }

    /// A service is kept at least as long as its instances, because their flips move its count.
    fn forget(&mut self, now: Instant) {
        self.instances.retain(|_, kept| kept.is_worth_keeping(now));
        let named: HashSet<ServiceKey> =
            self.instances.keys().map(|(protocol, service, ..)| (*protocol, service.clone())).collect();
        self.services.retain(|key, kept| kept.is_worth_keeping(now) || named.contains(key));
    }

    fn stats(&self, clock: u64) -> Vec<ServiceStats> {
        let mut by_service: HashMap<ServiceKey, Vec<Addressed>> = HashMap::new();
        for ((protocol, service, name, (target, _)), kept) in &self.instances {
            let stats = InstanceStats::read(name, target, &kept.shared, clock);
            let addressed = Addressed { in_use: Arc::strong_count(&kept.shared) > 1, stats };
            by_service.entry((*protocol, service.clone())).or_default().push(addressed);
        }
        let mut services: Vec<_> = self
            .services
            .iter()
            .map(|(key, kept)| ServiceStats::read(key, &kept.shared, by_service.remove(key).unwrap_or_default()))
            .collect();
        services.sort_unstable_by(|a, b| (a.protocol, &a.service).cmp(&(b.protocol, &b.service)));
        services
    }
}

fn per_worker<T: Default>(workers: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(workers).collect()
}

#[cfg(test)]
mod tests {
    use pointsman_table::{Limits, Mirror, compile};

    use super::*;

    #[test]
    fn a_service_is_known_as_long_as_its_instances() {
        let mut mirror = Mirror::default();
        let keys = [("services/s/a", "h:1"), ("services/s/default", "true")];
        mirror.reset(1, keys.map(|(key, value)| (key.into(), value.as_bytes().into())));
        let table = compile(&mirror, None, &Limits::default()).table;
        let service = &table.services()[0];
        let registry = Registry::new(1, &[]);
        let shared = |registry: &Registry| registry.instance(service, &service.instances[0]);
        let held = shared(&registry);
        let now = Instant::now();
        for passed in [Duration::ZERO, FORGET_AFTER] {
            registry.lock().forget(now + passed);
        }
        assert!(held.health.failed(0).is_none() && held.health.failed(0).is_none() && held.health.failed(0).is_some());
        assert_eq!(
            registry.service(service).flips.get(),
            1,
            "a service that comes back sees the flips of instances that were kept"
        );
        drop(held);
        for passed in [1, 2] {
            registry.lock().forget(now + passed * FORGET_AFTER);
        }
        assert!(registry.snapshot().services.is_empty());
        assert_eq!(shared(&registry).health.down_until(), 0);
    }
}
