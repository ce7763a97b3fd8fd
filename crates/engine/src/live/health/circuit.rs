//! When an instance is ejected and when it is tried again, as a state machine. No clock, no atomics, no socket.
//!
//! ```text
//!     Failed, fewer in a row
//!     than `failures` ┌───┐
//!                     │   v
//!                ┌────┴──────┐       Failed, `failures` in a row         ┌───────────┐
//!                │  Closed   ├──────────────────────────────────────────>│  Ejected  │<──┐
//!                └───────────┘                                           └─┬───┬───┬─┘   │
//!                    ^   ^                  Succeeded                      │   │   │     │
//!                    │   └─────────────────────────────────────────────────┘   │   └─────┤ Failed after `until`:
//!                    │                                                         │         │ for longer
//!                    │                                       Trying after      │         │
//!                    │                                   `until`: the trial    v         │
//!                    │                   Succeeded                       ┌───────────┐   │
//!                    └───────────────────────────────────────────────────┤ HalfOpen  ├───┘ Failed: for longer
//!                                                                        └──┬────────┘
//!                                                                           │   ^
//!                                          Trying after `until`: a trial    └───┘
//!                                          that has no outcome is repeated
//! ```
//!
//! All other events change nothing.

use std::time::Duration;

use Circuit::{Closed, Ejected, HalfOpen};
use HealthEvent::{Due, Failed, Succeeded, Trying};

/// Ejections in a row that are counted. Further ones last no longer.
const MOST_SPELLS: u32 = 17;

/// Whether an instance works, judged by its last requests and connections. Times are milliseconds of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// It gets work.
    Closed {
        /// Failures in a row, fewer than [`EjectionRules::failures`].
        failures: u32,
    },
    /// It gets no work while another instance can take it.
    Ejected {
        /// When the next request may try it.
        until: u64,
        /// Ejections in a row.
        spells: u32,
    },
    /// One request tries it; the others go elsewhere.
    HalfOpen {
        /// When another request may try it, if this one has no outcome by then.
        until: u64,
        /// Ejections in a row before this trial.
        spells: u32,
    },
}

/// When an instance is ejected, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct EjectionRules {
    /// Failures in a row that eject: 63 at most.
    pub failures: u32,
    /// The first ejection, milliseconds; each further one in a row lasts twice as long.
    pub first: u64,
    /// The longest ejection, and the longest wait for the outcome of a trial, milliseconds.
    pub longest: u64,
}

/// Three failures in a row eject for a second, then for two.
///
/// No ejection is longer, so that an instance that returns gets work within two seconds. The trial is a request,
/// because only a request shows whether it answers. A trial costs little: a refused connection is redispatched at once,
/// and an instance that does not answer gets one request in two seconds.
impl Default for EjectionRules {
    fn default() -> Self {
        Self { failures: 3, first: 1_000, longest: 2_000 }
    }
}

impl EjectionRules {
    /// Duration of the ejection after this many others in a row, milliseconds.
    fn lasts(&self, spells: u32) -> u64 {
        let doubled = 1u64.checked_shl(spells).and_then(|times| self.first.checked_mul(times));
        doubled.map_or(self.longest, |lasts| lasts.min(self.longest))
    }
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthEvent {
    /// A request is about to be sent there.
    Trying {
        /// How long the outcome may take, milliseconds.
        limit: u64,
    },
    /// It answered a request, or took a connection of a TCP service.
    Succeeded,
    /// It did not take a connection, or did not answer a request.
    Failed,
    /// Another instance came back after all were down: this one may be back as well.
    Due,
}

/// A change of state that changes which requests it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// It was ejected for this long.
    Ejected(Duration),
    /// A request tries it after an ejection.
    HalfOpen,
    /// It works again.
    Restored,
    /// The next request may try it.
    Due,
}

impl Circuit {
    /// The next state, and the flip if the change is one.
    #[must_use]
    pub fn step(self, now: u64, rules: &EjectionRules, event: HealthEvent) -> (Self, Option<Flip>) {
        match (self, event) {
            (Closed { failures }, Failed) if failures + 1 < rules.failures => (Closed { failures: failures + 1 }, None),
            (Closed { .. }, Failed) => Self::eject(now, rules, 0),
            (Closed { .. }, Succeeded) => (Closed { failures: 0 }, None),
            (Closed { .. }, Trying { .. } | Due) | (HalfOpen { .. }, Due) => (self, None),
            (Ejected { until, spells }, Due) if until > now => (Ejected { until: now, spells }, Some(Flip::Due)),
            (Ejected { .. }, Due) => (self, None),
            (Ejected { until, spells }, Failed) if until <= now => Self::eject(now, rules, spells),
            // Requests that began before the ejection and end during it.
            (Ejected { .. }, Failed) => (self, None),
            (HalfOpen { spells, .. }, Failed) => Self::eject(now, rules, spells),
            (Ejected { until, spells } | HalfOpen { until, spells }, Trying { limit }) if until <= now => {
                let wait = limit.min(rules.longest);
                (HalfOpen { until: now.saturating_add(wait), spells }, Some(Flip::HalfOpen))
            }
            // When all instances are down, even an ejected one is tried.
            (Ejected { .. } | HalfOpen { .. }, Trying { .. }) => (self, None),
            (Ejected { .. } | HalfOpen { .. }, Succeeded) => (Closed { failures: 0 }, Some(Flip::Restored)),
        }
    }

    fn eject(now: u64, rules: &EjectionRules, spells: u32) -> (Self, Option<Flip>) {
        let lasts = rules.lasts(spells);
        let ejected = Ejected { until: now.saturating_add(lasts), spells: (spells + 1).min(MOST_SPELLS) };
        (ejected, Some(Flip::Ejected(Duration::from_millis(lasts))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: Circuit, event: HealthEvent, after: Circuit, flip: Option<Flip>) {
        let step = before.step(1_000, &EjectionRules::default(), event);
        assert_eq!(step, (after, flip), "{before:?} {event:?} at 1,000");
    }

    fn ejected(seconds: u64) -> Option<Flip> {
        Some(Flip::Ejected(Duration::from_secs(seconds)))
    }

    #[test]
    fn closed() {
        let connecting = Trying { limit: 500 };
        check(Closed { failures: 0 }, connecting, Closed { failures: 0 }, None);
        check(Closed { failures: 2 }, connecting, Closed { failures: 2 }, None);
        check(Closed { failures: 2 }, Succeeded, Closed { failures: 0 }, None);
        check(Closed { failures: 0 }, Failed, Closed { failures: 1 }, None);
        check(Closed { failures: 1 }, Failed, Closed { failures: 2 }, None);
        check(Closed { failures: 2 }, Failed, Ejected { until: 2_000, spells: 1 }, ejected(1));
    }

    #[test]
    fn ejected_until_later() {
        let before = Ejected { until: 1_001, spells: 2 };
        check(before, Trying { limit: 500 }, before, None);
        check(before, Failed, before, None);
        check(before, Succeeded, Closed { failures: 0 }, Some(Flip::Restored));
    }

    #[test]
    fn ejected_until_now() {
        let before = Ejected { until: 1_000, spells: 2 };
        check(before, Trying { limit: 500 }, HalfOpen { until: 1_500, spells: 2 }, Some(Flip::HalfOpen));
        check(before, Trying { limit: u64::MAX }, HalfOpen { until: 3_000, spells: 2 }, Some(Flip::HalfOpen));
        check(before, Failed, Ejected { until: 3_000, spells: 3 }, ejected(2));
        check(before, Succeeded, Closed { failures: 0 }, Some(Flip::Restored));
    }

    #[test]
    fn half_open() {
        let tried = HalfOpen { until: 1_500, spells: 1 };
        check(tried, Trying { limit: 500 }, tried, None);
        check(tried, Failed, Ejected { until: 3_000, spells: 2 }, ejected(2));
        check(tried, Succeeded, Closed { failures: 0 }, Some(Flip::Restored));
        let given_up = HalfOpen { until: 1_000, spells: 1 };
        check(given_up, Trying { limit: 500 }, HalfOpen { until: 1_500, spells: 1 }, Some(Flip::HalfOpen));
        check(given_up, Failed, Ejected { until: 3_000, spells: 2 }, ejected(2));
    }

    #[test]
    fn an_ejection_lasts_two_seconds_at_most() {
        for (spells, after, lasts) in [(1, 2, 2), (2, 3, 2), (16, 17, 2), (17, 17, 2)] {
            let until = 1_000 + lasts * 1_000;
            check(HalfOpen { until: 0, spells }, Failed, Ejected { until, spells: after }, ejected(lasts));
        }
        let rules = EjectionRules { first: u64::MAX / 2, longest: u64::MAX, ..EjectionRules::default() };
        assert_eq!(rules.lasts(63), u64::MAX);
        assert_eq!(rules.lasts(64), u64::MAX);
    }
}
