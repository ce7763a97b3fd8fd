//! All figures at one moment, and what happened per second since the moment before. Shared by everybody who asks within a
//! second, and forgotten soon after, so that many clients, and slow ones, cost what one costs.

use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::live::{InstanceStats, ServiceStats, Snapshot, Sums};
use pointsman_table::Protocol;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::row::gauge;
use crate::admin::Figures;

/// How long figures are as good as new.
const FRESH: Duration = Duration::from_secs(1);
/// How long they are kept for an answer that is still being read.
const KEPT: Duration = Duration::from_secs(5);
/// The longest time that a rate is told of.
const LONGEST: Duration = Duration::from_secs(300);

/// Where figures come from.
#[derive(Clone, Debug)]
pub struct Looks {
    figures: Figures,
    cache: Arc<Mutex<LookCache>>,
}

#[derive(Debug, Default)]
struct LookCache {
    newest: Option<Arc<StatsLook>>,
    past: Option<PastCounts>,
}

/// All figures at one moment.
#[derive(Debug)]
pub(super) struct StatsLook {
    at: Instant,
    pub(super) snapshot: Snapshot,
    /// What was counted of HTTP, and of TCP; never falls.
    pub(super) sums: [Sums; 2],
    /// HTTP requests per second.
    pub(super) requests: Option<u32>,
    /// Client connections per second.
    pub(super) connections: Option<u32>,
    /// In the order of the snapshot.
    paces: Vec<ServicePace>,
}

/// What a service did since the look before; nothing is known at the first look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServicePace {
    /// Requests or connections per second.
    pub(super) rate: Option<u32>,
    /// The same by instance, in the order of the snapshot.
    pub(super) instances: Vec<Option<u32>>,
    /// Milliseconds from a request's head to the end of its answer, on average.
    pub(super) mean: Option<u32>,
}

/// What had been counted at a look.
#[derive(Debug)]
struct PastCounts {
    at: Instant,
    requests: u64,
    connections: u64,
    /// In the order of its snapshot.
    services: Vec<PastService>,
}

#[derive(Debug)]
struct PastService {
    protocol: Protocol,
    name: Box<str>,
    requests: u64,
    /// How many took how many seconds.
    timed: (u64, f64),
    mean: Option<u32>,
    instances: Vec<(Box<str>, u64)>,
}

impl Looks {
    /// Of these figures.
    pub fn new(figures: Figures) -> Self {
        Self { figures, cache: Arc::default() }
    }

    /// Whether HAProxy is the engine, which counts some things in its own way.
    pub(super) fn is_haproxy(&self) -> bool {
        matches!(self.figures, Figures::Haproxy(_))
    }

    /// The figures of now, or of a second ago at most.
    pub(super) async fn take(&self) -> Arc<StatsLook> {
        let mut cache = self.cache.lock().await;
        if let Some(newest) = cache.newest.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return Arc::clone(newest);
        }
        let snapshot = self.figures.snapshot().await;
        let sums = self.figures.sums_of(&snapshot);
        let look = Arc::new(StatsLook::new(Instant::now(), snapshot, sums, cache.past.as_ref()));
        cache.past = Some(PastCounts::of(&look));
        cache.newest = Some(Arc::clone(&look));
        tokio::spawn(forget(Arc::clone(&self.cache), look.at));
        look
    }
}

/// Gives the memory back if nobody has asked since.
async fn forget(cache: Arc<Mutex<LookCache>>, taken: Instant) {
    sleep(KEPT).await;
    let mut cache = cache.lock().await;
    if cache.newest.as_ref().is_some_and(|look| look.at == taken) {
        cache.newest = None;
    }
}

impl StatsLook {
    fn new(at: Instant, snapshot: Snapshot, sums: [Sums; 2], past: Option<&PastCounts>) -> Self {
        let past = past.filter(|past| at.duration_since(past.at) < LONGEST);
        let span = past.map_or(FRESH, |past| at.duration_since(past.at).max(FRESH)).as_secs_f64();
        let rate = |now: u64, before: Option<u64>| before.map(|before| per_second(now, before, span));
        let paces = snapshot.services.iter().map(|stats| {
            // A service that had no work then had counted nothing.
            let before = past.map(|past| past.service(stats));
            let requests = before.map(|before| before.map_or(0, |before| before.requests));
            let instance = |one: &InstanceStats| {
                rate(one.totals.requests, before.map(|before| before.map_or(0, |before| before.instance(one))))
            };
            ServicePace {
                rate: rate(stats.totals.requests, requests),
                instances: stats.instances.iter().map(instance).collect(),
                mean: mean(stats, before.flatten()),
            }
        });
        let paces = paces.collect();
        Self {
            at,
            requests: rate(sums[0].totals.requests, past.map(|past| past.requests)),
            connections: rate(snapshot.connections_total, past.map(|past| past.connections)),
            snapshot,
            sums,
            paces,
        }
    }

    /// A service's figures; `None`: it had no work yet.
    pub(super) fn service(&self, protocol: Protocol, name: &str) -> Option<(&ServiceStats, &ServicePace)> {
        let key = |stats: &ServiceStats| (stats.protocol, &*stats.service).cmp(&(protocol, name));
        let at = self.snapshot.services.binary_search_by(key).ok()?;
        Some((&self.snapshot.services[at], &self.paces[at]))
    }
}

impl PastCounts {
    fn of(look: &StatsLook) -> Self {
        let service = |(stats, pace): (&ServiceStats, &ServicePace)| PastService {
            protocol: stats.protocol,
            name: (&*stats.service).into(),
            requests: stats.totals.requests,
            timed: (stats.latency.count, stats.latency.sum),
            mean: pace.mean,
            instances: stats.instances.iter().map(|one| ((&*one.instance).into(), one.totals.requests)).collect(),
        };
        Self {
            at: look.at,
            requests: look.sums[0].totals.requests,
            connections: look.snapshot.connections_total,
            services: look.snapshot.services.iter().zip(&look.paces).map(service).collect(),
        }
    }

    fn service(&self, stats: &ServiceStats) -> Option<&PastService> {
        let key = |past: &PastService| (past.protocol, &*past.name).cmp(&(stats.protocol, &*stats.service));
        self.services.binary_search_by(key).ok().map(|at| &self.services[at])
    }
}

impl PastService {
    fn instance(&self, stats: &InstanceStats) -> u64 {
        let found = self.instances.iter().find(|(name, _)| **name == *stats.instance);
        found.map_or(0, |(_, requests)| *requests)
    }
}

/// Of the requests since the look before, else of those before it.
fn mean(stats: &ServiceStats, before: Option<&PastService>) -> Option<u32> {
    let (count, sum) = before.map_or((0, 0.0), |before| before.timed);
    match stats.latency.count.saturating_sub(count) {
        0 => before.and_then(|before| before.mean),
        more => Some(((stats.latency.sum - sum).max(0.0) * 1e3 / more as f64).round() as u32),
    }
}

fn per_second(now: u64, before: u64, span: f64) -> u32 {
    gauge((now.saturating_sub(before) as f64 / span).round() as u64)
}

#[cfg(test)]
mod tests {
    use pointsman_engine::live::{Histogram, Totals};

    use super::*;

    fn snapshot(requests: u64, seconds: f64) -> Snapshot {
        let latency = Histogram { count: requests, sum: seconds, ..Histogram::default() };
        let stats = ServiceStats {
            protocol: Protocol::Http,
            service: "a".to_owned(),
            totals: Totals { requests, ..Totals::default() },
            queued: 0,
            panic: false,
            latency,
            instances: Vec::new(),
        };
        Snapshot { services: vec![stats], connections_total: requests / 2, ..Snapshot::default() }
    }

    #[tokio::test]
    async fn rates_are_of_the_time_between_two_looks() {
        let look = |at, requests, seconds, past: Option<&PastCounts>| {
            StatsLook::new(at, snapshot(requests, seconds), [Sums::default(); 2], past)
        };
        let start = Instant::now();
        let first = look(start, 100, 10.0, None);
        let pace = |look: &StatsLook| look.service(Protocol::Http, "a").unwrap().1.clone();
        let of = |rate, mean| ServicePace { rate, instances: Vec::new(), mean };
        assert_eq!((pace(&first), first.connections), (of(None, Some(100)), None));
        let past = PastCounts::of(&first);
        let second = look(start + Duration::from_secs(10), 200, 11.0, Some(&past));
        assert_eq!((pace(&second), second.connections), (of(Some(10), Some(10)), Some(5)));
        let quiet = look(start + Duration::from_secs(20), 200, 11.0, Some(&PastCounts::of(&second)));
        assert_eq!(pace(&quiet), of(Some(0), Some(10)));
        let late = look(start + LONGEST, 200, 11.0, Some(&past));
        assert_eq!(pace(&late).rate, None);
    }
}
