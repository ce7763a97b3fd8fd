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
    let of_keys = compiled.problems.iter().filter(|problem| problem.kind != ProblemKind::Held);
    let lines: BTreeSet<(String, &'static str)> = of_keys
        .map(|problem| (problem.to_string(), problem.kind.as_str(), &*problem.key))
        .chain(of_balancer.map(|problem| (problem.to_string(), &*problem.kind, &*problem.key)))
        .filter_map(|(line, kind, key)| Some((line, remedy(kind, key)?)))
        .collect();
    let mut all: Vec<_> =
        lines.iter().take(MOST).map(|(line, remedy)| Observation::wrong(SUBJECT, line.clone(), *remedy)).collect();
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

/// What to do about a problem of this kind; `None`: it is told elsewhere.
fn remedy(kind: &str, key: &str) -> Option<&'static str> {
    let is = |one: ProblemKind| one.as_str() == kind;
    if is(ProblemKind::Held) {
        return Some("pointsman guard; if that was meant, pointsman guard release");
    }
    if is(ProblemKind::TwoApis) {
        return Some("--etcd-api says which API's keys count; remove the other API's keys with etcdctl, after a look");
    }
    if is(ProblemKind::State) {
        return Some("see state; df -h and ls -ld on the folder; each balancer needs a --state of its own");
    }
    if (is(ProblemKind::ExpiresSoon) || is(ProblemKind::NotValid)) && !key.starts_with("--") {
        // With the certificates.
        return None;
    }
    if is(ProblemKind::NoCertificate) {
        return Some("pointsman certs says how far it is; the log of the balancer that asks says more");
    }
    if is(ProblemKind::Listen) {
        return Some("ss -ltnp names who listens there; stop it, or give the service another port");
    }
    match key.starts_with("--") || is(ProblemKind::Engine) {
        true => Some("correct the balancer's setting, or what it names; the balancer tries again by itself"),
        false => Some("correct or remove the key: pointsman set KEY VALUE, or pointsman rm KEY"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_fits_the_problem() {
        for (kind, key, part) in [
            (ProblemKind::BadValue, "/p/services/a/port", Some("pointsman set KEY VALUE")),
            (ProblemKind::Held, "/p", Some("guard release")),
            (ProblemKind::TwoApis, "/p", Some("--etcd-api")),
            (ProblemKind::State, "--state", Some("see state")),
            (ProblemKind::Listen, "/p/tcp-services/a/port", Some("another port")),
            (ProblemKind::NotValid, "/p/certs/a", None),
            (ProblemKind::NotValid, "--tls-cert", Some("the balancer's setting")),
        ] {
            let said = remedy(kind.as_str(), key);
            assert_eq!(said.is_some(), part.is_some(), "{kind:?}");
            assert!(said.unwrap_or_default().contains(part.unwrap_or_default()), "{kind:?}: {said:?}");
            let is_of_key = kind == ProblemKind::BadValue;
            assert_eq!(said.is_some_and(|said| said.contains("pointsman rm")), is_of_key, "{kind:?}");
        }
    }
}
