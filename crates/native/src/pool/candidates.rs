//! The list of instances that a service's requests are spread over, with the weights in effect. Knows neither why they
//! are on it nor when to rebuild it.

use pointsman_table::Rendezvous;

use super::turns;

/// The eligible instances of the best tier, with and without room.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The service's count of flips when the list was made.
    pub(super) flips: u64,
    /// When the next ejection ends, the next trial is given up, or a weight in effect changes, coarse time. 0: there is no
    /// list yet.
    pub(super) valid_until: u64,
    /// Their indices, ascending.
    pub(super) indices: Box<[u32]>,
    /// Running sums of their weights in effect; empty: all have the same.
    pub(super) sums: Box<[u64]>,
    /// Whose turns follow one another: places in the list; empty if all weights are the same, or are many.
    pub(super) order: Box<[u32]>,
    /// By which turns go from unit to unit of weight.
    pub(super) stride: u64,
    /// How far a turn moves the place of turns.
    pub(super) step: u64,
    /// Some have a `maxconn`: those with room go first.
    pub(super) limited: bool,
    /// Where keys go, for hashing balances.
    pub(super) keyed: Option<Box<Rendezvous>>,
}

impl Candidates {
    /// Sets their weights in effect, one for each. No list's weights are many: at most a few million together.
    pub(super) fn weigh(&mut self, mut weights: Vec<u64>) {
        let divisor = weights.iter().copied().fold(0, common_divisor).max(1);
        if weights.iter().all(|weight| *weight == weights[0]) {
            (self.sums, self.order, self.stride) = (Box::default(), Box::default(), 1);
            self.step = turns::step(self.units());
            return;
        }
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        self.order = turns::order(&weights);
        let mut sum = 0;
        for weight in &mut weights {
            sum += *weight;
            *weight = sum;
        }
        (self.sums, self.stride, self.step) = (weights.into(), turns::stride(sum), turns::step(sum));
    }

    /// Whether room counts: some have a `maxconn`, and they are up. Those that are down are tried with or without room.
    pub(super) fn are_limited(&self) -> bool {
        self.limited
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }

    /// The indices of all.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().map(|index| *index as usize)
    }

    /// The index of the one at this place of the list.
    pub(super) fn index(&self, at: usize) -> usize {
        self.indices[at] as usize
    }

    /// The weight in effect of the one at this place of the list.
    pub(super) fn weight(&self, at: usize) -> u64 {
        match self.sums.get(at) {
            None => 1,
            Some(sum) => sum - at.checked_sub(1).map_or(0, |before| self.sums[before]),
        }
    }

    /// The weight of all.
    pub(super) fn units(&self) -> u64 {
        self.sums.last().copied().unwrap_or(self.indices.len() as u64)
    }

    /// The place in the list of the one whose turn it is, `turn`: a place on the circle of turns.
    pub(super) fn whose(&self, turn: u64) -> usize {
        let units = self.units();
        match &*self.sums {
            [] => turns::unit(turn, units) as usize,
            _ if !self.order.is_empty() => self.order[turns::unit(turn, units) as usize] as usize,
            sums => {
                let unit = turns::unit(turn, units) * self.stride % units;
                sums.partition_point(|sum| *sum <= unit)
            }
        }
    }

    /// The places in the list, from this one on, then from the first.
    pub(super) fn places_from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        (first..self.indices.len()).chain(0..first)
    }

    /// The place in the list of one at random, by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        match &*self.sums {
            [] if self.indices.is_empty() => None,
            [] => Some(rng.usize(..self.indices.len())),
            sums => {
                let drawn = rng.u64(..self.units());
                Some(sums.partition_point(|sum| *sum <= drawn))
            }
        }
    }
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
