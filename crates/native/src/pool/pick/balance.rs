//! The balances: each picks one of the candidates that fit, and changes nothing when none does.

use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;
use pointsman_table::Balance;

use crate::pool::candidates::Candidates;
use crate::pool::view::ServiceLive;

/// Random draws before all candidates are scanned: a few find one that fits, unless most of the weight is on others.
const DRAWS: usize = 8;

/// Picks by the service's balance. `key`: for hashing balances.
pub(super) fn one_of(
    live: &ServiceLive,
    candidates: &Candidates,
    fits: impl Fn(usize) -> bool + Copy,
    key: Option<u64>,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    match (&live.service.balance, key) {
        (Balance::First, _) => candidates.all().find(|index| fits(*index)),
        (Balance::Random, _) => by_chance(live, candidates, fits, rng),
        (Balance::PowerOfTwo, _) => less_busy_of_two(live, candidates, fits, rng),
        (Balance::LeastConnections, _) => least_busy(live, candidates, fits),
        (Balance::Source | Balance::Uri | Balance::Header(_) | Balance::UrlParam(_), Some(key)) => {
            by_key(live, candidates, fits, key)
        }
        _ if candidates.are_even() => by_turn(live, candidates, fits),
        _ => by_credit(live, candidates, fits),
    }
}

/// Plain round robin.
fn by_turn(live: &ServiceLive, candidates: &Candidates, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let index = from_turn(live, candidates).find(|index| fits(*index))?;
    live.turn.set(index + 1);
    Some(index)
}

/// The candidates, beginning with the one whose turn it is.
fn from_turn(live: &ServiceLive, candidates: &Candidates) -> impl Iterator<Item = usize> {
    let count = live.instances.len();
    candidates.from(live.turn.get() % count.max(1), count)
}

/// Smooth weighted round robin: each earns its weight as credit; the one with the most is picked, and pays what all
/// earned.
fn by_credit(live: &ServiceLive, candidates: &Candidates, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut total, mut richest) = (0, None);
    for index in candidates.all().filter(|index| fits(*index)) {
        let weight = i64::from(live.service.instances[index].weight);
        let credit = &live.credit[index];
        credit.set(credit.get() + weight);
        total += weight;
        if richest.is_none_or(|richest: usize| live.credit[richest] < *credit) {
            richest = Some(index);
        }
    }
    let credit = &live.credit[richest?];
    credit.set(credit.get() - total);
    richest
}

/// The least load per weight; ties by turn.
fn least_busy(live: &ServiceLive, candidates: &Candidates, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let fitting = from_turn(live, candidates).filter(|index| fits(*index)).map(|index| (load(live, index), index));
    let (_, index) = fitting.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
    live.turn.set(index + 1);
    Some(index)
}

/// The load of an instance with one more request, per weight.
fn load(live: &ServiceLive, index: usize) -> f64 {
    let active = live.instances[index].shared.active();
    (active + 1) as f64 / f64::from(live.service.instances[index].weight)
}

/// Rendezvous hashing: every instance draws a score from key and name, the highest wins. An instance that comes or goes
/// moves only its own share of keys.
fn by_key(live: &ServiceLive, candidates: &Candidates, fits: impl Fn(usize) -> bool, key: u64) -> Option<usize> {
    let hasher = FixedState::with_seed(key);
    let score = |index: usize| {
        let instance = &live.service.instances[index];
        let draw = hasher.hash_one(instance.name.as_str());
        let unit = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(instance.weight) / -unit.ln()
    };
    let scores = candidates.all().filter(|index| fits(*index)).map(|index| (score(index), index));
    scores.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, index)| index)
}

/// At random, by weight. Drawing until one fits keeps the shares of those that fit.
fn by_chance(
    live: &ServiceLive,
    candidates: &Candidates,
    fits: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    for _ in 0..DRAWS {
        let index = candidates.draw(rng)?;
        if fits(index) {
            return Some(index);
        }
    }
    by_chance_among(live, candidates.all().filter(|index| fits(*index)).collect(), rng)
}

/// As [`by_chance`], from a list of those that fit.
fn by_chance_among(live: &ServiceLive, fitting: Vec<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
    let weight = |index: &usize| u64::from(live.service.instances[*index].weight);
    let mut left = rng.u64(0..fitting.iter().map(weight).sum::<u64>().max(1));
    fitting.into_iter().find(|index| {
        let found = left < weight(index);
        left = left.saturating_sub(weight(index));
        found
    })
}

fn less_busy_of_two(
    live: &ServiceLive,
    candidates: &Candidates,
    fits: impl Fn(usize) -> bool + Copy,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let one = by_chance(live, candidates, fits, rng)?;
    let other = by_chance(live, candidates, |index| index != one && fits(index), rng).unwrap_or(one);
    let busier = load(live, other).total_cmp(&load(live, one)).is_ge();
    Some(if busier { one } else { other })
}
