//! The log lines about an agent's keys: their number, and each mistake when it appears and when it is gone. Decides
//! nothing, writes nothing itself. `docker` logs the state of Docker.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::plural;
use crate::logging::LogLine;
use crate::registrar::Report;

/// The number of keys is logged at most once in this time: containers may come and go by the dozen.
const QUIET: Duration = Duration::from_secs(1);

/// The last logged state.
#[derive(Debug, Default)]
pub(super) struct AgentJournal {
    wrong: BTreeSet<String>,
    kept: Option<(usize, Instant)>,
    /// When the changed number of keys is to be logged.
    due: Option<Instant>,
    error: Option<String>,
}

impl AgentJournal {
    /// The news: in the complaints about containers, and in the registrar's report.
    pub(super) fn report(&mut self, complaints: &[String], report: &Report, now: Instant) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let wrong: BTreeSet<_> =
            complaints.iter().cloned().chain(report.conflicts.iter().map(ToString::to_string)).collect();
        lines.extend(wrong.difference(&self.wrong).cloned().map(LogLine::Warn));
        lines.extend(self.wrong.difference(&wrong).map(|gone| LogLine::Info(format!("no longer a problem: {gone}"))));
        self.wrong = wrong;
        let error = report.error.as_ref().map(ToString::to_string);
        if error != self.error {
            lines.extend(error.iter().map(|error| LogLine::Warn(format!("cannot write to the store: {error}"))));
            self.error = error;
        }
        lines.extend(self.keeping(report, now));
        lines
    }

    fn keeping(&mut self, report: &Report, now: Instant) -> Option<LogLine> {
        self.due = match self.kept {
            _ if !report.settled => None,
            Some((keys, _)) if keys == report.keys => None,
            Some((_, told)) => Some(told + QUIET),
            None => Some(now),
        };
        self.due.take_if(|due| *due <= now)?;
        self.kept = Some((report.keys, now));
        Some(LogLine::Info(format!("keeping {}", plural(report.keys, "key"))))
    }

    /// When the rest of the last report is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_when_it_comes_and_when_it_goes() {
        let (mut journal, start) = (AgentJournal::default(), Instant::now());
        let mut check = |millis, complaints: &[&str], keys, expected: &[&str]| {
            let complaints: Vec<_> = complaints.iter().map(|text| (*text).to_owned()).collect();
            let report = Report { settled: keys > 0, keys, ..Report::default() };
            let lines = journal.report(&complaints, &report, start + Duration::from_millis(millis));
            let said: Vec<_> = lines.iter().map(|(LogLine::Info(text) | LogLine::Warn(text))| text.as_str()).collect();
            assert_eq!(said, expected, "after {millis} ms");
            journal.due().map(|due| due - start)
        };
        assert_eq!(check(0, &[], 0, &[]), None);
        assert_eq!(check(0, &[], 2, &["keeping 2 keys"]), None);
        assert_eq!(check(10, &[], 2, &[]), None);
        assert_eq!(check(2000, &["web: no_port"], 1, &["web: no_port", "keeping 1 key"]), None);
        assert_eq!(check(2500, &[], 3, &["no longer a problem: web: no_port"]), Some(Duration::from_secs(3)));
        // Not settled: nothing to log yet.
        assert_eq!(check(3000, &[], 0, &[]), None);
        assert_eq!(check(3000, &[], 5, &["keeping 5 keys"]), None);
        assert_eq!(check(3100, &[], 6, &[]), Some(Duration::from_secs(4)));
        assert_eq!(check(3200, &[], 5, &[]), None);
    }
}
