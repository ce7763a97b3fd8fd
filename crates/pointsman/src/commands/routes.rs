//! `pointsman routes`: prints the table in use, from the running balancer or compiled from the store. Changes nothing.

use pointsman_table::shown;
use std::io::Write;

use super::ask::{ask, of_these_keys};
use super::once::Standpoint;
use super::patience::expect_folder;
use super::{Outcome, once};
use crate::admin::view::{InstanceView, RuleView, ServiceView, TableView, epoch_seconds, protocol_of};
use crate::settings::Settings;

/// Prints the table on `out`; a line on `note` says if it comes from the store. `named`: the operator has named the keys.
///
/// # Errors
/// Neither a balancer nor the store can be reached, or `out` is closed.
pub async fn routes(
    settings: &Settings,
    named: bool,
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let running = ask::<TableView>(settings.admin, "/api/table").await?;
    let source = |view: &TableView| view.source.clone();
    let view = match of_these_keys(running, source, (settings, named), note)? {
        Some(view) => view,
        None => {
            expect_folder(&settings.store, "read")?;
            let compiled = once::compiled(settings, Standpoint::of_fleet(settings, true).await?).await?;
            TableView::new(&compiled.table, &settings.http).with_problems(compiled.problems.iter())
        }
    };
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?,
        false => out.write_all(table(&view).as_bytes())?,
    }
    out.flush()?;
    Ok(Outcome::Yes)
}

fn table(view: &TableView) -> String {
    let head = HEAD.map(str::to_owned);
    let rows = view.services.iter().flat_map(service_rows);
    let problems = view.services.iter().flat_map(|service| &service.problems);
    let problems = problems.map(|problem| format!("problem: {problem}\n")).collect::<String>();
    let revision = match view.revision {
        // A folder that no balancer follows.
        0 => String::new(),
        revision => format!("revision {revision}\n"),
    };
    let snapshot = view.snapshot.as_ref().map(|snapshot| format!("from a snapshot, {}\n", ago(snapshot.at)));
    let revision = revision + &snapshot.unwrap_or_default();
    format!("{revision}{}{problems}", aligned(std::iter::once(head).chain(rows).collect()))
}

const HEAD: [&str; 11] =
    ["SERVICE", "RULE", "INSTANCE", "TARGET", "STATE", "WEIGHT", "ACTIVE", "REQUESTS", "ERRORS", "SINCE", "WHY"];

/// One row per instance; the first names the service, and how many requests queue.
fn service_rows(service: &ServiceView) -> Vec<[String; HEAD.len()]> {
    let first = [format!("{}/{}", protocol_of(&service.protocol), service.name), rule_words(&service.rule)];
    let instances: Vec<[String; HEAD.len() - 2]> = match service.instances.as_slice() {
        [] => vec![["-", "-", "no instances", "", "", "", "", "", ""].map(str::to_owned)],
        some => some.iter().map(instance_cells).collect(),
    };
    let names = std::iter::once(first).chain(std::iter::repeat_with(Default::default));
    let row = |([service, rule], cells): ([String; 2], [String; HEAD.len() - 2])| {
        let [name, target, state, weight, active, requests, errors, since, why] = cells;
        [service, rule, name, target, state, weight, active, requests, errors, since, why]
    };
    let mut rows: Vec<_> = names.zip(instances).map(row).collect();
    if let (Some([.., why]), 1..) = (rows.first_mut(), service.queued) {
        let more = if why.is_empty() { "" } else { "; " };
        why.insert_str(0, &format!("{} queued{more}", service.queued));
    }
    rows
}

fn instance_cells(instance: &InstanceView) -> [String; HEAD.len() - 2] {
    let InstanceView { name, target, state, active, requests, errors, since, .. } = instance;
    let weight = match instance.weight_now {
        None => instance.weight.to_string(),
        Some(now) => format!("{now:.1} of {}", instance.weight),
    };
    let numbers = [weight, active.to_string(), requests.to_string(), errors.to_string()];
    let [weight, active, requests, errors] = numbers;
    let since = since.map(ago).unwrap_or_default();
    let state = format!("{state}{}", most_words(instance));
    [name.clone(), target.clone(), state, weight, active, requests, errors, since, history(instance)]
}

/// Why it gets no work, or else its last check; its last error, and how often it was ejected.
fn history(instance: &InstanceView) -> String {
    let now = instance.why.clone().or_else(|| instance.check.clone());
    let when = instance.last_error_at.map(|at| format!(" {}", ago(at))).unwrap_or_default();
    let error = instance.last_error.as_ref().map(|error| format!("last error {error}{when}"));
    let ejections = instance.ejections.values().sum::<u64>();
    let ejected = match ejections {
        0 => None,
        1 => Some("ejected once".to_owned()),
        times => Some(format!("ejected {times} times")),
    };
    now.into_iter().chain(error).chain(ejected).collect::<Vec<_>>().join("; ")
}

/// `up weight=2 maxconn=10`.
pub(super) fn instance_words(instance: &InstanceView) -> String {
    let weight = match instance.weight {
        0 | 1 => String::new(),
        weight => format!(" weight={weight}"),
    };
    format!("{}{weight}{}", shown(&instance.state), most_words(instance))
}

fn most_words(instance: &InstanceView) -> String {
    instance.max_connections.map(|most| format!(" maxconn={most}")).unwrap_or_default()
}

/// How long this is ago, in its two largest units: `5s ago`, `2h 3m ago`. `since`: seconds since the epoch.
pub(super) fn ago(since: u64) -> String {
    let seconds = epoch_seconds().saturating_sub(since);
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m {}s ago", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m ago", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h ago", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `shop.test,*.shop.test path=/cart priority=5`.
pub(super) fn rule_words(rule: &RuleView) -> String {
    let priority = (rule.priority != 0).then(|| format!("priority={}", rule.priority));
    let words = [
        (!rule.hosts.is_empty()).then(|| rule.hosts.join(",")),
        (!rule.paths.is_empty()).then(|| rule.paths.join(",")),
        (!rule.listen.is_empty()).then(|| rule.listen.join(",")),
        (!rule.conditions.is_empty()).then(|| rule.conditions.clone()),
        priority,
        rule.either.then(|| "match=any".to_owned()),
        rule.keep_virtual_path.then(|| "keep_virtual_path".to_owned()),
        rule.default.then(|| "default".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Columns as wide as their widest cell, two spaces apart, no space at the end of a line.
pub(super) fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| shown(&cell).to_string())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, expected) in [(5, "5s ago"), (125, "2m 5s ago"), (7_380, "2h 3m ago"), (180_000, "2d 2h ago")] {
            assert_eq!(ago(epoch_seconds() - seconds)[..2], expected[..2], "{seconds}");
        }
        assert_eq!(ago(epoch_seconds() + 60), "0s ago");
    }

    #[test]
    fn columns_are_aligned() {
        let instance = |name: &str, weight| InstanceView {
            name: name.to_owned(),
            target: "10.0.0.1:80".to_owned(),
            resolved: Vec::new(),
            weight,
            max_connections: None,
            state: "up".to_owned(),
            since: None,
            why: (weight == 0).then(|| "its weight is 0".to_owned()),
            in_panic: false,
            is_backup: false,
            check: None,
            checked: None,
            check_ms: None,
            last_error: (weight == 2).then(|| "no_answer".to_owned()),
            last_error_at: None,
            weight_now: (weight == 2).then_some(0.2),
            ejections: [("connect".to_owned(), 3)].into_iter().filter(|_| weight == 2).collect(),
            held: false,
            active: 3,
            requests: 40,
            errors: 5,
            responses: std::collections::BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
        };
        let service = |name: &str, hosts: &[&str], instances| ServiceView {
            closed: false,
            last_good: None,
            protocol: "http".to_owned(),
            name: name.to_owned(),
            rule: RuleView { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..RuleView::default() },
            bounded: None,
            slow_start: None,
            balance: "roundrobin".to_owned(),
            http_version: None,
            dns: None,
            client_verify: None,
            eject: None,
            panic: None,
            in_panic: false,
            queued: 4,
            shed: 0,
            retried: Default::default(),
            ramp: None,
            bounds: Default::default(),
            instances,
            problems: Vec::new(),
        };
        let services = vec![
            service("a", &["a.test", "b.test"], vec![instance("web-1", 0), instance("web-10", 2)]),
            service("empty", &["c.test"], vec![]),
        ];
        let (listeners, certificates, acme) = Default::default();
        let view = TableView { revision: 7, listeners, services, certificates, acme, source: None, snapshot: None };
        let expected = "\
revision 7
SERVICE         RULE           INSTANCE  TARGET       STATE         WEIGHT    ACTIVE  REQUESTS  ERRORS  SINCE  WHY
services/a      a.test,b.test  web-1     10.0.0.1:80  up            0         3       40        5              4 queued; its weight is 0
                               web-10    10.0.0.1:80  up            0.2 of 2  3       40        5              last error no_answer; ejected 3 times
services/empty  c.test         -         -            no instances                                             4 queued
";
        assert_eq!(table(&view), expected);
    }
}
