//! From the place of a service's turns on their circle to the unit of weight whose turn it is. Picks nothing.
//!
//! All workers share one place ([`pointsman_engine::live::Turns`]). The circle has as many units as the candidates have
//! weight together, and a turn goes on by one unit: after a full circle, each has had as many turns as its weight. When
//! candidates come or go, the units change and the place stays. So turns are exact for all workers together without a
//! lock, and need no memory of their own for each instance.

/// How far from the golden section a stride is looked for.
const REACH: u64 = 16;
/// Circles of at most so many units keep the order of their turns.
const SMALL: u64 = 1_024;
/// Into how many parts the time of a turn is divided: enough to tell apart any two turns on a small circle.
const FINE: u64 = 1 << 32;
/// The golden section: steps of this part of a circle spread best.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How far the place moves for one turn among so many units.
pub(super) fn step(units: u64) -> u64 {
    // Never more than the exact part: the place falls behind by a unit once in 2^63 turns at most.
    u64::MAX / units.max(1)
}

/// Whose turn it is at a place: one of the units.
pub(super) fn unit(place: u64, units: u64) -> u64 {
    // The nearest: steps are rounded down.
    let turn = (u128::from(place) * u128::from(units) + (1 << (u64::BITS - 1))) >> u64::BITS;
    // Behind the middle of the last unit, the first is nearer.
    u64::try_from(turn).ok().filter(|turn| *turn < units).unwrap_or(0)
}

/// Whose turn each unit of a small circle is, in the order of their turns, by their weights. The turns of each are as far
/// apart as they can be, and begin in the middle of the first part of its own: a light one does not wait for a whole
/// circle. Empty: the circle has more than [`SMALL`] units, and goes by [`stride`].
pub(super) fn order(weights: &[u64]) -> Box<[u32]> {
    if weights.iter().sum::<u64>() > SMALL {
        return Box::default();
    }
    let turns = weights.iter().enumerate().flat_map(|(at, weight)| (0..*weight).map(move |turn| (2 * turn + 1, at)));
    let mut turns: Vec<_> = turns.collect();
    turns.sort_unstable_by_key(|(half, at)| {
        let weight = weights[*at];
        // Of turns at the same moment, those of the lighter go first.
        (half * FINE / weight, weight, *at)
    });
    turns.into_iter().map(|(_, at)| at as u32).collect()
}

/// By which stride units take turns, so that those of one instance, which lie side by side, are spread evenly over a
/// circle. Of the strides near the golden section, the one whose multiples spread best: with the least quotients in
/// Euclid's algorithm.
pub(super) fn stride(units: u64) -> u64 {
    let golden = (units as f64 * GOLDEN) as u64;
    let near = golden.saturating_sub(REACH).max(1)..=(golden + REACH).min(units.saturating_sub(1));
    let ranked = near.filter_map(|stride| Some((greatest_quotient(units, stride)?, stride)));
    ranked.min().map_or(1, |(_, stride)| stride)
}

/// `None`: they have a common divisor, and the stride would leave units out.
fn greatest_quotient(mut a: u64, mut b: u64) -> Option<u64> {
    let mut greatest = 0;
    while b != 0 {
        greatest = greatest.max(a / b);
        (a, b) = (b, a % b);
    }
    (a == 1).then_some(greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_has_every_unit_once() {
        for units in [1, 2, 3, 7, 10, 256, 1_000, 9_973, 65_536] {
            let stride = stride(units);
            for begin in [0, 1, u64::MAX / 3, u64::MAX] {
                let places = (0..units).map(|turn| begin.wrapping_add(turn.wrapping_mul(step(units))));
                let mut taken: Vec<_> = places.map(|place| unit(place, units) * stride % units).collect();
                taken.sort_unstable();
                assert!(taken.into_iter().eq(0..units), "{units} units from {begin}");
            }
        }
    }

    #[test]
    fn turns_go_on_in_order_for_a_long_time() {
        let mut place = 0u64;
        for turn in 0..3_000_000 {
            assert_eq!(unit(place, 3), turn % 3);
            place = place.wrapping_add(step(3));
        }
    }

    #[test]
    fn turns_on_a_small_circle_lie_evenly_apart() {
        let check = |weights: &[u64], expected: &str| {
            let taken: String = order(weights).iter().map(u32::to_string).collect();
            assert_eq!(taken, expected, "{weights:?}");
        };
        check(&[3, 2, 1], "012010");
        check(&[2, 1, 1], "0120");
        check(&[4, 3, 2], "012010210");
        check(&[5, 1, 1], "0012000");
        check(&[6, 3, 1], "0100210010");
        check(&[1_000, 25], "");
        for weights in [&[256, 256, 256, 255][..], &[1_000, 24], &[7, 11, 13, 17, 19]] {
            let order = order(weights);
            let count = |at: usize| order.iter().filter(|whose| **whose as usize == at).count() as u64;
            assert!((0..weights.len()).all(|at| count(at) == weights[at]), "{weights:?}");
        }
    }

    /// No stretch of turns gives an instance many more or fewer than its share.
    #[test]
    fn turns_of_one_instance_are_spread() {
        for units in [4u64, 10, 11, 64, 100, 201, 997, 2_310, 30_030] {
            let stride = stride(units);
            for weight in [1, 2, units / 3, units / 2, units - 1] {
                let is_ours = |turn: u64| turn * stride % units < weight;
                let (mut had, mut least, mut most) = (0f64, 0f64, 0f64);
                for turn in 0..2 * units {
                    had += f64::from(u8::from(is_ours(turn)));
                    let ahead = had - (turn + 1) as f64 * weight as f64 / units as f64;
                    (least, most) = (least.min(ahead), most.max(ahead));
                }
                assert!(most - least <= 5.0, "weight {weight} of {units}: {least} to {most} turns");
            }
        }
    }
}
