//! The balances: each picks one of the candidates that fit. Turns are those of all workers together.

use pointsman_table::Balance;

use crate::pool::candidates::Candidates;
use crate::pool::turns;
use crate::pool::view::ServiceLive;

/// Random draws before all candidates are scanned: a few find one that fits, unless most of the weight is on others.
const DRAWS: usize = 8;
/// Turns that are passed over one by one, before chance decides among those that fit.
const PASSED_OVER: u64 = 64;

/// The candidates of one pick.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a, F> {
    pub(super) live: &'a ServiceLive,
    pub(super) candidates: &'a Candidates,
    /// Whether an instance can be picked, by its index.
    pub(super) fits: F,
    /// Coarse time.
    pub(super) now: u64,
}

impl<F: Fn(usize) -> bool> Choice<'_, F> {
    /// Picks by the service's balance; the index. `key`: for hashing balances.
    pub(super) fn one(&self, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<usize> {
        let at = match (&self.live.service.balance, key) {
            _ if self.candidates.len() == 0 => None,
            (Balance::First, _) => self.places().find(|at| self.fits(*at)),
            (Balance::Random, _) => self.by_chance(rng, |at| self.fits(at)),
            (Balance::PowerOfTwo, _) => self.better_of_two(rng),
            (Balance::LeastConnections, _) => self.least_busy(),
            (Balance::RoundRobin | Balance::StaticRoundRobin, _) | (_, None) => self.by_turn(rng),
            (_, Some(key)) => self.by_key(key),
        };
        at.map(|at| self.candidates.index(at))
    }

    fn places(&self) -> std::ops::Range<usize> {
        0..self.candidates.len()
    }

    /// Whether the one at this place of the list can be picked.
    fn fits(&self, at: usize) -> bool {
        (self.fits)(self.candidates.index(at))
    }

    /// The one whose turn it is, by weight.
    fn by_turn(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let step = self.candidates.step;
        let turn = self.live.turns().take(step);
        let at = self.candidates.whose(turn);
        if self.fits(at) { Some(at) } else { self.next_turn(turn, step, rng) }
    }

    /// The next that fits; the turns of those between are spent.
    #[cold]
    fn next_turn(&self, turn: u64, step: u64, rng: &mut fastrand::Rng) -> Option<usize> {
        for passed in 1..=PASSED_OVER {
            let moved = step.wrapping_mul(passed);
            let at = self.candidates.whose(turn.wrapping_add(moved));
            if self.fits(at) {
                self.live.turns().skip(moved);
                return Some(at);
            }
        }
        self.by_chance_among(self.places().filter(|at| self.fits(*at)).collect(), rng)
    }

    /// The least open work per weight; ties by turn.
    fn least_busy(&self) -> Option<usize> {
        let count = self.candidates.len() as u64;
        let step = turns::step(count);
        let first = turns::unit(self.live.turns().take(step), count) as usize;
        let mut best: Option<(usize, (u64, u64), usize)> = None;
        for (passed, at) in self.candidates.places_from(first).enumerate().filter(|(_, at)| self.fits(*at)) {
            let load = (self.load(at), self.candidates.weight(at));
            if best.is_none_or(|(_, least, _)| load.0 * least.1 < least.0 * load.1) {
                best = Some((at, load, passed));
            }
        }
        let (at, _, passed) = best?;
        if passed > 0 {
            self.live.turns().skip(step.wrapping_mul(passed as u64));
        }
        Some(at)
    }

    /// Its open work with one more request.
    fn load(&self, at: usize) -> u64 {
        self.live.instances[self.candidates.index(at)].shared.load.open() + 1
    }

    /// The one that the key goes to; the next by hash if that has more than its share of open work.
    fn by_key(&self, key: u64) -> Option<usize> {
        let keyed = self.candidates.keyed.as_deref()?;
        let Some(percent) = self.live.service.bounded else { return keyed.pick(key, |at| self.fits(at)) };
        let all = (self.live.turns().opened() + 1) * u64::from(percent);
        let units = self.candidates.units() * 100;
        let is_within = |at: usize| (self.load(at) - 1) * units < all * self.candidates.weight(at);
        keyed.pick(key, |at| self.fits(at) && is_within(at)).or_else(|| keyed.pick(key, |at| self.fits(at)))
    }

    /// At random, by weight. Drawing until one fits keeps the shares of those that fit.
    fn by_chance(&self, rng: &mut fastrand::Rng, fits: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = self.candidates.draw(rng)?;
            if fits(at) {
                return Some(at);
            }
        }
        self.by_chance_among(self.places().filter(|at| fits(*at)).collect(), rng)
    }

    /// As [`Choice::by_chance`], from a list of those that fit.
    fn by_chance_among(&self, fitting: Vec<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        let weight = |at: &usize| self.candidates.weight(*at);
        let mut left = rng.u64(0..fitting.iter().map(weight).sum::<u64>().max(1));
        fitting.into_iter().find(|at| {
            let found = left < weight(at);
            left = left.saturating_sub(weight(at));
            found
        })
    }

    fn better_of_two(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let one = self.by_chance(rng, |at| self.fits(at))?;
        let other = self.by_chance(rng, |at| at != one && self.fits(at)).unwrap_or(one);
        Some(if self.costs_less(other, one) { other } else { one })
    }

    /// Whether a request is likely answered sooner by one than by another: by open work per weight, and latency where both
    /// are measured.
    fn costs_less(&self, one: usize, other: usize) -> bool {
        let latency = |at: usize| self.live.instances[self.candidates.index(at)].shared.load.latency(self.now);
        let (of_one, of_other) = latency(one).zip(latency(other)).unwrap_or((1.0, 1.0));
        let cost = |at: usize, latency: f32| self.load(at) as f32 * latency / self.candidates.weight(at) as f32;
        cost(one, of_one) < cost(other, of_other)
    }
}
