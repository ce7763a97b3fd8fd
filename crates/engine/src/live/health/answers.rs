//! An instance's [`Standing`], shared by all workers, and why it is ejected. Only so many instances of a service are
//! ejected at once: counted exactly, under a lock that only ejections and trials take.

#![expect(clippy::disallowed_types, reason = "locked for an ejection and for a trial, never for a good answer")]

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

use super::standing::{self, Standing, StandingEvent, StandingFlip, StandingRules};

/// The places of one service for ejected instances. Who holds one is seen from the instances themselves, so that none is
/// lost with an instance that leaves the table.
#[derive(Debug, Default)]
pub struct Places(Mutex<()>);

/// An instance's standing, and why it is ejected. Times are milliseconds since the registry began.
#[derive(Debug, Default)]
pub(super) struct Answers {
    standing: AtomicU64,
    /// When the current ejection began and its grounds. Only read while the instance does not work.
    ejection: AtomicU64,
}

/// Why an instance was ejected for its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// So many errors in a row, the last one an answer with this status.
    Status(u32, u16),
    /// The same; the last one was broken: the index of its fault in the registry's names.
    Broken(u32, usize),
    /// Its success rate and the mean of its peers, percent.
    Outlier(u8, u8),
}

impl Answers {
    pub(super) fn until(&self) -> u64 {
        standing::until(self.standing.load(Relaxed))
    }

    /// Nothing is held against it: the usual case, in which a request and a good answer change nothing.
    pub(super) fn is_spotless(&self) -> bool {
        self.standing.load(Relaxed) == 0
    }

    pub(super) fn standing(&self) -> Standing {
        standing::unpack(self.standing.load(Acquire))
    }

    /// Forgets everything. Says whether there was anything.
    pub(super) fn pardon(&self) -> bool {
        !self.is_spotless() && self.standing.swap(0, Release) != 0
    }

    /// Takes over what another program held against it. Nobody else uses it yet.
    pub(super) fn recall(&self, standing: Standing, since: u64, grounds: Grounds) {
        self.ejection.store(pack(since, grounds), Release);
        self.standing.store(standing::pack(standing), Release);
    }

    /// When the current ejection began, and its grounds.
    pub(super) fn grounds(&self) -> (u64, Grounds) {
        unpack(self.ejection.load(Acquire))
    }

    /// Records an event. `has_place`: whether the service has a place for one more ejected instance; asked under the
    /// lock of `places`, and only if this one needs it.
    pub(super) fn apply(
        &self,
        (now, rules): (u64, &StandingRules),
        event: StandingEvent,
        grounds: Option<Grounds>,
        (places, has_place): (&Places, impl FnOnce() -> bool),
    ) -> Option<StandingFlip> {
        if let Ok(flip) = self.step((now, rules), event, None) {
            return flip;
        }
        let _held = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = has_place();
        let was_working = !self.standing().takes_place();
        // Written first: whoever sees the ejection sees its grounds.
        if let Some(grounds) = grounds {
            let since = if was_working { now } else { self.grounds().0 };
            self.ejection.store(pack(since, grounds), Release);
        }
        self.step((now, rules), event, Some(has_place)).ok().flatten()
    }

    /// Changes the state. `Err`: the change needs a place, and it is not known whether there is one.
    fn step(
        &self,
        (now, rules): (u64, &StandingRules),
        event: StandingEvent,
        has_place: Option<bool>,
    ) -> Result<Option<StandingFlip>, ()> {
        let mut before = self.standing.load(Relaxed);
        loop {
            let (after, flip) = standing::unpack(before).step(now, rules, event, has_place.unwrap_or(true));
            let packed = standing::pack(after);
            if packed != before && after.takes_place() && has_place.is_none() {
                return Err(());
            }
            if packed == before {
                return Ok(flip);
            }
            match self.standing.compare_exchange_weak(before, packed, Release, Relaxed) {
                Ok(_) => return Ok(flip),
                Err(other) => before = other,
            }
        }
    }
}

/// The grounds in the lowest bits: kind, count or success rate, and what came last or the mean of the peers.
fn pack(since: u64, grounds: Grounds) -> u64 {
    let (kind, first, second) = match grounds {
        Grounds::Status(count, status) => (0, u64::from(count), u64::from(status)),
        Grounds::Broken(count, fault) => (1, u64::from(count), fault as u64),
        Grounds::Outlier(rate, peers) => (2, u64::from(rate), u64::from(peers)),
    };
    let number = |number: u64| number.min((1 << NUMBER_BITS) - 1);
    since << SINCE_SHIFT | number(second) << (KIND_BITS + NUMBER_BITS) | number(first) << KIND_BITS | kind
}

fn unpack(word: u64) -> (u64, Grounds) {
    let number = |at: u32| (word >> at & ((1 << NUMBER_BITS) - 1)) as u16;
    let (first, second) = (number(KIND_BITS), number(KIND_BITS + NUMBER_BITS));
    let percent = |number: u16| u8::try_from(number).unwrap_or(100);
    let grounds = match word & ((1 << KIND_BITS) - 1) {
        0 => Grounds::Status(first.into(), second),
        1 => Grounds::Broken(first.into(), second.into()),
        _ => Grounds::Outlier(percent(first), percent(second)),
    };
    (word >> SINCE_SHIFT, grounds)
}

const KIND_BITS: u32 = 2;
const NUMBER_BITS: u32 = 10;
const SINCE_SHIFT: u32 = KIND_BITS + 2 * NUMBER_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grounds_fit_into_a_word() {
        for grounds in [Grounds::Status(1_000, 599), Grounds::Broken(5, 63), Grounds::Outlier(0, 100)] {
            assert_eq!(unpack(pack(1 << 40, grounds)), (1 << 40, grounds));
        }
    }

    #[test]
    fn of_instances_that_all_fail_at_once_only_so_many_are_ejected() {
        const MOST: usize = 3;
        let rules = StandingRules { errors: 2, lasts: 10_000 };
        let (places, all) = (Places::default(), [(); 8].map(|()| Answers::default()));
        let apart = || all.iter().filter(|one| one.until() > 0).count();
        let fail = |one: &Answers, now: u64| {
            let has_place =
                || all.iter().filter(|other| !std::ptr::eq(*other, one) && other.until() > now).count() < MOST;
            one.apply((now, &rules), StandingEvent::Bad, Some(Grounds::Status(2, 500)), (&places, has_place))
        };
        std::thread::scope(|scope| {
            for one in &all {
                scope.spawn(|| (0..1_000).filter(|now| fail(one, *now).is_some()).count());
            }
        });
        assert_eq!(apart(), MOST);
    }
}
