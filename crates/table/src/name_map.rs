//! An ordered map by name for thousands of entries of which a few change at a time. Copies share what did not change, so
//! a copy, a change and a comparison with an earlier copy cost little. Knows nothing of what it holds.
//!
//! ```text
//! before ─┬─ chunk a..c    shared
//! after  ─┤
//!         ├─ chunk d..f    before's
//!         └─ chunk d..f    after's: one entry differs
//! ```

use std::cmp::Ordering;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

/// Most entries of a chunk: a change copies one, a copy of the map counts them.
const MOST: usize = 64;

type Chunk<V> = Vec<(Box<str>, V)>;

/// Values by name, ordered.
#[derive(Clone)]
pub struct NameMap<V> {
    /// None of them is empty.
    chunks: Vec<Arc<Chunk<V>>>,
    len: usize,
}

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

/// Names only: what they hold may be secret.
impl<V> Debug for NameMap<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// One entry that differs between two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameChange<'m, V> {
    /// Its name.
    pub name: &'m str,
    /// Its value before; `None`: there was none.
    pub before: Option<&'m V>,
    /// Its value after; `None`: there is none.
    pub after: Option<&'m V>,
}

impl<V> NameMap<V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        let (chunk, at) = self.find(name).ok()?;
        Some(&self.chunks[chunk][at].1)
    }

    /// All entries, ordered by name.
    pub fn iter(&self) -> NameIter<'_, V> {
        self.into_iter()
    }

    /// All names, ordered.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// Whether this is a copy of the other in which nothing was changed.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.chunks.len() == other.chunks.len() && self.chunks.iter().zip(&other.chunks).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The entries that differ in a later map, ordered by name. What both maps share is passed over.
    pub fn changes<'m>(&'m self, later: &'m Self, is_same: impl Fn(&V, &V) -> bool) -> Vec<NameChange<'m, V>> {
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(later));
        let mut changes = Vec::new();
        loop {
            while old.shares_chunk_with(&new) {
                old.pass_chunk();
                new.pass_chunk();
            }
            let order = match (old.entry(), new.entry()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let before = if order.is_le() { old.take() } else { None };
            let after = if order.is_ge() { new.take() } else { None };
            let is_change = before.zip(after).is_none_or(|((_, before), (_, after))| !is_same(before, after));
            if let Some((name, _)) = after.or(before).filter(|_| is_change) {
                changes.push(NameChange { name, before: before.map(|(_, v)| v), after: after.map(|(_, v)| v) });
            }
        }
    }

    /// Chunk and place of a name, or where it would be inserted.
    fn find(&self, name: &str) -> Result<(usize, usize), (usize, usize)> {
        let after = self.chunks.partition_point(|chunk| *chunk[0].0 <= *name);
        let Some(chunk) = after.checked_sub(1) else { return Err((0, 0)) };
        match self.chunks[chunk].binary_search_by(|(have, _)| (**have).cmp(name)) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }
}

impl<V: Clone> NameMap<V> {
    /// Sets the value of a name.
    pub fn insert(&mut self, name: &str, value: V) {
        match self.find(name) {
            Ok((chunk, at)) => Arc::make_mut(&mut self.chunks[chunk])[at].1 = value,
            Err((chunk, at)) => {
                self.len += 1;
                self.put(chunk, at, (name.into(), value));
            }
        }
    }

    fn put(&mut self, chunk: usize, at: usize, entry: (Box<str>, V)) {
        let Some(found) = self.chunks.get_mut(chunk) else { return self.chunks.push(Arc::new(vec![entry])) };
        if found.len() < MOST {
            return Arc::make_mut(found).insert(at, entry);
        }
        if at == MOST {
            // What comes in order fills its chunks.
            return self.chunks.insert(chunk + 1, Arc::new(vec![entry]));
        }
        let (left, right) = found.split_at(MOST / 2);
        let halves = [left.to_vec(), right.to_vec()].map(Arc::new);
        self.chunks.splice(chunk..=chunk, halves);
        let (chunk, at) = if at <= MOST / 2 { (chunk, at) } else { (chunk + 1, at - MOST / 2) };
        self.put(chunk, at, entry);
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) {
        let Ok((chunk, at)) = self.find(name) else { return };
        self.len -= 1;
        let found = &mut self.chunks[chunk];
        if found.len() == 1 {
            self.chunks.remove(chunk);
        } else {
            Arc::make_mut(found).remove(at);
        }
    }
}

impl<V: Clone> FromIterator<(Box<str>, V)> for NameMap<V> {
    fn from_iter<I: IntoIterator<Item = (Box<str>, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(name, value)| map.insert(&name, value));
        map
    }
}

/// What both share is not compared.
impl<V: PartialEq> PartialEq for NameMap<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.changes(other, V::eq).is_empty()
    }
}

impl<V: Eq> Eq for NameMap<V> {}

/// All entries, ordered by name.
#[derive(Debug)]
pub struct NameIter<'m, V>(Cursor<'m, V>);

impl<'m, V> Iterator for NameIter<'m, V> {
    type Item = (&'m str, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take()
    }
}

impl<'m, V> IntoIterator for &'m NameMap<V> {
    type Item = (&'m str, &'m V);
    type IntoIter = NameIter<'m, V>;

    fn into_iter(self) -> NameIter<'m, V> {
        NameIter(Cursor::new(self))
    }
}

/// A place in a map.
struct Cursor<'m, V> {
    chunks: &'m [Arc<Chunk<V>>],
    at: usize,
}

/// Names only: what they hold may be secret.
impl<V> Debug for Cursor<'_, V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cursor").field(&self.entry().map(|(name, _)| name)).finish()
    }
}

impl<'m, V> Cursor<'m, V> {
    fn new(map: &'m NameMap<V>) -> Self {
        Self { chunks: &map.chunks, at: 0 }
    }

    fn entry(&self) -> Option<(&'m str, &'m V)> {
        let (name, value) = &self.chunks.first()?[self.at];
        Some((name, value))
    }

    fn take(&mut self) -> Option<(&'m str, &'m V)> {
        let entry = self.entry()?;
        self.at += 1;
        if self.at == self.chunks[0].len() {
            self.pass_chunk();
        }
        Some(entry)
    }

    fn pass_chunk(&mut self) {
        (self.chunks, self.at) = (&self.chunks[1..], 0);
    }

    /// Whether both stand at the begin of one chunk.
    fn shares_chunk_with(&self, other: &Self) -> bool {
        let both = self.chunks.first().zip(other.chunks.first());
        (self.at, other.at) == (0, 0) && both.is_some_and(|(a, b)| Arc::ptr_eq(a, b))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A name of three digits, which are fewer the more often they come.
    fn name(rng: &mut u32) -> String {
        *rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{:03}", *rng >> 16 & 511)
    }

    #[track_caller]
    fn check(map: &NameMap<u32>, model: &BTreeMap<String, u32>) {
        assert!(map.iter().eq(model.iter().map(|(name, value)| (&**name, value))), "{map:?} is not {model:?}");
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert!(map.chunks.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
    }

    #[test]
    fn is_like_a_sorted_map_and_tells_what_changed() {
        let (mut map, mut model, mut rng) = (NameMap::default(), BTreeMap::new(), 7);
        for round in 0..400_u32 {
            let (before, model_before) = (map.clone(), model.clone());
            for step in 0..round % 23 {
                let name = name(&mut rng);
                if rng >> 8 & 3 == 0 {
                    map.remove(&name);
                    model.remove(&name);
                } else {
                    map.insert(&name, step);
                    model.insert(name, step);
                }
            }
            check(&map, &model);
            check(&before, &model_before);
            let names: std::collections::BTreeSet<&String> = model.keys().chain(model_before.keys()).collect();
            let expected = names.into_iter().filter(|name| model.get(*name) != model_before.get(*name));
            let expected = expected.map(|name| (&**name, model_before.get(name), model.get(name)));
            let changes = before.changes(&map, u32::eq);
            let found = changes.iter().map(|change| (change.name, change.before, change.after));
            assert!(found.eq(expected), "{changes:?}");
            assert_eq!(map == before, model == model_before);
            assert!(model.iter().all(|(name, value)| map.get(name) == Some(value)) && map.get("x").is_none());
        }
        assert!(map.len() > 2 * MOST);
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let entries = (0..10 * MOST).map(|n| (format!("{n:05}").into_boxed_str(), n));
        let before: NameMap<usize> = entries.collect();
        assert_eq!(before.chunks.len(), 10, "names in order fill their chunks");
        let mut after = before.clone();
        assert!(after.is_copy_of(&before));
        after.insert("00100", 0);
        assert!(!after.is_copy_of(&before));
        let shared = before.chunks.iter().zip(&after.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, 9);
        after.insert("00100", 100);
        assert!(after == before, "the same again");
        after.insert("00100x", 0);
        let compared = std::cell::Cell::new(0);
        let same = |a: &usize, b: &usize| {
            compared.set(compared.get() + 1);
            a == b
        };
        assert_eq!(before.changes(&after, same).len(), 1);
        assert_eq!(compared.get(), MOST);
    }
}
