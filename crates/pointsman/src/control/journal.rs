//! Schedules the log lines: at once after a quiet second, otherwise once a second, and always the final state. Logs
//! which keys changed, and each problem when it appears and when it is gone. Decides nothing else, writes nothing itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Fate, Problem, ProblemKind, Table, TableDiff, differences, shown};
use tokio::time::Instant;

use super::Status;
use crate::logging::LogLine;
use pointsman_store::{Condition, Outage};

/// At most one report in this time.
const PACE: Duration = Duration::from_secs(1);
/// While the store is unreachable, this many different reasons are logged at once: each endpoint may have its own.
const MOST_REASONS: usize = 20;
/// Beyond those, at most one new reason in this time.
const REASONS: Duration = Duration::from_secs(30);
/// Most problems in one report; the admin page lists all.
const MOST_LINES: usize = 50;
/// Most services of one report whose changes are named.
const MOST_CHANGES: usize = 10;

/// The last logged state, and the pending report.
#[derive(Debug, Default)]
pub(super) struct Journal {
    known: BTreeSet<Problem>,
    /// Problems of names that did not resolve at the last report, for the first time.
    young: BTreeSet<Problem>,
    said: Option<String>,
    /// The table of the last report.
    table: Option<Arc<Table>>,
    reported: Option<Instant>,
    due: Option<Instant>,
    condition: Option<Condition>,
    /// The reasons logged since the store was watched, and when the last one was.
    reasons: Vec<Outage>,
    told: Option<Instant>,
}

impl Journal {
    /// Schedules a report.
    pub(super) fn changed(&mut self, now: Instant) {
        let earliest = self.reported.map_or(now, |reported| (reported + PACE).max(now));
        self.due.get_or_insert(earliest);
    }

    /// When the report is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The news since the last report.
    pub(super) fn report(&mut self, now: Instant, status: &Status) -> Vec<LogLine> {
        self.due = None;
        self.reported = Some(now);
        let mut lines = self.changes(status);
        lines.extend(self.problems(now, status));
        let line = status.table.as_deref().map(serving);
        if line.is_some() && self.said != line {
            lines.extend(line.clone().map(LogLine::Info));
            self.said = line;
        }
        lines
    }

    /// What changed since the table of the last report. Of the first table only the counts are logged.
    fn changes(&mut self, status: &Status) -> Vec<LogLine> {
        let before = std::mem::replace(&mut self.table, status.table.clone());
        let (Some(before), Some(after)) = (&before, &self.table) else { return Vec::new() };
        let changed = differences(before, after);
        let (named, rest) = changed.split_at(changed.len().min(MOST_CHANGES));
        let rest = (!rest.is_empty()).then(|| summed_up(rest));
        named.iter().map(TableDiff::to_string).chain(rest).map(LogLine::Info).collect()
    }

    fn problems(&mut self, time: Instant, status: &Status) -> Vec<LogLine> {
        // A new name is usually resolved at once, so it is news only if it is still unresolved at the next report.
        let is_young = |problem: &Problem| {
            let seen = self.known.contains(problem) || self.young.contains(problem);
            problem.kind == ProblemKind::Unresolved && !seen
        };
        let (young, now): (BTreeSet<_>, BTreeSet<_>) = status.problems().cloned().partition(is_young);
        if !young.is_empty() {
            self.due = Some(time + PACE);
        }
        self.young = young;
        let new = now.difference(&self.known).map(|problem| LogLine::Warn(problem.to_string()));
        let gone = self.known.difference(&now);
        let gone = gone.map(|problem| LogLine::Info(format!("no longer a problem: {}", without_advice(problem))));
        let mut lines = Vec::new();
        some(&mut lines, new, "more problems: see /api/problems on the admin address, or `pointsman check`");
        some(&mut lines, gone, "more are no longer a problem");
        self.known = now;
        lines
    }

    /// The log line for a new state of the store, if it is news. A reason is news if it was not logged since the store
    /// was last watched.
    pub(super) fn condition(&mut self, now: Instant, condition: &Condition) -> Option<LogLine> {
        let before = self.condition.replace(condition.clone());
        if before.as_ref() == Some(condition) {
            return None;
        }
        let Some(outage) = condition.outage() else {
            self.reasons.clear();
            return words(before.as_ref(), condition);
        };
        let is_full = self.reasons.len() >= MOST_REASONS && self.told.is_some_and(|told| now < told + REASONS);
        if self.reasons.contains(outage) || is_full {
            return None;
        }
        self.reasons.push(outage.clone());
        self.told = Some(now);
        words(before.as_ref(), condition)
    }
}

/// The problem by its key, value and kind: what it asked for is done, and what was served meanwhile is over.
fn without_advice(Problem { key, value, kind, .. }: &Problem) -> String {
    let value = value.as_ref().map(|value| format!(" = {value:?}")).unwrap_or_default();
    format!("{}{value}: {kind}", shown(key))
}

fn some(lines: &mut Vec<LogLine>, all: impl Iterator<Item = LogLine>, rest: &str) {
    let mut all = all;
    lines.extend(all.by_ref().take(MOST_LINES));
    match all.count() {
        0 => {}
        more => lines.push(LogLine::Info(format!("{more} {rest}"))),
    }
}

/// `25 more services: 20 added, 5 changed`.
fn summed_up(rest: &[TableDiff<'_>]) -> String {
    let count = |fate: Fate, word: &str| match rest.iter().filter(|difference| difference.fate() == fate).count() {
        0 => None,
        count => Some(format!("{count} {word}")),
    };
    let counts = [(Fate::Added, "added"), (Fate::Changed, "changed"), (Fate::Removed, "removed")];
    let counts: Vec<_> = counts.into_iter().filter_map(|(fate, word)| count(fate, word)).collect();
    format!("{}: {}", plural(rest.len(), "more service"), counts.join(", "))
}

fn words(before: Option<&Condition>, condition: &Condition) -> Option<LogLine> {
    Some(match (before, condition) {
        (_, Condition::Connecting { error: None }) => return None,
        (_, Condition::Connecting { error: Some(error) }) => LogLine::Warn(format!("waiting for the store: {error}")),
        (Some(Condition::Lost { .. }), Condition::Watching { via }) => {
            LogLine::Info(format!("the store is back: watching {via}"))
        }
        (_, Condition::Watching { via }) => LogLine::Info(format!("watching {via}")),
        (_, Condition::Lost { error }) => LogLine::Warn(format!("lost the store, serving its last keys: {error}")),
    })
}

/// `serving 12 services, 31 instances at revision 845`; a folder that no balancer follows has no revision.
pub(crate) fn serving(table: &Table) -> String {
    let services = table.services().len();
    let instances: usize = table.services().iter().map(|service| service.instances.len()).sum();
    let (services, instances) = (plural(services, "service"), plural(instances, "instance"));
    let revision = match table.revision() {
        0 => String::new(),
        revision => format!(" at revision {revision}"),
    };
    format!("serving {services}, {instances}{revision}")
}

/// A count with its noun: `1 service`, `2 services`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    fn problem(key: &str) -> Problem {
        let kind = ProblemKind::BadValue;
        Problem { key: key.into(), value: Some("x\ny".into()), kind, service: None, advice: "write a number".into() }
    }

    fn status(keys: &[&str]) -> Status {
        Status { found: keys.iter().map(|key| problem(key)).collect(), ..Status::new() }
    }

    #[test]
    fn a_problem_is_told_when_it_comes_and_when_it_goes() {
        let mut journal = Journal::default();
        let now = Instant::now();
        for (keys, expected) in [
            (&["/a"][..], vec![LogLine::Warn("/a = \"x\\ny\": bad value: write a number".to_owned())]),
            (&["/a"], vec![]),
            (
                &["/b"],
                vec![
                    LogLine::Warn("/b = \"x\\ny\": bad value: write a number".to_owned()),
                    LogLine::Info("no longer a problem: /a = \"x\\ny\": bad value".to_owned()),
                ],
            ),
        ] {
            assert_eq!(journal.report(now, &status(keys)), expected, "{keys:?}");
        }
    }

    #[test]
    fn a_name_that_is_found_at_once_is_no_news() {
        let unresolved = || Problem { kind: ProblemKind::Unresolved, ..problem("/a") };
        let status = |problems: Vec<Problem>| Status { found: problems.into(), ..Status::new() };
        let (mut journal, now) = (Journal::default(), Instant::now());
        assert_eq!(journal.report(now, &status(vec![unresolved()])), []);
        assert_eq!(journal.due(), Some(now + PACE), "it is looked at again");
        assert_eq!(journal.report(now, &status(vec![])), []);
        assert_eq!(journal.report(now, &status(vec![unresolved()])), []);
        assert_eq!(journal.report(now, &status(vec![unresolved()])).len(), 1);
        assert_eq!(journal.report(now, &status(vec![])).len(), 1, "no longer a problem");
    }

    #[test]
    fn a_flood_of_problems_is_cut_short() {
        let keys: Vec<String> = (0..1000).map(|number| format!("/{number}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let lines = Journal::default().report(Instant::now(), &status(&keys));
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert!(matches!(lines.last(), Some(LogLine::Info(line)) if line.starts_with("950 more problems")));
    }

    #[test]
    fn changes_are_named_and_many_are_summed_up() {
        let table = |count: usize, port: u16, before: Option<&Table>| {
            let key = |number: usize| format!("services/s{number:02}/one").into();
            let mut keys = KeySet::default();
            keys.reset(1, (0..count).map(|number| (key(number), format!("h:{port}").as_bytes().into())));
            compile(&keys, before, &Limits::default()).table
        };
        let mut journal = Journal::default();
        let mut report = |table: &Arc<Table>| {
            let status = Status { table: Some(table.clone()), ..Status::new() };
            let lines = journal.report(Instant::now(), &status);
            let texts = lines.into_iter().map(|line| match line {
                LogLine::Info(text) | LogLine::Warn(text) => text,
            });
            texts.filter(|text| !text.starts_with("serving")).collect::<Vec<_>>()
        };
        let first = table(1, 1, None);
        assert!(report(&first).is_empty(), "at the start just the counts");
        let second = table(15, 2, Some(&first));
        let lines = report(&second);
        assert_eq!(lines[0], "services/s00: address of one h:1 -> h:2");
        assert_eq!((lines[1].as_str(), lines[9].as_str()), ("services/s01 added: +one", "services/s09 added: +one"));
        assert_eq!(lines[10..], ["5 more services: 5 added"]);
        let third = table(12, 3, Some(&second));
        assert_eq!(report(&third)[10..], ["5 more services: 2 changed, 3 removed"]);
        assert!(report(&third).is_empty());
    }

    /// Changes at these milliseconds, and when the report is due if the last one was at 0.
    #[test]
    fn reports_have_a_pace() {
        for (changes, expected) in
            [(&[][..], None), (&[10, 20], Some(1000)), (&[990], Some(1000)), (&[2000], Some(2000))]
        {
            let start = Instant::now();
            let mut journal = Journal::default();
            journal.changed(start);
            assert_eq!(journal.due(), Some(start));
            journal.report(start, &Status::new());
            changes.iter().for_each(|at| journal.changed(start + Duration::from_millis(*at)));
            assert_eq!(journal.due().map(|due| (due - start).as_millis()), expected, "{changes:?}");
        }
    }

    #[test]
    fn the_store_comes_and_goes() {
        let outage = |error: &str| Outage::new("failed", error);
        let connecting = |error: Option<&str>| Condition::Connecting { error: error.map(outage) };
        let watching = || Condition::Watching { via: "etcd".to_owned() };
        let lost = |error: &str| Condition::Lost { error: outage(error) };
        let start = Instant::now();
        let mut journal = Journal::default();
        for (second, condition, expected) in [
            (0, connecting(None), None),
            (1, connecting(Some("a refused")), Some("waiting for the store: a refused")),
            (1, connecting(Some("b refused")), Some("waiting for the store: b refused")),
            (2, connecting(Some("a refused")), None),
            (99, connecting(Some("b refused")), None),
            (99, watching(), Some("watching etcd")),
            (99, watching(), None),
            (99, lost("reset"), Some("lost the store, serving its last keys: reset")),
            (99, lost("a refused"), Some("lost the store, serving its last keys: a refused")),
            (99, lost("reset"), None),
            (99, watching(), Some("the store is back: watching etcd")),
            (99, lost("reset"), Some("lost the store, serving its last keys: reset")),
        ] {
            let line = journal.condition(start + Duration::from_secs(second), &condition);
            let text = line.map(|(LogLine::Info(text) | LogLine::Warn(text))| text);
            assert_eq!(text.as_deref(), expected, "at {second} s: {condition:?}");
        }
    }

    #[test]
    fn reasons_without_end_are_told_seldom() {
        let start = Instant::now();
        let mut journal = Journal::default();
        let mut lines = |at: u64, reasons: std::ops::Range<usize>| {
            let lost = |number: usize| Condition::Lost { error: Outage::new("failed", &number.to_string()) };
            reasons.filter_map(|number| journal.condition(start + Duration::from_secs(at), &lost(number))).count()
        };
        assert_eq!(lines(0, 0..1000), MOST_REASONS);
        assert_eq!(lines(29, 1000..2000), 0);
        assert_eq!(lines(30, 2000..3000), 1);
    }
}
