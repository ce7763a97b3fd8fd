//! How HAProxy finds the backend of a request: maps made from the services' rules, and the rules that look them up.
//! Owns what the maps hold and the rules' text; precedence is as in the table's own index. Pure.
//!
//! ```text
//! host          -> hosts.map; wildcards.map for each number of labels; `*` in hosts.map -> scope
//! scope|target# -> paths.map, longest key     -> route    prefixes, and services that take any path
//! scope\ntarget -> patterns.map, first match  -> route    expressions, in scopes whose id ends with `~`
//! scope         -> rest.map                   -> route    services that take any path, in such a scope
//! @default      -> rest.map                   -> route    the service for everything else
//! backend       -> splits.map                 -> Lot      services that share their requests with others
//! ```
//!
//! A *scope* is a set of services that share a host. Its id is the service's encoded name if there is only one; `@` and
//! the first host if there are several (`@.a.test` for `*.a.test`); `@` alone for any host. A step is taken only if no
//! route was found before, or to replace it by one of a higher priority.

mod rules;
mod scope;
mod splits;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use pointsman_table::{HostPattern, HttpEntry, PathRule, Pattern, Service};

use self::scope::Scope;
use super::maps::{ANY_HOST, DEFAULT, HAS_PATTERNS, Maps, Route};
use super::names::BackendName;
use super::{names, pattern};

pub use self::rules::{SplitSteps, Steps, rules};
pub(crate) use self::splits::obstacles;

/// The maps for these services, ordered as in the table. `sni` is empty, and [`unsupported`] expressions are left out.
pub fn maps(services: &[Arc<Service>]) -> Maps {
    let candidates: Vec<_> = services.iter().filter_map(|service| Candidate::new(service)).collect();
    let mut builder =
        Builder { candidates: &candidates, ids: HashMap::default(), paths: Vec::new(), maps: Maps::default() };
    builder.hosts();
    builder.any_host();
    builder.default_service();
    Maps { paths: builder.paths.into_iter().collect(), splits: splits::lots(services), ..builder.maps }
}

/// The expressions of a service that HAProxy cannot match, each with one sentence of advice.
pub fn unsupported(service: &Service) -> Vec<(&Pattern, String)> {
    let paths = service.http().map(|entry| &*entry.paths).unwrap_or_default();
    let patterns = paths.iter().filter_map(|path| match path {
        PathRule::Pattern(pattern) => Some(&**pattern),
        _ => None,
    });
    patterns.filter_map(|pattern| Some((pattern, pattern::translate(pattern).err()?))).collect()
}

/// An HTTP service, to be routed to.
struct Candidate<'a> {
    service: &'a Service,
    entry: &'a HttpEntry,
    backend: BackendName,
}

impl<'a> Candidate<'a> {
    fn new(service: &'a Service) -> Option<Self> {
        let backend = names::backend(service.protocol, service.name.as_str());
        Some(Self { service, entry: service.rules()?, backend })
    }

    fn is_empty(&self) -> bool {
        self.service.is_empty()
    }

    fn takes_any_host(&self) -> bool {
        !self.entry.paths.is_empty() && (self.entry.hosts.is_empty() || self.entry.either)
    }
}

struct Builder<'a> {
    candidates: &'a [Candidate<'a>],
    /// Scopes built so far, by their services.
    ids: HashMap<Box<[u32]>, Arc<str>, RandomState>,
    /// Sorted at the end, all at once.
    paths: Vec<(Box<str>, Route)>,
    maps: Maps,
}

impl<'a> Builder<'a> {
    fn hosts(&mut self) {
        let named = (0..).zip(self.candidates).flat_map(|(at, one)| one.entry.hosts.iter().map(move |host| (host, at)));
        let mut named: Vec<(&HostPattern, u32)> = named.collect();
        named.sort_unstable();
        named.dedup();
        for same in named.chunk_by(|a, b| a.0 == b.0) {
            let host = same[0].0;
            let id = self.scope_of(host, same.iter().map(|&(_, at)| at).collect());
            let map = match host {
                HostPattern::Exact(_) => &mut self.maps.hosts,
                HostPattern::Wildcard(_) => &mut self.maps.wildcards,
            };
            map.insert(host.name().into(), id);
        }
    }

    /// The scope of these services, all of which have this host.
    fn scope_of(&mut self, host: &HostPattern, services: Box<[u32]>) -> Arc<str> {
        if let Some(id) = self.ids.get(&services) {
            return id.clone();
        }
        let name = match *services {
            [only] => names::encode(self.candidates[only as usize].service.name.as_str()),
            _ => shared_name(host),
        };
        let id = self.build(name, &services, true);
        self.ids.insert(services, id.clone());
        id
    }

    fn any_host(&mut self) {
        let any = (0..).zip(self.candidates).filter(|(_, one)| one.takes_any_host());
        let services: Box<[u32]> = any.map(|(at, _)| at).collect();
        if !services.is_empty() {
            let id = self.build("@".into(), &services, false);
            self.maps.hosts.insert(ANY_HOST.into(), id);
        }
    }

    fn default_service(&mut self) {
        // The first of those that have instances, else the first. `min_by_key` takes the first of equals.
        let default = self.candidates.iter().filter(|one| one.entry.default).min_by_key(|one| one.is_empty());
        if let Some(one) = default {
            let route = Route { backend: one.backend.clone(), strip: 0, level: 0 };
            self.maps.rest.insert(DEFAULT.into(), route);
        }
    }

    /// Adds a scope's rules to the maps and returns its id.
    fn build(&mut self, name: String, services: &[u32], host_matched: bool) -> Arc<str> {
        let mut scope = Scope::default();
        for &at in services {
            let one = &self.candidates[at as usize];
            scope.add(at, one.entry, one.is_empty(), host_matched);
        }
        let id = if scope.has_patterns() { format!("{name}{HAS_PATTERNS}") } else { name };
        let candidates = self.candidates;
        let route = |leaf: scope::Leaf| {
            let backend = candidates[leaf.service as usize].backend.clone();
            Route { backend, strip: leaf.strip, level: leaf.priority }
        };
        self.maps.patterns.extend(scope.patterns(&id).into_iter().map(|(key, leaf)| (key, route(leaf))));
        self.maps.rest.extend(scope.rest().map(|leaf| (id.as_str().into(), route(leaf))));
        self.paths.extend(
            scope.paths().into_iter().map(|(prefix, leaf)| ([&id, "|", &*prefix].concat().into(), route(leaf))),
        );
        id.into()
    }
}

/// The id of a scope of several services, made from the first of their hosts.
fn shared_name(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => format!("@{name}"),
        HostPattern::Wildcard(name) => format!("@.{name}"),
    }
}
