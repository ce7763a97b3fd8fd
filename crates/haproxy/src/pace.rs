//! When HAProxy may be reloaded: not too often, and not again at once after it failed. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(30);
/// The first pause before HAProxy is started again, after it died.
const FIRST_START: Duration = Duration::from_millis(100);
/// The longest pause before HAProxy is started again.
const LONGEST_START: Duration = Duration::from_secs(10);
/// The pauses begin anew after a HAProxy that lived this long.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// How often closed ports are tried again, and servers that were taken out are deleted.
pub const RETRY: Duration = Duration::from_secs(1);
/// How often HAProxy is audited: what it runs is compared with what it should run.
pub const AUDIT: Duration = Duration::from_secs(10);
/// How long to wait for the first table before HAProxy is started without one.
pub const FIRST_TABLE: Duration = Duration::from_secs(2);

/// When each periodic task is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Closed ports, and servers that were taken out.
    pub retry: Instant,
    /// The audit.
    pub audit: Instant,
}

impl Due {
    /// The first time for each, counted from now.
    pub fn after(now: Instant) -> Self {
        Self { retry: now + RETRY, audit: now + AUDIT }
    }
}

/// When the next reload may begin.
#[derive(Clone, Debug)]
pub struct Pace {
    every: Duration,
    next: Option<Instant>,
    failures: u32,
}

impl Pace {
    /// At most one reload within `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, next: None, failures: 0 }
    }

    /// Whether a reload may begin.
    pub fn allows(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// A reload begins.
    pub fn begun(&mut self, now: Instant) {
        self.next = Some(now + self.every);
    }

    /// The reload succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The reload failed. Each failure in a row doubles the pause.
    pub fn failed(&mut self, now: Instant) {
        let pause = self.every.max(Duration::from_millis(100)) * 2_u32.saturating_pow(self.failures.min(10));
        self.failures += 1;
        self.next = Some(now + pause.min(LONGEST));
    }

    /// The keys changed: what failed may succeed now.
    pub fn changed(&mut self, now: Instant) {
        if self.failures > 0 {
            self.failures = 0;
            self.next = self.next.map(|next| next.min(now + self.every));
        }
    }
}

/// When a HAProxy that died may be started again.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    deaths: u32,
    next: Option<Instant>,
}

impl Backoff {
    /// It died, after this long.
    pub fn died(&mut self, now: Instant, lived: Duration) {
        if lived >= GOOD_LIFE {
            self.deaths = 0;
        }
        let pause = FIRST_START * 2_u32.saturating_pow(self.deaths.min(10));
        self.deaths += 1;
        self.next = Some(now + pause.min(LONGEST_START));
    }

    /// Whether it may be started.
    pub fn allows(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reloads_keep_their_distance() {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND);
        assert!(pace.allows(start));
        pace.begun(start);
        assert!(!pace.allows(start + SECOND / 2) && pace.allows(start + SECOND));
    }

    #[test]
    fn failures_wait_longer_each_time_until_something_changes() {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND);
        for (pause, failures) in [(1, 1), (2, 2), (4, 3), (8, 4), (16, 5), (30, 6), (30, 7)] {
            pace.failed(start);
            assert!(
                !pace.allows(start + SECOND * pause - SECOND / 10) && pace.allows(start + SECOND * pause),
                "{failures}"
            );
        }
        pace.changed(start);
        assert!(pace.allows(start + SECOND));
        pace.failed(start);
        assert!(pace.allows(start + SECOND), "the count begins anew");
    }

    #[test]
    fn deaths_in_a_row_wait_longer() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.allows(start));
        for pause in [100, 200, 400] {
            backoff.died(start, SECOND);
            let pause = Duration::from_millis(pause);
            assert!(!backoff.allows(start + pause / 2) && backoff.allows(start + pause));
        }
        backoff.died(start, GOOD_LIFE);
        assert!(backoff.allows(start + FIRST_START));
    }
}
