//! Problems of keys, as `check` and the running balancer see them, and services that nobody serves.

use std::collections::BTreeSet;

use pointsman_table::{Compiled, ProblemKind, shown};

use super::balancer::RunningBalancer;
use super::observation::Observation;
use crate::control::plural;

const SUBJECT: &str = "keys";
/// Problems that are named; `check` lists all.
const MOST: usize = 5;

pub(super) fn observe(compiled: &Compiled, running: Option<&RunningBalancer>) -> Vec<Observation> {
    // A running balancer knows more: what its engine and its system refuse, and what its guard holds.
    let of_balancer = running.into_iter().flat_map(|running| &running.problems);
    let lines: BTreeSet<String> = compiled
        .problems
        .iter()
        .filter(|problem| problem.kind != ProblemKind::Held)
        .map(ToString::to_string)
        .chain(of_balancer.map(ToString::to_string))
        .collect();
    let mut all: Vec<_> = lines
        .iter()
        .take(MOST)
        .map(|line| {
            Observation::wrong(
                SUBJECT,
                line.clone(),
                "correct or remove the key: pointsman set KEY VALUE, or pointsman rm KEY",
            )
        })
        .collect();
    if let Some(more @ 1..) = lines.len().checked_sub(MOST) {
        all.push(Observation::wrong(SUBJECT, format!("{more} more problems"), "pointsman check lists all"));
    }
    all.extend(empty(compiled));
    if all.is_empty() {
        all.push(Observation::ok(
            SUBJECT,
            format!("{}, no problem", plural(compiled.table.services().len(), "service")),
        ));
    }
    all
}

fn empty(compiled: &Compiled) -> Option<Observation> {
    let table = &compiled.table;
    let empty = table.services().iter().filter(|service| service.is_empty());
    let names: Vec<_> = empty.map(|service| shown(service.name.as_str()).to_string()).collect();
    let named = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    let what = match names.len().saturating_sub(MOST) {
        0 => format!("no instance: {named}; requests get 503"),
        more => format!("no instance: {named} and {more} more; requests get 503"),
    };
    let first = names.first()?;
    Some(Observation::note(
        SUBJECT,
        what,
        format!("pointsman set services/{first}/NAME HOST:PORT, or pointsman rm -r it"),
    ))
}
