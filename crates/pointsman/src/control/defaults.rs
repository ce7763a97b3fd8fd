//! Keys that count as set while the store lacks them: settings that are also keys, such as `--health-uri`. The store's
//! own key has priority.

use pointsman_table::Change;

use pointsman_store::Update;

/// Relative keys and values.
#[derive(Clone, Debug, Default)]
pub struct Defaults(Vec<(Box<str>, Box<[u8]>)>);

impl Defaults {
    /// `--health-uri` is the default of the key `config/health_uri`, `--accept-proxy` that of `config/accept_proxy`.
    pub fn new(health_uri: Option<&str>, accept_proxy: Option<&str>) -> Self {
        let set = [("config/health_uri", health_uri), ("config/accept_proxy", accept_proxy)];
        let entry = |(key, value): (&str, Option<&str>)| Some((key.into(), value?.as_bytes().into()));
        Self(set.into_iter().filter_map(entry).collect())
    }

    /// Adds the defaults that a full listing lacks.
    pub fn fill(&self, entries: &mut Vec<(Box<str>, Box<[u8]>)>) {
        for (key, value) in &self.0 {
            if !entries.iter().any(|(other, _)| other == key) {
                entries.push((key.clone(), value.clone()));
            }
        }
    }

    /// Adds the defaults that the store lacks to an update.
    pub fn complete(&self, update: Update) -> Update {
        match update {
            Update::Reset { revision, mut entries } => {
                self.fill(&mut entries);
                Update::Reset { revision, entries }
            }
            Update::Changes { revision, mut changes } => {
                changes.extend(self.0.iter().filter_map(|entry| restored(entry, &changes)).collect::<Vec<_>>());
                Update::Changes { revision, changes }
            }
        }
    }
}

/// The change that restores a default, if the update's last change to its key is a deletion.
fn restored((key, value): &(Box<str>, Box<[u8]>), changes: &[Change]) -> Option<Change> {
    let last = changes.iter().rev().find(|change| match change {
        Change::Put { key: other, .. } | Change::Delete { key: other } => other == key,
        Change::DeleteTree { key: tree } => below(key, tree),
    });
    match last {
        None | Some(Change::Put { .. }) => None,
        Some(Change::Delete { .. } | Change::DeleteTree { .. }) => {
            Some(Change::Put { key: key.clone(), value: value.clone() })
        }
    }
}

fn below(key: &str, tree: &str) -> bool {
    tree.is_empty() || key == tree || key.strip_prefix(tree).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "config/health_uri";

    fn put(value: &str) -> Change {
        Change::Put { key: KEY.into(), value: value.as_bytes().into() }
    }

    fn tree(key: &str) -> Change {
        Change::DeleteTree { key: key.into() }
    }

    #[test]
    fn the_store_goes_before_the_setting() {
        let defaults = Defaults::new(Some("/up"), None);
        for (entries, expected) in [(vec![], "/up"), (vec![(KEY.into(), b"/own".as_slice().into())], "/own")] {
            let Update::Reset { entries, .. } = defaults.complete(Update::Reset { revision: 1, entries }) else {
                panic!("a reset stays one");
            };
            assert_eq!(entries, [(KEY.into(), expected.as_bytes().into())]);
        }
    }

    #[test]
    fn a_deleted_key_brings_the_setting_back() {
        let deleted = || Change::Delete { key: KEY.into() };
        for (changes, restored) in [
            (vec![], false),
            (vec![put("/own")], false),
            (vec![deleted()], true),
            (vec![tree("config")], true),
            (vec![tree("")], true),
            (vec![tree("conf")], false),
            (vec![deleted(), put("/own")], false),
            (vec![put("/own"), deleted()], true),
        ] {
            let before = changes.clone();
            let update = Defaults::new(Some("/up"), None).complete(Update::Changes { revision: 1, changes });
            let Update::Changes { changes, .. } = update else { panic!("changes stay changes") };
            assert_eq!(changes.last() == Some(&put("/up")), restored, "{before:?}");
            assert_eq!(changes.len(), before.len() + usize::from(restored), "{before:?}");
        }
    }
}
