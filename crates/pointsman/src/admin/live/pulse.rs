//! Rates and percentiles of the last seconds, from counters that only rise. Reads no clock.

use std::time::Duration;

use pointsman_engine::live::{LATENCY_BOUNDS, LATENCY_BUCKETS, Totals};

/// A rate forgets with this time constant: fast enough for a jump, slow enough to be read.
const RATE_MEMORY: f64 = 2.5;
/// The same for percentiles, which need more requests.
const LATENCY_MEMORY: f64 = 10.0;
/// Percentiles of fewer requests than this say nothing.
const FEWEST: f64 = 0.5;

/// What was counted until a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Requests, 4xx, 5xx, bytes in, bytes out.
    pub(super) events: [u64; 5],
    /// By the buckets of [`LATENCY_BOUNDS`].
    pub(super) latency: [u64; LATENCY_BUCKETS],
}

impl Counted {
    pub(super) fn new(totals: &Totals, latency: [u64; LATENCY_BUCKETS]) -> Self {
        let Totals { requests, responses, bytes_in, bytes_out, .. } = *totals;
        Self { events: [requests, responses[3], responses[4], bytes_in, bytes_out], latency }
    }

    /// What was counted since; counters of an engine that began anew count from 0.
    pub(super) fn since(&self, before: &Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            events: std::array::from_fn(|at| less(self.events[at], before.events[at])),
            latency: std::array::from_fn(|at| less(self.latency[at], before.latency[at])),
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            events: std::array::from_fn(|at| self.events[at] + other.events[at]),
            latency: std::array::from_fn(|at| self.latency[at] + other.latency[at]),
        }
    }
}

/// The rates of one service, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    before: Counted,
    /// Per second, in the order of [`Counted::events`].
    rates: [f64; 5],
    /// How much of the memory that is used, up to 1: at first there is less to remember.
    weight: f64,
    buckets: [f64; LATENCY_BUCKETS],
}

impl Pulse {
    /// From now on: nothing is known of the time before.
    pub(super) fn from(counted: Counted) -> Self {
        Self { before: counted, ..Self::default() }
    }

    /// Nothing had happened until now.
    pub(super) fn silent() -> Self {
        Self { weight: 1.0, ..Self::default() }
    }

    /// Takes the counters, `span` after the last time.
    pub(super) fn beat(&mut self, counted: Counted, span: Duration) {
        let news = counted.since(&self.before);
        self.before = counted;
        let span = span.as_secs_f64().max(0.001);
        let (rate_kept, latency_kept) = ((-span / RATE_MEMORY).exp(), (-span / LATENCY_MEMORY).exp());
        for (rate, count) in self.rates.iter_mut().zip(news.events) {
            *rate = *rate * rate_kept + count as f64 / span * (1.0 - rate_kept);
        }
        self.weight = self.weight * rate_kept + 1.0 - rate_kept;
        for (weight, count) in self.buckets.iter_mut().zip(news.latency) {
            *weight = *weight * latency_kept + count as f64;
        }
    }

    /// Per second, rounded for people: requests, 4xx, 5xx, bytes in, bytes out.
    pub(super) fn rates(&self) -> [f32; 5] {
        self.rates.map(|rate| if self.weight > 0.0 { rounded(rate / self.weight) } else { 0.0 })
    }

    /// Milliseconds; `None`: too few requests of late, or the engine counts none.
    pub(super) fn percentile(&self, share: f64) -> Option<f32> {
        percentile(&self.buckets, share)
    }
}

/// The time in milliseconds below which this share of requests ended, between the bounds of its bucket in proportion.
pub(super) fn percentile(buckets: &[f64; LATENCY_BUCKETS], share: f64) -> Option<f32> {
    let total: f64 = buckets.iter().sum();
    if total < FEWEST {
        return None;
    }
    let (mut below, mut lower) = (0.0, 0.0);
    for (bucket, weight) in buckets.iter().enumerate() {
        let upper = LATENCY_BOUNDS.get(bucket).copied().unwrap_or(lower);
        if *weight > 0.0 && below + weight >= total * share {
            let part = ((total * share - below) / weight).clamp(0.0, 1.0);
            return Some(rounded(lower + (upper - lower) * part));
        }
        (below, lower) = (below + weight, upper);
    }
    Some(rounded(lower))
}

/// About three digits: what people read, and what changes seldom.
pub(super) fn rounded(value: f64) -> f32 {
    let step = match value {
        _ if value >= 100.0 => 1.0,
        _ if value >= 1.0 => 10.0,
        _ => 100.0,
    };
    ((value * step).round() / step) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_shown_and_forgotten() {
        let (mut pulse, second) = (Pulse::default(), Duration::from_secs(1));
        let mut counted = Counted::default();
        for _ in 0..30 {
            counted.events[0] += 50;
            counted.latency[2] += 50;
            pulse.beat(counted, second);
        }
        assert_eq!(pulse.rates()[0], 50.0);
        let median = pulse.percentile(0.5).unwrap();
        assert!((1.0..=2.5).contains(&median), "{median}");
        for _ in 0..200 {
            pulse.beat(counted, second);
        }
        assert_eq!((pulse.rates()[0], pulse.percentile(0.5)), (0.0, None));
    }

    #[test]
    fn the_first_second_is_shown_in_full() {
        let counted = Counted { events: [40; 5], latency: [0; LATENCY_BUCKETS] };
        let rate = |mut pulse: Pulse| {
            pulse.beat(counted, Duration::from_secs(1));
            pulse.rates()[0]
        };
        assert_eq!(rate(Pulse::from(Counted::default())), 40.0);
        assert_eq!(rate(Pulse::silent()), 13.2, "one that was silent before rises");
        assert_eq!(Pulse::from(counted).rates(), [0.0; 5]);
    }

    #[test]
    fn counters_that_fall_are_no_traffic() {
        let mut pulse = Pulse::from(Counted { events: [9; 5], latency: [9; LATENCY_BUCKETS] });
        pulse.beat(Counted::default(), Duration::from_secs(1));
        assert_eq!((pulse.rates(), pulse.percentile(0.99)), ([0.0; 5], None));
    }

    #[test]
    fn percentiles_lie_within_their_bucket() {
        let check = |weights: &[(usize, f64)], share: f64, expected: Option<f32>| {
            let mut buckets = [0.0; LATENCY_BUCKETS];
            weights.iter().for_each(|(bucket, weight)| buckets[*bucket] = *weight);
            assert_eq!(percentile(&buckets, share), expected, "{weights:?} {share}");
        };
        check(&[], 0.5, None);
        check(&[(0, 100.0)], 0.5, Some(0.25));
        check(&[(0, 98.0), (6, 2.0)], 0.99, Some(37.5));
        check(&[(LATENCY_BUCKETS - 1, 1.0)], 0.5, Some(10_000.0));
    }
}
