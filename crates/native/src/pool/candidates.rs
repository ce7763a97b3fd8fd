//! The list of instances that a service's requests are spread over. Knows neither why they are on it nor when to
//! rebuild it.

/// The eligible instances of the best tier, with and without room.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The service's count of flips when the list was made.
    pub(super) flips: u64,
    /// When the next ejection ends, or the next trial is given up, coarse time. 0: there is no list yet.
    pub(super) valid_until: u64,
    /// Their indices, ascending.
    pub(super) indices: Box<[u32]>,
    /// Running sums of their weights, for random balances.
    pub(super) sums: Box<[u64]>,
    /// Some have a `maxconn`: those with room go first.
    pub(super) limited: bool,
    /// All instances of the service have the same weight.
    pub(super) even: bool,
}

impl Candidates {
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

    /// One at random, by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let drawn = rng.u64(0..*self.sums.last()?);
        let at = self.sums.partition_point(|sum| *sum <= drawn);
        Some(self.indices[at] as usize)
    }
}
