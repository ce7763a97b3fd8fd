//! Certificates: days left, and hosts of HTTPS that none is for.

use std::collections::BTreeSet;

use pointsman_table::{HostPattern, Scheme, Table, shown};

use super::observation::Observation;
use crate::admin::view::epoch_seconds;
use crate::control::{expiry, plural};
use crate::settings::Settings;

const SUBJECT: &str = "certificates";
const DAY: i64 = 86_400;
/// Hosts that are named.
const MOST: usize = 5;

pub(super) fn observe(table: &Table, settings: &Settings) -> Vec<Observation> {
    let now = epoch_seconds().cast_signed();
    let mut all: Vec<_> = expiry::judge(table, now)
        .problems
        .iter()
        .map(|problem| {
            let key = problem.key.trim_start_matches(&*settings.store.prefix).trim_start_matches('/').to_owned();
            let remedy = match key.strip_prefix("certs/acme-") {
                Some(_) => "pointsman certs".to_owned(),
                None => format!("pointsman set {key} - <NEW.pem; it holds the chain and the key"),
            };
            Observation::wrong(SUBJECT, problem.to_string(), remedy)
        })
        .collect();
    all.extend(uncovered(table));
    if let Some((name, expires)) = expiry::first(table).filter(|_| all.is_empty()) {
        let (days, count) = ((expires - now) / DAY, plural(table.certs().len(), "certificate"));
        all.push(Observation::ok(
            SUBJECT,
            format!(
                "{count}; the first to expire is {name}, in {}",
                plural(usize::try_from(days).unwrap_or_default(), "day")
            ),
        ));
    }
    all
}

/// Hosts that clients reach by HTTPS, without a certificate of theirs.
fn uncovered(table: &Table) -> Option<Observation> {
    let names: BTreeSet<&str> =
        table.certs().iter().flat_map(|(_, cert)| cert.names.iter().map(|name| &**name)).collect();
    let (mut hosts, mut needed) = (BTreeSet::new(), false);
    for service in table.services() {
        let Some(entry) = service.http() else { continue };
        let scheme = service.policy.as_deref().map_or(Scheme::Http, |policy| policy.scheme);
        let needs = scheme != Scheme::Http;
        for host in entry.hosts.iter().filter(|host| (needs || table.ends_tls()) && !is_covered(host, &names)) {
            hosts.insert(host.to_string());
            needed |= needs;
        }
    }
    let named = hosts.iter().take(MOST).map(|host| shown(host).to_string()).collect::<Vec<_>>().join(", ");
    let more = match hosts.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let what = format!("no certificate is for {named}{more}: browsers refuse HTTPS there");
    let remedy = "pointsman set certs/NAME - <FILE.pem, with the chain and the key";
    match (hosts.is_empty(), needed) {
        (true, _) => None,
        (false, true) => Some(Observation::wrong(SUBJECT, what, remedy)),
        (false, false) => Some(Observation::note(SUBJECT, what, remedy)),
    }
}

/// A wildcard of a certificate covers one label (RFC 6125 §6.4.3).
fn is_covered(host: &HostPattern, names: &BTreeSet<&str>) -> bool {
    let above = |name: &str| name.split_once('.').is_some_and(|(_, rest)| names.contains(&*format!("*.{rest}")));
    match host {
        HostPattern::Exact(name) => names.contains(&**name) || above(name),
        HostPattern::Wildcard(name) => names.contains(&*format!("*.{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        let names = BTreeSet::from(["shop.test", "*.example.org"]);
        let exact = |name: &str| is_covered(&HostPattern::Exact(name.into()), &names);
        assert!(exact("shop.test") && exact("a.example.org"));
        assert!(!exact("a.b.example.org") && !exact("example.org") && !exact("other.test"));
        let wildcard = |name: &str| is_covered(&HostPattern::Wildcard(name.into()), &names);
        assert!(wildcard("example.org") && !wildcard("shop.test"));
    }
}
