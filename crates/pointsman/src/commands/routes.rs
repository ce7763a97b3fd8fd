//! `pointsman routes`: prints the table in use, from the running balancer or compiled from the store. Changes nothing.

use pointsman_table::shown;
use std::io::Write;

use super::ask::{Answer, ask};
use super::{Outcome, once};
use crate::admin::view::{InstanceView, RuleView, ServiceView, TableView};
use crate::settings::Settings;

/// Prints the table on `out`; a line on `note` says if it comes from the store.
///
/// # Errors
/// Neither a balancer nor the store can be reached, or `out` is closed.
pub async fn routes(
    settings: &Settings,
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let view = match ask::<TableView>(settings.admin, "/api/table").await? {
        Answer::Running(view) => view,
        Answer::Nobody => {
            writeln!(note, "no balancer answers on --admin; this table comes from the keys in the store")?;
            TableView::new(&once::compiled(settings).await?.table, &settings.http)
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
    let head = ["SERVICE", "RULE", "INSTANCE", "TARGET", "STATE", "ACTIVE"].map(str::to_owned);
    let rows = view.services.iter().flat_map(service_rows);
    format!("revision {}\n{}", view.revision, aligned(std::iter::once(head).chain(rows).collect()))
}

/// One row per instance; the first names the service.
fn service_rows(service: &ServiceView) -> Vec<[String; 6]> {
    let tree = if service.protocol == "tcp" { "tcp-services" } else { "services" };
    let first = [format!("{tree}/{}", service.name), rule_words(&service.rule)];
    let instances: Vec<[String; 4]> = match service.instances.as_slice() {
        [] => vec![["-", "-", "no instances", ""].map(str::to_owned)],
        some => some.iter().map(instance_cells).collect(),
    };
    let names = std::iter::once(first).chain(std::iter::repeat_with(Default::default));
    let row = |([service, rule], [name, target, state, active]): ([String; 2], [String; 4])| {
        [service, rule, name, target, state, active]
    };
    names.zip(instances).map(row).collect()
}

fn instance_cells(instance: &InstanceView) -> [String; 4] {
    [instance.name.clone(), instance.target.clone(), instance_words(instance), instance.active.to_string()]
}

/// `up weight=2 maxconn=10`.
pub(super) fn instance_words(instance: &InstanceView) -> String {
    let weight = (instance.weight > 1).then(|| format!(" weight={}", instance.weight));
    let most = instance.max_connections.map(|most| format!(" maxconn={most}"));
    [Some(instance.state.clone()), weight, most].into_iter().flatten().collect()
}

/// `shop.test,*.shop.test path=/cart priority=5`.
pub(super) fn rule_words(rule: &RuleView) -> String {
    let priority = (rule.priority != 0).then(|| format!("priority={}", rule.priority));
    let words = [
        (!rule.hosts.is_empty()).then(|| rule.hosts.join(",")),
        (!rule.paths.is_empty()).then(|| rule.paths.join(",")),
        (!rule.listen.is_empty()).then(|| rule.listen.join(",")),
        priority,
        rule.either.then(|| "match=any".to_owned()),
        rule.keep_virtual_path.then(|| "keep_virtual_path".to_owned()),
        rule.default.then(|| "default".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Columns as wide as their widest cell, two spaces apart, no space at the end of a line.
fn aligned<const N: usize>(rows: Vec<[String; N]>) -> String {
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
    fn columns_are_aligned() {
        let instance = |name: &str, weight| InstanceView {
            name: name.to_owned(),
            target: "10.0.0.1:80".to_owned(),
            resolved: Vec::new(),
            weight,
            max_connections: None,
            state: "up".to_owned(),
            active: 3,
            requests: 0,
        };
        let service = |name: &str, hosts: &[&str], instances| ServiceView {
            last_good: None,
            protocol: "http".to_owned(),
            name: name.to_owned(),
            rule: RuleView { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..RuleView::default() },
            balance: "roundrobin".to_owned(),
            instances,
        };
        let services = vec![
            service("a", &["a.test", "b.test"], vec![instance("web-1", 1), instance("web-10", 2)]),
            service("empty", &["c.test"], vec![]),
        ];
        let view = TableView { revision: 7, listeners: Vec::new(), services };
        let expected = "\
revision 7
SERVICE         RULE           INSTANCE  TARGET       STATE         ACTIVE
services/a      a.test,b.test  web-1     10.0.0.1:80  up            3
                               web-10    10.0.0.1:80  up weight=2   3
services/empty  c.test         -         -            no instances
";
        assert_eq!(table(&view), expected);
    }
}
