//! Builds the index from the rules of all services. Says which rules can never win; never matches a request.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::address::HostPattern;
use crate::conditions::Conditions;
use crate::host_map::{HostKey, HostMap, HostRules};
use crate::index::{HttpIndex, Numbered, PathRules, PatternSets, Patterns, Shadow, ShadowedRule};
use crate::leaf::{EXPRESSION, Leaf, NO_RULE};
use crate::model::{HttpEntry, PathRule};
use crate::pattern::Pattern;
use crate::pattern_set::PatternSet;
use crate::prefixes::{Prefix, Prefixes};

/// Builds an index. `services` are ordered by name; `old` lends what has not changed.
pub(crate) fn build(services: &[Numbered<'_>], old: Option<&HttpIndex>) -> HttpIndex {
    let hosts = Hosts::of(services);
    let mut builder = Builder::new(services, old);
    let exact = builder.by_host(&hosts.exact);
    let wildcard = builder.by_host(&hosts.wildcard);
    let any = builder.path_rules(&hosts.any, Scope::AnyHost);
    let (default, defaults) = builder.default(&hosts.default);
    let conditions = services.iter().filter_map(|one| Some((one.number, one.entry.conditions.clone()?))).collect();
    let Builder { rules, sets, mut shadows, rivals, .. } = builder;
    shadows.sort();
    let rivals = rivals.into_iter().collect();
    HttpIndex {
        exact,
        wildcard,
        rules: rules.into(),
        any,
        default,
        defaults,
        conditions,
        sets,
        shadows: shadows.into(),
        rivals,
    }
}

/// Positions of services, by the hosts that their rules name.
#[derive(Default)]
struct Hosts<'a> {
    exact: Vec<(&'a HostPattern, u32)>,
    wildcard: Vec<(&'a HostPattern, u32)>,
    any: Vec<u32>,
    default: Vec<u32>,
}

impl<'a> Hosts<'a> {
    fn of(services: &[Numbered<'a>]) -> Self {
        let mut hosts = Self::default();
        for (at, service) in (0..).zip(services) {
            hosts.add(at, service.entry);
        }
        hosts
    }

    fn add(&mut self, at: u32, entry: &'a HttpEntry) {
        for host in &entry.hosts {
            match host {
                HostPattern::Exact(_) => self.exact.push((host, at)),
                HostPattern::Wildcard(_) => self.wildcard.push((host, at)),
            }
        }
        if !entry.paths.is_empty() && (entry.hosts.is_empty() || entry.either) {
            self.any.push(at);
        }
        if entry.default {
            self.default.push(at);
        }
    }
}

/// Which services name each host.
struct Owners<'a> {
    by_host: HashMap<HostKey, Owner, RandomState>,
    lists: Vec<(&'a HostPattern, Vec<u32>)>,
}

/// The services that name a host, by position.
#[derive(Clone, Copy)]
enum Owner {
    One(u32),
    /// The services of this list.
    Several(usize),
}

impl<'a> Owners<'a> {
    fn of(pairs: &[(&'a HostPattern, u32)]) -> Self {
        let by_host = HashMap::with_capacity_and_hasher(pairs.len(), RandomState::default());
        let mut owners = Self { by_host, lists: Vec::new() };
        for &(host, at) in pairs {
            match owners.by_host.entry(host.name().into()) {
                Entry::Vacant(vacant) => drop(vacant.insert(Owner::One(at))),
                Entry::Occupied(mut occupied) => match *occupied.get() {
                    Owner::Several(list) => owners.lists[list].1.push(at),
                    Owner::One(first) => {
                        occupied.insert(Owner::Several(owners.lists.len()));
                        owners.lists.push((host, vec![first, at]));
                    }
                },
            }
        }
        owners
    }
}

/// A set of path rules.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// Those of services that have this host; `None`: of one service, whatever its hosts.
    Host(Option<&'a HostPattern>),
    /// Those of services that take any host.
    AnyHost,
}

impl<'a> Scope<'a> {
    fn host(self) -> Option<&'a HostPattern> {
        match self {
            Self::Host(host) => host,
            Self::AnyHost => None,
        }
    }
}

struct Builder<'a> {
    services: &'a [Numbered<'a>],
    old: Option<&'a PatternSets>,
    rules: Vec<PathRules>,
    /// Position in `rules`, by the services that share it.
    known: HashMap<Box<[u32]>, u32, RandomState>,
    sets: PatternSets,
    shadows: Vec<Shadow>,
    rivals: BTreeSet<u32>,
}

impl<'a> Builder<'a> {
    fn new(services: &'a [Numbered<'a>], old: Option<&'a HttpIndex>) -> Self {
        Self {
            services,
            old: old.map(|old| &old.sets),
            rules: Vec::new(),
            known: HashMap::default(),
            sets: PatternSets::default(),
            shadows: Vec::new(),
            rivals: BTreeSet::new(),
        }
    }

    fn by_host(&mut self, pairs: &[(&'a HostPattern, u32)]) -> HostMap {
        let owners = Owners::of(pairs);
        let rules = |(host, owner)| match owner {
            Owner::One(at) => (host, self.rules_of_one(at)),
            Owner::Several(at) => {
                let (named, list) = &owners.lists[at];
                (host, HostRules::Paths(self.shared_rules(list, Some(named))))
            }
        };
        owners.by_host.into_iter().map(rules).collect()
    }

    /// Most hosts belong to one service that takes any path: that needs no rules of its own.
    fn rules_of_one(&mut self, at: u32) -> HostRules {
        let Numbered { number: service, entry, .. } = self.services[at as usize];
        if entry.paths.is_empty() && entry.priority == 0 && entry.conditions.is_none() {
            return HostRules::Plain(service);
        }
        HostRules::Paths(self.shared_rules(&[at], None))
    }

    /// The position of these services' rules, built on first use.
    fn shared_rules(&mut self, list: &[u32], host: Option<&HostPattern>) -> u32 {
        if let Some(&at) = self.known.get(list) {
            return at;
        }
        let rules = self.path_rules(list, Scope::Host(host));
        let at = u32::try_from(self.rules.len()).expect("2^32 hosts do not fit in memory");
        self.rules.push(rules);
        self.known.insert(list.into(), at);
        at
    }

    /// The path rules of services that have this host, or of those that take any.
    fn path_rules(&mut self, list: &[u32], scope: Scope<'_>) -> PathRules {
        let mut gathered = Gathered::default();
        for &at in list {
            gathered.add(self.services[at as usize], matches!(scope, Scope::Host(_)));
        }
        if list.len() > 1 {
            self.shadows.extend(gathered.shadows(scope));
            self.rivals.extend(gathered.rivals());
        }
        let patterns = self.patterns(gathered.patterns);
        PathRules {
            top: gathered.top.unwrap_or(i64::MIN),
            bare: gathered.bare.iter().copied().max_by_key(Leaf::rank),
            bares: choosy(gathered.bare),
            prefixes: (!gathered.prefixes.is_empty()).then(|| Box::new(Prefixes::new(gathered.prefixes))),
            patterns,
        }
    }

    fn patterns(&mut self, mut found: Vec<(&Arc<Pattern>, Leaf)>) -> Option<Box<Patterns>> {
        if found.is_empty() {
            return None;
        }
        // Of services with the same expression and conditions only the first counts: among different ones the name decides
        // alone.
        found.sort_by_key(|(_, leaf)| (Reverse(leaf.priority), leaf.is_empty, leaf.service));
        let mut known = HashSet::with_capacity_and_hasher(found.len(), RandomState::default());
        found.retain(|(pattern, leaf)| known.insert((pattern.as_str(), self.conditions(leaf))));
        found.sort_by_key(|(_, leaf)| Reverse(leaf.rank()));
        let patterns: Box<[_]> = found.iter().map(|&(pattern, _)| pattern.clone()).collect();
        let leaves = found.iter().map(|&(_, leaf)| leaf).collect();
        Some(Box::new(Patterns { set: self.set(patterns), leaves }))
    }

    fn set(&mut self, patterns: Box<[Arc<Pattern>]>) -> Arc<PatternSet> {
        if let Some(set) = self.sets.get(&patterns) {
            return set.clone();
        }
        let old = self.old.and_then(|old| old.get(&patterns));
        let set = old.cloned().unwrap_or_else(|| Arc::new(PatternSet::new(patterns.clone())));
        self.sets.insert(patterns, set.clone());
        set
    }

    /// The default, and all of them if any has conditions.
    fn default(&mut self, list: &[u32]) -> (Option<Leaf>, Box<[Leaf]>) {
        let services = self.services;
        let leaf = |&at: &u32| {
            let Numbered { number, entry, is_empty } = services[at as usize];
            Leaf { is_empty, conditions: count(entry), ..Leaf::plain(number) }
        };
        let mut leaves: Vec<Leaf> = list.iter().map(leaf).collect();
        leaves.sort_by_key(|leaf| Reverse(leaf.rank()));
        let mut first: HashMap<&str, u32, RandomState> = HashMap::default();
        for leaf in &leaves {
            let winner = *first.entry(self.conditions(leaf)).or_insert(leaf.service);
            if winner != leaf.service {
                self.shadows.push(Shadow { loser: leaf.service, winner, rule: ShadowedRule::Default, host: None });
            }
        }
        for same in leaves.chunk_by(|a, b| a.conditions == b.conditions).filter(|same| same.len() > 1) {
            self.rivals.extend(same.iter().map(|leaf| leaf.service));
        }
        (leaves.first().copied(), choosy(leaves))
    }

    /// The conditions of a leaf's service.
    fn conditions(&self, leaf: &Leaf) -> &'a str {
        let services = self.services;
        if leaf.conditions == 0 {
            return "";
        }
        let found = services.binary_search_by_key(&leaf.service, |one| one.number);
        let entry = found.ok().map(|at| services[at].entry);
        entry.and_then(|entry| entry.conditions.as_deref()).map(Conditions::as_str).unwrap_or_default()
    }
}

/// How many conditions a service has.
fn count(entry: &HttpEntry) -> u32 {
    entry.conditions.as_ref().map_or(0, |conditions| conditions.count())
}

/// All leaves, best first, if any has conditions: else the best is all that a lookup needs.
fn choosy(mut leaves: Vec<Leaf>) -> Box<[Leaf]> {
    if leaves.iter().all(|leaf| leaf.conditions == 0) {
        return Box::default();
    }
    leaves.sort_by_key(|leaf| Reverse(leaf.rank()));
    leaves.into()
}

/// The rules of several services for one host, or for any.
#[derive(Default)]
struct Gathered<'a> {
    top: Option<i64>,
    bare: Vec<Leaf>,
    prefixes: Vec<Prefix<'a>>,
    patterns: Vec<(&'a Arc<Pattern>, Leaf)>,
    conditions: HashMap<u32, &'a str, RandomState>,
}

impl<'a> Gathered<'a> {
    fn add(&mut self, Numbered { number: service, entry, is_empty }: Numbered<'a>, host_matched: bool) {
        self.top = self.top.max(Some(entry.priority));
        let leaf = Leaf { priority: entry.priority, is_empty, conditions: count(entry), ..Leaf::plain(service) };
        self.conditions.extend(entry.conditions.as_ref().map(|conditions| (service, conditions.as_str())));
        if host_matched && (entry.either || entry.paths.is_empty()) {
            self.bare.push(leaf);
        }
        for (rule, path) in (0..).zip(&entry.paths) {
            let strip = if entry.keep_virtual_path { 0 } else { strip(path) };
            self.add_path(path, Leaf { rule, strip, ..leaf });
        }
    }

    fn add_path(&mut self, path: &'a PathRule, leaf: Leaf) {
        let (text, segments) = match path {
            PathRule::Begins(text) | PathRule::Virtual(text) => (text, false),
            PathRule::Segments(text) => (text, true),
            PathRule::Pattern(pattern) => {
                return self.patterns.push((pattern, Leaf { closeness: EXPRESSION, ..leaf }));
            }
        };
        let closeness = 2 + u32::try_from(text.len()).expect("a prefix's length is limited when it is parsed");
        self.prefixes.push(Prefix { text, segments, leaf: Leaf { closeness, ..leaf } });
    }

    /// Rules that lose to the same rule of an earlier service.
    fn shadows(&self, scope: Scope<'_>) -> Vec<Shadow> {
        let mut first: HashMap<Rule<'_>, (bool, u32), RandomState> = HashMap::default();
        let mut shadows = Vec::new();
        for (rule, leaf) in self.rules() {
            let own = (leaf.is_empty, leaf.service);
            let winner = *first.entry(rule).or_insert(own);
            let (_, winner) = first.get(&rule.without_segments()).map_or(winner, |&whole| whole.min(winner));
            if winner != leaf.service {
                let host = scope.host().map(|host| host.to_string().into());
                shadows.push(Shadow { loser: leaf.service, winner, rule: shadowed(leaf), host });
            }
        }
        shadows
    }

    /// Services that share a rule with another.
    fn rivals(&self) -> Vec<u32> {
        let mut first: HashMap<Rule<'_>, u32, RandomState> = HashMap::default();
        let mut rivals = Vec::new();
        for (rule, Leaf { service, .. }) in self.rules() {
            let other = *first.entry(rule.without_segments().of_any_conditions()).or_insert(service);
            if other != service {
                rivals.extend([other, service]);
            }
        }
        rivals
    }

    /// All rules: those of services that have instances first, then by service.
    fn rules(&self) -> Vec<(Rule<'a>, Leaf)> {
        let rule = |kind, text, leaf: Leaf| {
            let conditions = self.conditions.get(&leaf.service).copied().unwrap_or_default();
            (Rule { priority: leaf.priority, kind, text, count: leaf.conditions, conditions }, leaf)
        };
        let bare = self.bare.iter().map(|&leaf| rule(Kind::Bare, "", leaf));
        let prefixes = self.prefixes.iter().map(|prefix| {
            let kind = if prefix.segments { Kind::Segments } else { Kind::Prefix };
            rule(kind, prefix.text, prefix.leaf)
        });
        let patterns = self.patterns.iter().map(|(pattern, leaf)| rule(Kind::Pattern, pattern.as_str(), *leaf));
        let mut rules: Vec<_> = bare.chain(prefixes).chain(patterns).collect();
        rules.sort_by_key(|(_, leaf)| (leaf.is_empty, leaf.service));
        rules
    }
}

/// Equal for two rules for one host that are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Rule<'a> {
    priority: i64,
    kind: Kind,
    text: &'a str,
    count: u32,
    conditions: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Bare,
    Prefix,
    Segments,
    Pattern,
}

impl Rule<'_> {
    /// A plain prefix matches everything that the same prefix by whole segments matches.
    fn without_segments(self) -> Self {
        let kind = if self.kind == Kind::Segments { Kind::Prefix } else { self.kind };
        Self { kind, ..self }
    }

    /// The same for any conditions, if there are as many.
    fn of_any_conditions(self) -> Self {
        Self { conditions: "", ..self }
    }
}

fn shadowed(leaf: Leaf) -> ShadowedRule {
    match leaf.rule {
        NO_RULE => ShadowedRule::Host,
        rule => ShadowedRule::Path(rule),
    }
}

/// How many bytes a rule takes off. Taking off a lone `/` would change nothing.
fn strip(rule: &PathRule) -> u32 {
    match rule {
        PathRule::Virtual(text) if text.len() > 1 => {
            u32::try_from(text.len()).expect("a prefix's length is limited when it is parsed")
        }
        _ => 0,
    }
}
