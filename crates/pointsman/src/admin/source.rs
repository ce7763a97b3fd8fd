//! The store and the prefix that an answer comes from, and the snapshot, as the pages tell them, so that a command can see that the balancer
//! on `--admin` follows other keys than the operator named. Opens no store.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use pointsman_store::{Location, StoreSettings};
use serde::{Deserialize, Serialize};

use crate::control::FromSnapshot;

/// Which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// The endpoints of etcd, or the absolute path of the folder. No secrets.
    pub store: Vec<String>,
    /// The prefix, `/haproxy-haproxy-1`; empty: the whole folder.
    pub prefix: String,
}

impl SourceView {
    /// The keys that these settings name.
    pub fn new(settings: &StoreSettings) -> Self {
        let store = match &settings.location {
            Location::Etcd(urls) => urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            Location::Directory(folder) => vec![whole(folder)],
        };
        Self { store, prefix: settings.prefix.clone() }
    }

    /// Whether both are the same keys, as far as can be told: one endpoint in common is enough.
    pub fn is_same(&self, other: &Self) -> bool {
        let known: BTreeSet<_> = self.store.iter().collect();
        self.prefix == other.prefix && other.store.iter().any(|endpoint| known.contains(endpoint))
    }
}

/// The snapshot that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// The store's revision then.
    pub revision: u64,
    /// When the store was known to hold these keys last, in seconds since the epoch.
    pub at: u64,
    /// How long ago that is, in seconds.
    pub age: u64,
}

impl From<FromSnapshot> for SnapshotView {
    fn from(from: FromSnapshot) -> Self {
        Self {
            revision: from.revision,
            at: from.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            age: from.age().as_secs(),
        }
    }
}

/// The path without links, if it is there.
fn whole(folder: &Path) -> String {
    let path = std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
    path.unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

/// `/haproxy-haproxy-1 in http://10.0.0.1:2379`; `/` is a whole store.
impl fmt::Display for SourceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() { "/" } else { &self.prefix };
        write!(f, "{prefix} in {}", self.store.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_endpoint_in_common_is_the_same_store() {
        let view = |store: &[&str], prefix: &str| SourceView {
            store: store.iter().map(|url| (*url).to_owned()).collect(),
            prefix: prefix.to_owned(),
        };
        let running = view(&["http://a:1", "http://b:1"], "/p");
        for (store, prefix, expected) in
            [(&["http://b:1"][..], "/p", true), (&["http://c:1"], "/p", false), (&["http://a:1"], "/q", false)]
        {
            assert_eq!(running.is_same(&view(store, prefix)), expected, "{store:?} {prefix}");
        }
    }
}
