//! Finds the longest path prefix that wins. Sorted once; a lookup is one binary search, whatever the rules.

use std::cmp::Reverse;

use crate::leaf::Leaf;

/// Prefixes with the winner below each, sorted by text.
///
/// Prefixes nest: all that match a target are ancestors of the longest one. Whether a shorter one matches by whole
/// segments is known from the text of the longer, so each node carries the winner over itself and its ancestors.
#[derive(Debug)]
pub(crate) struct Prefixes {
    nodes: Box<[Node]>,
    /// The rules of each node, best first, if any rule has conditions.
    rules: Box<[Box<[OwnRule]>]>,
}

/// A rule of a node: whether only whole segments match, and where it leads.
type OwnRule = (bool, Leaf);

#[derive(Debug)]
struct Node {
    text: Box<[u8]>,
    /// The longest other prefix that this one starts with.
    parent: Option<u32>,
    /// The winner if a segment ends where the text does.
    at_end: Option<Leaf>,
    /// The winner if it goes on: `/apix` for `/api`.
    within: Option<Leaf>,
}

/// One rule to index.
pub(crate) struct Prefix<'a> {
    pub(crate) text: &'a str,
    /// Whether only whole segments match.
    pub(crate) segments: bool,
    pub(crate) leaf: Leaf,
}

impl Prefixes {
    /// Indexes rules, given in any order.
    pub(crate) fn new(mut rules: Vec<Prefix<'_>>) -> Self {
        rules.sort_by(|a, b| a.text.cmp(b.text));
        let is_choosy = rules.iter().any(|rule| rule.leaf.conditions > 0);
        let mut nodes: Vec<Node> = Vec::new();
        let mut own = Vec::new();
        let mut last = None;
        for same in rules.chunk_by(|a, b| a.text == b.text) {
            let parent = ancestor(&nodes, last, |node| same[0].text.as_bytes().starts_with(&node.text));
            last = u32::try_from(nodes.len()).ok();
            nodes.push(node(same, parent, &nodes));
            if is_choosy {
                let mut rules: Vec<OwnRule> = same.iter().map(|rule| (rule.segments, rule.leaf)).collect();
                rules.sort_by_key(|(_, leaf)| Reverse(leaf.rank()));
                own.push(rules.into());
            }
        }
        Self { nodes: nodes.into(), rules: own.into() }
    }

    /// The winner among the prefixes of this target.
    pub(crate) fn find(&self, target: &[u8]) -> Option<Leaf> {
        self.nodes[self.longest(target)? as usize].winner(target)
    }

    /// The winner among the prefixes of this target whose services may be taken.
    pub(crate) fn find_where(&self, target: &[u8], mut may_be: impl FnMut(&Leaf) -> bool) -> Option<Leaf> {
        if self.rules.is_empty() {
            return self.find(target);
        }
        let (mut at, mut best) = (self.longest(target), None::<Leaf>);
        while let Some(index) = at {
            let node = &self.nodes[index as usize];
            let ends = segment_ends(&node.text, target);
            let mut rules = self.rules[index as usize].iter().filter(|(segments, _)| ends || !segments);
            let found = rules.find(|(_, leaf)| may_be(leaf)).map(|(_, leaf)| *leaf);
            if found.map(|leaf| leaf.rank()) > best.map(|leaf| leaf.rank()) {
                best = found;
            }
            at = node.parent;
        }
        best
    }

    /// The longest prefix of this target.
    fn longest(&self, target: &[u8]) -> Option<u32> {
        let after = self.nodes.partition_point(|node| *node.text <= *target);
        let nearest = after.checked_sub(1)?;
        let shared = shared_length(&self.nodes[nearest].text, target);
        let start = u32::try_from(nearest).ok();
        ancestor(&self.nodes, start, |node| node.text.len() <= shared)
    }
}

impl Node {
    fn winner(&self, target: &[u8]) -> Option<Leaf> {
        if segment_ends(&self.text, target) { self.at_end } else { self.within }
    }
}

/// The first of a node and its ancestors that fits.
fn ancestor(nodes: &[Node], mut at: Option<u32>, fits: impl Fn(&Node) -> bool) -> Option<u32> {
    while let Some(node) = at.map(|at| &nodes[at as usize]) {
        if fits(node) {
            return at;
        }
        at = node.parent;
    }
    None
}

fn node(rules: &[Prefix<'_>], parent: Option<u32>, nodes: &[Node]) -> Node {
    let text: Box<[u8]> = rules[0].text.as_bytes().into();
    let inherited = parent.and_then(|parent| nodes[parent as usize].winner(&text));
    let best = |rules: &mut dyn Iterator<Item = &Prefix<'_>>| {
        rules.map(|rule| rule.leaf).chain(inherited).max_by_key(Leaf::rank)
    };
    let at_end = best(&mut rules.iter());
    let within = best(&mut rules.iter().filter(|rule| !rule.segments));
    Node { text, parent, at_end, within }
}

/// Whether a path segment of `target` ends where `prefix` does; `target` starts with it.
fn segment_ends(prefix: &[u8], target: &[u8]) -> bool {
    prefix.ends_with(b"/") || matches!(target.get(prefix.len()), None | Some(b'/' | b'?'))
}

fn shared_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
