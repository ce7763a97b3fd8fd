//! Settles the rules of services that share a host: the route of each key of a map. Knows no maps and no HAProxy.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use pointsman_table::{HttpEntry, PathRule};

use super::super::pattern::{Expression, translate};

/// The target of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) priority: i64,
    /// How specific its path is: 0 for any path, 1 for an expression, else 2 plus the prefix's length.
    closeness: usize,
    /// The service's place among all.
    pub(super) service: u32,
    /// Whether the service has no instances.
    is_empty: bool,
    /// Bytes of the target to cut off.
    pub(super) strip: u32,
}

impl Leaf {
    /// Precedence among rules for one host, as in the table's index.
    fn rank(&self) -> impl Ord + use<> {
        let gives_way = self.is_empty && self.closeness != EXPRESSION;
        (self.priority, self.closeness, Reverse(gives_way), Reverse(self.service), self.strip)
    }
}

/// The closeness of an expression.
const EXPRESSION: usize = 1;

/// A prefix of lookup strings, and its target.
type Key<'a> = (Cow<'a, str>, Leaf);

/// Rules for one host, or for any.
#[derive(Default)]
pub(super) struct Scope<'a> {
    /// The best rule for any path.
    bare: Option<Leaf>,
    prefixes: Vec<Key<'a>>,
    patterns: Vec<(Expression, Leaf)>,
}

impl<'a> Scope<'a> {
    /// Adds a service's rules. The rule for any path counts only where its host matched.
    pub(super) fn add(&mut self, at: u32, entry: &'a HttpEntry, is_empty: bool, host_matched: bool) {
        let leaf = Leaf { priority: entry.priority, closeness: 0, service: at, is_empty, strip: 0 };
        if host_matched && (entry.either || entry.paths.is_empty()) {
            self.bare = self.bare.into_iter().chain([leaf]).max_by_key(Leaf::rank);
        }
        for path in &entry.paths {
            self.add_path(path, Leaf { strip: strip(path, entry.keep_virtual_path), ..leaf });
        }
    }

    fn add_path(&mut self, path: &'a PathRule, leaf: Leaf) {
        if let PathRule::Pattern(pattern) = path {
            return self
                .patterns
                .extend(translate(pattern).map(|pattern| (pattern, Leaf { closeness: EXPRESSION, ..leaf })));
        }
        let text = path.text();
        let leaf = Leaf { closeness: 2 + text.len(), ..leaf };
        match path {
            _ if !may_begin_target(text) => {}
            // A segment ends at a slash, at the query, or at the target's end, which is marked by `#`.
            PathRule::Segments(_) if text != "/" => {
                self.prefixes.extend(['/', '?', '#'].map(|end| (format!("{text}{end}").into(), leaf)));
            }
            _ => self.prefixes.push((text.into(), leaf)),
        }
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The rule for any path, if expressions are tried before it.
    pub(super) fn rest(&self) -> Option<Leaf> {
        self.bare.filter(|_| self.has_patterns())
    }

    /// Expressions over this scope, best first.
    pub(super) fn patterns(&self, id: &str) -> Vec<(Box<str>, Leaf)> {
        let mut patterns: Vec<_> = self.patterns.iter().collect();
        // Of services with the same expression only the first counts: among different ones the name decides alone.
        patterns.sort_by_key(|(_, leaf)| (Reverse(leaf.priority), leaf.is_empty, leaf.service));
        let mut known = HashSet::new();
        patterns.retain(|(expression, _)| known.insert(expression));
        patterns.sort_by_key(|(_, leaf)| Reverse(leaf.rank()));
        patterns.into_iter().map(|(expression, leaf)| (expression.over(id).into(), *leaf)).collect()
    }

    /// Prefixes of lookup strings, without the scope's id, each with its target: the longest that matches wins.
    pub(super) fn paths(self) -> Vec<Key<'a>> {
        let bare = self.bare.filter(|_| self.patterns.is_empty());
        settle(self.prefixes.into_iter().chain(bare.map(|leaf| ("".into(), leaf))).collect())
    }
}

/// Gives each key the best rule of all its prefixes, as those match whatever it matches. Keys that a shorter one then
/// makes redundant are left out.
fn settle(mut keys: Vec<Key<'_>>) -> Vec<Key<'_>> {
    keys.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| right.rank().cmp(&left.rank())));
    keys.dedup_by(|later, kept| later.0 == kept.0);
    let mut settled: Vec<Key<'_>> = Vec::with_capacity(keys.len());
    // Positions of the keys that are prefixes of the current one, shortest first.
    let mut around: Vec<usize> = Vec::new();
    for (text, leaf) in keys {
        while around.pop_if(|at| !text.starts_with(&*settled[*at].0)).is_some() {}
        let inherited = around.last().map(|&at| settled[at].1).filter(|inherited| inherited.rank() > leaf.rank());
        if inherited.is_none() {
            around.push(settled.len());
            settled.push((text, leaf));
        }
    }
    settled
}

/// Whether a target can have this prefix: HAProxy refuses any other target, and `#` ends our lookup strings.
fn may_begin_target(prefix: &str) -> bool {
    prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// How many bytes a rule cuts off. Cutting off a lone `/` would change nothing.
fn strip(path: &PathRule, keep: bool) -> u32 {
    match path {
        PathRule::Virtual(text) if text.len() > 1 && !keep => {
            u32::try_from(text.len()).expect("a prefix's length is limited when it is parsed")
        }
        _ => 0,
    }
}
