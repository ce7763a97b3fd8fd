//! Precedence written a second time, naively: one pass over all services. The table must agree with it.

use std::cell::RefCell;
use std::collections::HashMap;

use regex_automata::meta::Regex;

use pointsman_table::{HostPattern, HttpEntry, PathRule, Route, Table};

thread_local! {
    static EXPRESSIONS: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn expression(text: &str) -> Regex {
    Regex::new(&format!("(?i:{text})")).expect("the table took it")
}

/// Greater is better: priority, host, path, instances, earlier service; then whether it takes a prefix off. Of services
/// with the same expression only the first counts.
type Rank = (i64, u32, u32, bool, std::cmp::Reverse<u32>, u32);

pub(crate) fn route(table: &Table, host: &str, target: &str) -> Option<Route> {
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let mut best: Option<(Rank, Route)> = None;
    let mut default: Option<(bool, Route)> = None;
    for (service, one) in (0..).zip(table.services()) {
        let Some(entry) = one.http() else { continue };
        let is_full = !one.instances.is_empty();
        if entry.default && default.is_none_or(|(had_instances, _)| is_full && !had_instances) {
            default = Some((is_full, Route { service, strip: 0 }));
        }
        for (exactness, path, strip) in matches(entry, host, target) {
            if path == EXPRESSION && gives_way(table, service, exactness, host, target) {
                continue;
            }
            let rank =
                (entry.priority, exactness, path, is_full || path == EXPRESSION, std::cmp::Reverse(service), strip);
            if best.is_none_or(|(have, _)| rank > have) {
                best = Some((rank, Route { service, strip }));
            }
        }
    }
    best.map(|(_, route)| route).or(default.map(|(_, route)| route))
}

/// How exact an expression is.
const EXPRESSION: u32 = 1;

/// Whether another service has the same expression, and instances, where this one has none.
fn gives_way(table: &Table, service: u32, host: u32, asked: &str, target: &str) -> bool {
    let one = &table.services()[service as usize];
    let same = |other: &pointsman_table::Service| {
        let (Some(entry), Some(own)) = (other.http(), one.http()) else { return false };
        let text = |entry: &HttpEntry| {
            entry.paths.iter().find(|path| matches!(path, PathRule::Pattern(_))).map(|path| path.text().to_owned())
        };
        text(entry) == text(own)
            && entry.priority == own.priority
            && matches(entry, asked, target).iter().any(|&(at, path, _)| (at, path) == (host, EXPRESSION))
    };
    one.instances.is_empty() && table.services().iter().any(|other| !other.instances.is_empty() && same(other))
}

/// All ways in which a service matches: how exact the host, how exact the path, how much is taken off.
fn matches(entry: &HttpEntry, host: &str, target: &str) -> Vec<(u32, u32, u32)> {
    let hosts: Vec<u32> = entry.hosts.iter().filter_map(|pattern| by_host(pattern, host)).collect();
    let paths: Vec<(u32, u32)> =
        entry.paths.iter().filter_map(|rule| by_path(rule, target, entry.keep_virtual_path)).collect();
    let best_host = hosts.iter().copied().max();
    let (no_hosts, no_paths) = (entry.hosts.is_empty(), entry.paths.is_empty());
    let mut all = Vec::new();
    let with = |host: u32| paths.iter().map(move |&(path, strip)| (host, path, strip));
    if let Some(host) = best_host {
        all.extend(with(host));
        if no_paths || entry.either {
            all.push((host, 0, 0));
        }
    }
    if no_hosts || entry.either {
        all.extend(with(0));
    }
    all
}

fn by_host(pattern: &HostPattern, host: &str) -> Option<u32> {
    match pattern {
        HostPattern::Exact(name) => (**name == *host).then_some(u32::MAX),
        HostPattern::Wildcard(name) => {
            let below = host.strip_suffix(&**name)?.strip_suffix('.')?;
            (!below.is_empty()).then_some(1 + length(name))
        }
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("texts here are short")
}

fn by_path(rule: &PathRule, target: &str, keep: bool) -> Option<(u32, u32)> {
    let rest = |text: &str| target.strip_prefix(text);
    match rule {
        PathRule::Begins(text) => rest(text).map(|_| (2 + length(text), 0)),
        PathRule::Virtual(text) => {
            let strip = if keep || &**text == "/" { 0 } else { length(text) };
            rest(text).map(|_| (2 + length(text), strip))
        }
        PathRule::Segments(text) => {
            let rest = rest(text)?;
            let ends = text.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']);
            ends.then_some((2 + length(text), 0))
        }
        PathRule::Pattern(pattern) => {
            let found = EXPRESSIONS.with_borrow_mut(|known| {
                let regex = known.entry(pattern.to_string()).or_insert_with_key(|text| expression(text));
                regex.is_match(target)
            });
            found.then_some((1, 0))
        }
    }
}
