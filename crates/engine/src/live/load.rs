//! What workers must know of each other to balance exactly: the turn of a service, and the open work and latency of an
//! instance. Written for each request, but only by services whose balance needs it, on cache lines of their own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a latency counts, milliseconds: after this time without a request, 1/e of it is left.
const REMEMBERED: f32 = 10_000.0;

/// The place of a service's turns on a circle of 2^64, shared by all workers. A turn moves it by the weight of one unit
/// in that of all: so it means the same to lists of any length, and turns go on when instances come and go.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Turns {
    place: AtomicU64,
    /// Open work of the service, while its `bounded` needs it.
    open: AtomicU64,
}

impl Turns {
    /// Begins at this place, unless turns were taken already: many balancers that start together should not begin with
    /// the same instance.
    pub fn begin(&self, place: u64) {
        // Another worker may have begun.
        let _ = self.place.compare_exchange(0, place, Relaxed, Relaxed);
    }

    /// Takes a turn: the place before it.
    pub fn take(&self, step: u64) -> u64 {
        self.place.fetch_add(step, Relaxed)
    }

    /// Passes over turns of instances that could not take them.
    pub fn skip(&self, steps: u64) {
        self.place.fetch_add(steps, Relaxed);
    }

    /// Counts one more open request or connection of the service.
    pub fn open(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// Counts one less.
    pub fn close(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// The open requests or connections of the service.
    pub fn opened(&self) -> u64 {
        self.open.load(Relaxed)
    }
}

/// An instance's open work and latency, shared by all workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    open: AtomicU64,
    /// When the latency was measured, milliseconds of the workers' clock, in the upper half; microseconds as an `f32` in
    /// the lower. 0: not yet.
    latency: AtomicU64,
}

impl Load {
    /// Open requests or connections of all workers that count them here.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(super) fn add(&self, count: u64) {
        self.open.fetch_add(count, Relaxed);
    }

    pub(super) fn sub(&self, count: u64) {
        self.open.fetch_sub(count, Relaxed);
    }

    /// Takes in a response time. A longer one counts at once, shorter ones by and by. Of two workers that measure at the
    /// same moment, one may be lost.
    pub fn measure(&self, now: u64, took: Duration) {
        let took = (took.as_secs_f32() * 1e6).max(1.0);
        let before = self.latency.load(Relaxed);
        let (latency, share) = (value(before), left(before, now));
        let after = if took >= latency { took } else { latency * share + took * (1.0 - share) };
        self.latency.store(u64::from(now as u32) << 32 | u64::from(after.to_bits()), Relaxed);
    }

    /// Its response time, microseconds: a moving average that keeps peaks, and fades while there is no request. `None`:
    /// not measured yet.
    pub fn latency(&self, now: u64) -> Option<f32> {
        let word = self.latency.load(Relaxed);
        (word != 0).then(|| value(word) * left(word, now))
    }
}

fn value(word: u64) -> f32 {
    f32::from_bits(word as u32)
}

/// The share of a measure that is left.
fn left(word: u64, now: u64) -> f32 {
    // A worker's clock may be a tick behind another's; it begins again after 49 days.
    let age = (now as u32).wrapping_sub((word >> 32) as u32) as i32;
    if age <= 0 { 1.0 } else { (-(age as f32) / REMEMBERED).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_keeps_peaks_and_fades() {
        let load = Load::default();
        let check = |now, range: std::ops::Range<f32>| {
            let latency = load.latency(now).unwrap();
            assert!(range.contains(&latency), "{latency} at {now}");
        };
        assert_eq!(load.latency(0), None);
        load.measure(0, Duration::from_millis(10));
        check(0, 9_999.0..10_001.0);
        load.measure(1_000, Duration::from_millis(100));
        check(1_000, 99_999.0..100_001.0);
        load.measure(2_000, Duration::from_millis(10));
        check(2_000, 91_000.0..92_000.0);
        check(12_000, 33_000.0..34_500.0);
        check(1_500, 91_000.0..92_000.0);
        (0..100).for_each(|n| load.measure(12_000 + n * 1_000, Duration::from_millis(10)));
        check(111_000, 9_999.0..11_000.0);
    }

    #[test]
    fn turns_of_all_workers_follow_each_other() {
        let turns = Turns::default();
        turns.begin(5);
        turns.begin(7);
        let taken = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| [(); 1_000].map(|()| turns.take(3))));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut taken = taken;
        taken.sort_unstable();
        assert!(taken.iter().enumerate().all(|(n, place)| *place == 5 + 3 * n as u64));
    }
}
