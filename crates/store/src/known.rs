//! The keys that a follower has sent so far, with one fingerprint per value: enough to detect that a new listing
//! differs. Stores no values, does no IO.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;

use foldhash::fast::RandomState;
use pointsman_table::Change;

/// The keys sent so far and a fingerprint of each value.
#[derive(Debug, Default)]
pub(super) struct Known {
    hasher: RandomState,
    prints: BTreeMap<Box<str>, u64>,
}

impl Known {
    /// Whether this listing differs from the keys sent so far.
    pub(super) fn differs(&self, entries: &[(Box<str>, Box<[u8]>)]) -> bool {
        entries.len() != self.prints.len() || entries.iter().any(|(key, value)| !self.has(key, value))
    }

    /// Whether this key was sent with this value.
    pub(super) fn has(&self, key: &str, value: &[u8]) -> bool {
        self.prints.get(key) == Some(&self.print(value))
    }

    /// Whether this key was sent with any value.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.prints.contains_key(key)
    }

    /// Replaces all keys with this listing.
    pub(super) fn reset(&mut self, entries: &[(Box<str>, Box<[u8]>)]) {
        self.prints = entries.iter().map(|(key, value)| (key.clone(), self.print(value))).collect();
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { key, value } => {
                let print = self.print(value);
                self.prints.insert(key.clone(), print);
            }
            Change::Delete { key } => {
                self.prints.remove(key);
            }
            Change::DeleteTree { key } => self.remove_tree(key),
        }
    }

    /// The keys strictly below a directory; all keys for the empty directory.
    pub(super) fn below(&self, directory: &str) -> impl Iterator<Item = &str> {
        let start = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        self.prints
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            .map(|(key, _)| &**key)
            .take_while(move |key| key.starts_with(&start))
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.prints.len()
    }

    fn remove_tree(&mut self, directory: &str) {
        let gone: Vec<Box<str>> = self.below(directory).map(Box::from).collect();
        self.prints.remove(directory);
        for key in gone {
            self.prints.remove(&key);
        }
    }

    fn print(&self, value: &[u8]) -> u64 {
        self.hasher.hash_one(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<[u8]>)> {
        pairs.iter().map(|(k, v)| ((*k).into(), v.as_bytes().into())).collect()
    }

    fn check(before: &[(&str, &str)], change: Option<Change>, after: &[(&str, &str)]) {
        let mut known = Known::default();
        known.reset(&entries(before));
        change.iter().for_each(|change| known.apply(change));
        assert!(!known.differs(&entries(after)), "{before:?} {change:?} {after:?}");
        for index in 0..after.len() {
            let mut other = entries(after);
            other[index].1 = b"other"[..].into();
            assert!(known.differs(&other));
        }
    }

    #[test]
    fn follows_changes() {
        let put = |key: &str| Change::Put { key: key.into(), value: b"9"[..].into() };
        let tree = |key: &str| Change::DeleteTree { key: key.into() };
        check(&[("a", "1")], None, &[("a", "1")]);
        check(&[("a", "1")], Some(put("a")), &[("a", "9")]);
        check(&[("a", "1")], Some(put("b")), &[("a", "1"), ("b", "9")]);
        check(&[("a", "1"), ("b", "2")], Some(Change::Delete { key: "a".into() }), &[("b", "2")]);
        check(&[("a/x", "1"), ("a/y", "1"), ("ab", "2"), ("a", "3")], Some(tree("a")), &[("ab", "2")]);
        check(&[("a/x", "1"), ("b", "2")], Some(tree("")), &[]);
    }
}
