//! Turns of instances, carried from one form of a service to the next: a service that changes all the time shares its
//! work like one that never does. Picks nothing.

use std::cell::Cell;

use pointsman_table::Service;

/// The index of the next turn: after the instance that had the last one, or where that one would be now.
pub(super) fn carried_turn(before: &Service, turn: usize, after: &Service) -> usize {
    let Some(last) = turn.checked_sub(1).and_then(|last| before.instances.get(last)) else { return turn };
    after.instances.partition_point(|instance| instance.name <= last.name)
}

/// Each instance's credit for smooth weighted round robin, carried over by name.
///
/// A new instance gets a random credit, as if it had always been there: if it began with nothing, one of little weight
/// that comes and goes would never have a turn. No credit exceeds the sum of all weights, so that credit earned under
/// other weights is soon spent.
pub(super) fn carried_credit(
    before: &Service,
    credit: &[Cell<i64>],
    after: &Service,
    rng: &mut fastrand::Rng,
) -> Box<[Cell<i64>]> {
    let total: i64 = after.instances.iter().map(|instance| i64::from(instance.weight)).sum();
    let saved = |name| {
        let index = before.instances.binary_search_by(|instance| instance.name.cmp(name)).ok()?;
        credit.get(index).map(Cell::get)
    };
    let carried = after.instances.iter().map(|instance| match saved(&instance.name) {
        Some(saved) => saved.clamp(-total, total),
        None => rng.i64(-total / 2..=total / 2),
    });
    carried.map(Cell::new).collect()
}
