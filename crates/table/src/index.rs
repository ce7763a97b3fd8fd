//! Finds the HTTP service for a request. Owns precedence; a lookup takes no lock and allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::conditions::{Asked, Conditions};
use crate::effort::{Effort, TooLong};
use crate::host::{HostBuffer, parents};
use crate::host_map::{HostMap, HostRules};
use crate::leaf::Leaf;
use crate::model::{HttpEntry, Service};
use crate::pattern::Pattern;
use crate::pattern_set::PatternSet;
use crate::prefixes::Prefixes;

/// All rules of all HTTP services.
#[derive(Debug, Default)]
pub(crate) struct HttpIndex {
    pub(crate) exact: HostMap,
    /// By the text after `*.`.
    pub(crate) wildcard: HostMap,
    /// The rules that hosts point to: hosts of the same services share one entry.
    pub(crate) rules: Box<[PathRules]>,
    /// Rules of services for any host.
    pub(crate) any: PathRules,
    pub(crate) default: Option<Leaf>,
    /// All defaults, best first, if any has conditions.
    pub(crate) defaults: Box<[Leaf]>,
    /// The conditions of the services that have some.
    pub(crate) conditions: HashMap<u32, Arc<Conditions>, RandomState>,
    /// Kept so that the next index need not build them again.
    pub(crate) sets: PatternSets,
    /// Rules that never win because another service has the same.
    pub(crate) shadows: Box<[Shadow]>,
    /// Services, ordered, that share a rule with another: which one wins depends on their instances.
    pub(crate) rivals: Box<[u32]>,
}

pub(crate) type PatternSets = HashMap<Box<[Arc<Pattern>]>, Arc<PatternSet>, RandomState>;

/// An HTTP service, as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbered<'a> {
    pub(crate) number: u32,
    pub(crate) entry: &'a HttpEntry,
    pub(crate) is_empty: bool,
}

impl<'a> Numbered<'a> {
    /// `None` for a service without rules for requests.
    pub(crate) fn new(number: u32, service: &'a Service) -> Option<Self> {
        Some(Self { number, entry: service.rules()?, is_empty: service.is_empty() })
    }
}

/// Rules about paths, for one set of services.
#[derive(Debug, Default)]
pub(crate) struct PathRules {
    /// The highest priority in here.
    pub(crate) top: i64,
    /// The rules for any path.
    pub(crate) bare: Option<Leaf>,
    /// All of them, best first, if any has conditions.
    pub(crate) bares: Box<[Leaf]>,
    pub(crate) prefixes: Option<Box<Prefixes>>,
    pub(crate) patterns: Option<Box<Patterns>>,
}

/// Expressions, best first, and the target of each.
#[derive(Debug)]
pub(crate) struct Patterns {
    pub(crate) set: Arc<PatternSet>,
    pub(crate) leaves: Box<[Leaf]>,
}

/// How a rule matched the host. Later variants rank higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostMatch {
    /// The default service.
    Default,
    /// A rule for any host.
    Any,
    /// By a wildcard, with the length of the text behind `*.`.
    Wildcard(usize),
    /// By the exact name.
    Exact,
}

/// A rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) host: HostMatch,
    pub(crate) leaf: Leaf,
}

/// A rule that never wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shadow {
    pub(crate) loser: u32,
    pub(crate) winner: u32,
    pub(crate) rule: ShadowedRule,
    /// The host that both have; `None` for any.
    pub(crate) host: Option<Box<str>>,
}

/// Which rule of the loser it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShadowedRule {
    Default,
    /// A host for any path.
    Host,
    /// The path rule of this number.
    Path(u32),
}

impl Found {
    /// The whole precedence: the greatest match takes the request.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (self.precedence(), self.leaf.precedes())
    }

    /// Precedence of the rule, apart from its service.
    pub(crate) fn precedence(&self) -> Precedence {
        (self.host != HostMatch::Default, self.leaf.priority, self.host, self.leaf.closeness, self.leaf.conditions)
    }
}

/// Not the default; priority; host; path; conditions.
pub(crate) type Precedence = (bool, i64, HostMatch, u32, u32);

/// A lookup that passes over services whose conditions do not hold.
struct Choosy<'a, A> {
    index: &'a HttpIndex,
    target: &'a str,
    asked: &'a A,
    effort: Effort,
}

impl HttpIndex {
    /// The rule that takes a request.
    pub(crate) fn find(&self, host: &str, target: &str, asked: &impl Asked) -> Result<Option<Found>, TooLong> {
        match self.closest(host, target)? {
            Some(found) if found.leaf.conditions > 0 => self.find_choosily(host, target, asked),
            found => Ok(found),
        }
    }

    /// The rule that takes a request if all conditions hold.
    pub(crate) fn closest(&self, host: &str, target: &str) -> Result<Option<Found>, TooLong> {
        let mut effort = Effort::default();
        let found = self.search(host, target, &mut effort);
        if effort.is_spent() { Err(TooLong) } else { Ok(found) }
    }

    /// The same for a request whose closest rule has conditions: once more, among the services whose conditions hold.
    #[cold]
    fn find_choosily(&self, host: &str, target: &str, asked: &impl Asked) -> Result<Option<Found>, TooLong> {
        let mut choosy = Choosy { index: self, target, asked, effort: Effort::default() };
        let found = choosy.search(host);
        if choosy.effort.is_spent() { Err(TooLong) } else { Ok(found) }
    }

    fn search(&self, host: &str, target: &str, effort: &mut Effort) -> Option<Found> {
        let mut buffer = HostBuffer::default();
        let host = buffer.normal(host);
        let target = target.as_bytes();
        let mut best = None;
        if let Some(&rules) = self.exact.get(host) {
            self.improve(&mut best, rules, HostMatch::Exact, target, effort);
        }
        if !self.wildcard.is_empty() {
            self.find_wildcard(host, target, &mut best, effort);
        }
        self.any.improve(&mut best, HostMatch::Any, target, effort);
        best.or_else(|| self.default.map(|leaf| Found { host: HostMatch::Default, leaf }))
    }

    fn find_wildcard(&self, host: &[u8], target: &[u8], best: &mut Option<Found>, effort: &mut Effort) {
        for parent in parents(host) {
            if let Some(&rules) = self.wildcard.get(parent) {
                self.improve(best, rules, HostMatch::Wildcard(parent.len()), target, effort);
            }
        }
    }

    fn improve(&self, best: &mut Option<Found>, rules: HostRules, host: HostMatch, target: &[u8], effort: &mut Effort) {
        match rules {
            HostRules::Paths(at) => self.rules[at as usize].improve(best, host, target, effort),
            HostRules::Plain(service) => improve(best, Some(Found { host, leaf: Leaf::plain(service) })),
        }
    }
}

impl PathRules {
    /// Replaces the best so far by a match found here, if that ranks higher.
    fn improve(&self, best: &mut Option<Found>, host: HostMatch, target: &[u8], effort: &mut Effort) {
        // Hosts are asked closest first, so only a higher priority can beat what was found.
        if best.is_some_and(|best| best.leaf.priority >= self.top) {
            return;
        }
        improve(best, self.find(target, effort).map(|leaf| Found { host, leaf }));
    }

    fn find(&self, target: &[u8], effort: &mut Effort) -> Option<Leaf> {
        let prefix = self.prefixes.as_ref().and_then(|prefixes| prefixes.find(target));
        let best = better(self.bare, prefix);
        match &self.patterns {
            Some(patterns) if patterns.could_beat(best) => better(best, patterns.find(target, effort)),
            _ => best,
        }
    }
}

impl<A: Asked> Choosy<'_, A> {
    fn search(&mut self, host: &str) -> Option<Found> {
        let index = self.index;
        let mut buffer = HostBuffer::default();
        let host = buffer.normal(host);
        let mut best = None;
        if let Some(&rules) = index.exact.get(host) {
            self.improve_by(&mut best, rules, HostMatch::Exact);
        }
        for parent in parents(host) {
            if let Some(&rules) = index.wildcard.get(parent) {
                self.improve_by(&mut best, rules, HostMatch::Wildcard(parent.len()));
            }
        }
        self.improve(&mut best, &index.any, HostMatch::Any);
        best.or_else(|| {
            let defaults = if index.defaults.is_empty() { index.default.as_slice() } else { &index.defaults };
            self.first(defaults).map(|leaf| Found { host: HostMatch::Default, leaf })
        })
    }

    fn improve_by(&mut self, best: &mut Option<Found>, rules: HostRules, host: HostMatch) {
        match rules {
            HostRules::Paths(at) => self.improve(best, &self.index.rules[at as usize], host),
            HostRules::Plain(service) => improve(best, Some(Found { host, leaf: Leaf::plain(service) })),
        }
    }

    fn improve(&mut self, best: &mut Option<Found>, rules: &PathRules, host: HostMatch) {
        // Hosts are asked closest first, so only a higher priority can beat what was found.
        if best.is_some_and(|best| best.leaf.priority >= rules.top) {
            return;
        }
        improve(best, self.find(rules).map(|leaf| Found { host, leaf }));
    }

    fn find(&mut self, rules: &PathRules) -> Option<Leaf> {
        let bares = if rules.bares.is_empty() { rules.bare.as_slice() } else { &rules.bares };
        let mut best = self.first(bares);
        let target = self.target.as_bytes();
        if let Some(prefixes) = &rules.prefixes {
            best = better(best, prefixes.find_where(target, |leaf| self.holds(leaf)));
        }
        match &rules.patterns {
            Some(patterns) if patterns.could_beat(best) => better(best, self.first_pattern(patterns)),
            _ => best,
        }
    }

    /// The first leaf whose conditions hold.
    fn first(&mut self, leaves: &[Leaf]) -> Option<Leaf> {
        leaves.iter().copied().find(|leaf| self.holds(leaf))
    }

    fn first_pattern(&mut self, patterns: &Patterns) -> Option<Leaf> {
        let leaves = &patterns.leaves;
        let held: Vec<bool> = leaves.iter().map(|leaf| self.holds(leaf)).collect();
        let found = patterns.set.first_where(self.target.as_bytes(), |at| held[at], &mut self.effort);
        found.map(|at| leaves[at])
    }

    fn holds(&mut self, leaf: &Leaf) -> bool {
        leaf.conditions == 0
            || self
                .index
                .conditions
                .get(&leaf.service)
                .is_some_and(|conditions| conditions.hold(self.target, self.asked, &mut self.effort))
    }
}

fn improve(best: &mut Option<Found>, found: Option<Found>) {
    if let Some(found) = found
        && best.is_none_or(|best| found.rank() > best.rank())
    {
        *best = Some(found);
    }
}

impl Patterns {
    fn could_beat(&self, best: Option<Leaf>) -> bool {
        let first = self.leaves.first().map(Leaf::rank);
        first > best.map(|leaf| leaf.rank())
    }

    fn find(&self, target: &[u8], effort: &mut Effort) -> Option<Leaf> {
        self.set.first(target, effort).map(|at| self.leaves[at])
    }
}

fn better(a: Option<Leaf>, b: Option<Leaf>) -> Option<Leaf> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.rank() > a.rank() { b } else { a }),
        (one, other) => one.or(other),
    }
}
