//! The instances that requests are spread over, as a list that is kept until it changes. Picks none of them.

use crate::pool::pick::Tried;
use crate::pool::view::ServiceLive;
use pointsman_table::Balance;

/// The eligible instances that go before all others, whatever their `maxconn` leaves.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Of which count of flips the list is.
    flips: u64,
    /// When an ejection ends or a trial is given up, coarse time: the list is another one then. 0: there is none yet.
    valid_until: u64,
    /// Their indices, ascending.
    indices: Box<[u32]>,
    /// For balances that go by chance: the weights, each added to all before it.
    sums: Box<[u64]>,
    /// Some have a `maxconn`, and those at theirs go last.
    limited: bool,
    /// All instances of the service have the same weight.
    even: bool,
}

/// What divides instances for longer than a moment. Those of the lowest tier that has any are the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Ordinary,
    Backup,
    Down,
    DownBackup,
}

impl Candidates {
    /// Brings the list up to date.
    pub(super) fn refresh(&mut self, live: &ServiceLive, now: u64) {
        // Read before the instances are: a flip that comes in between is one that the list has missed.
        let flips = live.flips();
        if self.flips != flips || self.valid_until <= now {
            *self = Self { flips, ..Self::among(live, |index| live.service.instances[index].takes_work(), now) };
        }
    }

    /// The list for a request that has been elsewhere, or that came before the newest table: what it has tried is out,
    /// and so is whatever gets no work any more, if there is anything else.
    pub(super) fn left(live: &ServiceLive, tried: Tried, now: u64) -> Self {
        let eligible = |index: usize| live.service.instances[index].takes_work() && !tried.has(index);
        let current = |index: usize| eligible(index) && live.is_current(index);
        let any_current = (0..live.instances.len()).any(current);
        Self::among(live, |index| if any_current { current(index) } else { eligible(index) }, now)
    }

    fn among(live: &ServiceLive, eligible: impl Fn(usize) -> bool, now: u64) -> Self {
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
        let limited = up && indices.iter().any(|index| instances[*index as usize].max_connections.is_some());
        Self {
            flips: 0,
            valid_until,
            sums: sums(live, &indices),
            limited,
            even: instances.iter().all(|instance| instance.weight == instances[0].weight),
            indices: indices.into(),
        }
    }

    /// Whether some have a `maxconn` that counts: those that are down are tried whatever theirs leaves.
    pub(super) fn are_limited(&self) -> bool {
        self.limited
    }

    /// Whether turns are plain.
    pub(super) fn are_even(&self) -> bool {
        self.even
    }

    /// All of them, ascending.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().map(|index| *index as usize)
    }

    /// All of them, from this index on and around.
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
    let weights = indices.iter().map(|index| u64::from(live.service.instances[*index as usize].weight));
    weights
        .scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}
