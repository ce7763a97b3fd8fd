//! Turns HAProxy's statistics into the figures that every engine has: counters that only grow, across reloads and while
//! old workers still count. Pure: `scrape` asks the workers.
//!
//! ```text
//! `show stat` of each worker -> csv -> increase since its last answer -> sums by service and instance -> Snapshot
//! ```

mod csv;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use pointsman_table::{Protocol, ServiceName};

pub use csv::Unreadable;
use csv::{Counts, Field, Kind, Row, rows};
use pointsman_engine::live::{Histogram, InstanceStats, Reason, ServiceStats, SetApart, Snapshot, Totals};

/// The command for a worker's statistics, without single listeners (Management Guide, `show stat`).
pub const COMMAND: &str = "show stat -1 7 -1";

/// How long counters are kept that no worker reports any more.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Finds the service of a worker's backend and the instance of its server. For each worker: in two workers, the same
/// spare may serve different services.
pub struct Names<'a> {
    /// The service that a backend serves.
    pub service: &'a dyn Fn(&str) -> Option<(Protocol, ServiceName)>,
    /// The instance that a server is, by the server's name.
    pub instance: &'a dyn Fn(&str) -> Option<Box<str>>,
}

/// All counters so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// The newest is the last.
    workers: Vec<WorkerAnswer>,
    services: BTreeMap<ServiceKey, ServiceSum>,
    frontends: Counts,
    /// All backends, also those without a service.
    backends: Counts,
    /// 5xx answers of frontends themselves; never falls.
    unrouted: u64,
    /// Requests that the rules before any backend refused; never falls.
    denied: u64,
}

type ServiceKey = (Protocol, ServiceName);

/// One worker's last answer.
#[derive(Debug)]
struct WorkerAnswer {
    pid: u32,
    /// Counters by kind of row, proxy and server.
    rows: HashMap<(Kind, Box<str>, Box<str>), Counts>,
    services: HashMap<ServiceKey, Now>,
    open: u64,
}

/// A service's state in one worker.
#[derive(Debug, Default)]
struct Now {
    active: u64,
    /// Waiting for room, in the service's queue or an instance's.
    queued: u64,
    instances: HashMap<Box<str>, NowInstance>,
}

/// An instance's state in one worker.
#[derive(Debug, Default)]
struct NowInstance {
    /// Sessions.
    active: u64,
    /// Some server of it gets work.
    up: bool,
    /// Why the others do not.
    apart: Option<SetApart>,
}

/// All workers' counters of one service.
#[derive(Debug)]
struct ServiceSum {
    counts: Counts,
    instances: BTreeMap<Box<str>, InstanceSum>,
    seen: Instant,
}

/// All workers' counters of one instance.
#[derive(Debug)]
struct InstanceSum {
    counts: Counts,
    /// Never falls: a request counts before it is known whether the instance accepted it.
    requests: u64,
    target: Box<str>,
    seen: Instant,
}

impl Tally {
    /// Enters a worker's answer to [`COMMAND`]. A worker that is not known yet counts as the newest.
    ///
    /// # Errors
    /// It is not an answer to that; then nothing changes.
    pub fn read(&mut self, pid: u32, text: &str, names: &Names<'_>, now: Instant) -> Result<(), Unreadable> {
        let known = self.workers.iter().position(|worker| worker.pid == pid);
        let before = known.map(|at| &self.workers[at].rows);
        let mut worker = WorkerAnswer { pid, rows: HashMap::new(), services: HashMap::new(), open: 0 };
        let mut news = Vec::new();
        for row in rows(text)? {
            let key = (row.kind, Box::from(&*row.proxy), Box::from(&*row.server));
            let new = row.counts.since(before.and_then(|rows| rows.get(&key)));
            worker.rows.insert(key, row.counts);
            news.push((row, new));
        }
        for (row, new) in news {
            self.add(&mut worker, &row, &new, names, now);
        }
        match known {
            Some(at) => self.workers[at] = worker,
            None => self.workers.push(worker),
        }
        self.settle(now);
        Ok(())
    }

    /// A worker has ended. Its counts stay.
    pub fn gone(&mut self, pid: u32) {
        self.workers.retain(|worker| worker.pid != pid);
    }

    fn add(&mut self, worker: &mut WorkerAnswer, row: &Row<'_>, new: &Counts, names: &Names<'_>, now: Instant) {
        match row.kind {
            Kind::Frontend => {
                self.frontends.add(new);
                worker.open += row.current;
                return;
            }
            Kind::Backend => self.backends.add(new),
            Kind::Server => {}
        }
        let Some(key) = (names.service)(&row.proxy) else { return };
        let sum = self.services.entry(key.clone()).or_insert_with(|| ServiceSum::new(now));
        let service = worker.services.entry(key).or_default();
        sum.seen = now;
        service.queued += row.queued;
        if row.kind == Kind::Backend {
            sum.counts.add(new);
            service.active = row.current;
        } else if let Some(instance) = (names.instance)(&row.server) {
            // An instance whose address changed is two servers for a while.
            let now_instance = service.instances.entry(instance.clone()).or_default();
            now_instance.active += row.current;
            now_instance.up |= row.apart.is_none();
            now_instance.apart = row.apart.clone().or(now_instance.apart.take());
            sum.add(instance, &row.address, new, now);
        }
    }

    /// Updates what depends on all rows, and forgets what no worker reports any more.
    fn settle(&mut self, now: Instant) {
        let own = self.frontends.errors().saturating_sub(self.backends.errors());
        self.unrouted = self.unrouted.max(own);
        let denied = |side: &Counts| side.get(Field::DeniedRequests);
        self.denied = self.denied.max(denied(&self.frontends).saturating_sub(denied(&self.backends)));
        let fresh = |seen: Instant| now.saturating_duration_since(seen) < FORGET_AFTER;
        for service in self.services.values_mut() {
            service.instances.retain(|_, instance| fresh(instance.seen));
        }
        self.services.retain(|_, service| fresh(service.seen));
    }

    /// All figures. Without latencies: HAProxy reports averages, which make no histogram.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            services: self.services.iter().map(|(key, sum)| self.service(key, sum)).collect(),
            connections_open: self.workers.iter().map(|worker| worker.open).sum(),
            connections_total: self.frontends.get(Field::Connections),
            // HAProxy refuses none: they wait in the listening queue.
            connections_evicted: 0,
            handshakes: Vec::new(),
            http2_glitches: 0,
            connections_refused: 0,
            faults: self.faults(),
        }
    }

    /// Those faults of the native engine that HAProxy distinguishes.
    fn faults(&self) -> Vec<(&'static str, u64)> {
        let cut = self.backends.get(Field::ServerAborts);
        let denied = self.backends.get(Field::DeniedResponses);
        vec![
            ("bad_request", self.frontends.get(Field::RequestErrors) + self.denied),
            ("client_gone", self.backends.get(Field::ClientAborts)),
            ("no_route", self.unrouted),
            ("connect_refused", self.backends.get(Field::ConnectErrors)),
            ("bad_response", denied + self.backends.get(Field::ResponseErrors).saturating_sub(cut)),
            ("bad_response_body", cut),
        ]
    }

    fn service(&self, key: &ServiceKey, sum: &ServiceSum) -> ServiceStats {
        let now: Vec<_> = self.workers.iter().filter_map(|worker| worker.services.get(key)).collect();
        let active = now.iter().map(|now| now.active).sum();
        let newest = self.workers.last().and_then(|worker| worker.services.get(key));
        let instance = |name: &str, sum: &InstanceSum| {
            let newest = newest.and_then(|now| now.instances.get(name)).filter(|now| !now.up);
            InstanceStats {
                instance: name.to_owned(),
                target: sum.target.to_string(),
                totals: sum.totals(now.iter().filter_map(|now| now.instances.get(name)).map(|now| now.active).sum()),
                up: newest.is_none(),
                apart: newest.and_then(|now| now.apart.clone()),
                lasts: newest.and_then(|now| Some(now.apart.as_ref()?.age)),
                error: None,
                age: None,
                ejections: Reason::ALL.map(|reason| (reason, 0)),
                check: None,
            }
        };
        ServiceStats {
            protocol: key.0,
            service: key.1.to_string(),
            totals: Totals { requests: sum.requests(key.0), active, ..sum.counts.totals() },
            queued: now.iter().map(|now| now.queued).sum(),
            panic: false,
            latency: Histogram::default(),
            instances: sum.instances.iter().map(|(name, sum)| instance(name, sum)).collect(),
        }
    }
}

impl ServiceSum {
    fn new(seen: Instant) -> Self {
        Self { counts: Counts::default(), instances: BTreeMap::new(), seen }
    }

    fn add(&mut self, instance: Box<str>, target: &str, new: &Counts, now: Instant) {
        let sum = self.instances.entry(instance).or_insert_with(|| InstanceSum::new(now));
        sum.counts.add(new);
        sum.requests = sum.requests.max(sum.counts.taken());
        sum.target = target.into();
        sum.seen = now;
    }

    fn requests(&self, protocol: Protocol) -> u64 {
        match protocol {
            Protocol::Http => self.counts.get(Field::Requests),
            Protocol::Tcp => self.counts.get(Field::Sessions),
        }
    }
}

impl InstanceSum {
    fn new(seen: Instant) -> Self {
        Self { counts: Counts::default(), requests: 0, target: Box::default(), seen }
    }

    fn totals(&self, active: u64) -> Totals {
        Totals { requests: self.requests, active, ..self.counts.totals() }
    }
}

impl Counts {
    /// The totals that services and instances have in common.
    fn totals(&self) -> Totals {
        Totals {
            requests: 0,
            responses: self.responses(),
            bytes_in: self.get(Field::BytesIn),
            bytes_out: self.get(Field::BytesOut),
            active: 0,
            // Requests that gave up or went to another instance. Repeated attempts at the same one count as retries.
            connect_failures: self.get(Field::ConnectErrors) + self.get(Field::Redispatches),
            retries: self.get(Field::Retries) + self.get(Field::Redispatches),
            // Of backends only: servers have no such columns.
            compress_in: self.get(Field::CompressIn),
            compress_out: self.get(Field::CompressOut),
            ..Totals::default()
        }
    }

    /// Requests that a server accepted. HAProxy counts answered requests, and attempts; an attempt was accepted if it
    /// was neither given up, nor repeated, nor sent to another server.
    fn taken(&self) -> u64 {
        let lost = [Field::ConnectErrors, Field::Retries, Field::Redispatches].map(|field| self.get(field));
        self.get(Field::Requests).max(self.get(Field::Sessions).saturating_sub(lost.iter().sum()))
    }
}

#[cfg(test)]
mod tests;
