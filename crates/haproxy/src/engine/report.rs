//! What the engine tells the control loop: the table that is served, and every problem. Finds none itself.

use std::collections::BTreeSet;

use pointsman_engine::Applied;
use pointsman_table::{Bind, Problem, Table};
use tokio::sync::mpsc;

/// The current problems, and the last report.
pub(super) struct Reporter {
    applied: mpsc::Sender<Applied>,
    last: Option<Applied>,
    /// Keys that HAProxy cannot honour.
    pub(super) unsupported: Vec<Problem>,
    /// Why the newest configuration is not in force.
    pub(super) failed: Vec<Problem>,
}

impl Reporter {
    pub(super) fn new(applied: mpsc::Sender<Applied>) -> Self {
        Self { applied, last: None, unsupported: Vec::new(), failed: Vec::new() }
    }

    /// Reports what is served, the problems and the ports, if that changed.
    pub(super) async fn report(
        &mut self,
        served: &Table,
        excluded: impl Iterator<Item = Problem>,
        bound: BTreeSet<Bind>,
    ) {
        let mut problems: Vec<_> = excluded.chain(self.unsupported.iter().chain(&self.failed).cloned()).collect();
        problems.sort();
        problems.dedup();
        let news = Applied::new(served, problems, bound);
        if self.last.as_ref() != Some(&news) {
            self.last = Some(news.clone());
            // The control loop ends only with the program.
            let _ = self.applied.send(news).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{empty, once};

    use pointsman_table::{KeySet, Limits, ProblemKind, compile};

    use super::*;

    #[tokio::test]
    async fn only_news_is_told() {
        let (applied, mut told) = mpsc::channel(8);
        let mut reporter = Reporter::new(applied);
        let problem = || Problem::of_setting(ProblemKind::Engine, "haproxy-template", "line 1".to_owned());
        let one = compile(&KeySet::default(), None, &Limits::default()).table;
        let two = compile(&KeySet::default(), Some(&one), &Limits::default()).table;
        reporter.report(&one, empty(), BTreeSet::new()).await;
        reporter.report(&one, empty(), BTreeSet::new()).await;
        reporter.report(&one, once(problem()), BTreeSet::new()).await;
        reporter.failed.push(problem());
        reporter.report(&one, once(problem()), BTreeSet::new()).await;
        reporter.report(&two, once(problem()), BTreeSet::new()).await;
        drop(reporter);
        let mut news = Vec::new();
        while let Some(Applied { generation, problems, .. }) = told.recv().await {
            news.push((generation, problems.len()));
        }
        assert_eq!(news, [(1, 0), (1, 1), (2, 1)]);
    }
}
