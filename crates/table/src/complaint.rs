//! Problems that only an engine can find, under the key that they come from. Judges nothing itself.

use std::sync::Arc;

use crate::address::Bind;
use crate::form::Form;
use crate::names::{Protocol, ServiceName};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::routing::key_of_bind;
use crate::table::Table;

impl Table {
    /// The problem that a listening address cannot be bound, under the key that names it. `None`: no service of this
    /// table listens there.
    pub fn listen_problem(&self, bind: Bind, why: &str) -> Option<Problem> {
        let at = self.tcp().binary_search_by(|(have, _)| have.cmp(&bind)).ok()?;
        let service = self.services().get(self.tcp()[at].1 as usize)?;
        let form = self.form(service.protocol, &service.name)?;
        let advice = format!("cannot listen on {bind}: {why}; free the port or choose another (retried every second)");
        let key = key_of_bind(&form.raw, bind);
        Some(self.key_problem(ProblemKind::Listen, service.protocol, &service.name, key, advice))
    }

    /// A problem with a key of a service, with its value as written unless it is secret. `key` is relative to the
    /// service: `timeout/connect`; empty for the service as a whole. The service need not be served.
    pub fn key_problem(
        &self,
        kind: ProblemKind,
        protocol: Protocol,
        service: &ServiceName,
        key: &str,
        advice: impl Into<Box<str>>,
    ) -> Problem {
        let report = Report::of_service(&self.basis.limits.prefix, protocol, service);
        let form = self.form(protocol, service);
        one(report, kind, (key, form.map(|form| &*form.raw)), advice)
    }

    /// A problem with a key outside of services: `config/errors/503`, `certs/shop`; empty for no key in particular.
    /// Only values of `config/` are shown. A certificate that is no key is named by its origin.
    pub fn tree_problem(&self, kind: ProblemKind, key: &str, advice: impl Into<Box<str>>) -> Problem {
        if let Some(origin) = key.strip_prefix("certs/").and_then(|name| self.basis.certs.value.origin(name)) {
            return Problem { key: origin.into(), value: None, kind, service: None, advice: advice.into() };
        }
        let prefix = &self.basis.limits.prefix;
        match key.split_once('/') {
            Some(("config", key)) => {
                one(Report::of_tree(prefix, "config"), kind, (key, Some(&self.basis.config.raw)), advice)
            }
            _ => one(Report::of_tree(prefix, "").hiding_values(), kind, (key, None), advice),
        }
    }

    fn form(&self, protocol: Protocol, name: &ServiceName) -> Option<&Form> {
        let key = |form: &Arc<Form>| (form.protocol, &form.name).cmp(&(protocol, name));
        self.forms.binary_search_by(key).ok().map(|at| &*self.forms[at])
    }
}

/// The one problem of a report.
fn one(
    mut report: Report<'_>,
    kind: ProblemKind,
    (key, raw): (&str, Option<&RawKeys>),
    advice: impl Into<Box<str>>,
) -> Problem {
    let value = raw.and_then(|raw| raw.get(key)).map(String::from_utf8_lossy);
    report.add(kind, key, value.as_deref(), advice);
    report.finish().into_iter().next().expect("a problem was just added")
}
