//! What was counted, as a row states it: `a requests=1 2xx=1; no_answer=1; pooled=1`. Instances come first, by name,
//! then `unserved` for requests that no instance served, then faults, then how many idle connections are kept. Byte
//! counts are stated only where they differ from what the peers got: `in+7` means that seven more were counted than
//! instances got, `out` is the same for clients; `in?` where the machine decides how many.

use pointsman_engine::live::{ServiceStats, Totals};

use super::world::World;

/// Compares with what a row states. Nothing may be at work.
pub(super) fn check(world: &World, stated: &str) -> Result<(), String> {
    let working = world.registry.working();
    if !working.is_empty() {
        return Err(format!("still at work: {working:?}"));
    }
    let mut counted = counted(world);
    for word in ["; in", "; out"].into_iter().filter(|word| stated.ends_with(&format!("{word}?"))) {
        counted.truncate(counted.find(word).unwrap_or(counted.len()));
        counted.push_str(&format!("{word}?"));
    }
    if counted == stated { Ok(()) } else { Err(format!("counted  {counted}\n    not      {stated}")) }
}

fn counted(world: &World) -> String {
    let snapshot = world.registry.snapshot();
    let mut parts = Vec::new();
    for service in &snapshot.services {
        let instances = service.instances.iter();
        parts.extend(instances.map(|instance| (instance.instance.clone(), numbers(&instance.totals))));
        parts.push(("unserved".to_owned(), numbers(&unserved(service))));
    }
    let faults = snapshot.faults.iter().filter(|(_, count)| *count > 0);
    let mut words: Vec<_> =
        parts.into_iter().filter(|(_, numbers)| !numbers.is_empty()).map(|(name, numbers)| name + &numbers).collect();
    words.extend(faults.map(|(name, count)| format!("{name}={count}")));
    words.extend(number("pooled", world.worker.home.pools.kept() as u64));
    let sum = |of: fn(&Totals) -> u64| snapshot.services.iter().map(|service| of(&service.totals)).sum::<u64>();
    words.extend(beyond("in", sum(|totals| totals.bytes_in), seen(world, 2)));
    words.extend(beyond("out", sum(|totals| totals.bytes_out), seen(world, 1) - world.own as u64));
    words.join("; ")
}

/// What a service counted of requests that reached no instance.
fn unserved(service: &ServiceStats) -> Totals {
    let mut rest = service.totals;
    for instance in &service.instances {
        rest.requests -= instance.totals.requests;
        rest.retries -= instance.totals.retries;
        rest.responses.iter_mut().zip(instance.totals.responses).for_each(|(rest, class)| *rest -= class);
        rest.connect_failures -= instance.totals.connect_failures;
    }
    rest
}

/// ` requests=1 2xx=1`, without counts of 0.
fn numbers(totals: &Totals) -> String {
    let mut words = Vec::new();
    words.extend(number("requests", totals.requests));
    let classes = totals.responses.iter().enumerate();
    words.extend(classes.filter_map(|(class, count)| number(&format!("{}xx", class + 1), *count)));
    words.extend(number("retries", totals.retries));
    words.extend(number("connect_failures", totals.connect_failures));
    words.iter().map(|word| format!(" {word}")).collect()
}

fn number(name: &str, count: u64) -> Option<String> {
    (count > 0).then(|| format!("{name}={count}"))
}

/// By how much a count differs from what peers saw.
fn beyond(name: &str, counted: u64, seen: u64) -> Option<String> {
    (counted != seen).then(|| format!("{name}{:+}", counted as i64 - seen as i64))
}

/// Bytes that instances got (their connections have names of two letters), or clients.
fn seen(world: &World, name: usize) -> u64 {
    world.peers.iter().filter(|(peer, _)| peer.len() == name).map(|(_, peer)| peer.seen as u64).sum()
}
