//! The raw keys of one service or tree: ordered, compact, shared. Knows nothing of what a key means.

/// Keys relative to their service or tree, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawKeys {
    // A sorted vector, not a map: most services have fewer than ten keys, and there may be many services.
    entries: Vec<(Box<str>, Box<[u8]>)>,
}

impl RawKeys {
    /// Takes entries in any order; of two with one key the later wins.
    pub(crate) fn collect(mut entries: Vec<(Box<str>, Box<[u8]>)>) -> Self {
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, kept| later.0 == kept.0);
        entries.shrink_to_fit();
        Self { entries }
    }

    /// All keys and values, ordered by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (&**key, &**value))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value as stored.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.find(key).ok().map(|at| &*self.entries[at].1)
    }

    /// Sets one key.
    pub(crate) fn put(&mut self, key: &str, value: Box<[u8]>) {
        match self.find(key) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (key.into(), value)),
        }
    }

    /// Removes one key.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Ok(at) = self.find(key) {
            self.entries.remove(at);
        }
    }

    /// Removes a key and everything below it.
    pub(crate) fn remove_tree(&mut self, directory: &str) {
        self.entries.retain(|(key, _)| !is_within(key, directory));
    }

    /// Whether [`Self::remove_tree`] would remove anything.
    pub(crate) fn has_tree(&self, directory: &str) -> bool {
        self.entries.iter().any(|(key, _)| is_within(key, directory))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(have, _)| (**have).cmp(key))
    }
}

/// Whether a key is this directory or below it.
pub(crate) fn is_within(key: &str, directory: &str) -> bool {
    key.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
