//! Picks one instance. Never waits, never logs, never connects.
//!
//! A request sees one table from beginning to end. But one that waits or is repeated while a newer table comes goes to an
//! instance of that one (see `ServiceLive::newest`), or, where it has none left, to one of its own table: who was told
//! that an instance has no work left can rely on it.
//!
//! An instance is *eligible* when it takes new work: weight above 0, not draining, not tried already for this request.
//! Of those, instances that are up go before those ejected by failures, ordinary ones before backups, and ones
//! with room before those at their `maxconn`. Backups serve when all others are down, not when they are full.
//!
//! All of this but room changes rarely. So each worker caches the candidates of each service until an instance of the
//! service flips or an ejection ends: taking turns among 1,000 costs what it costs among 3.

mod balance;
mod gather;
#[cfg(test)]
mod tests;
mod tried;

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::FixedState;

pub(crate) use tried::Tried;

use self::gather::{left, refresh};
use super::candidates::Candidates;
use super::view::ServiceLive;

/// What a request is hashed by, for balances that want it: the same key gets the same instance.
pub(crate) fn key_of_address(address: IpAddr) -> u64 {
    FixedState::with_seed(0).hash_one(address)
}

/// As [`key_of_address`], for a path, header or parameter.
pub(crate) fn key_of_bytes(bytes: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(bytes)
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    /// This instance, by its index. It had room; it may have none any more when it is the only one, or down.
    One(usize),
    /// All are at their `maxconn`. No balance counts that as a turn.
    Full,
    /// No instance takes new work.
    None,
}

/// Picks an instance. `now`: coarse time. `key`: for hashing balances; without one they take turns, as HAProxy does when
/// the header or parameter is absent. A key binds nobody to an instance that is full: others with room are next by hash.
pub(crate) fn pick(live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64, rng: &mut fastrand::Rng) -> Picked {
    if let [only] = &*live.service.instances {
        let eligible = only.takes_work() && !tried.has(live.instances[0].id);
        return if eligible { Picked::One(0) } else { Picked::None };
    }
    if tried.count() > 0 || live.is_superseded() {
        return among(live, &left(live, tried, now), key, rng);
    }
    let mut candidates = live.candidates.borrow_mut();
    refresh(&mut candidates, live, now);
    among(live, &candidates, key, rng)
}

/// Picks one with room.
fn among(live: &ServiceLive, candidates: &Candidates, key: Option<u64>, rng: &mut fastrand::Rng) -> Picked {
    if candidates.are_limited() {
        let with_room = balance::one_of(live, candidates, |index| has_room(live, index), key, rng);
        return with_room.map_or(Picked::Full, Picked::One);
    }
    balance::one_of(live, candidates, |_| true, key, rng).map_or(Picked::None, Picked::One)
}

fn has_room(live: &ServiceLive, index: usize) -> bool {
    let limit = live.service.instances[index].max_connections;
    limit.is_none_or(|limit| !live.instances[index].shared.slots.is_full(limit))
}
