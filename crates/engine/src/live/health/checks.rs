//! What active checks say of an instance, as a state machine beside its circuit. No clock, no socket.
//!
//! ```text
//!               passed                    failed, `fall` in a row
//!  ┌─────────┐ ───────────> ┌────────┐ ─────────────────────────────> ┌────────┐
//!  │ Unknown │              │   Up   │                                │  Down  │
//!  └────┬────┘              └────────┘ <───────────────────────────── └────────┘
//!       │                                passed, `rise` in a row          ^
//!       └─────────────────────────────────────────────────────────────────┘
//!                                failed
//! ```
//!
//! An instance that was never checked gets work. Its first check decides.

#![expect(clippy::disallowed_types, reason = "taken for a check, never for a request")]

use std::borrow::Cow;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use CheckState::{Down, Unknown, Up};

/// What the checks of an instance have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It works.
    Up {
        /// Failed checks in a row, fewer than [`CheckRules::fall`].
        failures: u32,
    },
    /// It does not, and gets no work while another instance can take it.
    Down {
        /// Passed checks in a row, fewer than [`CheckRules::rise`].
        passes: u32,
    },
}

/// How many outcomes in a row change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckRules {
    /// Passed checks that bring it back.
    pub rise: u32,
    /// Failed checks that take it out.
    pub fall: u32,
}

/// A change of state that changes which requests it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFlip {
    /// It gets no work from now on, after this many failed checks in a row.
    Fell(u32),
    /// It gets work again.
    Rose,
}

impl CheckState {
    /// The next state, and the flip if the change is one.
    #[must_use]
    pub fn step(self, rules: CheckRules, passed: bool) -> (Self, Option<CheckFlip>) {
        match (self, passed) {
            (Unknown | Up { .. }, true) => (Up { failures: 0 }, None),
            (Unknown, false) => (Down { passes: 0 }, Some(CheckFlip::Fell(1))),
            (Up { failures }, false) if failures + 1 < rules.fall => (Up { failures: failures + 1 }, None),
            (Up { failures }, false) => (Down { passes: 0 }, Some(CheckFlip::Fell(failures + 1))),
            (Down { passes }, true) if passes + 1 < rules.rise => (Down { passes: passes + 1 }, None),
            (Down { .. }, true) => (Up { failures: 0 }, Some(CheckFlip::Rose)),
            (Down { .. }, false) => (Down { passes: 0 }, None),
        }
    }

    /// How many outcomes in a row spoke against it, the last included.
    pub fn against(self) -> u32 {
        match self {
            Unknown => 0,
            Up { failures: count } | Down { passes: count } => count,
        }
    }

    /// Whether the next outcomes may change it: it is checked more often then.
    pub fn is_unsure(self) -> bool {
        !matches!(self, Up { failures: 0 } | Down { passes: 0 })
    }
}

/// The state in a word, and the last outcome. Only the prober writes it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The kind in the lowest [`KIND_BITS`], then the count. 0 while nothing is known.
    state: AtomicU64,
    last: Mutex<LastCheck>,
}

/// The last check of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastCheck {
    /// Whether the instance gets work.
    pub up: bool,
    /// When the state began, milliseconds since the registry did.
    pub since: u64,
    /// What was asked and what came of it: `GET /health got 503`.
    pub said: Cow<'static, str>,
    /// How long it took.
    pub took: Duration,
    /// When it ended; 0: it was before this program started.
    pub at: u64,
}

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct CheckOutcome {
    /// Whether the instance works.
    pub passed: bool,
    /// What was asked and what came of it: `GET /health got 503`.
    pub said: Cow<'static, str>,
    /// How long it took.
    pub took: Duration,
}

impl Checks {
    pub(super) fn is_down(&self) -> bool {
        self.state.load(Relaxed) & KIND_MASK == DOWN
    }

    pub(super) fn state(&self) -> CheckState {
        unpack(self.state.load(Relaxed))
    }

    /// Takes an outcome down.
    pub(super) fn record(&self, now: u64, rules: CheckRules, outcome: &CheckOutcome) -> Option<CheckFlip> {
        let before = self.state();
        let (after, flip) = before.step(rules, outcome.passed);
        {
            let mut last = self.lock();
            last.since = if flip.is_some() || before == Unknown { now } else { last.since };
            (last.up, last.took, last.at) = (matches!(after, Up { .. }), outcome.took, now.max(1));
            if last.said != outcome.said {
                last.said.clone_from(&outcome.said);
            }
        }
        self.set(after);
        flip
    }

    /// It is down until checks say otherwise, unless they have said something. Whether it is so.
    pub(super) fn begin_down(&self, now: u64, said: Cow<'static, str>) -> bool {
        let is_news = self.state() == Unknown;
        if is_news {
            let mut last = self.lock();
            let since = if last.since > 0 { last.since } else { now };
            *last = LastCheck { up: false, since, said, ..LastCheck::default() };
            drop(last);
            self.set(Down { passes: 0 });
        }
        is_news
    }

    /// It was down since then for another program, if it turns out to be down.
    pub(super) fn recall(&self, since: u64) {
        self.lock().since = since;
    }

    /// Since when it is down.
    pub(super) fn down_since(&self) -> Option<u64> {
        self.is_down().then(|| self.lock().since)
    }

    /// Nothing is known any more. Whether it was down.
    pub(super) fn forget(&self) -> bool {
        let was_down = self.is_down();
        self.set(Unknown);
        *self.lock() = LastCheck::default();
        was_down
    }

    /// The last check; `None`: nothing is known.
    pub(super) fn last(&self) -> Option<LastCheck> {
        (self.state() != Unknown).then(|| self.lock().clone())
    }

    fn set(&self, state: CheckState) {
        self.state.store(pack(state), Release);
    }

    fn lock(&self) -> MutexGuard<'_, LastCheck> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pack(state: CheckState) -> u64 {
    match state {
        Unknown => UNKNOWN,
        Up { failures } => u64::from(failures) << KIND_BITS | UP,
        Down { passes } => u64::from(passes) << KIND_BITS | DOWN,
    }
}

fn unpack(word: u64) -> CheckState {
    let count = (word >> KIND_BITS) as u32;
    match word & KIND_MASK {
        UP => Up { failures: count },
        DOWN => Down { passes: count },
        _ => Unknown,
    }
}

const UNKNOWN: u64 = 0;
const UP: u64 = 1;
const DOWN: u64 = 2;
const KIND_BITS: u32 = 2;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CheckRules = CheckRules { rise: 2, fall: 3 };

    #[test]
    fn steps() {
        let fell = |times| Some(CheckFlip::Fell(times));
        for (before, passed, after, flip) in [
            (Unknown, true, Up { failures: 0 }, None),
            (Unknown, false, Down { passes: 0 }, fell(1)),
            (Up { failures: 0 }, false, Up { failures: 1 }, None),
            (Up { failures: 1 }, false, Up { failures: 2 }, None),
            (Up { failures: 1 }, true, Up { failures: 0 }, None),
            (Up { failures: 2 }, false, Down { passes: 0 }, fell(3)),
            (Down { passes: 0 }, false, Down { passes: 0 }, None),
            (Down { passes: 1 }, false, Down { passes: 0 }, None),
            (Down { passes: 0 }, true, Down { passes: 1 }, None),
            (Down { passes: 1 }, true, Up { failures: 0 }, Some(CheckFlip::Rose)),
        ] {
            assert_eq!(before.step(RULES, passed), (after, flip), "{before:?} {passed}");
            assert_eq!(unpack(pack(after)), after);
        }
        assert_eq!(pack(Unknown), 0);
        // The keys changed meanwhile.
        let one = CheckRules { rise: 1, fall: 1 };
        assert_eq!(Up { failures: 7 }.step(one, false), (Down { passes: 0 }, fell(8)));
        assert_eq!(Down { passes: 7 }.step(one, true), (Up { failures: 0 }, Some(CheckFlip::Rose)));
        let unsure = [Unknown, Up { failures: 1 }, Down { passes: 1 }];
        assert!(unsure.into_iter().all(CheckState::is_unsure));
        assert!(!Up { failures: 0 }.is_unsure() && !Down { passes: 0 }.is_unsure());
    }
}
