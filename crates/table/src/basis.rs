//! What all services share: limits, configuration and certificates. Kept from table to table while their keys stay the
//! same.

use std::sync::Arc;

use crate::certs::JudgedCerts;
use crate::config;
use crate::key_set::KeySet;
use crate::limits::Limits;
use crate::model::Config;
use crate::problem::{Problem, ProblemKind};
use crate::raw::RawKeys;

/// What all services share.
#[derive(Debug, Default)]
pub(crate) struct Basis {
    pub(crate) limits: Arc<Limits>,
    pub(crate) config: JudgedTree<Config>,
    pub(crate) certs: JudgedCerts,
    /// Whether anything that settings are judged by changed since the old table.
    pub(crate) stale: bool,
}

impl Basis {
    pub(crate) fn new(keys: &KeySet, old: &Self, limits: &Limits) -> Self {
        let stale = !old.limits.judge_alike(limits);
        let recertified = (&old.limits.certs, &old.limits.issued) != (&limits.certs, &limits.issued);
        let limits = if *old.limits == *limits { old.limits.clone() } else { Arc::new(limits.clone()) };
        let config = old.config.next(keys.config(), &format!("{}/config/", limits.prefix), stale, |raw, last| {
            config::judge(raw, last, &limits)
        });
        let certs = match stale || recertified {
            true => old.certs.judge(keys.certs(), &limits, stale),
            false => old.certs.next(keys.certs(), &limits),
        };
        Self { limits, config, certs, stale }
    }

    /// Whether defaults of services changed: waits, bounds, checks, `eject`, `panic` and `request_id`.
    pub(crate) fn retimed(&self, old: &Self) -> bool {
        fn of_services(basis: &Basis) -> impl PartialEq + '_ {
            let Config { timeouts, bounds, eject, panic, health_check, request_id, .. } = &*basis.config.value;
            (
                timeouts.connect,
                timeouts.server,
                timeouts.tunnel,
                timeouts.slow_start,
                bounds,
                eject,
                panic,
                health_check,
                request_id,
            )
        }
        of_services(self) != of_services(old)
    }

    /// Whether the listening addresses differ from the old table's.
    pub(crate) fn rebound(&self, old: &Self) -> bool {
        self.limits.bound != old.limits.bound
    }

    /// Whether names resolve differently than with the old table.
    pub(crate) fn renamed(&self, old: &Self) -> bool {
        self.limits.names != old.limits.names
    }

    /// Problems with keys that belong to no service.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.config.problems.iter().chain(&*self.certs.problems)
    }
}

/// One tree's keys and their compiled form.
#[derive(Debug)]
pub(crate) struct JudgedTree<T> {
    pub(crate) raw: Arc<RawKeys>,
    pub(crate) value: Arc<T>,
    /// The last good value of each key that is set.
    pub(crate) good: Arc<RawKeys>,
    problems: Arc<[Problem]>,
}

impl<T: Default> Default for JudgedTree<T> {
    fn default() -> Self {
        Self { raw: Arc::default(), value: Arc::default(), good: Arc::default(), problems: Arc::from([]) }
    }
}

impl<T: PartialEq> JudgedTree<T> {
    /// Judges the keys if they changed, or if the limits did (`stale`). A value that is equal keeps its `Arc`.
    fn next(
        &self,
        raw: &Arc<RawKeys>,
        place: &str,
        stale: bool,
        judge: impl FnOnce(&RawKeys, &T) -> (T, Box<[Problem]>),
    ) -> Self {
        if !stale && Arc::ptr_eq(&self.raw, raw) {
            let (value, good, problems) = (self.value.clone(), self.good.clone(), self.problems.clone());
            return Self { raw: raw.clone(), value, good, problems };
        }
        let (value, problems) = judge(raw, &self.value);
        let value = if value == *self.value { self.value.clone() } else { Arc::new(value) };
        let good = good(raw, &self.good, place, &problems);
        let good = if good == *self.good { self.good.clone() } else { Arc::new(good) };
        Self { raw: raw.clone(), value, good, problems: problems.into() }
    }
}

/// A bad key keeps its last good value. `place` is the tree's full key with a slash.
fn good(raw: &RawKeys, last: &RawKeys, place: &str, problems: &[Problem]) -> RawKeys {
    let problem = |key: &str| {
        let is_of = |problem: &&Problem| problem.key.strip_prefix(place) == Some(key);
        problems.iter().find(is_of).map(|problem| problem.kind)
    };
    let value = |key: &str, value: &[u8]| match problem(key) {
        None => Some(value.into()),
        Some(ProblemKind::BadValue) => last.get(key).map(Box::from),
        Some(_) => None,
    };
    RawKeys::collect(raw.iter().filter_map(|(key, have)| Some((key.into(), value(key, have)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_of_its_whole_key() {
        let keys = |names: &[&str]| {
            RawKeys::collect(names.iter().map(|name| ((*name).into(), b"pem".as_slice().into())).collect())
        };
        let problem = Problem {
            key: "/x/certs/a/b".into(),
            value: None,
            kind: ProblemKind::UnknownKey,
            service: None,
            advice: "".into(),
        };
        assert_eq!(good(&keys(&["a/b", "b"]), &RawKeys::default(), "/x/certs/", &[problem]), keys(&["b"]));
    }
}
