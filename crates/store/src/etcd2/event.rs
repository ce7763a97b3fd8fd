//! etcd v2's JSON: listings flattened, events turned into changes, errors by code. Pure.
//! The format: <https://etcd.io/docs/v2.3/api/>.

use std::fmt;

use pointsman_table::Change;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::Listing;

/// Deeper than any key. Nodes below are skipped, so that somebody's deep tree cannot make a listing fail.
const DEPTH: usize = 24;

/// `errorCode`: the key does not exist.
pub(super) const KEY_NOT_FOUND: u32 = 100;
/// `errorCode`: the key does not have the expected state.
pub(super) const COMPARE_FAILED: u32 = 101;
/// `errorCode`: the key exists but must not.
pub(super) const NODE_EXISTS: u32 = 105;
/// `errorCode`: a directory where a key is required.
pub(super) const NOT_A_FILE: u32 = 102;
/// `errorCode`: the directory is not empty.
pub(super) const DIRECTORY_NOT_EMPTY: u32 = 108;
/// `errorCode`: the wait starts before the oldest kept event.
pub(super) const EVENT_INDEX_CLEARED: u32 = 401;

/// An error response of etcd. Authentication errors have no code.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Refusal {
    pub(super) error_code: u32,
    pub(super) message: String,
    pub(super) cause: String,
    pub(super) index: Option<u64>,
}

/// An event from a wait, or the response to an edit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    action: Action,
    node: EventNode,
    prev_node: Option<EventNode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    Get,
    Set,
    Create,
    Update,
    CompareAndSwap,
    Delete,
    CompareAndDelete,
    Expire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventNode {
    key: Box<str>,
    value: Option<Box<str>>,
    dir: bool,
    modified_index: u64,
    /// Seconds until it expires; `None` if it does not.
    ttl: Option<i64>,
}

/// The content of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    Value(Box<str>),
    Directory,
}

impl Event {
    /// The store's index of this event.
    pub(super) fn index(&self) -> u64 {
        self.node.modified_index
    }

    /// The key of the event's node.
    pub(super) fn key(&self) -> &str {
        &self.node.key
    }

    /// Whether the event is about this key.
    pub(super) fn is_about(&self, key: &str) -> bool {
        self.node.key.trim_end_matches('/') == key
    }

    /// Whether a watch of this prefix may get this event. etcd also sends the removal of directories whose names only
    /// start like the prefix.
    pub(super) fn is_near(&self, prefix: &str) -> bool {
        let key = self.node.key.trim_end_matches('/');
        key.starts_with(prefix) || prefix.starts_with(key)
    }

    /// Whole seconds until the key expires; `None` if it does not.
    pub(super) fn ttl(&self) -> Option<u64> {
        self.node.ttl.map(|ttl| u64::try_from(ttl).unwrap_or(0))
    }

    /// The content of the event's node.
    pub(super) fn into_node(self) -> Node {
        if self.node.dir { Node::Directory } else { Node::Value(self.node.value.unwrap_or_default()) }
    }

    /// The change below the prefix, if any.
    pub(super) fn change(&self, prefix: &str) -> Option<Change> {
        let place = place(&self.node.key, prefix);
        match (self.action, place) {
            (_, Relation::Elsewhere) | (Action::Get, _) => None,
            (Action::Delete | Action::CompareAndDelete | Action::Expire, place) => Some(self.removal(place)),
            (_, Relation::Below(key)) => self.write(key),
            (_, Relation::Above) => None,
        }
    }

    fn removal(&self, place: Relation<'_>) -> Change {
        match place {
            Relation::Below(key) if !self.node.dir => Change::Delete { key: key.into() },
            Relation::Below(key) => Change::DeleteTree { key: key.into() },
            // The prefix or one of its parents is gone.
            Relation::Above | Relation::Elsewhere => Change::DeleteTree { key: "".into() },
        }
    }

    fn write(&self, key: &str) -> Option<Change> {
        if !self.node.dir {
            let value = self.node.value.as_deref().unwrap_or_default();
            return Some(Change::Put { key: key.into(), value: value.as_bytes().into() });
        }
        // A new directory is empty, but it may replace a key.
        let replaced = self.prev_node.as_ref().is_some_and(|node| !node.dir);
        replaced.then(|| Change::Delete { key: key.into() })
    }
}

/// The place of a key relative to the prefix.
enum Relation<'a> {
    /// Below it: the relative key.
    Below(&'a str),
    /// The prefix itself or one of its parents.
    Above,
    Elsewhere,
}

fn place<'a>(key: &'a str, prefix: &str) -> Relation<'a> {
    let key = key.trim_end_matches('/');
    match key.strip_prefix(prefix) {
        Some("") => Relation::Above,
        Some(rest) if rest.starts_with('/') => Relation::Below(&rest[1..]),
        _ if prefix.strip_prefix(key).is_some_and(|rest| rest.starts_with('/')) => Relation::Above,
        _ => Relation::Elsewhere,
    }
}

/// Whether a key is this one or a directory above it. etcd names the first missing part of a path.
pub(super) fn is_at_or_above(key: &str, of: &str) -> bool {
    matches!(place(key, of), Relation::Above)
}

/// Flattens a recursive get. An answer about another key is an error: it does not say that the prefix is empty.
/// Leaves the revision at 0: it is in the response headers.
pub(super) fn listing(body: &[u8], prefix: &str) -> serde_json::Result<Listing> {
    let mut listing = Listing::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    Part { kind: Kind::Answer, depth: 0, prefix, listing: &mut listing }.deserialize(&mut json)?;
    json.end()?;
    listing.entries.sort_unstable();
    listing.entries.dedup_by(|one, other| one.0 == other.0);
    listing.directories.sort_unstable();
    Ok(listing)
}

/// One part of the response to a get, deserialised straight into the listing.
struct Part<'a> {
    kind: Kind,
    depth: usize,
    prefix: &'a str,
    listing: &'a mut Listing,
}

#[derive(Clone, Copy)]
enum Kind {
    /// `{"action": ..., "node": {...}}`
    Answer,
    /// `{"key": ..., "value": ..., "dir": ..., "nodes": [...]}`
    Node,
    /// `[{...}, ...]`
    Nodes,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Node,
    Key,
    Value,
    Dir,
    Nodes,
    Ttl,
    #[serde(other)]
    Other,
}

impl Part<'_> {
    fn inner(&mut self, kind: Kind) -> Part<'_> {
        Part { kind, depth: self.depth + 1, prefix: self.prefix, listing: self.listing }
    }

    /// Adds a node: the prefix first, then the nodes below it. Fails for a node elsewhere.
    fn add<E: serde::de::Error>(
        &mut self,
        key: &str,
        value: Option<Box<str>>,
        (dir, ends): (bool, bool),
    ) -> Result<(), E> {
        match (place(key, self.prefix), dir) {
            (Relation::Below(key), true) if self.depth > 1 => self.listing.directories.push(key.into()),
            (Relation::Below(key), false) if self.depth > 1 => {
                let value = value.unwrap_or_default().into_boxed_bytes();
                self.listing.leased.extend(ends.then(|| key.into()));
                self.listing.entries.push((key.into(), value));
            }
            (Relation::Above, _) if self.depth == 1 && key.trim_end_matches('/') == self.prefix => {}
            _ => return Err(E::custom(format_args!("it is about {key:?}, not {:?}", self.prefix))),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.kind {
            _ if self.depth > 2 * DEPTH => IgnoredAny::deserialize(deserializer).map(|_| ()),
            Kind::Answer | Kind::Node => deserializer.deserialize_map(self),
            Kind::Nodes => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Answer => "an etcd response",
            Kind::Node => "an etcd node",
            Kind::Nodes => "etcd nodes",
        })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (mut key, mut value, mut has_node) = (Box::<str>::default(), None, false);
        let (mut dir, mut ends) = (false, false);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Node => {
                    has_node = true;
                    map.next_value_seed(self.inner(Kind::Node))?;
                }
                Field::Nodes => map.next_value_seed(self.inner(Kind::Nodes))?,
                Field::Key => key = map.next_value()?,
                Field::Value => value = Some(map.next_value()?),
                Field::Dir => dir = map.next_value()?,
                Field::Ttl => ends = map.next_value::<Option<i64>>()?.is_some(),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match self.kind {
            Kind::Node => self.add(&key, value, (dir, ends)),
            Kind::Answer if !has_node => Err(serde::de::Error::missing_field("node")),
            Kind::Answer | Kind::Nodes => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.inner(Kind::Node))?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: &str, node: &str, prev: Option<&str>) -> String {
        let prev = prev.map(|prev| format!(r#", "prevNode": {{{prev}}}"#)).unwrap_or_default();
        let json = format!(r#"{{"action": "{action}", "node": {{{node}, "modifiedIndex": 7}}{prev}}}"#);
        let event: Event = serde_json::from_str(&json).unwrap();
        assert_eq!(event.index(), 7);
        match event.change("/a/b") {
            None => "nothing".to_owned(),
            Some(Change::Put { key, value }) => format!("{key}={}", String::from_utf8_lossy(&value)),
            Some(Change::Delete { key }) => format!("-{key}"),
            Some(Change::DeleteTree { key }) => format!("-{key}/"),
        }
    }

    #[test]
    fn changes() {
        let file = r#""key": "/a/b/c/d", "value": "x""#;
        let gone = r#""key": "/a/b/c/d""#;
        let directory = r#""key": "/a/b/c", "dir": true"#;
        for action in ["set", "create", "update", "compareAndSwap"] {
            assert_eq!(change(action, file, None), "c/d=x");
            assert_eq!(change(action, directory, None), "nothing");
            assert_eq!(change(action, directory, Some(r#""key": "/a/b/c", "value": """#)), "-c");
            assert_eq!(change(action, directory, Some(directory)), "nothing");
            assert_eq!(change(action, r#""key": "/a/b", "dir": true"#, None), "nothing");
            assert_eq!(change(action, r#""key": "/a/bc/d", "value": "x""#, None), "nothing");
        }
        for action in ["delete", "compareAndDelete", "expire"] {
            assert_eq!(change(action, gone, Some(file)), "-c/d");
            assert_eq!(change(action, directory, Some(directory)), "-c/");
            assert_eq!(change(action, r#""key": "/a/b", "dir": true"#, None), "-/");
            assert_eq!(change(action, r#""key": "/a", "dir": true"#, None), "-/");
            // etcd compares name prefixes here, not paths.
            assert_eq!(change(action, r#""key": "/a/bc", "dir": true"#, None), "nothing");
            assert_eq!(change(action, r#""key": "/a/b/", "dir": true"#, None), "-/");
        }
    }

    fn list(json: &str, prefix: &str) -> Result<String, String> {
        let listing = listing(json.as_bytes(), prefix).map_err(|error| error.to_string())?;
        let directories = listing.directories.iter().map(|key| format!("{key}/"));
        let keys = listing.entries.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)));
        Ok(directories.chain(keys).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn listings() {
        let check =
            |json: &str, prefix: &str, want: &str| assert_eq!(list(json, prefix).as_deref(), Ok(want), "{json}");
        check(r#"{"action":"get","node":{"key":"/p","dir":true}}"#, "/p", "");
        check(r#"{"action":"get","node":{"key":"/p","value":"a key, no directory"}}"#, "/p", "");
        let node = r#"{"nodes":[{"value":"2","key":"/p/b"},{"key":"/p/a","dir":true,"nodes":[{"key":"/p/a/x","value":"1"}]}],
                      "dir":true,"key":"/p","createdIndex":3,"expiration":null}"#;
        check(&format!(r#"{{"node":{node},"action":"get"}}"#), "/p", "a/ a/x=1 b=2");
        check(r#"{"node":{"dir":true,"nodes":[{"key":"/p","value":"1"}]}}"#, "", "p=1");
        for other in [
            "{}",
            r#"{"action":"get"}"#,
            r#"{"action":"get","node":{"dir":true}}"#,
            r#"{"action":"get","node":{"key":"/q","dir":true}}"#,
            r#"{"action":"get","node":{"key":"/p/a","dir":true}}"#,
            r#"{"action":"get","node":{"key":"/p","dir":true,"nodes":[{"key":"/q/a","value":"1"}]}}"#,
        ] {
            assert!(list(other, "/p").is_err(), "{other}");
        }
        for broken in ["", "[]", r#"{"node":{"key":"/p","nodes":[7]}}"#, r#"{"node":{"#, "{} {}"] {
            assert!(list(broken, "/p").is_err(), "{broken}");
        }
    }

    #[test]
    fn a_tree_of_any_depth() {
        let (open, close) = (r#"{"key":"/p/d","dir":true,"nodes":["#, "]}");
        let json = format!(
            r#"{{"node":{{"key":"/p","dir":true,"nodes":[{}{{"key":"/p/d"}}{}]}}}}"#,
            open.repeat(10_000),
            close.repeat(10_000)
        );
        assert!(list(&json, "/p").is_ok());
    }
}
