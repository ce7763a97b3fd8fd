//! Many expressions at once: finds the first that matches. A scan for literals rules most of them out; expressions that
//! need no literal of two bytes or more, such as `[0-9]+`, are always tried.

use std::collections::HashMap;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use foldhash::fast::RandomState;

use crate::effort::Effort;
use crate::literals::Need;
use crate::pattern::Pattern;

/// Up to this number, expressions are simply tried in turn.
const FEW: usize = 8;
/// Most literals in one scan: what a lookup has seen is marked in as many bits on its stack.
const MOST_LITERALS: usize = 4096;

/// Expressions in order of preference.
pub(crate) struct PatternSet {
    patterns: Box<[Arc<Pattern>]>,
    groups: Box<[ScanGroup]>,
    /// Those that need no literal, or are too few for a scan: always tried.
    always: Box<[u32]>,
}

/// One scan.
struct ScanGroup {
    scan: AhoCorasick,
    /// By literal: which expressions may match where it is found, in order.
    owners: Box<[Box<[u32]>]>,
}

impl PatternSet {
    pub(crate) fn new(patterns: Box<[Arc<Pattern>]>) -> Self {
        if patterns.len() <= FEW {
            let always = (0..).take(patterns.len()).collect();
            return Self { patterns, groups: Box::default(), always };
        }
        let (groups, always) = group(&patterns);
        Self { patterns, groups, always }
    }

    /// The first expression that matches, within the effort that is left.
    pub(crate) fn first(&self, target: &[u8], effort: &mut Effort) -> Option<usize> {
        self.first_where(target, |_| true, effort)
    }

    /// The first of those that may be taken that matches.
    pub(crate) fn first_where(
        &self,
        target: &[u8],
        may_be: impl Fn(usize) -> bool,
        effort: &mut Effort,
    ) -> Option<usize> {
        let mut best = usize::MAX;
        self.try_all(&self.always, (target, &may_be), &mut best, effort);
        for group in &self.groups {
            self.scan(group, (target, &may_be), &mut best, effort);
        }
        (best != usize::MAX).then_some(best)
    }

    fn scan(
        &self,
        group: &ScanGroup,
        (target, may_be): (&[u8], &impl Fn(usize) -> bool),
        best: &mut usize,
        effort: &mut Effort,
    ) {
        let target = &target[..effort.take(target.len())];
        let mut seen = [0u64; MOST_LITERALS / 64];
        for found in group.scan.find_overlapping_iter(target) {
            if effort.take(1) == 0 {
                return;
            }
            let literal = found.pattern().as_usize();
            let (word, bit) = (&mut seen[literal / 64], 1 << (literal % 64));
            // A literal repeated a thousand times must not cost a thousand searches.
            if *word & bit == 0 {
                *word |= bit;
                self.try_all(&group.owners[literal], (target, may_be), best, effort);
            }
        }
    }

    fn try_all(
        &self,
        candidates: &[u32],
        (target, may_be): (&[u8], &impl Fn(usize) -> bool),
        best: &mut usize,
        effort: &mut Effort,
    ) {
        let better = candidates.iter().map(|&at| at as usize).take_while(|at| at < best);
        let found = { better }.filter(|at| may_be(*at)).find(|&at| self.patterns[at].is_match(target, effort));
        *best = found.unwrap_or(*best);
    }
}

fn group(patterns: &[Arc<Pattern>]) -> (Box<[ScanGroup]>, Box<[u32]>) {
    let (mut groups, mut always) = (Vec::new(), Vec::new());
    let common = frequencies(patterns);
    let mut open = Open::default();
    for (at, pattern) in (0..).zip(patterns) {
        match rarest(pattern.needs(), &common) {
            Some(need) if open.is_full(need) => {
                groups.push(std::mem::take(&mut open));
                open.add(need, at);
            }
            Some(need) => open.add(need, at),
            None => always.push(at),
        }
    }
    groups.push(open);
    let groups = groups.into_iter().filter_map(|open| open.close(&mut always)).collect();
    always.sort_unstable();
    (groups, always.into())
}

type Counts<'a> = HashMap<&'a [u8], usize, RandomState>;

/// How many expressions need each literal.
fn frequencies(patterns: &[Arc<Pattern>]) -> Counts<'_> {
    let mut counts = Counts::default();
    for literal in patterns.iter().flat_map(|pattern| pattern.needs()).flatten() {
        *counts.entry(literal).or_default() += 1;
    }
    counts
}

/// The need that is shared least: `/shop17` rather than a `/checkout` that all have.
fn rarest<'a>(needs: &'a [Need], common: &Counts<'_>) -> Option<&'a Need> {
    let shared = |need: &&Need| need.iter().map(|literal| common[&**literal]).sum::<usize>();
    needs.iter().min_by_key(|need| (shared(need), usize::MAX - need[0].len()))
}

/// A group while it fills.
#[derive(Default)]
struct Open<'a> {
    literals: HashMap<&'a [u8], usize, RandomState>,
    owners: Vec<(&'a [u8], Vec<u32>)>,
}

impl<'a> Open<'a> {
    fn is_full(&self, need: &Need) -> bool {
        self.owners.len() + need.len() > MOST_LITERALS
    }

    fn add(&mut self, need: &'a Need, pattern: u32) {
        for literal in need {
            let at = *self.literals.entry(literal).or_insert(self.owners.len());
            if at == self.owners.len() {
                self.owners.push((literal, Vec::new()));
            }
            self.owners[at].1.push(pattern);
        }
    }

    /// The finished group; should the scan not build, its expressions are always tried.
    fn close(self, always: &mut Vec<u32>) -> Option<ScanGroup> {
        if self.owners.is_empty() {
            return None;
        }
        let literals = self.owners.iter().map(|(literal, _)| literal);
        match AhoCorasick::builder().ascii_case_insensitive(true).build(literals) {
            Ok(scan) => {
                let owners = self.owners.into_iter().map(|(_, owners)| owners.into()).collect();
                Some(ScanGroup { scan, owners })
            }
            Err(_) => {
                always.extend(self.owners.into_iter().flat_map(|(_, owners)| owners));
                None
            }
        }
    }
}

impl std::fmt::Debug for PatternSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.patterns).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn check(patterns: &[String], target: &str, expected: Option<usize>) {
        let patterns: Box<[_]> = patterns.iter().map(|text| Arc::new(Pattern::new(text).unwrap())).collect();
        let linear = patterns.iter().position(|pattern| pattern.is_match(target.as_bytes(), &mut Effort::default()));
        let found = PatternSet::new(patterns).first(target.as_bytes(), &mut Effort::default());
        assert_eq!((found, linear), (expected, expected), "{target}");
    }

    #[test]
    fn finds_the_first_that_matches() {
        let mut patterns: Vec<_> = (0..6000).map(|n| format!("^/app{n}(/|$)")).collect();
        check(&patterns, "/app5999/x", Some(5999));
        check(&patterns, "/app17", Some(17));
        check(&patterns, "/app6000", None);
        patterns.push("[0-9]+$".into());
        check(&patterns, "/APP6000", Some(6000));
        patterns[4] = "(/foo|/bar)/x".into();
        check(&patterns, "/bar/x/app17/", Some(4));
        check(&patterns[..3], "/app2", Some(2));
        check(&[], "/", None);
    }

    const TEXTS: &[&str] = &[
        "^/a",
        "b$",
        "/a/[a-c]",
        "(/a|/b)/c",
        "/ab?c",
        "c/d|d/c",
        "(ab)+c",
        "/a{2}b",
        "x(ab|cd)?y",
        "ab.*ca",
        "(?i:AB)c",
        "[^/]b/c",
        "^/(ab|ca|bc)$",
        "aa",
        "/bb/",
        "(a|bc)(b|ca)/",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_trying_all(texts in vec(select(TEXTS), 9..40), target in "/[abcdxy/]{0,12}") {
            let patterns: Box<[_]> = texts.iter().map(|text| Arc::new(Pattern::new(text).unwrap())).collect();
            let linear = patterns.iter().position(|pattern| pattern.is_match(target.as_bytes(), &mut Effort::default()));
            prop_assert_eq!(PatternSet::new(patterns).first(target.as_bytes(), &mut Effort::default()), linear);
        }
    }
}
