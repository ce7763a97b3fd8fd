//! When an instance is ejected and when it is tried again, as a machine. No clock, no atomics, no socket.
//!
//! ```text
//!     ConnectFailed, fewer in a row
//!     than `failures` ┌───┐
//!                     │   v
//!                ┌────┴──────┐    ConnectFailed, `failures` in a row     ┌───────────┐
//!                │  Closed   ├──────────────────────────────────────────>│  Ejected  │<──┐
//!                └───────────┘                                           └─┬───┬───┬─┘   │
//!                    ^   ^                  Connected                      │   │   │     │
//!                    │   └─────────────────────────────────────────────────┘   │   └─────┤ ConnectFailed after
//!                    │                                                         │         │ `until`: for longer
//!                    │                                   Connecting after      │         │
//!                    │                                   `until`: the trial    v         │
//!                    │                   Connected                       ┌───────────┐   │
//!                    └───────────────────────────────────────────────────┤ HalfOpen  ├───┘ ConnectFailed:
//!                                                                        └──┬────────┘     for longer
//!                                                                           │   ^
//!                                        Connecting after `until`: a trial  └───┘
//!                                        that has no verdict is repeated
//! ```
//!
//! All other events change nothing.

use std::time::Duration;

use Circuit::{Closed, Ejected, HalfOpen};
use ConnectEvent::{ConnectFailed, Connected, Connecting};

/// Ejections in a row that are counted. Further ones last no longer.
const MOST_SPELLS: u32 = 17;

/// Whether an instance takes connections, judged by its last ones. Times are milliseconds of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// It gets work.
    Closed {
        /// Failed connects in a row, fewer than [`EjectionRules::failures`].
        failures: u32,
    },
    /// It gets no work, if another instance can have it.
    Ejected {
        /// When the next request may try it.
        until: u64,
        /// Ejections in a row.
        spells: u32,
    },
    /// One request tries it; the others go elsewhere.
    HalfOpen {
        /// When another request may try it, if this one brings no verdict.
        until: u64,
        /// Ejections in a row before this trial.
        spells: u32,
    },
}

/// How soon an instance is ejected, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct EjectionRules {
    /// Failed connects in a row that eject: 63 at most.
    pub failures: u32,
    /// The first ejection, milliseconds; each further one in a row lasts twice as long.
    pub first: u64,
    /// The longest ejection, milliseconds.
    pub longest: u64,
}

/// Three failures in a row eject for a second, then for twice as long, up to a minute.
impl Default for EjectionRules {
    fn default() -> Self {
        Self { failures: 3, first: 1_000, longest: 60_000 }
    }
}

impl EjectionRules {
    /// How long the ejection after so many others lasts, milliseconds.
    fn lasts(&self, spells: u32) -> u64 {
        let doubled = 1u64.checked_shl(spells).and_then(|times| self.first.checked_mul(times));
        doubled.map_or(self.longest, |lasts| lasts.min(self.longest))
    }
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectEvent {
    /// A request is about to connect.
    Connecting {
        /// How long it may take, milliseconds.
        limit: u64,
    },
    /// It took a connection.
    Connected,
    /// It did not take a connection.
    ConnectFailed,
}

/// A change in who may send it work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// It was ejected, for so long.
    Ejected(Duration),
    /// A request tries it after an ejection.
    HalfOpen,
    /// It takes connections again.
    Restored,
}

impl Circuit {
    /// The next state, and whether that is a flip.
    #[must_use]
    pub fn step(self, now: u64, rules: &EjectionRules, event: ConnectEvent) -> (Self, Option<Flip>) {
        match (self, event) {
            (Closed { failures }, ConnectFailed) if failures + 1 < rules.failures => {
                (Closed { failures: failures + 1 }, None)
            }
            (Closed { .. }, ConnectFailed) => Self::eject(now, rules, 0),
            (Closed { .. }, Connected) => (Closed { failures: 0 }, None),
            (Closed { .. }, Connecting { .. }) => (self, None),
            (Ejected { until, spells }, ConnectFailed) if until <= now => Self::eject(now, rules, spells),
            // Connects that began before the ejection and end during it.
            (Ejected { .. }, ConnectFailed) => (self, None),
            (HalfOpen { spells, .. }, ConnectFailed) => Self::eject(now, rules, spells),
            (Ejected { until, spells } | HalfOpen { until, spells }, Connecting { limit }) if until <= now => {
                (HalfOpen { until: now.saturating_add(limit), spells }, Some(Flip::HalfOpen))
            }
            // When all instances are down, even an ejected one is tried.
            (Ejected { .. } | HalfOpen { .. }, Connecting { .. }) => (self, None),
            (Ejected { .. } | HalfOpen { .. }, Connected) => (Closed { failures: 0 }, Some(Flip::Restored)),
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

    fn check(before: Circuit, event: ConnectEvent, after: Circuit, flip: Option<Flip>) {
        let step = before.step(1_000, &EjectionRules::default(), event);
        assert_eq!(step, (after, flip), "{before:?} {event:?} at 1,000");
    }

    fn ejected(seconds: u64) -> Option<Flip> {
        Some(Flip::Ejected(Duration::from_secs(seconds)))
    }

    #[test]
    fn closed() {
        let connecting = Connecting { limit: 500 };
        check(Closed { failures: 0 }, connecting, Closed { failures: 0 }, None);
        check(Closed { failures: 2 }, connecting, Closed { failures: 2 }, None);
        check(Closed { failures: 2 }, Connected, Closed { failures: 0 }, None);
        check(Closed { failures: 0 }, ConnectFailed, Closed { failures: 1 }, None);
        check(Closed { failures: 1 }, ConnectFailed, Closed { failures: 2 }, None);
        check(Closed { failures: 2 }, ConnectFailed, Ejected { until: 2_000, spells: 1 }, ejected(1));
    }

    #[test]
    fn ejected_until_later() {
        let before = Ejected { until: 1_001, spells: 2 };
        check(before, Connecting { limit: 500 }, before, None);
        check(before, ConnectFailed, before, None);
        check(before, Connected, Closed { failures: 0 }, Some(Flip::Restored));
    }

    #[test]
    fn ejected_until_now() {
        let before = Ejected { until: 1_000, spells: 2 };
        check(before, Connecting { limit: 500 }, HalfOpen { until: 1_500, spells: 2 }, Some(Flip::HalfOpen));
        check(before, Connecting { limit: u64::MAX }, HalfOpen { until: u64::MAX, spells: 2 }, Some(Flip::HalfOpen));
        check(before, ConnectFailed, Ejected { until: 5_000, spells: 3 }, ejected(4));
        check(before, Connected, Closed { failures: 0 }, Some(Flip::Restored));
    }

    #[test]
    fn half_open() {
        let tried = HalfOpen { until: 1_500, spells: 1 };
        check(tried, Connecting { limit: 500 }, tried, None);
        check(tried, ConnectFailed, Ejected { until: 3_000, spells: 2 }, ejected(2));
        check(tried, Connected, Closed { failures: 0 }, Some(Flip::Restored));
        let given_up = HalfOpen { until: 1_000, spells: 1 };
        check(given_up, Connecting { limit: 500 }, HalfOpen { until: 1_500, spells: 1 }, Some(Flip::HalfOpen));
        check(given_up, ConnectFailed, Ejected { until: 3_000, spells: 2 }, ejected(2));
    }

    #[test]
    fn an_ejection_lasts_a_minute_at_most() {
        for (spells, after, lasts) in [(5, 6, 32), (6, 7, 60), (16, 17, 60), (17, 17, 60)] {
            let until = 1_000 + lasts * 1_000;
            check(HalfOpen { until: 0, spells }, ConnectFailed, Ejected { until, spells: after }, ejected(lasts));
        }
        let rules = EjectionRules { first: u64::MAX / 2, longest: u64::MAX, ..EjectionRules::default() };
        assert_eq!(rules.lasts(63), u64::MAX);
        assert_eq!(rules.lasts(64), u64::MAX);
    }
}
