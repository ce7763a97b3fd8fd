//! Computes the wait before the next attempt. Never waits itself.

use std::time::Duration;

/// Exponential backoff with jitter on the upper half, so that a thousand balancers do not reconnect to etcd at the same
/// moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with about `first`, doubles each time, and never exceeds `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The next wait: between half a step and a full step.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.cap);
        jitter(step, 0.5..1.0, rng)
    }

    /// Success: start again from `first`.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `mean` times a random factor within `range`.
pub fn jitter(mean: Duration, range: std::ops::Range<f64>, rng: &mut fastrand::Rng) -> Duration {
    mean.mul_f64(range.start + (range.end - range.start) * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_cap_within_its_jitter() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        for step in [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let wait = backoff.next(&mut rng);
            assert!(wait >= Duration::from_millis(step / 2), "{wait:?} for step {step}");
            assert!(wait <= Duration::from_millis(step), "{wait:?} for step {step}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(50));
    }

    #[test]
    fn jitters() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mean = Duration::from_secs(10);
        let waits: Vec<_> = (0..100).map(|_| jitter(mean, 0.8..1.2, &mut rng)).collect();
        assert!(waits.iter().all(|wait| (8.0..=12.0).contains(&wait.as_secs_f64())));
        assert!(waits.iter().any(|wait| *wait < mean) && waits.iter().any(|wait| *wait > mean));
    }
}
