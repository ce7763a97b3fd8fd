//! Which instances have a success rate far below that of their peers, as Envoy's outlier detection has it. No clock, no
//! atomics, no socket.

/// Instances with enough requests below which nobody is compared.
const LEAST_PEERS: usize = 5;
/// Requests in the interval below which an instance is not compared.
const LEAST_REQUESTS: u64 = 100;
/// How many standard deviations below the mean is far.
const FAR: f64 = 1.9;
/// The least share of errors that makes an outlier, so that instances that are all but perfect are left alone: a single
/// error among thousands is far below the mean of peers that had none.
const LEAST_ERRORS: f64 = 0.05;

/// What an instance did in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Requests that ended.
    pub requests: u64,
    /// Answers that were 5xx or broken.
    pub errors: u64,
}

impl Peer {
    fn success(self) -> f64 {
        let errors = self.errors.min(self.requests);
        (self.requests - errors) as f64 / self.requests as f64
    }
}

/// The outliers, worst first: index, success rate, and the mean of the others, in percent.
pub fn outliers(peers: &[Peer]) -> Vec<(usize, u8, u8)> {
    let enough = peers.iter().enumerate().filter(|(_, peer)| peer.requests >= LEAST_REQUESTS);
    let mut rates: Vec<_> = enough.map(|(index, peer)| (index, peer.success())).collect();
    if rates.len() < LEAST_PEERS {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
    let mean = sum / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let bound = mean - FAR * variance.sqrt();
    rates.retain(|(_, rate)| *rate < bound && 1.0 - rate >= LEAST_ERRORS);
    rates.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let of_others = |rate: f64| (sum - rate) / (count - 1.0);
    rates.into_iter().map(|(index, rate)| (index, percent(rate), percent(of_others(rate)))).collect()
}

fn percent(share: f64) -> u8 {
    (share * 100.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_below_its_peers_is_an_outlier() {
        let of = |all: &[(u64, u64)]| {
            outliers(&all.iter().map(|&(requests, errors)| Peer { requests, errors }).collect::<Vec<_>>())
        };
        let good = (1_000, 0);
        for (all, expected) in [
            (&[good, good, good, good, (1_000, 500)][..], vec![(4, 50, 100)]),
            (&[(1_000, 1_000), good, good, good, good], vec![(0, 0, 100)]),
            (&[(100, 100), good, good, good, good], vec![(0, 0, 100)]),
            (&[(99, 99), good, good, good, good, good], vec![]),
            (&[good, good, good, (1_000, 500)], vec![]),
            (&[(99, 0), good, good, good, (1_000, 500)], vec![]),
            (&[good, good, good, good, (1_000, 49)], vec![]),
            (&[good, good, good, good, (1_000, 50)], vec![(4, 95, 100)]),
            (&[(1_000, 500); 5], vec![]),
            (&[good, good, good, (1_000, 500), (1_000, 500)], vec![]),
            (&[(1_000, 100), (1_000, 90), (1_000, 110), (1_000, 100), (1_000, 100), (1_000, 800)], vec![(5, 20, 90)]),
            // Errors of attempts that were sent again are counted, and their requests elsewhere.
            (&[good, good, good, good, (1_000, 1_100)], vec![(4, 0, 100)]),
            (&[], vec![]),
        ] {
            assert_eq!(of(all), expected, "{all:?}");
        }
    }
}
