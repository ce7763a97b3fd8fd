//! Gathers the candidates of a service: the eligible instances of the best tier. Picks none of them.

use pointsman_table::{Rendezvous, Service};

use super::ramp;
use super::tried::Tried;
use crate::pool::candidates::Candidates;
use crate::pool::view::ServiceLive;

/// The rank of an instance until the next flip. The candidates are all instances of the lowest tier present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Ordinary,
    Backup,
    Down,
    DownBackup,
}

/// Rebuilds the list if it is out of date.
pub(super) fn refresh(list: &mut Candidates, live: &ServiceLive, now: u64) {
    if list.flips != live.flips() || list.valid_until <= now {
        (*list, _) = among(live, |index| live.service.instances[index].takes_work(), |_| true, now);
    }
}

/// The list for a request that has tried all of the cached list, or is older than the newest table: without the
/// instances that it has tried, and without those that the newest table gives no work, unless no others are left.
pub(super) fn left(live: &ServiceLive, tried: Tried, now: u64) -> Candidates {
    gathered(live, tried, |_| true, now).0
}

/// The list for a request while all candidates are full: without those of them that only get a trial. `None`: that leaves
/// none that is up, or none of them gets only a trial.
pub(super) fn instead_of_full(live: &ServiceLive, tried: Tried, now: u64) -> Option<Candidates> {
    let is_sound = |index: usize| live.instances[index].shared.health.is_sound();
    // With `panic`, those that are not sound count as up.
    if live.service.panic.is_some() || (0..live.instances.len()).all(is_sound) {
        return None;
    }
    let (list, up) = gathered(live, tried, |index| is_sound(index) || has_room(live, index), now);
    up.then_some(list)
}

fn gathered(live: &ServiceLive, tried: Tried, serves: impl Fn(usize) -> bool, now: u64) -> (Candidates, bool) {
    let eligible = |index: usize| live.service.instances[index].takes_work() && !tried.has(live.instances[index].id);
    let current = |index: usize| eligible(index) && live.is_current(index);
    let any_current = (0..live.instances.len()).any(current);
    among(live, |index| if any_current { current(index) } else { eligible(index) }, serves, now)
}

/// Whether it is below its `maxconn`.
pub(super) fn has_room(live: &ServiceLive, index: usize) -> bool {
    let limit = live.service.instances[index].max_connections;
    limit.is_none_or(|limit| !live.instances[index].shared.slots.is_full(limit))
}

/// The list, and whether its instances are up. `serves`: an instance for which it does not hold counts as down.
fn among(
    live: &ServiceLive,
    eligible: impl Fn(usize) -> bool,
    serves: impl Fn(usize) -> bool,
    now: u64,
) -> (Candidates, bool) {
    // Read first: a flip during the scan may be missed, and then the next pick must see that the count changed.
    let flips = live.flips();
    let (instances, mut valid_until) = (&live.service.instances, u64::MAX);
    let is_up = |index: usize| {
        let down_until = live.instances[index].shared.health.down_until();
        if down_until > now {
            valid_until = valid_until.min(down_until);
        }
        down_until <= now && serves(index)
    };
    let (indices, up) = best(&live.service, eligible, is_up, |index| live.instances[index].shared.health.is_sound());
    let (weights, changed) = ramp::weights(live, &indices, now);
    let mut candidates = Candidates {
        flips,
        valid_until: valid_until.min(changed),
        limited: up && indices.iter().any(|index| instances[*index as usize].max_connections.is_some()),
        keyed: keyed(live, &indices, &weights),
        indices: indices.into(),
        ..Candidates::default()
    };
    candidates.weigh(weights);
    (candidates, up)
}

/// The indices of the instances of the best tier, and whether that is one of those that are up. With `panic`, of all that
/// serve in it.
pub(crate) fn best(
    service: &Service,
    eligible: impl Fn(usize) -> bool,
    mut is_up: impl FnMut(usize) -> bool,
    is_sound: impl Fn(usize) -> bool,
) -> (Vec<u32>, bool) {
    let (mut best, mut indices) = (Tier::DownBackup, Vec::with_capacity(service.instances.len()));
    for index in (0..service.instances.len()).filter(|index| eligible(*index)) {
        let tier = tier(is_up(index), service.instances[index].backup);
        if tier < best {
            best = tier;
            indices.clear();
        }
        if tier == best {
            indices.push(index as u32);
        }
    }
    if service.panic.is_some() {
        indices = all_in_panic(service, &eligible, is_sound, best).unwrap_or(indices);
    }
    (indices, best < Tier::Down)
}

/// All ordinary instances, or all backups where those serve, if too few of them are healthy to leave any out.
#[cold]
fn all_in_panic(
    service: &Service,
    eligible: impl Fn(usize) -> bool,
    is_sound: impl Fn(usize) -> bool,
    best: Tier,
) -> Option<Vec<u32>> {
    let panic = service.in_panic(&eligible, is_sound)?;
    if best != if panic.backups { Tier::Backup } else { Tier::Ordinary } {
        return None;
    }
    let instances = &service.instances;
    let is_of_tier = |index: &usize| eligible(*index) && instances[*index].backup == panic.backups;
    Some((0..instances.len()).filter(is_of_tier).map(|index| index as u32).collect())
}

fn tier(up: bool, backup: bool) -> Tier {
    match (up, backup) {
        (true, false) => Tier::Ordinary,
        (true, true) => Tier::Backup,
        (false, false) => Tier::Down,
        (false, true) => Tier::DownBackup,
    }
}

/// Where keys go, for hashing balances.
fn keyed(live: &ServiceLive, indices: &[u32], weights: &[u64]) -> Option<Box<Rendezvous>> {
    let name = |index: &u32| live.service.instances[*index as usize].name.as_str();
    let named = || indices.iter().map(name).zip(weights.iter().copied());
    live.service.balance.is_hashed().then(|| Box::new(Rendezvous::new(named())))
}
