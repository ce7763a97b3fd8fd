//! What all services of a protocol have counted together. Those that were forgotten are part of it, so that no sum
//! falls while the program runs.

use pointsman_table::Protocol;
use serde::{Deserialize, Serialize};

use super::counters::{BUCKETS, Counters, InstanceShared, Latency, ServiceShared};
use super::snapshot::{Histogram, ServiceStats, Snapshot, Totals};

/// How many buckets of latencies there are, the one without an upper bound included.
pub const LATENCY_BUCKETS: usize = BUCKETS.len() + 1;

/// Upper bounds of the buckets of latencies, milliseconds; the last bucket has none.
pub const LATENCY_BOUNDS: [f64; BUCKETS.len()] = {
    let mut bounds = [0.0; BUCKETS.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = BUCKETS[at] as f64 / 1e3;
        at += 1;
    }
    bounds
};

/// What was counted of one protocol.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Requests, responses, bytes and open work.
    pub totals: Totals,
    /// How many requests took how long: by the buckets of [`LATENCY_BOUNDS`], not cumulative.
    pub latency: [u64; LATENCY_BUCKETS],
}

impl Sums {
    /// The sums of a snapshot, for an engine that keeps none.
    pub fn of(snapshot: &Snapshot, protocol: Protocol) -> Self {
        let services = snapshot.services.iter().filter(|service| service.protocol == protocol);
        services.fold(Self::default(), |sums, service| sums.plus(service))
    }

    pub(super) fn and(self, other: &Self) -> Self {
        let mut latency = self.latency;
        latency.iter_mut().zip(other.latency).for_each(|(sum, count)| *sum += count);
        Self { totals: self.totals.plus(&other.totals), latency }
    }

    fn plus(self, service: &ServiceStats) -> Self {
        let mut latency = self.latency;
        latency.iter_mut().zip(service.latency.counts()).for_each(|(sum, count)| *sum += count);
        Self { totals: self.totals.plus(&service.totals), latency }
    }

    pub(super) fn add_instance(&mut self, shared: &InstanceShared) {
        self.add_counters(&shared.workers);
    }

    pub(super) fn add_service(&mut self, shared: &ServiceShared) {
        self.add_counters(&shared.unserved);
        shared.latency.iter().for_each(|worker| self.add_latency(worker));
    }

    fn add_counters(&mut self, workers: &[Counters]) {
        workers.iter().for_each(|worker| self.totals.add(worker));
    }

    fn add_latency(&mut self, worker: &Latency) {
        self.latency.iter_mut().zip(&worker.buckets).for_each(|(sum, count)| *sum += count.get());
    }
}

impl Histogram {
    /// How many values are in each bucket of [`LATENCY_BOUNDS`], not cumulative; 0 where the engine counts none.
    pub fn counts(&self) -> [u64; LATENCY_BUCKETS] {
        let mut below = 0;
        std::array::from_fn(|bucket| {
            let cumulative = self.buckets.get(bucket).map_or(self.count, |(_, count)| *count);
            let count = cumulative.saturating_sub(below);
            below = cumulative;
            count
        })
    }
}
