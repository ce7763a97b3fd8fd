//! The instances that a service's requests are spread over: a list, cached until health changes it. Picks none of them.

use pointsman_table::Balance;

use super::Tried;
use crate::pool::view::ServiceLive;

/// The eligible instances of the best tier, with and without room.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The service's count of flips when the list was made.
    flips: u64,
    /// When the next ejection ends, or the next trial is given up, coarse time. 0: there is no list yet.
    valid_until: u64,
    /// Their indices, ascending.
    indices: Box<[u32]>,
    /// Running sums of their weights, for balances that go by chance.
    sums: Box<[u64]>,
    /// Some have a `maxconn`: those with room go first.
    limited: bool,
    /// All instances of the service have the same weight.
    even: bool,
}

/// What ranks instances until the next flip. Candidates are all of the lowest tier present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Ordinary,
    Backup,
    Down,
    DownBackup,
}

impl Candidates {
    /// Makes the list again if it is out of date.
    pub(super) fn refresh(&mut self, live: &ServiceLive, now: u64) {
        if self.flips != live.flips() || self.valid_until <= now {
            *self = Self::among(live, |index| live.service.instances[index].takes_work(), now);
        }
    }

    /// The list for a request that is repeated, or older than the newest table: without the instances that it has
    /// tried, and without those that the newest table gives no work, unless no others are left.
    pub(super) fn left(live: &ServiceLive, tried: Tried, now: u64) -> Self {
        let eligible = |index: usize| live.service.instances[index].takes_work() && !tried.has(index);
        let current = |index: usize| eligible(index) && live.is_current(index);
        let any_current = (0..live.instances.len()).any(current);
        Self::among(live, |index| if any_current { current(index) } else { eligible(index) }, now)
    }

    fn among(live: &ServiceLive, eligible: impl Fn(usize) -> bool, now: u64) -> Self {
        // Read first: a flip during the scan may be missed, and then the next pick must see the count moved.
        let flips = live.flips();
        let (instances, mut best) = (&live.service.instances, Tier::DownBackup);
        let (mut indices, mut valid_until) = (Vec::with_capacity(instances.len()), u64::MAX);
        for index in (0..instances.len()).filter(|index| eligible(*index)) {
            let down_until = live.instances[index].shared.health.down_until();
            let tier = tier(down_until <= now, instances[index].backup);
            if down_until > now {
                valid_until = valid_until.min(down_until);
            }
            if tier < best {
                best = tier;
                indices.clear();
            }
            if tier == best {
                indices.push(index as u32);
            }
        }
        let up = best < Tier::Down;
        Self {
            flips,
            valid_until,
            sums: sums(live, &indices),
            limited: up && indices.iter().any(|index| instances[*index as usize].max_connections.is_some()),
            even: instances.iter().all(|instance| instance.weight == instances[0].weight),
            indices: indices.into(),
        }
    }

    /// Whether room counts: some have a `maxconn`, and they are up. Those that are down are tried with or without room.
    pub(super) fn are_limited(&self) -> bool {
        self.limited
    }

    /// Whether all instances of the service have the same weight.
    pub(super) fn are_even(&self) -> bool {
        self.even
    }

    /// All of them, ascending.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().map(|index| *index as usize)
    }

    /// All of them, from this instance on, then from the first. `count`: all instances of the service.
    pub(super) fn from(&self, start: usize, count: usize) -> impl Iterator<Item = usize> {
        let at = if self.indices.len() == count {
            start
        } else {
            self.indices.partition_point(|index| (*index as usize) < start)
        };
        let (before, after) = self.indices.split_at(at);
        after.iter().chain(before).map(|index| *index as usize)
    }

    /// One by chance and weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let drawn = rng.u64(0..*self.sums.last()?);
        let at = self.sums.partition_point(|sum| *sum <= drawn);
        Some(self.indices[at] as usize)
    }
}

fn tier(up: bool, backup: bool) -> Tier {
    match (up, backup) {
        (true, false) => Tier::Ordinary,
        (true, true) => Tier::Backup,
        (false, false) => Tier::Down,
        (false, true) => Tier::DownBackup,
    }
}

fn sums(live: &ServiceLive, indices: &[u32]) -> Box<[u64]> {
    if !matches!(live.service.balance, Balance::Random | Balance::PowerOfTwo) {
        return Box::default();
    }
    let mut sum = 0;
    let add = |index: &u32| {
        sum += u64::from(live.service.instances[*index as usize].weight);
        sum
    };
    indices.iter().map(add).collect()
}
