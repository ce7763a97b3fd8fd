//! The table from outside: keys in, answers out. The harness knows the API; each test is rows of data.

mod asking;
mod changes;
mod complaints;
mod conditions;
mod differences;
mod instances;
mod places;
mod problems;
mod random;
mod reference;
mod routes;
mod sharing;

use std::sync::Arc;

use pointsman_table::{Capabilities, Change, Compiled, Imagined, KeySet, Limits, Table, compile};

/// The prefix that all tests use.
const PREFIX: &str = "/haproxy-x";

fn limits() -> Limits {
    Limits {
        prefix: PREFIX.into(),
        own: [([0, 0, 0, 0], 80).into(), ([127, 0, 0, 1], 8404).into()].into(),
        local: [[192, 0, 2, 7].into()].into(),
        ..Limits::default()
    }
}

/// The same for an engine that honours everything.
fn able_limits() -> Limits {
    Limits { capabilities: Capabilities::HAPROXY, ..limits() }
}

/// Keys written as `services/shop/domain = shop.test`, one a line.
fn entries(keys: &str) -> Vec<(Box<str>, Box<[u8]>)> {
    let lines = keys.lines().map(str::trim).filter(|line| !line.is_empty());
    let entry = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.trim().into(), value.trim().as_bytes().into())
    };
    lines.map(entry).collect()
}

fn key_set(keys: &str) -> KeySet {
    let mut key_set = KeySet::default();
    key_set.reset(1, entries(keys));
    key_set
}

fn compiled(keys: &str) -> Compiled {
    compile(&key_set(keys), None, &limits())
}

fn compiled_for_haproxy(keys: &str) -> Compiled {
    compile(&key_set(keys), None, &able_limits())
}

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.into(), value: value.as_bytes().into() }
}

/// Changes in lines: `services/shop/port = 80`, `- services/shop/port`, `-r services/shop`.
fn changes(lines: &str) -> Vec<Change> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let change = |line: &str| match line.split_once(' ') {
        Some(("-", key)) => Change::Delete { key: key.into() },
        Some(("-r", key)) => Change::DeleteTree { key: key.trim().into() },
        _ if line == "-r" => Change::DeleteTree { key: "".into() },
        _ => {
            let (key, value) = line.split_once('=').expect("a put has a value");
            put(key.trim(), value.trim())
        }
    };
    lines.map(change).collect()
}

/// `service=cart rule=/cart strip=0`, as far as asked for; the rule is the one that `explain` names.
fn answer(table: &Table, request: &str) -> String {
    let url = request.strip_prefix("GET ").unwrap_or(request);
    let (host, target) = url.split_at(url.find(['/', '*']).unwrap_or(url.len()));
    let explanation = table.explain(host, target, &Imagined::default());
    let Some(route) = table.route(host, target) else {
        assert_eq!(explanation.chosen, None, "{request}: explain and route disagree");
        return "none".into();
    };
    let chosen = explanation.chosen.expect("explain finds what route finds");
    assert_eq!(chosen.index, route.service, "{request}: explain and route disagree");
    let service = &table.services()[route.service as usize];
    if service.closed {
        assert!(service.instances.is_empty(), "nobody answers");
        return "closed".into();
    }
    let name = &service.name;
    format!("service={name} strip={} rule={}", route.strip, chosen.rule)
}

/// Problems, one a line, as an operator reads them, less the prefix.
fn problem_lines(compiled: &Compiled) -> Vec<String> {
    let line = |problem: &pointsman_table::Problem| {
        let line = problem.to_string();
        line.strip_prefix(&format!("{PREFIX}/")).expect("every key is full").to_owned()
    };
    compiled.problems.iter().map(line).collect()
}

/// Everything that a table says, to compare two.
fn picture(compiled: &Compiled) -> String {
    let table = &compiled.table;
    let problems = problem_lines(compiled).join("\n");
    let sni: Vec<_> = table.tcp().iter().map(|(bind, _)| table.sni(*bind)).collect();
    format!("{:#?}\n{:?}\n{sni:?}\n{:?}\n{problems}", table.services(), table.tcp(), table.config())
}

fn same_services(a: &Table, b: &Table) -> Vec<String> {
    let kept = |service: &&Arc<_>| b.services().iter().any(|other| Arc::ptr_eq(service, other));
    a.services().iter().filter(kept).map(|service| service.name.to_string()).collect()
}
