//! Picks one instance. Never waits, never logs, never connects.
//!
//! A request sees one table from beginning to end. But if a newer table comes while it waits, or before it is repeated,
//! it goes to an instance of the newer table (see `ServiceLive::newest`), or of its own table if the newer one has none
//! left. So operators can rely on the report that an instance has no work left.
//!
//! An instance is *eligible* when it takes new work: weight above 0, not draining, not tried already for this request.
//! Of those, instances that are up go before those ejected by failures, ordinary ones before backups, and ones
//! with room before those at their `maxconn`. With `panic`, all ordinary ones count as up while too few are healthy. Backups serve when all others are down, not when they are full;
//! one that is full and only due for a trial counts as down.
//!
//! All of this except room changes rarely. So each worker caches the candidates of each service until an instance of
//! the service flips or an ejection ends: round robin over 1,000 instances costs as much as over 3.

mod balance;
mod gather;
mod ramp;
#[cfg(test)]
mod tests;
mod tried;

use std::net::IpAddr;

use pointsman_table::hash_key;

pub(crate) use gather::best;
pub use ramp::share_in_effect;
pub(crate) use tried::Tried;

use self::balance::Choice;
use self::gather::{has_room, instead_of_full, left, refresh};
use super::candidates::Candidates;
use super::view::ServiceLive;

/// The key of an address for hashing balances: the same key gets the same instance.
pub(crate) fn key_of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hash_key(&address.octets()),
        IpAddr::V6(address) => hash_key(&address.octets()),
    }
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    /// This instance, by its index. It had room, unless it is the only one or down: then room was not checked.
    One(usize),
    /// All are at their `maxconn`.
    Full,
    /// No instance takes new work.
    None,
}

/// Picks an instance. `now`: coarse time. `key`: for hashing balances; without one they use round robin, as HAProxy
/// does when the header or parameter is absent. If the instance of a key is full, the next one by hash that has room is
/// picked.
pub(crate) fn pick(live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64, rng: &mut fastrand::Rng) -> Picked {
    if let [only] = &*live.service.instances {
        let eligible = only.takes_work() && !tried.has(live.instances[0].id);
        return if eligible { Picked::One(0) } else { Picked::None };
    }
    match among_best(live, key, tried, now, rng) {
        Picked::Full => beside_trials(live, key, tried, now, rng),
        picked => picked,
    }
}

/// Picks among the instances of the best tier.
fn among_best(live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64, rng: &mut fastrand::Rng) -> Picked {
    if live.is_superseded() {
        return among(live, &left(live, tried, now), key, now, rng);
    }
    let mut candidates = live.candidates.borrow_mut();
    refresh(&mut candidates, live, now);
    if tried.count() > 0 {
        return among_untried(live, &candidates, tried, key, now, rng);
    }
    among(live, &candidates, key, now, rng)
}

/// Picks another one when all are full: an instance that is due for a trial does not hold all traffic while what it was
/// sent before the ejection takes its slots.
#[cold]
fn beside_trials(live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64, rng: &mut fastrand::Rng) -> Picked {
    instead_of_full(live, tried, now).map_or(Picked::Full, |others| among(live, &others, key, now, rng))
}

/// Picks one with room for a request that has tried some. It takes turns on the same circle as the others: on a circle
/// of its own it would move their place by part of a turn, and some instances would get more turns than others.
#[cold]
fn among_untried(
    live: &ServiceLive,
    candidates: &Candidates,
    tried: Tried,
    key: Option<u64>,
    now: u64,
    rng: &mut fastrand::Rng,
) -> Picked {
    let is_untried = |index: usize| !tried.has(live.instances[index].id);
    if !candidates.indices().any(is_untried) {
        return among(live, &left(live, tried, now), key, now, rng);
    }
    let limited = candidates.are_limited();
    let fits = |index: usize| is_untried(index) && (!limited || has_room(live, index));
    Choice { live, candidates, fits, now }.one(key, rng).map_or(Picked::Full, Picked::One)
}

/// Picks one with room.
fn among(live: &ServiceLive, candidates: &Candidates, key: Option<u64>, now: u64, rng: &mut fastrand::Rng) -> Picked {
    if candidates.are_limited() {
        let with_room = Choice { live, candidates, fits: |index| has_room(live, index), now }.one(key, rng);
        return with_room.map_or(Picked::Full, Picked::One);
    }
    Choice { live, candidates, fits: |_| true, now }.one(key, rng).map_or(Picked::None, Picked::One)
}
