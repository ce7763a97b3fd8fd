//! Services that others send requests to, by a split or as a mirror: which they are, and shares that lead nowhere. Sends
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::form::{Draft, Form};
use crate::limits::Limits;
use crate::model::Service;
use crate::names::{Protocol, ServiceName};
use crate::policy::Policy;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;

/// The services that some service in force names.
pub(crate) fn named(drafts: &[Draft<'_>]) -> BTreeSet<ServiceName> {
    let policies = drafts.iter().filter_map(|draft| draft.settings()?.policy.as_deref());
    policies.flat_map(names).cloned().collect()
}

fn names(policy: &Policy) -> impl Iterator<Item = &ServiceName> {
    let sides = policy.split.iter().flat_map(|split| split.sides.iter());
    let asked = policy.forward_auth.iter().map(|asked| &asked.service);
    sides.chain(&policy.mirrors).map(|(name, _)| name).chain(asked)
}

/// The services that stand for the servers of URLs, and their keys.
pub(crate) fn implied(drafts: &[Draft<'_>]) -> BTreeMap<ServiceName, Arc<RawKeys>> {
    let policies = drafts.iter().filter_map(|draft| draft.settings()?.policy.as_deref());
    let implied = policies.filter_map(|policy| policy.forward_auth.as_ref()?.implied());
    implied.map(|(name, raw)| (name, Arc::new(raw))).collect()
}

/// Why requests to one service must not reach another, whatever its share; `None`: they may.
fn refused(from: &Service, to: &Service) -> Option<&'static str> {
    let asked = to.client_auth().filter(|auth| from.client_auth() != Some(auth)).map(|_| "client certificates");
    let users = to.basic_auth().filter(|users| from.basic_auth() != Some(users)).map(|_| "passwords");
    asked.or(users).or_else(|| limited(from, to))
}

/// Whom or what one service lets in, if the other does not ask for the same.
fn limited(from: &Service, to: &Service) -> Option<&'static str> {
    let (to, none) = (to.policy.as_deref()?, Policy::default());
    let from = from.policy.as_deref().unwrap_or(&none);
    match () {
        () if to.access.is_some() && to.access != from.access => Some("clients of certain networks"),
        () if to.rate_limit.is_some() && to.rate_limit != from.rate_limit => Some("a rate"),
        () if to.max_body.is_some() && to.max_body != from.max_body => Some("a size of bodies"),
        () if to.forward_auth.is_some() && to.forward_auth != from.forward_auth => Some("forward_auth"),
        () if to.maintenance.is_some() && to.maintenance != from.maintenance => Some("maintenance"),
        () => None,
    }
}

/// Whether a share of the requests to one service may reach another.
pub(crate) fn may_send(from: &Service, to: &Service) -> bool {
    !to.closed && refused(from, to).is_none()
}

/// The problems of shares that nobody takes. `forms`: of all services, ordered.
pub(crate) fn problems(forms: &[Arc<Form>], limits: &Limits) -> Vec<Problem> {
    let http = &forms[..forms.partition_point(|form| form.protocol == Protocol::Http)];
    let sending = http.iter().filter_map(|form| form.service.as_deref().filter(|service| service.policy.is_some()));
    sending.flat_map(|service| of_service(service, http, limits)).collect()
}

fn of_service(service: &Service, http: &[Arc<Form>], limits: &Limits) -> Box<[Problem]> {
    let mut report = Report::of_service(&limits.prefix, Protocol::Http, &service.name);
    let sides = service.split().map(|split| &*split.sides).unwrap_or_default();
    for (folder, targets) in [("split", sides), ("mirror", service.mirrors())] {
        for (name, _) in targets {
            let instead = match folder {
                "split" => format!("{} takes its share", service.name),
                _ => "no copies are sent".to_owned(),
            };
            if let Some(why) = nowhere(service, name, &instead, http) {
                report.add(ProblemKind::NoTarget, &format!("{folder}/{name}"), None, why);
            }
        }
    }
    if let Some(asked) = service.policy.as_ref().and_then(|policy| policy.forward_auth.as_ref()) {
        let known = http.binary_search_by(|form| form.name.cmp(&asked.service)).ok().map(|at| &http[at]);
        let advice = match known {
            Some(form) if form.name.is_implied() && !form.problems.is_empty() => {
                for problem in &form.problems {
                    report.add(problem.kind, "forward_auth", None, format!("{}; nobody is let in", problem.advice));
                }
                return report.finish();
            }
            None => format!("there is no service {}; nobody is let in", asked.service),
            Some(form) if form.served().is_none() => {
                format!("service {} is not served; nobody is let in", asked.service)
            }
            Some(_) => return report.finish(),
        };
        report.add(ProblemKind::NoTarget, "forward_auth", None, advice);
    }
    report.finish()
}

fn nowhere(from: &Service, name: &ServiceName, instead: &str, http: &[Arc<Form>]) -> Option<String> {
    let known = http.binary_search_by(|form| form.name.cmp(name)).ok().map(|at| &http[at]);
    match known.map(|form| form.served()) {
        _ if *name == from.name => Some(format!("{name} is this service itself")),
        None => Some(format!("there is no service {name}; {instead}")),
        Some(None) => Some(format!("service {name} is not served; {instead}")),
        Some(Some(to)) => refused(from, to).map(|what| {
            format!("service {name} asks for {what}, and {} does not ask for the same; it gets no requests", from.name)
        }),
    }
}
