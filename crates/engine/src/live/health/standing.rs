//! Whether an instance's answers are good enough for work (`eject`), as a state machine. No clock, no atomics, no socket.
//! Failed connects have a machine of their own: [`Circuit`](super::Circuit).
//!
//! ```text
//!     Bad, fewer in a row ┌───┐
//!                         │   v     Bad, `errors` in a row; Outlier    ┌───────────┐
//!                    ┌────┴──────┐            (if there is a place)    │  Ejected  │<─┐
//!                    │  Working  ├────────────────────────────────────>└─────┬─────┘  │
//!                    └───────────┘                                           │        │ Bad: for longer
//!                          ^                       Trying after `until`:     v        │ (if there is a place)
//!                          │                       the trial           ┌───────────┐  │
//!                          └───────────────────────────────────────────┤  OnTrial  ├──┘
//!                            Good; or Bad, without a place             └───────────┘
//! ```
//!
//! *A place*: only so many of a service's instances are ejected or on trial at once. Without one, an instance works on,
//! and its errors are counted again from 0. All other events change nothing: requests that began before an ejection may
//! end well during it.

use std::time::Duration;

use Standing::{Ejected, OnTrial, Working};
use StandingEvent::{Bad, Good, Outlier, Trying};

/// The longest ejection, in times of the first.
const MOST_TIMES: u64 = 10;
/// The longest ejection, unless the first is longer, milliseconds.
const LONGEST: u64 = 300_000;
/// Ejections in a row that are counted: twice as often is beyond [`MOST_TIMES`].
const MOST_SPELLS: u32 = 5;

/// Whether an instance works, judged by its answers. Times are milliseconds of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets work.
    Working {
        /// Errors in a row.
        errors: u32,
        /// Ejections in a row before.
        spells: u32,
        /// Since when it works, if it was ejected before.
        since: u64,
    },
    /// It gets no work while another instance can take it.
    Ejected {
        /// When the next request may try it.
        until: u64,
        /// Ejections in a row.
        spells: u32,
    },
    /// One request tries it; the others go elsewhere.
    OnTrial {
        /// When another request may try it, if this one has no outcome by then.
        until: u64,
        /// Ejections in a row before this trial.
        spells: u32,
    },
}

/// Nothing held against it.
impl Default for Standing {
    fn default() -> Self {
        Working { errors: 0, spells: 0, since: 0 }
    }
}

/// When an instance is ejected for its answers, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct StandingRules {
    /// Errors in a row that eject.
    pub errors: u32,
    /// The first ejection, milliseconds; each further one in a row lasts twice as long. As long without an ejection takes
    /// one doubling back.
    pub lasts: u64,
}

/// What is learnt about an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingEvent {
    /// A request is about to be sent there.
    Trying {
        /// How long the outcome may take, milliseconds.
        limit: u64,
    },
    /// It answered, to the end, and not with a 5xx.
    Good,
    /// Its answer was a 5xx, or broken.
    Bad,
    /// Its success rate is far below that of its peers.
    Outlier,
}

/// A change of state that changes which requests it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingFlip {
    /// It was ejected for this long.
    Ejected(Duration),
    /// A request tries it.
    OnTrial,
    /// It works again.
    Restored,
    /// It would have been ejected, or tried by one request only, but no place was free: it works on.
    Spared,
}

impl StandingRules {
    /// Duration of the ejection after this many others in a row, milliseconds.
    fn lasts(&self, spells: u32) -> u64 {
        let times = 1u64.checked_shl(spells).unwrap_or(MOST_TIMES).min(MOST_TIMES);
        self.lasts.saturating_mul(times).min(LONGEST.max(self.lasts))
    }
}

impl Standing {
    /// Whether it needs one of the service's places.
    pub fn takes_place(self) -> bool {
        !matches!(self, Working { .. })
    }

    /// The next state, and the flip if the change is one. `has_place`: it may be ejected.
    #[must_use]
    pub fn step(
        self,
        now: u64,
        rules: &StandingRules,
        event: StandingEvent,
        has_place: bool,
    ) -> (Self, Option<StandingFlip>) {
        match (self, event) {
            (Working { errors, spells, since }, Bad) if errors + 1 < rules.errors => {
                (Working { errors: errors + 1, spells, since }, None)
            }
            (Working { spells, since, .. }, Bad | Outlier) => {
                let good = now.saturating_sub(since) / rules.lasts.max(1);
                let left = spells.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX));
                Self::eject(now, rules, left, has_place)
            }
            (Working { spells, since, .. }, Good) => (Working { errors: 0, spells, since }, None),
            (OnTrial { spells, .. }, Bad) => Self::eject(now, rules, spells, has_place),
            (OnTrial { spells, .. }, Good) => (Working { errors: 0, spells, since: now }, Some(StandingFlip::Restored)),
            (Ejected { until, spells } | OnTrial { until, spells }, Trying { limit }) if until <= now => {
                match has_place {
                    true => {
                        let wait = limit.min(rules.lasts);
                        (OnTrial { until: now.saturating_add(wait), spells }, Some(StandingFlip::OnTrial))
                    }
                    false => (Self::spared(now, spells), Some(StandingFlip::Spared)),
                }
            }
            (Working { .. } | OnTrial { .. }, Trying { .. }) | (OnTrial { .. }, Outlier) | (Ejected { .. }, _) => {
                (self, None)
            }
        }
    }

    /// Without ejections before, it does not matter since when it works.
    fn spared(now: u64, spells: u32) -> Self {
        Working { errors: 0, spells, since: if spells == 0 { 0 } else { now } }
    }

    fn eject(now: u64, rules: &StandingRules, spells: u32, has_place: bool) -> (Self, Option<StandingFlip>) {
        if !has_place {
            return (Self::spared(now, spells), Some(StandingFlip::Spared));
        }
        let lasts = rules.lasts(spells);
        let ejected = Ejected { until: now.saturating_add(lasts), spells: (spells + 1).min(MOST_SPELLS) };
        (ejected, Some(StandingFlip::Ejected(Duration::from_millis(lasts))))
    }
}

/// The state in one word: its kind in the lowest [`KIND_BITS`], then `errors`, then `spells`, then `until` or `since`.
/// Nothing held against it is 0.
pub(super) fn pack(standing: Standing) -> u64 {
    let word = |kind: u64, errors: u32, spells: u32, time: u64| {
        let errors = u64::from(errors).min((1 << ERROR_BITS) - 1);
        let spells = u64::from(spells).min((1 << SPELL_BITS) - 1);
        let time = time.min(u64::MAX >> TIME_SHIFT);
        time << TIME_SHIFT | spells << SPELL_SHIFT | errors << KIND_BITS | kind
    };
    match standing {
        Working { errors, spells, since } => word(WORKING, errors, spells, since),
        Ejected { until, spells } => word(EJECTED, 0, spells, until),
        OnTrial { until, spells } => word(ON_TRIAL, 0, spells, until),
    }
}

pub(super) fn unpack(word: u64) -> Standing {
    let errors = (word >> KIND_BITS & ((1 << ERROR_BITS) - 1)) as u32;
    let spells = (word >> SPELL_SHIFT & ((1 << SPELL_BITS) - 1)) as u32;
    let time = word >> TIME_SHIFT;
    match word & ((1 << KIND_BITS) - 1) {
        EJECTED => Ejected { until: time, spells },
        ON_TRIAL => OnTrial { until: time, spells },
        _ => Working { errors, spells, since: time },
    }
}

/// When it may get work again; 0 while it works.
pub(super) fn until(word: u64) -> u64 {
    match word & ((1 << KIND_BITS) - 1) {
        WORKING => 0,
        _ => word >> TIME_SHIFT,
    }
}

const WORKING: u64 = 0;
const EJECTED: u64 = 1;
const ON_TRIAL: u64 = 2;
const KIND_BITS: u32 = 2;
/// At most 1,000 errors in a row are counted.
const ERROR_BITS: u32 = 10;
const SPELL_BITS: u32 = 4;
const SPELL_SHIFT: u32 = KIND_BITS + ERROR_BITS;
const TIME_SHIFT: u32 = SPELL_SHIFT + SPELL_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: StandingRules = StandingRules { errors: 3, lasts: 10_000 };

    fn check(before: Standing, event: StandingEvent, after: Standing, flip: Option<StandingFlip>) {
        check_with(before, event, true, after, flip);
    }

    fn check_with(before: Standing, event: StandingEvent, place: bool, after: Standing, flip: Option<StandingFlip>) {
        let step = before.step(100_000, &RULES, event, place);
        assert_eq!(step, (after, flip), "{before:?} {event:?} at 100,000, a place: {place}");
        assert_eq!(unpack(pack(after)), after);
    }

    fn working(errors: u32) -> Standing {
        Working { errors, spells: 0, since: 0 }
    }

    fn ejected(seconds: u64) -> Option<StandingFlip> {
        Some(StandingFlip::Ejected(Duration::from_secs(seconds)))
    }

    #[test]
    fn errors_in_a_row_eject() {
        check(working(0), Trying { limit: 500 }, working(0), None);
        check(working(0), Bad, working(1), None);
        check(working(2), Good, working(0), None);
        check(working(2), Bad, Ejected { until: 110_000, spells: 1 }, ejected(10));
        check(working(0), Outlier, Ejected { until: 110_000, spells: 1 }, ejected(10));
        check_with(working(2), Bad, false, working(0), Some(StandingFlip::Spared));
    }

    #[test]
    fn good_time_takes_doublings_back() {
        for (since, spells, after, lasts) in
            [(99_999, 2, 3, 40), (90_000, 2, 2, 20), (80_000, 2, 1, 10), (0, 2, 1, 10), (99_999, 5, 5, 100)]
        {
            let until = 100_000 + lasts * 1_000;
            let before = Working { errors: 2, spells, since };
            check(before, Bad, Ejected { until, spells: after }, ejected(lasts));
        }
    }

    #[test]
    fn while_it_is_ejected_nothing_counts() {
        let before = Ejected { until: 100_001, spells: 2 };
        for event in [Trying { limit: 500 }, Good, Bad, Outlier] {
            check(before, event, before, None);
        }
    }

    #[test]
    fn one_request_tries_it() {
        let before = Ejected { until: 100_000, spells: 2 };
        for event in [Good, Bad, Outlier] {
            check(before, event, before, None);
        }
        let tried = OnTrial { until: 100_500, spells: 2 };
        check(before, Trying { limit: 500 }, tried, Some(StandingFlip::OnTrial));
        check(before, Trying { limit: u64::MAX }, OnTrial { until: 110_000, spells: 2 }, Some(StandingFlip::OnTrial));
        let spared = Working { errors: 0, spells: 2, since: 100_000 };
        check_with(before, Trying { limit: 500 }, false, spared, Some(StandingFlip::Spared));
        check(tried, Trying { limit: 500 }, tried, None);
        check(tried, Good, spared, Some(StandingFlip::Restored));
        check(tried, Bad, Ejected { until: 140_000, spells: 3 }, ejected(40));
        check_with(tried, Bad, false, spared, Some(StandingFlip::Spared));
        let given_up = OnTrial { until: 100_000, spells: 2 };
        check(given_up, Trying { limit: 500 }, tried, Some(StandingFlip::OnTrial));
    }

    #[test]
    fn an_ejection_is_bounded() {
        let lasts = |lasts, spells| StandingRules { errors: 1, lasts }.lasts(spells) / 1_000;
        assert_eq!([0, 1, 2, 3, 4, 64].map(|spells| lasts(10_000, spells)), [10, 20, 40, 80, 100, 100]);
        assert_eq!([0, 1, 2, 3].map(|spells| lasts(100_000, spells)), [100, 200, 300, 300], "5 minutes");
        assert_eq!([0, 1].map(|spells| lasts(900_000, spells)), [900, 900], "`for` is longer");
    }

    #[test]
    fn a_standing_fits_into_a_word() {
        let longest = u64::MAX >> TIME_SHIFT;
        for standing in [
            working(0),
            working(999),
            Working { errors: 7, spells: 5, since: longest },
            Ejected { until: longest, spells: 5 },
            OnTrial { until: 1_500, spells: 1 },
        ] {
            assert_eq!(unpack(pack(standing)), standing);
            let down_until = match standing {
                Working { .. } => 0,
                Ejected { until, .. } | OnTrial { until, .. } => until,
            };
            assert_eq!(until(pack(standing)), down_until);
        }
        assert_eq!(pack(Standing::default()), 0, "a good answer of an instance in good standing writes nothing");
    }
}
