//! Services that share their requests with others: the entries of `splits.map`, and what HAProxy cannot share. Draws no lots.
//!
//! A request of a side goes to the side's backend, whose rules it meets instead of those of the service that it reached. So
//! a side takes a share only if those rules are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_table::{PathRule, Policy, Protocol, Service, ServiceName, Split, SplitBy, plain_name};

use super::super::maps::Lot;
use super::super::names::{self, BackendName};

/// The entries for these services, ordered as in the table.
pub(super) fn lots(services: &[Arc<Service>]) -> BTreeMap<Box<str>, Lot> {
    let split = services.iter().filter_map(|service| Some((service, service.split()?)));
    split
        .filter(|(_, split)| is_plain(&split.by))
        .flat_map(|(service, split)| of_service(service, split, services))
        .collect()
}

/// What of a service's split HAProxy cannot do: keys, each with one sentence of advice.
pub(crate) fn obstacles(service: &Service, services: &[Arc<Service>]) -> Vec<(String, String)> {
    let Some(split) = service.split() else { return Vec::new() };
    if !is_plain(&split.by) {
        let advice = "with HAProxy, the name of a header or cookie may have letters, digits, _ . and - only";
        return vec![("split_by".to_owned(), advice.to_owned())];
    }
    let differing = split.sides.iter().filter_map(|(name, _)| Some((name, difference(service, of(services, name)?)?)));
    let told = |(name, key): (&ServiceName, &str)| {
        let advice = format!(
            "HAProxy applies the rules of the service that takes a request, and {name} has another {key} than {}",
            service.name
        );
        (format!("split/{name}"), advice)
    };
    differing.map(told).collect()
}

fn of<'s>(services: &'s [Arc<Service>], name: &ServiceName) -> Option<&'s Service> {
    let at = services.binary_search_by(|one| (one.protocol, &one.name).cmp(&(Protocol::Http, name))).ok()?;
    Some(&services[at])
}

fn of_service(service: &Service, split: &Split, services: &[Arc<Service>]) -> Vec<(Box<str>, Lot)> {
    let own = names::backend(Protocol::Http, service.name.as_str());
    let takes = |to: &&Service| to.may_take_work() && difference(service, to).is_none();
    let taker = |name: &ServiceName| match of(services, name).filter(takes) {
        Some(_) => names::backend(Protocol::Http, name.as_str()),
        None => own.clone(),
    };
    let (total, mut sum) = (u64::from(split.total()), 0);
    let sides: Vec<(u64, BackendName)> = split
        .sides
        .iter()
        .map(|(name, share)| {
            sum += u64::from(*share);
            ((sum << 32) / total, taker(name))
        })
        .collect();
    if sides.iter().all(|(_, backend)| *backend == own) {
        return Vec::new();
    }
    let named = split.sides.iter().map(|(name, _)| (name, taker(name))).chain([(&service.name, own.clone())]);
    // A map's keys have no spaces.
    let named = named.filter(|(name, _)| plain_name(name.as_str()) == name.as_str());
    let named = named.map(|(name, backend)| (format!("{own}|{name}").into(), Lot::Named(backend)));
    let named: Vec<_> = if told(&split.by).is_some() { named.collect() } else { Vec::new() };
    let shares = Lot::Shares { by: split.by.to_string().into(), sides: sides.into() };
    named.into_iter().chain([(Box::from(&*own), shares)]).collect()
}

/// The header or cookie that decides.
fn told(by: &SplitBy) -> Option<&str> {
    match by {
        SplitBy::Chance | SplitBy::Client => None,
        SplitBy::Cookie(name) | SplitBy::Header(name) => Some(name),
    }
}

fn is_plain(by: &SplitBy) -> bool {
    told(by).is_none_or(|name| plain_name(name) == name)
}

/// The key that makes the rules of one service others than those of another; `None`: they are the same.
fn difference(from: &Service, to: &Service) -> Option<&'static str> {
    let none = Policy::default();
    let [one, other] = [from, to].map(|service| service.policy.as_deref().unwrap_or(&none));
    let differing = [
        ("scheme", one.scheme != other.scheme),
        ("hsts", one.hsts != other.hsts),
        ("client_ca", one.client_auth != other.client_auth),
        ("allow or deny", one.access != other.access),
        ("max_body", one.max_body != other.max_body),
        ("cors", one.cors != other.cors),
        ("request_id", one.request_id != other.request_id),
        ("basic_auth_secrets", one.basic_auth != other.basic_auth),
        ("redirect", one.redirect != other.redirect),
        ("rewrite", one.rewrite != other.rewrite),
        ("request_headers", one.request_headers != other.request_headers),
        ("response_headers", one.response_headers != other.response_headers),
        ("maintenance", one.maintenance != other.maintenance),
        ("custom_settings", from.custom_settings != to.custom_settings),
        // The backend cuts paths after its other rules.
        ("virtual_path", cuts(from) && has_rules(one)),
    ];
    differing.into_iter().find_map(|(key, differs)| differs.then_some(key))
}

/// Whether it cuts its `virtual_path` off.
fn cuts(service: &Service) -> bool {
    let is_virtual = |rule: &PathRule| matches!(rule, PathRule::Virtual(_));
    service.http().is_some_and(|entry| !entry.keep_virtual_path && entry.paths.iter().any(is_virtual))
}

fn has_rules(policy: &Policy) -> bool {
    policy.redirect.is_some()
        || policy.rewrite.is_some()
        || policy.request_headers.is_some()
        || policy.response_headers.is_some()
}
