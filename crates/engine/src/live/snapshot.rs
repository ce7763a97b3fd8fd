//! The sums of all counters over the workers at one moment, for pages and metrics.

use std::time::Duration;

use pointsman_table::{InstanceName, Protocol, Target};
use serde::{Deserialize, Serialize};

use super::counters::{BUCKETS, Counter, Counters, InstanceShared, Latency, REASONS, ServiceKey, ServiceShared};
use super::health::{Cause, Ejection, Grounds, InstanceError, Reason};

/// The state of an instance whose checks fail.
const DOWN: &str = "down";

/// The sums of all counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Services that have had work, by protocol and name.
    pub services: Vec<ServiceStats>,
    /// Client connections open now.
    pub connections_open: u64,
    /// Client connections accepted.
    pub connections_total: u64,
    /// Idle client connections closed to make room for others.
    pub connections_evicted: u64,
    /// Points that clients' HTTP/2 frames cost because they moved nothing.
    pub http2_glitches: u64,
    /// Client connections refused for `limit/connections`.
    pub connections_refused: u64,
    /// Local replies and cut requests, by fault.
    pub faults: Vec<(&'static str, u64)>,
    /// TLS handshakes of clients that are done, by version, and whether a session was resumed; empty: not counted.
    pub handshakes: Vec<(&'static str, bool, u64)>,
}

/// Numbers of one service or instance.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Requests (HTTP) or connections (TCP) taken.
    pub requests: u64,
    /// Responses sent to clients by class, 1xx first.
    pub responses: [u64; 5],
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Requests or connections at work now.
    pub active: u64,
    /// Failed connects.
    pub connect_failures: u64,
    /// Requests sent again after an instance closed before its first byte, or sent to another after a failed connect.
    pub retries: u64,
    /// The same by reason, in the order of [`REASONS`].
    pub reasons: [u64; REASONS.len()],
    /// Requests refused because every place was taken.
    pub shed: u64,
    /// Bytes of bodies before they were compressed.
    pub compress_in: u64,
    /// The same bytes after.
    pub compress_out: u64,
    /// Bodies that were not compressed, because so many others were.
    pub compress_passed: u64,
    /// Requests refused because they were beyond the rate.
    pub limited: u64,
}

impl Totals {
    pub(super) fn add(&mut self, counters: &Counters) {
        self.requests += counters.requests.get();
        for (sum, class) in self.responses.iter_mut().zip(&counters.responses) {
            *sum += class.get();
        }
        self.bytes_in += counters.bytes_in.get();
        self.bytes_out += counters.bytes_out.get();
        self.active += counters.active.get();
        self.connect_failures += counters.connect_failures.get();
        for (sum, reason) in self.reasons.iter_mut().zip(&counters.reasons) {
            self.retries += reason.get();
            *sum += reason.get();
        }
    }

    fn of(counters: &[Counters]) -> Self {
        let mut totals = Self::default();
        counters.iter().for_each(|worker| totals.add(worker));
        totals
    }

    /// What is more than before; gauges stay as they are.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        let less = |now: &mut u64, before: u64| *now = now.saturating_sub(before);
        less(&mut self.requests, before.requests);
        self.responses.iter_mut().zip(before.responses).for_each(|(now, before)| less(now, before));
        less(&mut self.bytes_in, before.bytes_in);
        less(&mut self.bytes_out, before.bytes_out);
        less(&mut self.connect_failures, before.connect_failures);
        less(&mut self.retries, before.retries);
        self.reasons.iter_mut().zip(before.reasons).for_each(|(now, before)| less(now, before));
        less(&mut self.shed, before.shed);
        less(&mut self.limited, before.limited);
        self
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.requests += other.requests;
        for (sum, class) in self.responses.iter_mut().zip(other.responses) {
            *sum += class;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.active += other.active;
        self.connect_failures += other.connect_failures;
        self.retries += other.retries;
        for (sum, reason) in self.reasons.iter_mut().zip(other.reasons) {
            *sum += reason;
        }
        self.shed += other.shed;
        self.compress_in += other.compress_in;
        self.compress_out += other.compress_out;
        self.compress_passed += other.compress_passed;
        self.limited += other.limited;
        self
    }
}

/// Numbers of one service.
#[derive(Clone, Debug)]
pub struct ServiceStats {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its name.
    pub service: String,
    /// The sum of its instances and of local replies.
    pub totals: Totals,
    /// Requests or connections in the queue now.
    pub queued: u64,
    /// Whether too few instances are healthy to leave any out: `panic`.
    pub panic: bool,
    /// From the request's head to the response's last byte, or the duration of a TCP connection.
    pub latency: Histogram,
    /// Its instances, by name.
    pub instances: Vec<InstanceStats>,
}

impl ServiceStats {
    pub(super) fn read(key: &ServiceKey, shared: &ServiceShared, instances: Vec<Addressed>) -> Self {
        let instances = Addressed::merged(instances);
        let [shed, limited] = [&shared.shed, &shared.limited].map(|workers| workers.iter().map(Counter::get).sum());
        let [compress_in, compress_out, compress_passed] = shared.compression();
        let own = Totals { shed, limited, compress_in, compress_out, compress_passed, ..Totals::of(&shared.unserved) };
        Self {
            protocol: key.0,
            service: key.1.to_string(),
            totals: instances.iter().fold(own, |sum, instance| sum.plus(&instance.totals)),
            queued: shared.queued(),
            panic: shared.is_in_panic(),
            latency: Histogram::read(&shared.latency),
            instances,
        }
    }
}

/// Numbers of one instance.
#[derive(Clone, Debug)]
pub struct InstanceStats {
    /// Its name.
    pub instance: String,
    /// Its address.
    pub target: String,
    /// Its numbers.
    pub totals: Totals,
    /// Whether it may get work: not ejected.
    pub up: bool,
    /// Since when and why it gets no work, or only a trial.
    pub apart: Option<SetApart>,
    /// How long its state has lasted; `None`: the engine does not tell.
    pub lasts: Option<Duration>,
    /// Its last failure, and how long ago that was; `None`: none, or the engine does not tell.
    pub error: Option<(String, Duration)>,
    /// How long ago it returned, or appeared beside others; `None`: at no time that counts for `slow_start`.
    pub age: Option<Duration>,
    /// How often it was ejected, by reason.
    pub ejections: [(Reason, u64); Reason::ALL.len()],
    /// Its last active check; `None`: it has none, or the engine does not tell.
    pub check: Option<CheckedNow>,
}

impl InstanceStats {
    /// Counts alone, of an instance whose state nobody knows: it may get work.
    pub fn counted(instance: String, target: String, totals: Totals, ejections: [u64; Reason::ALL.len()]) -> Self {
        Self {
            instance,
            target,
            totals,
            up: true,
            apart: None,
            lasts: None,
            error: None,
            age: None,
            ejections: std::array::from_fn(|place| (Reason::ALL[place], ejections[place])),
            check: None,
        }
    }
}

/// The last active check of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedNow {
    /// Whether checks let it have work.
    pub up: bool,
    /// What was asked and what came of it: `GET /health got 200`.
    pub said: String,
    /// How long it took.
    pub took: Duration,
    /// How long ago it ended; `None`: before this program started.
    pub age: Option<Duration>,
    /// How many checks in a row, the last included, spoke against the state.
    pub streak: u32,
}

/// The state of an instance that gets no work, or only a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetApart {
    /// `ejected`, `half-open` or, by its checks, `down`; with HAProxy `down` or `maintenance`.
    pub state: &'static str,
    /// How long ago it began.
    pub age: Duration,
    /// The fault, what its check said, or HAProxy's message; may be empty.
    pub why: String,
}

/// An instance that has work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Working {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its service.
    pub service: String,
    /// Its name.
    pub instance: String,
    /// Its open requests or connections, at all of its addresses.
    pub active: u64,
}

/// An instance: protocol, service and name.
pub type InstancePath = (Protocol, String, String);

impl Snapshot {
    /// The instances that get no work, or only a trial.
    pub fn apart(&self) -> Vec<InstancePath> {
        let each = self.services.iter().flat_map(|service| {
            let apart = service.instances.iter().filter(|instance| instance.apart.is_some());
            apart.map(|instance| (service.protocol, service.service.clone(), instance.instance.clone()))
        });
        each.collect()
    }

    /// The instances that have work.
    pub fn working(&self) -> Vec<Working> {
        let each = self.services.iter().flat_map(|service| {
            service.instances.iter().filter(|instance| instance.totals.active > 0).map(|instance| Working {
                protocol: service.protocol,
                service: service.service.clone(),
                instance: instance.instance.clone(),
                active: instance.totals.active,
            })
        });
        let mut working: Vec<_> = each.collect();
        working.sort_unstable();
        working
    }
}

impl InstanceStats {
    pub(super) fn read(
        (name, target): (&InstanceName, &Target),
        shared: &InstanceShared,
        clock: u64,
        faults: &[&'static str],
    ) -> Self {
        let age = |since| Duration::from_millis(clock.saturating_sub(since));
        let ejected =
            |Ejection { state, since, cause }| SetApart { state, age: age(since), why: cause.in_words(faults) };
        let last = shared.health.last_check();
        let by_checks = last.as_ref().filter(|last| !last.up).map(|last| SetApart {
            state: DOWN,
            age: age(last.since),
            why: format!("its check {}", last.said),
        });
        let apart = by_checks.or_else(|| shared.health.ejection(clock).map(ejected));
        let rose = last.as_ref().map_or(0, |last| last.since);
        let since = shared.began.max(shared.health.since()).max(rose);
        Self {
            lasts: Some(apart.as_ref().map_or(age(since), |apart| apart.age)),
            error: shared.health.last_error().map(|(at, error)| (error.in_words(faults), age(at))),
            instance: name.to_string(),
            target: target.to_string(),
            totals: Totals::of(&shared.workers),
            up: shared.health.is_up(clock),
            apart,
            age: Some(shared.health.since()).filter(|since| *since > 0).map(age),
            ejections: Reason::ALL.map(|reason| (reason, shared.health.ejections(reason))),
            check: last.map(|last| CheckedNow {
                up: last.up,
                said: last.said.into_owned(),
                took: last.took,
                age: Some(last.at).filter(|at| *at > 0).map(age),
                streak: shared.health.check_state().against(),
            }),
        }
    }
}

impl Cause {
    /// The fault's name, or in words what was wrong with its answers.
    fn in_words(self, faults: &[&'static str]) -> String {
        match self {
            Self::Fault(fault) => faults.get(fault).copied().unwrap_or_default().to_owned(),
            Self::Answers(grounds) => grounds.in_words(faults),
        }
    }
}

impl InstanceError {
    /// The fault's name, or the status.
    fn in_words(self, faults: &[&'static str]) -> String {
        match self {
            Self::Fault(fault) => faults.get(fault).copied().unwrap_or_default().to_owned(),
            Self::Status(status) => status.to_string(),
        }
    }
}

impl Grounds {
    /// `5 answers in a row were 5xx or broken, last 502`. `faults`: the registry's names.
    pub fn in_words(self, faults: &[&'static str]) -> String {
        let row = |count: u32| match count {
            1 => "an answer was 5xx or broken:".to_owned(),
            count => format!("{count} answers in a row were 5xx or broken, last"),
        };
        match self {
            Self::Status(count, status) => format!("{} {status}", row(count)),
            Self::Broken(count, fault) => format!("{} {}", row(count), faults.get(fault).copied().unwrap_or_default()),
            Self::Outlier(rate, peers) => {
                format!("{rate}% of its answers were good, {peers}% on average with its peers")
            }
        }
    }
}

/// Numbers of one instance at one address.
pub(super) struct Addressed {
    /// Some worker holds it: the address is in the table, or was a moment ago.
    pub(super) in_use: bool,
    pub(super) stats: InstanceStats,
}

impl Addressed {
    /// One entry per instance. An instance that moved has the health of its newest address.
    fn merged(mut all: Vec<Self>) -> Vec<InstanceStats> {
        let rank = |one: &Self| (one.stats.instance.clone(), one.in_use, one.stats.target.clone());
        all.sort_by_cached_key(rank);
        let mut merged: Vec<InstanceStats> = Vec::with_capacity(all.len());
        for Self { mut stats, .. } in all {
            if let Some(before) = merged.pop_if(|before| before.instance == stats.instance) {
                stats.totals = stats.totals.plus(&before.totals);
                stats.ejections.iter_mut().zip(before.ejections).for_each(|(sum, (_, count))| sum.1 += count);
            }
            merged.push(stats);
        }
        merged
    }
}

/// A cumulative histogram, as Prometheus defines it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Upper bound in seconds, and how many values were at or below it.
    pub buckets: Vec<(f64, u64)>,
    /// Sum, seconds.
    pub sum: f64,
    /// How many values.
    pub count: u64,
}

impl Histogram {
    /// What is more than before.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for ((_, now), (_, before)) in self.buckets.iter_mut().zip(&before.buckets) {
            *now = now.saturating_sub(*before);
        }
        self.sum = (self.sum - before.sum).max(0.0);
        self.count = self.count.saturating_sub(before.count);
        self
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        if self.buckets.is_empty() {
            self.buckets = other.buckets.iter().map(|(bound, _)| (*bound, 0)).collect();
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|((_, sum), (_, more))| *sum += more);
        self.sum += other.sum;
        self.count += other.count;
        self
    }

    pub(super) fn read(workers: &[Latency]) -> Self {
        let counted = |bucket: usize| workers.iter().map(|worker| worker.buckets[bucket].get()).sum::<u64>();
        let mut count = 0;
        let buckets = BUCKETS
            .iter()
            .enumerate()
            .map(|(bucket, bound)| {
                count += counted(bucket);
                (*bound as f64 / 1e6, count)
            })
            .collect();
        let micros: u64 = workers.iter().map(|worker| worker.micros.get()).sum();
        Self { buckets, sum: micros as f64 / 1e6, count: count + counted(BUCKETS.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_moved_is_one() {
        let at = |instance: &str, target: &str, in_use: bool, requests: u64| Addressed {
            in_use,
            stats: InstanceStats {
                instance: instance.to_owned(),
                target: target.to_owned(),
                totals: Totals { requests, ..Totals::default() },
                up: in_use,
                apart: None,
                lasts: None,
                error: None,
                age: None,
                ejections: Reason::ALL.map(|reason| (reason, 0)),
                check: None,
            },
        };
        let all = vec![at("b", "z", false, 4), at("a", "y", true, 1), at("b", "x", true, 2), at("b", "y", false, 8)];
        let shown = |one: &InstanceStats| format!("{} {} {} {}", one.instance, one.target, one.totals.requests, one.up);
        let merged: Vec<_> = Addressed::merged(all).iter().map(shown).collect();
        assert_eq!(merged, ["a y 1 true", "b x 14 true"]);
    }

    #[test]
    fn histogram_is_cumulative() {
        let latency = [Latency::default(), Latency::default()];
        latency[0].record(Duration::from_micros(400));
        latency[1].record(Duration::from_millis(3));
        latency[1].record(Duration::from_secs(60));
        let histogram = Histogram::read(&latency);
        assert_eq!(histogram.count, 3);
        assert_eq!(histogram.buckets[0], (0.0005, 1));
        assert_eq!(histogram.buckets[3], (0.005, 2));
        assert_eq!(histogram.buckets.last().map(|bucket| bucket.1), Some(2));
        let counts: Vec<_> = histogram.counts().into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(0, 1), (3, 1), (BUCKETS.len(), 1)]);
    }
}
