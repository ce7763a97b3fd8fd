//! Exemplars: for each service and each bucket of its latencies, the last request whose trace a collector has. Written by the
//! task that sends spans, never by a worker.

#![expect(
    clippy::disallowed_types,
    reason = "taken for a batch of spans and for a page of metrics, never for a request"
)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::live::{LATENCY_BUCKETS, latency_bucket};

/// Of how many services exemplars are kept.
const MOST: usize = 4096;

/// A request whose trace a collector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Its trace.
    pub trace: u128,
    /// The span of the request.
    pub span: u64,
    /// How long it took, as the service's latencies count it.
    pub took: Duration,
    /// When it ended, nanoseconds since 1970.
    pub at: u64,
}

/// The exemplars of one service, by bucket.
pub type ByBucket = [Option<Exemplar>; LATENCY_BUCKETS];

/// The exemplars of HTTP services.
#[derive(Debug, Default)]
pub struct Exemplars(Mutex<HashMap<Box<str>, ByBucket>>);

impl Exemplars {
    /// Keeps one in place of the last of its bucket. Of too many services, the one that had none for longest is forgotten.
    pub fn keep(&self, service: &str, exemplar: Exemplar) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = |of: &ByBucket| of.iter().flatten().map(|one| one.at).max();
        if all.len() >= MOST && !all.contains_key(service) {
            let oldest = all.iter().min_by_key(|(_, of)| newest(of)).map(|(name, _)| name.clone());
            if let Some(name) = oldest {
                all.remove(&name);
            }
        }
        all.entry(service.into()).or_default()[latency_bucket(exemplar.took)] = Some(exemplar);
    }

    /// Those of a service.
    pub fn of(&self, service: &str) -> ByBucket {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(service).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_bucket_is_kept_and_of_so_many_services() {
        let all = Exemplars::default();
        let exemplar = |millis, at| Exemplar { trace: 1, span: 2, took: Duration::from_millis(millis), at };
        all.keep("a", exemplar(3, 1));
        all.keep("a", exemplar(4, 2));
        all.keep("a", exemplar(99_000, 3));
        let kept = all.of("a");
        assert_eq!(kept.iter().flatten().map(|one| one.at).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(kept[LATENCY_BUCKETS - 1], Some(exemplar(99_000, 3)));
        assert_eq!(all.of("b"), ByBucket::default());
        (0..MOST as u64).for_each(|n| all.keep(&format!("s{n}"), exemplar(3, 10 + n)));
        assert_eq!((all.of("a"), all.of("s0").iter().flatten().count()), (ByBucket::default(), 1));
    }
}
