//! What all services did, kept for the graphs of a page that is opened later: an hour finely, a day by the minute.
//! Bounded; reads no clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pointsman_engine::live::{LATENCY_BUCKETS, Sums};
use serde::Serialize;

use super::pulse::{Counted, percentile, rounded};

/// How far the fine points reach back, in seconds.
const FINE: u64 = 3600;
/// How far apart the coarse points are, and how many are kept.
const COARSE: u64 = 60;
const MOST_COARSE: usize = 1440;

/// One point of the graphs, as an array: the time in seconds since the epoch; per second: HTTP requests, TCP connections,
/// 4xx, 5xx, bytes in, bytes out; p50 and p99 of HTTP requests in milliseconds; open work at the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct PastPoint(u64, [f32; 6], Option<f32>, Option<f32>, u64);

/// The points. Clones share them.
#[derive(Clone, Debug)]
pub struct Past {
    /// Between two fine points, in seconds.
    step: u64,
    shared: Arc<Mutex<PastRings>>,
}

#[derive(Debug, Default)]
struct PastRings {
    fine: VecDeque<PastPoint>,
    coarse: VecDeque<PastPoint>,
    before: Option<[Counted; 2]>,
    /// What was counted since the last coarse point, and for how long.
    minute: [Counted; 2],
    minute_span: f64,
}

/// `/api/history`.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct PastView {
    step: u64,
    fine: Vec<PastPoint>,
    coarse: Vec<PastPoint>,
}

impl Past {
    /// With a fine point every so many seconds.
    pub(super) fn new(step: u64) -> Self {
        Self { step, shared: Arc::default() }
    }

    /// Between two fine points.
    pub(super) fn step(&self) -> Duration {
        Duration::from_secs(self.step)
    }

    /// Takes the sums of HTTP and TCP, `span` after the last ones. `None` if they are the first.
    pub(super) fn take(&self, at: u64, sums: &[Sums; 2], span: Duration) -> Option<PastPoint> {
        let counted = sums.map(|sums| Counted::new(&sums.totals, sums.latency));
        let active = sums.iter().map(|sums| sums.totals.active).sum();
        let mut rings = self.rings();
        let before = rings.before.replace(counted)?;
        let news: [Counted; 2] = std::array::from_fn(|place| counted[place].since(&before[place]));
        let span = span.as_secs_f64().max(0.001);
        let point = PastPoint::new(at, &news, span, active);
        rings.fine.push_back(point);
        while rings.fine.len() as u64 > FINE / self.step {
            rings.fine.pop_front();
        }
        rings.minute = std::array::from_fn(|place| rings.minute[place].plus(&news[place]));
        rings.minute_span += span;
        if rings.minute_span >= COARSE as f64 - 0.5 {
            let coarse = PastPoint::new(at, &rings.minute, rings.minute_span, active);
            rings.coarse.push_back(coarse);
            (rings.minute, rings.minute_span) = ([Counted::default(); 2], 0.0);
            while rings.coarse.len() > MOST_COARSE {
                rings.coarse.pop_front();
            }
        }
        Some(point)
    }

    pub(in crate::admin) fn view(&self) -> PastView {
        let rings = self.rings();
        let all = |ring: &VecDeque<PastPoint>| ring.iter().copied().collect();
        PastView { step: self.step, fine: all(&rings.fine), coarse: all(&rings.coarse) }
    }

    fn rings(&self) -> MutexGuard<'_, PastRings> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PastPoint {
    fn new(at: u64, [http, tcp]: &[Counted; 2], span: f64, active: u64) -> Self {
        let [requests, e4, e5, bytes_in, bytes_out] = http.events;
        let [connections, _, _, tcp_in, tcp_out] = tcp.events;
        let rates = [requests, connections, e4, e5, bytes_in + tcp_in, bytes_out + tcp_out];
        let buckets: [f64; LATENCY_BUCKETS] = http.latency.map(|count| count as f64);
        let rates = rates.map(|count| rounded(count as f64 / span));
        Self(at, rates, percentile(&buckets, 0.5), percentile(&buckets, 0.99), active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_fine_and_a_day_is_coarse() {
        let past = Past::new(5);
        let mut sums = [Sums::default(); 2];
        assert_eq!(past.take(0, &sums, Duration::ZERO), None, "the first sums are where counting begins");
        for number in 1..=2 * FINE / 5 {
            sums[0].totals.requests += 50;
            sums[0].latency[0] += 50;
            past.take(number * 5, &sums, past.step());
        }
        let PastView { fine, coarse, .. } = past.view();
        assert_eq!((fine.len(), coarse.len()), (720, 120));
        let expected = [10.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(fine[0], PastPoint(3605, expected, Some(0.25), Some(0.5), 0));
        assert_eq!(coarse[0], PastPoint(60, expected, Some(0.25), Some(0.5), 0));
    }
}
