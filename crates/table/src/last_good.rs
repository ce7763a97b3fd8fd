//! The keys that the settings in force come from, and since when. Judges nothing.

use std::sync::Arc;

use crate::names::Protocol;
use crate::problem::{Problem, ProblemKind};
use crate::raw::RawKeys;
use crate::settings::{Judged, same_settings};

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
        judged: &Judged,
        revision: u64,
    ) -> Option<Self> {
        if judged.settings.is_none() {
            return had.cloned();
        }
        let same = had.filter(|had| same_settings(protocol, &had.raw, raw));
        Some(Self { revision: same.map_or(revision, |had| had.revision), raw: raw.clone() })
    }
}

/// Adds to a problem the revision of the last good settings, if the service is served with them.
pub(crate) fn explain(problem: &Problem, kept: Option<&LastGood>) -> Problem {
    let stops = matches!(problem.kind, ProblemKind::BadValue | ProblemKind::NoRule);
    match kept.filter(|_| stops) {
        None => problem.clone(),
        Some(LastGood { revision, .. }) => {
            let advice = format!("{}; the last good settings, of revision {revision}, stay in use", problem.advice);
            Problem { advice: advice.into(), ..problem.clone() }
        }
    }
}
