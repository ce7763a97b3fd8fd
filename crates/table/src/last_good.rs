//! The keys that the settings in force come from, and since when. Judges nothing.

use std::borrow::Cow;
use std::sync::Arc;

use crate::names::Protocol;
use crate::problem::{Problem, ProblemKind};
use crate::raw::RawKeys;
use crate::settings::same_settings;

/// The keys that a service's settings were compiled from.
#[derive(Clone, Debug)]
pub(crate) struct LastGood {
    /// The first revision with these settings, as far as is known.
    pub(crate) revision: u64,
    /// Its keys, instances included.
    pub(crate) raw: Arc<RawKeys>,
}

impl LastGood {
    /// The present keys if they are good, else the last good ones in `had`.
    pub(crate) fn next(
        (protocol, raw): (Protocol, &Arc<RawKeys>),
        had: Option<&Self>,
        is_good: bool,
        revision: u64,
    ) -> Option<Self> {
        if !is_good {
            return had.cloned();
        }
        let same = had.filter(|had| same_settings(protocol, &had.raw, raw));
        Some(Self { revision: same.map_or(revision, |had| had.revision), raw: raw.clone() })
    }
}

const SINCE: &str = "; the last good settings, of revision ";

/// A problem's line without the revision of the last good settings, which differs between balancers that started at
/// different times, and between readers of a folder.
pub fn without_revision(line: &str) -> Cow<'_, str> {
    match line.split_once(SINCE) {
        None => line.into(),
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{}{}", SINCE.trim_end_matches(", of revision "), rest.trim_start_matches(',')).into()
        }
    }
}

/// Adds to a problem the revision of the last good settings, if the service is served with them.
pub(crate) fn explain(problem: &Problem, kept: Option<&LastGood>) -> Problem {
    let stops = matches!(problem.kind, ProblemKind::BadValue | ProblemKind::NoRule);
    match kept.filter(|_| stops) {
        None => problem.clone(),
        Some(LastGood { revision, .. }) => {
            let advice = format!("{}{SINCE}{revision}, stay in use", problem.advice);
            Problem { advice: advice.into(), ..problem.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_the_revision_are_one() {
        let raw = Arc::default();
        let line = |revision| {
            let problem = Problem {
                key: "/x/services/a/port".into(),
                value: None,
                kind: ProblemKind::BadValue,
                service: None,
                advice: "expected a port".into(),
            };
            explain(&problem, Some(&LastGood { revision, raw: Arc::clone(&raw) })).to_string()
        };
        assert_ne!(line(2), line(13));
        assert_eq!(without_revision(&line(2)), without_revision(&line(13)));
        let shown = without_revision(&line(2)).into_owned();
        assert!(shown.ends_with("expected a port; the last good settings stay in use"), "{shown}");
        assert_eq!(without_revision("as it is"), "as it is");
    }
}
