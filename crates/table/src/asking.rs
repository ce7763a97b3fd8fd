//! What each server name asks of clients in a handshake, from the services that it reaches. Decides about no request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::address::HostPattern;
use crate::client_auth::Authorities;
use crate::host::parents;
use crate::model::{HttpEntry, Service};

/// What a handshake asks of a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// The authorities of all services that the connection may reach by its server name.
    pub authorities: Box<[Arc<Authorities>]>,
    /// Every one of these services requires a certificate.
    pub is_required: bool,
}

/// What handshakes ask for, by server name. Whether a request may be served is for each request to decide: this is only
/// about whom to ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asking {
    exact: HashMap<Box<str>, Option<Arc<Demand>>, foldhash::fast::RandomState>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Option<Arc<Demand>>, foldhash::fast::RandomState>,
    /// Names that no service has, and connections without a name.
    rest: Option<Arc<Demand>>,
}

impl Asking {
    /// What the services of a table ask for.
    pub fn of(services: &[Arc<Service>]) -> Self {
        let asks = |service: &Arc<Service>| service.client_auth().is_some();
        if !services.iter().any(asks) {
            return Self::default();
        }
        let reach = Reach::new(services);
        let mut distinct = BTreeSet::new();
        let mut asked = |sum: Sum| sum.asked(&mut distinct);
        let rest = asked(reach.anywhere.clone());
        let exact = reach.exact.keys().map(|name| ((*name).into(), asked(reach.sum(Some(name), name)))).collect();
        let wildcard = reach.wildcard.keys().map(|name| ((*name).into(), asked(reach.sum(None, name)))).collect();
        Self { exact, wildcard, rest }
    }

    /// What a client that asks for this server name, in lower case, is asked for.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Demand>> {
        let exact = || self.exact.get(name?);
        let wildcard =
            || parents(name?.as_bytes()).find_map(|parent| self.wildcard.get(std::str::from_utf8(parent).ok()?));
        exact().or_else(wildcard).unwrap_or(&self.rest).as_ref()
    }

    /// The same for a name below `suffix` that no service has.
    pub fn below(&self, suffix: &str) -> Option<&Arc<Demand>> {
        let above = parents(suffix.as_bytes()).filter_map(|parent| std::str::from_utf8(parent).ok());
        let found = std::iter::once(suffix).chain(above).find_map(|parent| self.wildcard.get(parent));
        found.unwrap_or(&self.rest).as_ref()
    }

    /// The names that it tells apart: `a.test`, `*.a.test`.
    pub fn names(&self) -> impl Iterator<Item = Box<str>> {
        let wildcards = self.wildcard.keys().map(|suffix| format!("*.{suffix}").into_boxed_str());
        self.exact.keys().cloned().chain(wildcards)
    }

    /// Everything that is asked for somewhere.
    pub fn all(&self) -> BTreeSet<&Arc<Demand>> {
        self.exact.values().chain(self.wildcard.values()).chain([&self.rest]).flatten().collect()
    }
}

/// Services by the hosts that reach them. Each list begins with the highest priority.
struct Reach<'s> {
    exact: BTreeMap<&'s str, Vec<&'s Service>>,
    wildcard: BTreeMap<&'s str, Vec<&'s Service>>,
    /// Reached by any host, perhaps.
    any: Vec<&'s Service>,
    /// All of these together.
    anywhere: Sum,
}

impl<'s> Reach<'s> {
    fn new(services: &'s [Arc<Service>]) -> Self {
        let mut reach =
            Self { exact: BTreeMap::new(), wildcard: BTreeMap::new(), any: Vec::new(), anywhere: Sum::default() };
        for service in services {
            let Some(entry) = service.rules() else { continue };
            for host in &entry.hosts {
                match host {
                    HostPattern::Exact(name) => reach.exact.entry(name).or_default().push(service),
                    HostPattern::Wildcard(name) => reach.wildcard.entry(name).or_default().push(service),
                }
            }
            let by_path = entry.either && !entry.paths.is_empty();
            if entry.hosts.is_empty() || by_path || entry.default {
                reach.any.push(service);
            }
        }
        reach.any.sort_by_key(|service| std::cmp::Reverse(priority(service)));
        reach.any.iter().for_each(|service| reach.anywhere.add(service));
        reach
    }

    /// The services that a host reaches: an exact name, or all names below `suffix` without rules of their own.
    fn sum(&self, exact: Option<&str>, suffix: &str) -> Sum {
        let exact = exact.and_then(|name| self.exact.get(name).map(|found| (0, found)));
        let itself = if exact.is_none() { self.wildcard.get(suffix) } else { None };
        let above =
            parents(suffix.as_bytes()).filter_map(|parent| self.wildcard.get(std::str::from_utf8(parent).ok()?));
        let levels = exact.into_iter().chain((1..).zip(itself.into_iter().chain(above)));
        let mut by_host: Vec<_> =
            levels.flat_map(|(level, found)| found.iter().map(move |service| (level, *service))).collect();
        by_host.sort_by_key(|(level, service)| (std::cmp::Reverse(priority(service)), *level));
        let mut sum = Sum::default();
        // What takes every path of this host leaves nothing to those that come later.
        let last =
            by_host.iter().find(|(_, service)| takes_all(service)).map(|&(level, service)| (priority(service), level));
        let is_left = |level: i32, service: &Service| {
            last.is_none_or(|(most, at)| (std::cmp::Reverse(priority(service)), level) <= (std::cmp::Reverse(most), at))
        };
        by_host.iter().filter(|(level, service)| is_left(*level, service)).for_each(|(_, service)| sum.add(service));
        match last {
            None => sum.add_all(&self.anywhere),
            Some((most, _)) => {
                self.any.iter().take_while(|service| priority(service) > most).for_each(|service| sum.add(service));
            }
        }
        sum
    }
}

fn priority(service: &Service) -> i64 {
    service.http().map_or(0, |entry| entry.priority)
}

/// Whether a service takes every request for its hosts.
fn takes_all(service: &Service) -> bool {
    service.http().is_some_and(|HttpEntry { paths, either, conditions, .. }| {
        conditions.is_none() && (*either || paths.is_empty())
    })
}

/// What some services ask for together.
#[derive(Clone, Debug, Default)]
struct Sum {
    authorities: BTreeSet<Arc<Authorities>>,
    /// Some of them can do without.
    has_others: bool,
}

impl Sum {
    fn add(&mut self, service: &Service) {
        let auth = service.client_auth();
        self.authorities.extend(auth.map(|auth| Arc::clone(&auth.authorities)));
        self.has_others |= auth.is_none_or(|auth| !auth.is_required);
    }

    fn add_all(&mut self, other: &Self) {
        self.authorities.extend(other.authorities.iter().cloned());
        self.has_others |= other.has_others;
    }

    /// `None`: nothing is asked for. What is asked for at several names is one value.
    fn asked(self, distinct: &mut BTreeSet<Arc<Demand>>) -> Option<Arc<Demand>> {
        if self.authorities.is_empty() {
            return None;
        }
        let asked = Demand { authorities: self.authorities.into_iter().collect(), is_required: !self.has_others };
        if let Some(known) = distinct.get(&asked) {
            return Some(Arc::clone(known));
        }
        let asked = Arc::new(asked);
        distinct.insert(Arc::clone(&asked));
        Some(asked)
    }
}
