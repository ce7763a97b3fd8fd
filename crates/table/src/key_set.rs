//! The raw keys at one revision. Knows how keys group into services; never judges a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::certs::CertKeys;
use crate::keys::{BARRIER, is_tree};
use crate::names::{Protocol, ServiceName};
use crate::raw::{RawKeys, is_within};

/// One change to the keys below the prefix. Keys are relative to it: `services/shop/domain`, no slash at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key now has this value.
    Put {
        /// Relative key.
        key: Box<str>,
        /// Value as stored: bytes, meant to be UTF-8.
        value: Box<[u8]>,
    },
    /// The key is gone.
    Delete {
        /// Relative key.
        key: Box<str>,
    },
    /// The key and everything below it is gone (etcd v2 `rm --recursive`, a removed folder).
    DeleteTree {
        /// Relative key of the directory; empty for the whole prefix.
        key: Box<str>,
    },
}

/// All keys below the prefix at one revision of the store. Of keys outside the known trees, no value is kept.
///
/// Keys of one service share an `Arc` that is replaced when one of them changes, so comparing pointers finds the
/// services that changed. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    revision: u64,
    pub(crate) http: Services,
    pub(crate) tcp: Services,
    pub(crate) config: Arc<RawKeys>,
    pub(crate) certs: Arc<CertKeys>,
    /// Keys that belong nowhere, whole: outside the known trees, or of a service without a name. Values are only marks of
    /// being set.
    strays: Arc<RawKeys>,
}

/// The raw keys of each service.
pub(crate) type Services = BTreeMap<ServiceName, Arc<RawKeys>>;

/// Where a key belongs.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// A service's name, and the key below it.
    Service(Protocol, &'a str, &'a str),
    Config(&'a str),
    Certs(&'a str),
    /// The whole key: it belongs nowhere.
    Stray(&'a str),
    Ignored,
}

impl KeySet {
    /// Replaces everything. Services whose keys did not change keep their `Arc`, so the next compile is cheap.
    pub fn reset(&mut self, revision: u64, entries: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) {
        let fresh = Sorted::collect(entries);
        self.revision = revision;
        self.http = adopt(&self.http, fresh.http);
        self.tcp = adopt(&self.tcp, fresh.tcp);
        replace(&mut self.config, fresh.config);
        adopt_certs(Arc::make_mut(&mut self.certs), fresh.certs);
        replace(&mut self.strays, fresh.strays);
    }

    /// Applies the changes of one revision, in order.
    pub fn apply(&mut self, revision: u64, changes: impl IntoIterator<Item = Change>) {
        self.revision = revision;
        for change in changes {
            match change {
                Change::Put { key, value } => self.put(&key, value),
                Change::Delete { key } => self.delete(&key),
                Change::DeleteTree { key } => self.delete_tree(key.trim_matches('/')),
            }
        }
    }

    /// The store's revision of these keys.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        let services = self.http.values().chain(self.tcp.values());
        let services: usize = services.chain([&self.config, &self.strays]).map(|keys| keys.len()).sum();
        services + self.certs.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key, relative to the prefix, with its value. Of keys outside the known trees, the value is only a mark of being
    /// set.
    pub fn entries(&self) -> impl Iterator<Item = (String, &[u8])> {
        let of = |protocol: Protocol| {
            self.services(protocol).iter().flat_map(move |(name, keys)| {
                keys.iter().map(move |(key, value)| match key {
                    "" => (format!("{protocol}/{name}"), value),
                    key => (format!("{protocol}/{name}/{key}"), value),
                })
            })
        };
        let config = self.config.iter().map(|(key, value)| (format!("config/{key}"), value));
        let certs = self.certs.iter().map(|(name, value)| (format!("certs/{name}"), &**value));
        let strays = self.strays.iter().map(|(key, value)| (key.to_owned(), value));
        of(Protocol::Http).chain(of(Protocol::Tcp)).chain(config).chain(certs).chain(strays)
    }

    pub(crate) fn services(&self, protocol: Protocol) -> &Services {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Tcp => &self.tcp,
        }
    }

    pub(crate) fn config(&self) -> &Arc<RawKeys> {
        &self.config
    }

    pub(crate) fn certs(&self) -> &Arc<CertKeys> {
        &self.certs
    }

    pub(crate) fn strays(&self) -> &Arc<RawKeys> {
        &self.strays
    }

    fn put(&mut self, key: &str, mut value: Box<[u8]>) {
        match place(key) {
            Place::Stray(_) => value = mark(&value),
            Place::Certs(name) if self.certs.get(name).is_some_and(|had| **had == *value) => return,
            Place::Certs(name) => return Arc::make_mut(&mut self.certs).insert(name, value.into()),
            Place::Service(..) | Place::Config(_) | Place::Ignored => {}
        }
        let Some((keys, rest)) = self.slot(key) else {
            return;
        };
        if keys.get(rest) != Some(&*value) {
            Arc::make_mut(keys).put(rest, value);
        }
    }

    fn delete(&mut self, key: &str) {
        if let Place::Certs(name) = place(key) {
            return Arc::make_mut(&mut self.certs).remove(name);
        }
        self.change(place(key), |keys, rest| keys.get(rest).is_some(), RawKeys::remove);
    }

    fn delete_tree(&mut self, key: &str) {
        match key {
            "" => *self = Self { revision: self.revision, ..Self::default() },
            "services" => self.delete_services(Protocol::Http),
            "tcp-services" => self.delete_services(Protocol::Tcp),
            "config" => self.config = Arc::default(),
            "certs" => self.certs = Arc::default(),
            _ => match place(key) {
                Place::Service(protocol, name, "") => drop(self.services_mut(protocol).remove(name)),
                Place::Certs(tree) => retain(Arc::make_mut(&mut self.certs), |name| !is_within(name, tree)),
                place => self.change(place, RawKeys::has_tree, RawKeys::remove_tree),
            },
        }
    }

    fn delete_services(&mut self, protocol: Protocol) {
        self.services_mut(protocol).clear();
        if self.strays.has_tree(protocol.tree()) {
            Arc::make_mut(&mut self.strays).remove_tree(protocol.tree());
        }
    }

    /// Changes the keys at a place, if `concerns` finds any. A service without keys is removed.
    fn change(&mut self, place: Place<'_>, concerns: fn(&RawKeys, &str) -> bool, change: fn(&mut RawKeys, &str)) {
        let (keys, rest) = match place {
            Place::Service(protocol, name, rest) => match self.services_mut(protocol).get_mut(name) {
                Some(keys) => (keys, rest),
                None => return,
            },
            Place::Config(rest) => (&mut self.config, rest),
            Place::Stray(key) => (&mut self.strays, key),
            Place::Certs(_) | Place::Ignored => return,
        };
        if concerns(keys, rest) {
            change(Arc::make_mut(keys), rest);
        }
        if let Place::Service(protocol, name, _) = place {
            self.forget_if_empty(protocol, name);
        }
    }

    fn forget_if_empty(&mut self, protocol: Protocol, name: &str) {
        let services = self.services_mut(protocol);
        if services.get(name).is_some_and(|keys| keys.is_empty()) {
            services.remove(name);
        }
    }

    /// The group of keys of this key, created if missing, and the key's name in it.
    fn slot<'a>(&mut self, key: &'a str) -> Option<(&mut Arc<RawKeys>, &'a str)> {
        match place(key) {
            Place::Service(protocol, name, rest) => {
                let services = self.services_mut(protocol);
                if !services.contains_key(name) {
                    services.insert(ServiceName(name.into()), Arc::default());
                }
                services.get_mut(name).map(|keys| (keys, rest))
            }
            Place::Config(rest) => Some((&mut self.config, rest)),
            Place::Stray(key) => Some((&mut self.strays, key)),
            Place::Certs(_) | Place::Ignored => None,
        }
    }

    fn services_mut(&mut self, protocol: Protocol) -> &mut Services {
        match protocol {
            Protocol::Http => &mut self.http,
            Protocol::Tcp => &mut self.tcp,
        }
    }
}

fn place(key: &str) -> Place<'_> {
    match key.split_once('/') {
        Some(("services", rest)) => in_service(Protocol::Http, key, rest),
        Some(("tcp-services", rest)) => in_service(Protocol::Tcp, key, rest),
        Some(("config", rest)) => Place::Config(rest),
        Some(("certs", rest)) => Place::Certs(rest),
        None if is_tree(key) || key == BARRIER || key.is_empty() => Place::Ignored,
        Some(("", _)) => Place::Ignored,
        Some(_) | None => Place::Stray(key),
    }
}

/// What is kept of a stray key's value, which may be large and is never shown: whether it is set.
fn mark(value: &[u8]) -> Box<[u8]> {
    value.trim_ascii().iter().take(1).copied().collect()
}

fn in_service<'a>(protocol: Protocol, key: &'a str, below: &'a str) -> Place<'a> {
    let (name, rest) = below.split_once('/').unwrap_or((below, ""));
    match name {
        "" => Place::Stray(key),
        _ => Place::Service(protocol, name, rest),
    }
}

type Entries = Vec<(Box<str>, Box<[u8]>)>;

/// A listing, sorted into places.
#[derive(Default)]
struct Sorted {
    http: BTreeMap<Box<str>, Entries>,
    tcp: BTreeMap<Box<str>, Entries>,
    config: Entries,
    certs: Entries,
    strays: Entries,
}

impl Sorted {
    fn collect(entries: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) -> Self {
        let mut sorted = Self::default();
        for (key, value) in entries {
            match place(&key) {
                Place::Service(Protocol::Http, name, rest) => add(&mut sorted.http, name, rest, value),
                Place::Service(Protocol::Tcp, name, rest) => add(&mut sorted.tcp, name, rest, value),
                Place::Config(rest) => sorted.config.push((rest.into(), value)),
                Place::Certs(rest) => sorted.certs.push((rest.into(), value)),
                Place::Stray(key) => sorted.strays.push((key.into(), mark(&value))),
                Place::Ignored => {}
            }
        }
        sorted
    }
}

fn add(services: &mut BTreeMap<Box<str>, Entries>, name: &str, rest: &str, value: Box<[u8]>) {
    match services.get_mut(name) {
        Some(entries) => entries.push((rest.into(), value)),
        None => drop(services.insert(name.into(), vec![(rest.into(), value)])),
    }
}

/// The new services. One whose keys did not change keeps its `Arc`.
fn adopt(old: &Services, fresh: BTreeMap<Box<str>, Entries>) -> Services {
    let same = |name: &str, keys: &RawKeys| {
        old.get_key_value(name).map(|(name, have)| (name.clone(), (**have == *keys).then(|| have.clone())))
    };
    let keep = |(name, entries): (Box<str>, Entries)| {
        let keys = RawKeys::collect(entries);
        match same(&name, &keys) {
            Some((name, Some(have))) => (name, have),
            Some((name, None)) => (name, Arc::new(keys)),
            None => (ServiceName(name.into()), Arc::new(keys)),
        }
    };
    fresh.into_iter().map(keep).collect()
}

/// The new certificates. A value that did not change keeps its `Arc`.
fn adopt_certs(certs: &mut CertKeys, mut fresh: Entries) {
    // Stable: of two with one key the later wins.
    fresh.sort_by(|a, b| a.0.cmp(&b.0));
    retain(certs, |name| fresh.binary_search_by(|(have, _)| (**have).cmp(name)).is_ok());
    for (name, value) in fresh {
        if certs.get(&name).is_none_or(|had| **had != *value) {
            certs.insert(&name, value.into());
        }
    }
}

fn retain(certs: &mut CertKeys, stays: impl Fn(&str) -> bool) {
    let gone: Vec<Box<str>> = certs.keys().filter(|name| !stays(name)).map(Box::from).collect();
    gone.iter().for_each(|name| certs.remove(name));
}

fn replace(keys: &mut Arc<RawKeys>, entries: Entries) {
    let fresh = RawKeys::collect(entries);
    if **keys != fresh {
        *keys = Arc::new(fresh);
    }
}
