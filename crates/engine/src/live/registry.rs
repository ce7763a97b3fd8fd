//! All counters and all health: given to workers, kept from table to table, summed for readers. Its lock is taken once
//! per table, never per request.

#![expect(clippy::disallowed_types, reason = "the one lock of all workers: taken for a new table, never for a request")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_table::{Instance, InstanceName, Protocol, Service, ServiceName};
use serde::{Deserialize, Serialize};

use super::carried::Earlier;
use super::counters::{
    FAILED, HANDSHAKES, InstanceKey, InstanceShared, MAX_FAULTS, ServiceKey, ServiceShared, WorkerStats, per_worker,
};
use super::health::carried::CarriedHealth;
use super::health::{Asked, CheckState, Health, Slots};
use super::load::Load;
use super::rates::Rates;
use super::snapshot::{Addressed, InstancePath, InstanceStats, ServiceStats, Snapshot, Working};
use super::sums::Sums;
use crate::seldom::Seldom;

/// Least time between two log lines about connections that cannot be accepted, in milliseconds.
const UNACCEPTED: u64 = 60_000;
/// How long the counters of a service or instance are kept after it left the table.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Of so many instances that left, more than those of the last look, the oldest are forgotten at once: where instances
/// change every second, ten minutes are many.
const MOST_LEFT: usize = 10_000;

/// How far back another program's times may reach: longer ago is as if at no time.
const LONGEST_AGO: Duration = Duration::from_secs(3600);

/// All counters, and the health of instances.
#[derive(Debug)]
pub struct Registry {
    epoch: Instant,
    /// When this program began to count.
    started: Instant,
    faults: &'static [&'static str],
    workers: Box<[WorkerStats]>,
    asked: Box<[Asked]>,
    check_flips: AtomicU64,
    known: Mutex<Known>,
    earlier: Earlier,
    unaccepted: Seldom,
    unrouted: Seldom,
    ungreeted: Seldom,
    rates: Rates,
}

/// The health of an instance, for another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHealth {
    /// `services` or `tcp-services`.
    tree: String,
    service: String,
    instance: String,
    target: String,
    tls: bool,
    health: CarriedHealth,
}

/// What another program knew of the health of instances.
pub type HealthBefore = Vec<InstanceHealth>;

/// Instances that checks found down before the program was started anew.
pub type DownBefore = Vec<(InstancePath, String)>;

/// The shared states of a service and of its instances, in the table's order.
#[derive(Debug)]
pub struct ServicePeers {
    /// The service's.
    pub service: Arc<ServiceShared>,
    /// The instances'; `None`: it had no work yet.
    pub instances: Vec<Option<Arc<InstanceShared>>>,
}

/// Tree, service, instance, address, and whether it speaks TLS.
type InstanceText = (String, String, String, String, bool);

fn instance_text((protocol, service, instance, (target, tls)): &InstanceKey) -> InstanceText {
    (protocol.tree().to_owned(), service.to_string(), instance.to_string(), target.to_string(), *tls)
}

fn instance_key(service: &Service, instance: &Instance) -> InstanceKey {
    (service.protocol, service.name.clone(), instance.name.clone(), (instance.target.clone(), instance.tls))
}

#[derive(Debug, Default)]
struct Known {
    /// Not seen again yet.
    down_before: DownBefore,
    /// Not seen again yet, by instance.
    health_before: HashMap<InstanceText, CarriedHealth>,
    services: HashMap<ServiceKey, Kept<ServiceShared>, foldhash::fast::RandomState>,
    instances: HashMap<InstanceKey, Kept<InstanceShared>, foldhash::fast::RandomState>,
    /// What services and instances had counted that were forgotten: of HTTP, of TCP.
    forgotten: [Sums; 2],
}

/// A value shared with workers, and the time since which no worker holds it.
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
        Self::resuming(workers, faults, Vec::new())
    }

    /// One that begins with what another program knew of the health of instances. Its clock begins as far back as that
    /// reaches, at most an hour.
    #[expect(clippy::disallowed_methods, reason = "time begins here")]
    pub fn resuming(workers: usize, faults: &'static [&'static str], before: HealthBefore) -> Self {
        assert!(faults.len() <= MAX_FAULTS, "some faults would not be counted");
        let started = Instant::now();
        let longest = before.iter().map(|one| one.health.longest()).max().unwrap_or(0);
        let ago = Duration::from_millis(longest).min(LONGEST_AGO);
        let by_instance =
            |one: InstanceHealth| ((one.tree, one.service, one.instance, one.target, one.tls), one.health);
        let known = Known { health_before: before.into_iter().map(by_instance).collect(), ..Known::default() };
        Self {
            epoch: started.checked_sub(ago).unwrap_or(started),
            started,
            faults,
            workers: per_worker(workers),
            asked: per_worker(workers),
            check_flips: AtomicU64::new(0),
            known: Mutex::new(known),
            earlier: Earlier::default(),
            unaccepted: Seldom::new(UNACCEPTED),
            unrouted: Seldom::new(FAILED),
            ungreeted: Seldom::new(FAILED),
            rates: Rates::default(),
        }
    }

    /// The rate limit of the log line about connections that cannot be accepted, for all workers.
    pub fn unaccepted(&self) -> &Seldom {
        &self.unaccepted
    }

    /// The rate limit of the log line about requests that no service takes, for all workers.
    pub fn unrouted(&self) -> &Seldom {
        &self.unrouted
    }

    /// The rate limit of the line about failed TLS handshakes and PROXY headers, of all workers.
    pub fn ungreeted(&self) -> &Seldom {
        &self.ungreeted
    }

    /// How many requests came of late from each client of a service with a rate limit.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// How long this program has counted.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the next program has to know of the health of instances in use.
    pub fn health(&self) -> HealthBefore {
        let (clock, known) = (self.clock(), self.lock());
        let used = known.instances.iter().filter(|(_, kept)| Arc::strong_count(&kept.shared) > 1);
        let carried = used.filter_map(|(key, kept)| {
            let (tree, service, instance, target, tls) = instance_text(key);
            let health = kept.shared.health.carried(clock, self.faults)?;
            Some(InstanceHealth { tree, service, instance, target, tls, health })
        });
        carried.collect()
    }

    /// The zero of every coarse clock: its start, or some time before.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The time now, milliseconds since the start. Not for every request: workers have coarse clocks.
    #[expect(clippy::disallowed_methods, reason = "tables come seldom, and without the time")]
    pub fn clock(&self) -> u64 {
        self.clock_at(Instant::now())
    }

    fn clock_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// One worker's own counters.
    pub fn worker(&self, worker: usize) -> &WorkerStats {
        &self.workers[worker]
    }

    /// Other workers' requests to this one.
    pub fn asked(&self, worker: usize) -> &Asked {
        &self.asked[worker]
    }

    /// Open client connections, all workers together.
    pub fn open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.open.get()).sum()
    }

    /// Asks another worker to close an idle client connection. `false`: none has one.
    pub fn ask_for_room(&self, asking: usize) -> bool {
        let others = self.workers.iter().enumerate().filter(|(worker, _)| *worker != asking);
        others.into_iter().any(|(_, worker)| worker.ask_for_room())
    }

    /// Asks all other workers to close their idle connections to instances: this machine has no descriptor left. They do at
    /// their next tick.
    pub fn ask_for_descriptors(&self, asking: usize) {
        let others = self.workers.iter().enumerate().filter(|(worker, _)| *worker != asking);
        others.for_each(|(_, worker)| worker.ask_for_descriptors());
    }

    /// A service's shared state, created on first use.
    pub fn service(&self, service: &Service) -> Arc<ServiceShared> {
        self.lock().service(service, self.workers.len()).take()
    }

    /// The shared state of an instance reached this way, created on first use.
    pub fn instance(&self, service: &Service, instance: &Instance) -> Arc<InstanceShared> {
        let (workers, began) = (self.workers.len(), self.clock());
        let mut known = self.lock();
        let flips = Arc::clone(&known.service(service, workers).shared.flips);
        let slots = || Arc::new(Slots::new(workers));
        let shared = || InstanceShared {
            workers: per_worker(workers),
            health: Health::new(&flips),
            began,
            slots: slots(),
            lines: Seldom::new(FAILED),
            load: Load::default(),
        };
        let key = instance_key(service, instance);
        let before = match known.health_before.is_empty() || known.instances.contains_key(&key) {
            true => None,
            false => known.health_before.remove(&instance_text(&key)),
        };
        let shared = known.instances.entry(key).or_insert_with(|| Kept::new(shared())).take();
        if let Some(before) = before {
            shared.health.recall(began, &before, self.faults);
        }
        shared
    }

    /// The shared states of a service and its instances; `None`: it had no work yet.
    pub fn peers(&self, service: &Service) -> Option<ServicePeers> {
        let known = self.lock();
        let shared = Arc::clone(&known.services.get(&(service.protocol, service.name.clone()))?.shared);
        let instance = |instance: &Instance| {
            let kept = known.instances.get(&instance_key(service, instance))?;
            Some(Arc::clone(&kept.shared))
        };
        Some(ServicePeers { service: shared, instances: service.instances.iter().map(instance).collect() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets services and instances that left the table more than ten minutes ago, and instances that had no work.
    #[expect(clippy::disallowed_methods, reason = "asked for once a minute")]
    pub fn forget(&self) {
        let mut known = self.lock();
        if self.age() >= FORGET_AFTER {
            known.health_before = HashMap::new();
        }
        known.forget(Instant::now());
    }

    /// The counts of the program before this one.
    pub fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// All counters now, with those of the program before.
    #[expect(clippy::disallowed_methods, reason = "a reader's moment")]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let clock = self.clock_at(now);
        self.earlier.add_to(Snapshot {
            services: self.lock().stats(clock, self.faults),
            connections_open: self.open(),
            connections_total: self.workers.iter().map(|worker| worker.accepted.get()).sum(),
            connections_evicted: self.workers.iter().map(|worker| worker.evicted.get()).sum(),
            http2_glitches: self.workers.iter().map(|worker| worker.glitches.get()).sum(),
            connections_refused: self.workers.iter().map(|worker| worker.refused.get()).sum(),
            faults: self.faults(),
            handshakes: self.handshakes(),
        })
    }

    /// What all services of HTTP, and all of TCP, have counted: only rises. Much less work than a snapshot.
    pub fn sums(&self) -> [Sums; 2] {
        let known = self.lock();
        let mut sums = known.forgotten;
        known.services.iter().for_each(|((protocol, _), kept)| sums[place(*protocol)].add_service(&kept.shared));
        known.instances.iter().for_each(|((protocol, ..), kept)| sums[place(*protocol)].add_instance(&kept.shared));
        self.earlier.add_sums(sums)
    }

    fn handshakes(&self) -> Vec<(&'static str, bool, u64)> {
        let sum = |kind: usize| self.workers.iter().map(|worker| worker.handshakes[kind].get()).sum();
        HANDSHAKES.iter().enumerate().map(|(kind, (version, is_resumed))| (*version, *is_resumed, sum(kind))).collect()
    }

    /// The instances that have work now, including those that left the table.
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

    /// The instances that are ejected, half-open or down by their checks, at an address that some worker uses.
    pub fn apart(&self) -> Vec<InstancePath> {
        let known = self.lock();
        let apart = known
            .instances
            .iter()
            .filter(|(_, kept)| Arc::strong_count(&kept.shared) > 1 && !kept.shared.health.is_sound());
        apart
            .map(|((protocol, service, instance, _), _)| (*protocol, service.to_string(), instance.to_string()))
            .collect()
    }

    /// The instances that are down by their checks, each with its address.
    pub fn down_by_checks(&self) -> DownBefore {
        let known = self.lock();
        let is_down = |health: &Health| matches!(health.check_state(), CheckState::Down { .. });
        let down = known.instances.iter().filter(|(_, kept)| is_down(&kept.shared.health));
        let mut down: DownBefore = down
            .map(|((protocol, service, instance, (target, _)), _)| {
                ((*protocol, service.to_string(), instance.to_string()), target.to_string())
            })
            .collect();
        down.sort_unstable();
        down
    }

    /// Counts an instance that goes down or comes back by its checks.
    pub fn count_check_flip(&self) {
        self.check_flips.fetch_add(1, Relaxed);
    }

    /// How often instances went down or came back by their checks. When it has changed, so may have
    /// [`Registry::down_by_checks`].
    pub fn check_flips(&self) -> u64 {
        self.check_flips.load(Relaxed)
    }

    /// Sets the instances that checks found down before the program was started anew.
    pub fn recall(&self, down: DownBefore) {
        self.lock().down_before = down;
    }

    /// Whether this one was, the first time that this is asked.
    pub fn was_down(&self, service: &Service, instance: &Instance) -> bool {
        let mut known = self.lock();
        let is_this = |((protocol, of, name), target): &(InstancePath, String)| {
            *protocol == service.protocol
                && of == service.name.as_str()
                && name == instance.name.as_str()
                && *target == instance.target.to_string()
        };
        let found = known.down_before.iter().position(is_this);
        found.map(|at| known.down_before.swap_remove(at)).is_some()
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let count = |index: usize| self.workers.iter().map(|worker| worker.faults[index].get()).sum();
        self.faults.iter().enumerate().map(|(index, name)| (*name, count(index))).collect()
    }
}

/// Where the sums of a protocol are.
fn place(protocol: Protocol) -> usize {
    usize::from(protocol == Protocol::Tcp)
}

impl Known {
    fn service(&mut self, service: &Service, workers: usize) -> &mut Kept<ServiceShared> {
        let key = (service.protocol, service.name.clone());
        self.services.entry(key).or_insert_with(|| Kept::new(ServiceShared::new(workers)))
    }

    /// A service is kept at least as long as its instances, because their flips increase its count.
    fn forget(&mut self, now: Instant) {
        let Self { services, instances, forgotten, .. } = self;
        let mut kept_instance = |key: &InstanceKey, kept: &Kept<InstanceShared>, stays: bool| {
            if !stays {
                forgotten[place(key.0)].add_instance(&kept.shared);
            }
            stays
        };
        instances.retain(|key, kept| {
            let stays = kept.is_worth_keeping(now) && (kept.left.is_none() || kept.shared.had_work());
            kept_instance(key, kept, stays)
        });
        let mut left: Vec<_> = instances.values().filter_map(|kept| kept.left).collect();
        if left.len() > MOST_LEFT {
            left.sort_unstable();
            let oldest = left[left.len() - MOST_LEFT];
            instances.retain(|key, kept| kept_instance(key, kept, kept.left.is_none_or(|left| left >= oldest)));
        }
        let has_instances = |kept: &Kept<ServiceShared>| Arc::strong_count(&kept.shared.flips) > 1;
        services.retain(|(protocol, _), kept| {
            let stays = kept.is_worth_keeping(now) || has_instances(kept);
            if !stays {
                forgotten[place(*protocol)].add_service(&kept.shared);
            }
            stays
        });
    }

    fn stats(&self, clock: u64, faults: &[&'static str]) -> Vec<ServiceStats> {
        let mut by_service: HashMap<ServiceKey, Vec<Addressed>> = HashMap::new();
        for ((protocol, service, name, (target, _)), kept) in &self.instances {
            let stats = InstanceStats::read((name, target), &kept.shared, clock, faults);
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

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the zero of this test's times")]
    fn a_service_is_known_as_long_as_its_instances() {
        let mut key_set = KeySet::default();
        let keys = [("services/s/a", "h:1"), ("services/s/default", "true")];
        key_set.reset(1, keys.map(|(key, value)| (key.into(), value.as_bytes().into())));
        let table = compile(&key_set, None, &Limits::default()).table;
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

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the zero of this test's times")]
    fn an_instance_that_left_is_kept_if_it_had_work() {
        let mut key_set = KeySet::default();
        let keys = [("services/s/a", "h:1"), ("services/s/b", "h:2"), ("services/s/default", "true")];
        key_set.reset(1, keys.map(|(key, value)| (key.into(), value.as_bytes().into())));
        let table = compile(&key_set, None, &Limits::default()).table;
        let (service, registry) = (&table.services()[0], Registry::new(1, &[]));
        let [idle, used] = [0, 1].map(|index| registry.instance(service, &service.instances[index]));
        used.workers[0].requests.add(1);
        let names = || {
            let all = registry.snapshot().services.remove(0).instances;
            all.into_iter().map(|instance| instance.instance).collect::<Vec<_>>()
        };
        registry.lock().forget(Instant::now());
        assert_eq!(names(), ["a", "b"], "both are held");
        drop((idle, used));
        registry.lock().forget(Instant::now());
        assert_eq!(names(), ["b"]);
        for passed in [0, 1, 2] {
            registry.lock().forget(Instant::now() + passed * FORGET_AFTER);
            assert_eq!(registry.sums()[0].totals.requests, 1, "no sum falls");
        }
        assert!(registry.snapshot().services.is_empty());
    }
}
