//! What an agent logs: what is kept, what is wrong, each when it comes and when it goes. Never decides anything, writes
//! nothing itself.

use std::collections::BTreeSet;

use crate::control::plural;
use crate::registrar::Report;
use crate::store::Condition;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// As it should be.
    Info(String),
    /// Somebody should look.
    Warn(String),
}

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Journal {
    wrong: BTreeSet<String>,
    kept: Option<usize>,
    condition: Option<Condition>,
    error: Option<String>,
}

impl Journal {
    /// What is new: in what is wrong with containers, in what the registrar says, in how it stands with Docker.
    pub(super) fn report(&mut self, complaints: &[String], report: &Report, condition: &Condition) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.condition.as_ref() != Some(condition) {
            lines.extend(words(self.condition.as_ref(), condition));
            self.condition = Some(condition.clone());
        }
        let wrong: BTreeSet<_> =
            complaints.iter().cloned().chain(report.conflicts.iter().map(ToString::to_string)).collect();
        lines.extend(wrong.difference(&self.wrong).cloned().map(Line::Warn));
        lines.extend(self.wrong.difference(&wrong).map(|gone| Line::Info(format!("no longer a problem: {gone}"))));
        self.wrong = wrong;
        let error = report.error.as_ref().map(ToString::to_string);
        if error != self.error {
            lines.extend(error.iter().map(|error| Line::Warn(format!("cannot write to the store: {error}"))));
            self.error = error;
        }
        if report.settled && self.kept != Some(report.keys) {
            lines.push(Line::Info(format!("keeping {}", plural(report.keys, "key"))));
            self.kept = Some(report.keys);
        }
        lines
    }
}

fn words(before: Option<&Condition>, now: &Condition) -> Option<Line> {
    Some(match (before, now) {
        (_, Condition::Connecting { error: None }) => return None,
        (_, Condition::Connecting { error: Some(error) }) => Line::Warn(format!("waiting for Docker: {error}")),
        (Some(Condition::Lost { .. }), Condition::Watching { via }) => Line::Info(format!("Docker is back: {via}")),
        (_, Condition::Watching { via }) => Line::Info(format!("following {via}")),
        (Some(Condition::Lost { .. }), Condition::Lost { .. }) => return None,
        (_, Condition::Lost { error }) => {
            Line::Warn(format!("lost Docker, keeping what its containers last wanted: {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_when_it_comes_and_when_it_goes() {
        let mut journal = Journal::default();
        let watching = Condition::Watching { via: "docker".to_owned() };
        let report = |keys: usize| Report { settled: true, keys, ..Report::default() };
        for (complaints, report, expected) in [
            (vec![], report(2), vec!["following docker", "keeping 2 keys"]),
            (vec![], report(2), vec![]),
            (vec!["web: no_port"], report(1), vec!["web: no_port", "keeping 1 key"]),
            (vec![], report(1), vec!["no longer a problem: web: no_port"]),
        ] {
            let complaints: Vec<_> = complaints.into_iter().map(str::to_owned).collect();
            let lines = journal.report(&complaints, &report, &watching);
            let said: Vec<_> = lines.iter().map(|(Line::Info(text) | Line::Warn(text))| text.as_str()).collect();
            assert_eq!(said, expected);
        }
    }
}
