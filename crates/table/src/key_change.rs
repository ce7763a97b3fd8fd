//! What changes of keys do to a set of keys, value by value. Leaves out keys outside the known trees, as no value is kept of
//! them. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key_set::{Change, KeySet, Services};
use crate::names::Protocol;
use crate::raw::{RawKeys, is_within};

/// One key that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Relative to the prefix.
    pub key: String,
    /// Its value before; `None`: there was none.
    pub before: Option<Box<[u8]>>,
    /// Its value after; `None`: there is none.
    pub after: Option<Box<[u8]>>,
}

/// The values of keys that changes have touched.
type Touched = BTreeMap<String, Option<Box<[u8]>>>;

impl KeySet {
    /// What these changes, in order, will do to these keys, ordered by key. A key that ends as it was is left out.
    pub fn effects(&self, changes: &[Change]) -> Vec<KeyChange> {
        let mut touched = Touched::new();
        for change in changes {
            match change {
                Change::Put { key, value } => drop(touched.insert(key.to_string(), Some(value.clone()))),
                Change::Delete { key } => drop(touched.insert(key.to_string(), None)),
                Change::DeleteTree { key } => self.remove_tree(key.trim_matches('/'), &mut touched),
            }
        }
        let effect = |(key, after): (String, Option<Box<[u8]>>)| {
            let before = self.value(&key)?.map(Box::from);
            (before != after).then_some(KeyChange { key, before, after })
        };
        touched.into_iter().filter_map(effect).collect()
    }

    fn remove_tree(&self, place: &str, touched: &mut Touched) {
        let is_in = |key: &str| place.is_empty() || is_within(key, place);
        for key in self.keys_within(place).filter(|key| is_in(key)) {
            touched.entry(key).or_default();
        }
        let from = if place.is_empty() { String::new() } else { format!("{place}/") };
        let below = touched.range_mut(from..).take_while(|(key, _)| is_in(key));
        below.for_each(|(_, value)| *value = None);
        touched.get_mut(place).into_iter().for_each(|value| *value = None);
    }

    /// The keys among which those of a tree are. Many services may be removed at once: each looks at its own keys only.
    fn keys_within(&self, place: &str) -> Box<dyn Iterator<Item = String> + '_> {
        let (tree, rest) = place.split_once('/').unwrap_or((place, ""));
        let name = rest.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
        match (protocol_of(tree), name) {
            (Some(protocol), Some(name)) => {
                let keys = self.services(protocol).get(name.as_str());
                let keys = keys.into_iter().flat_map(|keys| keys.iter());
                Box::new(keys.map(move |(key, _)| match key {
                    "" => format!("{protocol}/{name}"),
                    key => format!("{protocol}/{name}/{key}"),
                }))
            }
            _ => Box::new(self.entries().map(|(key, _)| key)),
        }
    }

    /// The keys that differ from `before`, ordered within each service and tree.
    pub fn changes_since(&self, before: &Self) -> Vec<KeyChange> {
        let mut found = Vec::new();
        for protocol in [Protocol::Http, Protocol::Tcp] {
            services(protocol, before.services(protocol), self.services(protocol), &mut found);
        }
        differing("config", before.config(), self.config(), &mut found);
        let changes = before.certs().changes(self.certs(), Arc::eq).into_iter();
        found.extend(changes.map(|change| KeyChange {
            key: format!("certs/{}", change.name),
            before: change.before.map(|value| (**value).into()),
            after: change.after.map(|value| (**value).into()),
        }));
        found
    }

    /// The value of a key, if it has one; `None`: the key is outside the known trees.
    pub fn value(&self, key: &str) -> Option<Option<&[u8]>> {
        let (tree, rest) = key.split_once('/')?;
        let protocol = match tree {
            "config" => return Some(self.config().get(rest)),
            "certs" => return Some(self.certs().get(rest).map(|value| &**value)),
            tree => protocol_of(tree)?,
        };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        Some(self.services(protocol).get(name).and_then(|keys| keys.get(rest)))
    }
}

fn protocol_of(tree: &str) -> Option<Protocol> {
    [Protocol::Http, Protocol::Tcp].into_iter().find(|protocol| protocol.tree() == tree)
}

/// Services whose keys did not change share them.
fn services(protocol: Protocol, before: &Services, after: &Services, found: &mut Vec<KeyChange>) {
    let none = Arc::default();
    for (name, had) in before {
        let has = after.get(name).unwrap_or(&none);
        differing(&format!("{protocol}/{name}"), had, has, found);
    }
    for (name, has) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        differing(&format!("{protocol}/{name}"), &none, has, found);
    }
}

fn differing(place: &str, before: &Arc<RawKeys>, after: &Arc<RawKeys>, found: &mut Vec<KeyChange>) {
    if Arc::ptr_eq(before, after) {
        return;
    }
    let full = |key: &str| if key.is_empty() { place.to_owned() } else { format!("{place}/{key}") };
    let gone = before.iter().filter(|(key, _)| after.get(key).is_none());
    found.extend(gone.map(|(key, value)| KeyChange { key: full(key), before: Some(value.into()), after: None }));
    for (key, value) in after.iter().filter(|(key, value)| before.get(key) != Some(value)) {
        found.push(KeyChange { key: full(key), before: before.get(key).map(Box::from), after: Some(value.into()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &str) -> KeySet {
        let mut keys = KeySet::default();
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (key.into(), value.as_bytes().into()));
        keys.reset(1, lines.split(',').filter_map(entry));
        keys
    }

    fn words(changes: &[KeyChange]) -> Vec<String> {
        let value = |value: &Option<Box<[u8]>>| {
            value.as_ref().map_or("-".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
        };
        changes
            .iter()
            .map(|change| format!("{} {} {}", change.key, value(&change.before), value(&change.after)))
            .collect()
    }

    #[test]
    fn changes_have_their_effect() {
        let put = |key: &str, value: &str| Change::Put { key: key.into(), value: value.as_bytes().into() };
        let had = keys("services/a/domain a.test,services/a/one h:1,services/b/one h:2,config/x 1,certs/c pem,odd/x y");
        for (changes, want) in [
            (vec![put("services/a/domain", "b.test")], vec!["services/a/domain a.test b.test"]),
            (vec![put("services/a/domain", "b.test"), put("services/a/domain", "a.test")], vec![]),
            (vec![put("services/c/one", "h"), Change::Delete { key: "services/c/one".into() }], vec![]),
            (
                vec![put("services/a/two", "h:2"), Change::DeleteTree { key: "services/a".into() }],
                vec!["services/a/domain a.test -", "services/a/one h:1 -"],
            ),
            (vec![Change::Delete { key: "certs/c".into() }, put("odd/x", "z")], vec!["certs/c pem -"]),
            (vec![Change::DeleteTree { key: "config".into() }], vec!["config/x 1 -"]),
        ] {
            let effects = had.effects(&changes);
            assert_eq!(words(&effects), want, "{changes:?}");
            let mut after = had.clone();
            after.apply(2, changes);
            let mut since = after.changes_since(&had);
            since.sort_by(|a, b| a.key.cmp(&b.key));
            assert_eq!(since, effects);
        }
        assert_eq!(had.effects(&[Change::DeleteTree { key: "".into() }]).len(), 5, "all that are known");
    }
}
