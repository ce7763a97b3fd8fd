//! What we ship for Prometheus and Grafana: asks only for metrics and labels that docs/metrics.md names; each alert says
//! what to type, is tested, and stands in docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};

use pointsman::commands::arguments;
use serde_json::Value;

use super::{none, read};

/// The board and the rules.
const BOARD: &str = "packaging/grafana/pointsman.json";
const RULES: &str = "packaging/prometheus/pointsman.rules.yml";
/// Prometheus' own metric: whether a scrape succeeded.
const OWN: &str = "up";
/// The labels that Prometheus gives to every series. It calls our `instance` by another name, as it has its own.
const TARGET: &[&str] = &["job", "instance"];
const RENAMED: (&str, &str) = ("instance", "exported_instance");

/// An expression of the board or the rules.
pub(crate) struct Expression {
    /// The panel or the alert.
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) is_alert: bool,
}

/// All expressions of the board and the rules.
pub(crate) fn expressions() -> Vec<Expression> {
    let board: Value = serde_json::from_str(&read(BOARD)).expect("JSON");
    let mut found = Vec::new();
    for panel in board["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().expect("an expression").to_owned();
            found.push(Expression { place: format!("panel {title}"), text, is_alert: false });
        }
    }
    for mark in board["annotations"]["list"].as_array().expect("annotations") {
        if let Some(text) = mark["expr"].as_str() {
            found.push(Expression { place: "an annotation".to_owned(), text: text.to_owned(), is_alert: true });
        }
    }
    for alert in alerts(&read(RULES)) {
        found.push(Expression { place: alert.name, text: alert.expression, is_alert: true });
    }
    found
}

struct Alert {
    name: String,
    expression: String,
    /// Everything else.
    rest: String,
}

/// The alerts of a file of rules.
fn alerts(text: &str) -> Vec<Alert> {
    let each = text.split("- alert: ").skip(1).map(|chunk| {
        let (name, chunk) = chunk.split_once('\n').expect("more than a name");
        let (_, chunk) = chunk.split_once("expr:").expect("an expression");
        let lines: Vec<_> = chunk.lines().collect();
        let end = lines.iter().position(|line| ["for:", "labels:"].iter().any(|mark| line.trim().starts_with(mark)));
        let (expression, rest) = lines.split_at(end.expect("labels after the expression"));
        let expression = expression.join("\n").trim().trim_start_matches('|').to_owned();
        Alert { name: name.trim().to_owned(), expression, rest: rest.join("\n") }
    });
    each.collect()
}

/// What an expression asks for: metrics with the labels of their matchers, and labels that it groups by.
#[derive(Debug, Default, PartialEq)]
struct Asked<'e> {
    metrics: Vec<(&'e str, Vec<&'e str>)>,
    grouped: Vec<&'e str>,
}

/// Words before a list of labels.
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between expressions.
const OPERATORS: &[&str] = &["and", "or", "unless", "bool", "offset", "atan2"];

/// What stands after a function, and never after a metric.
const AFTER_FUNCTIONS: &[&str] = &["(", "by ", "without "];

/// Reads PromQL as far as names go.
fn asked(text: &str) -> Asked<'_> {
    let (mut asked, mut rest) = (Asked::default(), text);
    while let Some(c) = rest.chars().next() {
        let word = |rest: &str, is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if c == '"' {
            let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            rest = &rest[end..];
        } else if c == '[' {
            rest = &rest[rest.find(']').map_or(rest.len(), |end| end + 1)..];
        } else if c.is_ascii_digit() || c == '$' {
            rest = &rest[1 + word(&rest[1..], |c| c.is_ascii_alphanumeric() || c == '_' || c == '.')..];
        } else if c.is_ascii_alphabetic() || c == '_' {
            let (name, after) = rest.split_at(word(rest, is_name));
            rest = after;
            let next = after.trim_start();
            if GROUPING.contains(&name) {
                let (labels, after) =
                    next.strip_prefix('(').and_then(|list| list.split_once(')')).expect("a list of labels");
                asked.grouped.extend(labels.split(',').map(str::trim).filter(|label| !label.is_empty()));
                rest = after;
            } else if let Some(matchers) = next.strip_prefix('{') {
                let (labels, after) = labels(matchers);
                asked.metrics.push((name, labels));
                rest = after;
            } else if !AFTER_FUNCTIONS.iter().any(|mark| next.starts_with(mark)) && !OPERATORS.contains(&name) {
                asked.metrics.push((name, Vec::new()));
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    asked
}

/// The labels of matchers, and what stands after their brace.
fn labels(text: &str) -> (Vec<&str>, &str) {
    let (mut labels, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let end = rest.find(['=', '!']).expect("a matcher");
        labels.push(rest[..end].trim());
        let value = rest[end..].split_once('"').expect("a value").1;
        rest = value.split_once('"').expect("the end of a value").1;
    }
}

/// Every metric of docs/metrics.md with its labels, as Prometheus names both.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/metrics.md");
    let mut found = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let [name, kind, labels, ..] = cells[..] else { continue };
        let name = name.trim_matches(['|', ' ', '`']);
        // Without the values in brackets, and the targets of links.
        let labels =
            labels.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect::<String>();
        let labels =
            labels.split(',').map(|label| label.trim_matches([' ', '[', ']', '–'])).filter(|label| !label.is_empty());
        let labels: BTreeSet<_> =
            labels.map(|label| if label == RENAMED.0 { RENAMED.1 } else { label }.to_owned()).collect();
        if kind == "histogram" {
            let with_le = labels.iter().cloned().chain(["le".to_owned()]).collect();
            found.insert(format!("{name}_bucket"), with_le);
            found.extend(["sum", "count"].map(|end| (format!("{name}_{end}"), labels.clone())));
        }
        found.insert(name.to_owned(), labels);
    }
    found
}

#[test]
fn board_and_rules_ask_for_what_is_documented() {
    let (known, mut complaints, mut used) = (documented(), Vec::new(), BTreeSet::new());
    for Expression { place, text, .. } in expressions() {
        let asked = asked(&text);
        let mut labels: BTreeSet<&str> = TARGET.iter().copied().collect();
        for (metric, matched) in &asked.metrics {
            let Some(own) = known.get(*metric) else {
                if *metric != OWN {
                    complaints.push(format!("{place}: {metric} is not in docs/metrics.md"));
                }
                continue;
            };
            used.insert((*metric).to_owned());
            labels.extend(own.iter().map(String::as_str));
            let is_known = |label: &&&str| own.contains(**label) || TARGET.contains(*label);
            let strange = matched.iter().filter(|label| !is_known(label));
            complaints.extend(strange.map(|label| format!("{place}: {metric} has no label {label}")));
        }
        let strange = asked.grouped.iter().filter(|label| !labels.contains(**label));
        complaints.extend(strange.map(|label| format!("{place}: nothing in it has a label {label}")));
    }
    none("board and rules", complaints);
    assert!(used.len() > 45, "only {} metrics are used", used.len());
}

#[test]
fn each_alert_says_what_to_type_and_is_tested() {
    let (tests, page) = (read("packaging/prometheus/pointsman.test.yml"), read("docs/metrics.md"));
    let command = arguments::command();
    let (all, mut complaints) = (alerts(&read(RULES)), Vec::new());
    for Alert { name, rest, .. } in &all {
        let mut complain = |what: &str| complaints.push(format!("{name} {what}"));
        if !["severity: critical", "severity: warning"].iter().any(|severity| rest.contains(severity)) {
            complain("has no severity");
        }
        let Some((_, description)) = rest.split_once("description: >-") else {
            complain("has no description");
            continue;
        };
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        if !rest.contains("summary: \"") {
            complain("has no summary");
        }
        if !["pointsman ", "systemctl ", "journalctl ", "curl "].iter().any(|tool| description.contains(tool)) {
            complain("does not say what to type");
        }
        let words = description.split("pointsman ").skip(1).filter_map(|rest| rest.split([' ', ',', ';', '.']).next());
        for word in words.filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()) && !word.is_empty()) {
            if command.find_subcommand(word).is_none() {
                complain(&format!("names a command that is none: pointsman {word}"));
            }
        }
        if !tests.contains(&format!("alertname=\"{name}\"")) {
            complain("is not tested in pointsman.test.yml");
        }
        if !page.contains(&format!("`{name}`")) {
            complain("is not in docs/metrics.md");
        }
    }
    none("alerts", complaints);
    assert!(all.len() > 15, "only {} alerts", all.len());
}

#[test]
fn the_board_is_of_no_machine() {
    let text = read(BOARD);
    let board: Value = serde_json::from_str(&text).expect("JSON");
    assert!(board["id"].is_null() && board["uid"] == "pointsman");
    let panels = board["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let mut complaints = Vec::new();
    for source in text.lines().filter_map(|line| line.trim().strip_prefix("\"uid\": ")) {
        let source = source.trim_matches([',', '"']);
        if !["${datasource}", "-- Grafana --", "pointsman"].contains(&source) {
            complaints.push(format!("it names the data source {source}"));
        }
    }
    // In a grid of 24 columns, nothing lies upon another.
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        let free = cells.filter(|cell| taken.insert(*cell)).count();
        if free as u64 != w * h || x + w > 24 {
            complaints.push(format!("{} lies upon another panel, or beside the board", panel["title"]));
        }
    }
    none("the board", complaints);
}

#[test]
fn expressions_are_read() {
    let text = "max by (job, le) (rate(a_total{job=~\"$job\", code=\"5{x\"}[5m])) / 2.5 > on (x) group_left () b offset 2m and c";
    let expected = Asked {
        metrics: vec![("a_total", vec!["job", "code"]), ("b", vec![]), ("c", vec![])],
        grouped: vec!["job", "le", "x"],
    };
    assert_eq!(asked(text), expected);
    let known = documented();
    let has = |name: &str, label: &str| known.get(name).is_some_and(|labels| labels.contains(label));
    assert!(has("pointsman_responses_total", "code") && has("pointsman_responses_total", "exported_instance"));
    assert!(has("pointsman_store_info", "reason") && has("pointsman_request_duration_seconds_bucket", "le"));
    assert!(known["pointsman_ready"].is_empty());
}
