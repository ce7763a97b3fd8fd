//! The types that every store and its users share: locations, updates, results of edits.
//! Does nothing: no IO, no waiting.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pointsman_table::Change;

use crate::error::StoreError;

/// Balancers and agents keep their own keys below this, such as their status. It lies outside every watched prefix, so
/// these keys never wake a balancer: in etcd v3 they have no leading slash, in v2 the underscore hides them, in a
/// folder they are below `.pointsman`.
pub const ASIDE: &str = "/_pointsman";
/// The id of the etcd cluster that was followed last, which the follower writes: another id means another history.
#[derive(Clone, Debug, Default)]
pub struct ClusterId(Arc<AtomicU64>);

impl ClusterId {
    /// The id; 0 while none is known, and for a folder.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, id: u64) {
        self.0.store(id, Ordering::Relaxed);
    }
}

/// A position in a store's history; a follower can tell whether it has passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryPoint {
    /// The store's revision.
    Revision(u64),
    /// The counter in the written key, for stores without revisions; it only grows.
    Count(u64),
}

/// The result of `amend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The value was replaced at this revision (0 if the store has none).
    At(u64),
    /// The value already was as it should be.
    Same,
}

/// The result of `mkdir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The directory exists.
    Directory,
    /// Nothing to do: in etcd v3 a directory is only a shared key prefix.
    Nothing,
}

/// Everything below a key at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision.
    pub revision: u64,
    /// Keys relative to the listed key, and their values; ordered by key.
    pub entries: Vec<(Box<str>, Box<[u8]>)>,
    /// Directories relative to the listed key, in stores with real directories.
    pub directories: Vec<Box<str>>,
    /// The keys that end with a lease: their owner writes and removes them.
    pub leased: BTreeSet<Box<str>>,
}

/// One change of a key that a store remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastChange {
    /// The store's revision with the change.
    pub revision: u64,
    /// The key, relative to the folder that was asked about.
    pub key: Box<str>,
    /// The value before; `None`: there was none, or the store no longer has it.
    pub before: Option<Box<[u8]>>,
    /// The value since; `None`: the key was removed.
    pub after: Option<Box<[u8]>>,
    /// The lease that the key is under, or, if it was removed, was under; 0: none.
    pub lease: u64,
}

impl PastChange {
    /// The bytes of its values.
    pub(crate) fn bytes(&self) -> usize {
        [&self.before, &self.after].into_iter().flatten().map(|value| value.len()).sum()
    }
}

/// The changes that a store remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastChanges {
    /// The store's revision now.
    pub revision: u64,
    /// Every change after this revision is among them, and the keys at it can be listed.
    pub begin: u64,
    /// The changes, oldest first.
    pub changes: Vec<PastChange>,
}

/// A message from a store to the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All keys at one revision; replaces all earlier keys. The revision may be lower than the last one.
    Reset {
        /// The store's revision.
        revision: u64,
        /// Keys relative to the prefix, and values.
        entries: Vec<(Box<str>, Box<[u8]>)>,
    },
    /// All changes of one revision, in order. An etcd transaction is one such update.
    Changes {
        /// The store's revision after the changes.
        revision: u64,
        /// The changes.
        changes: Vec<Change>,
    },
}

/// The state of the connection to the store, for the admin interface and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not reached yet since the start.
    Connecting {
        /// The error of the last attempt.
        error: Option<Outage>,
    },
    /// Listed and watched.
    Watching {
        /// The store's name: `etcd v3 at http://127.0.0.1:2379`.
        via: String,
    },
    /// Was watched, now unreachable; the last keys stay in use.
    Lost {
        /// The error of the last attempt.
        error: Outage,
    },
}

impl Condition {
    /// The error that keeps the store from being watched, if there is one.
    pub fn outage(&self) -> Option<&Outage> {
        match self {
            Self::Connecting { error } => error.as_ref(),
            Self::Watching { .. } => None,
            Self::Lost { error } => Some(error),
        }
    }
}

/// The reason that something cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Which kind of error, as [`StoreError::kind`]: for labels of metrics.
    pub kind: &'static str,
    text: Box<str>,
}

impl Outage {
    /// A reason in words; a line break in an answer of a server becomes a space.
    pub fn new(kind: &'static str, text: &str) -> Self {
        Self { kind, text: text.replace(char::is_control, " ").into() }
    }
}

impl From<&StoreError> for Outage {
    fn from(error: &StoreError) -> Self {
        Self::new(error.kind(), &error.to_string())
    }
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The location of the keys and how to access them.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Which store.
    pub location: Location,
    /// Which etcd API.
    pub api: Api,
    /// `/haproxy-haproxy-1`, without a trailing slash; empty for `/`.
    pub prefix: String,
    /// User name and password for etcd.
    pub user: Option<(String, String)>,
    /// PEM file of the certificate authority that signs etcd's certificate.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and key for etcd.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How often the keys are listed again and compared (default 3 min, jittered).
    pub audit: Duration,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// etcd, by URL (`http://` or `https://`, with a port, without a path).
    Etcd(Vec<String>),
    /// Files in this folder are the keys; the prefix is a sub-folder path, as in etcd.
    Directory(PathBuf),
}

/// Which etcd API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// The API remembered for the prefix; without one, v3 if the server has it, unless only v2 holds the prefix.
    Auto,
    /// v2 over HTTP.
    V2,
    /// v3 over gRPC.
    V3,
}

/// A full key is `/` and segments valid in every store: none of them is empty, `.` or `..`.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    let proper = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
    match key.strip_prefix('/') {
        Some(rest) if rest.split('/').all(proper) => Ok(()),
        _ => Err(StoreError::BadKey {
            key: key.to_owned(),
            why: "not a key: no part of it may be empty, . or ..".to_owned(),
        }),
    }
}

/// The holder of a lease.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The same at every start: never 0, and positive as a signed number.
    pub(crate) id: u64,
    /// Different for each process.
    pub(crate) session: String,
}

impl Owner {
    /// An owner with this role, such as `balancer` or `agent`, and a unique name that is the same at every start.
    pub fn new(role: &str, name: &str) -> Self {
        let session = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { id: fingerprint(&format!("{role}\0{name}")), session }
    }

    /// The full key, or the file's key, where the store records the session of the current owner.
    pub(crate) fn place(&self) -> String {
        format!("{}/leases/{:016x}", ASIDE, self.id)
    }
}

/// FNV-1a: the number must be the same in every version.
fn fingerprint(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 1).max(1)
}

/// One change of a key, named in full; with or without a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Set this value; under a lease, the key ends with the lease.
    Put {
        /// Full key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Delete the key; under a lease, only if the key belongs to the lease.
    Delete {
        /// Full key.
        key: String,
    },
}

impl Edit {
    /// The full key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// The result of an edit or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// Done; the store's revision that shows it (0 if the store has none).
    Done(u64),
    /// The key belongs to somebody else and was not changed.
    Taken,
    /// The lease and its keys have ended.
    Ended,
    /// Another process now uses this owner's name.
    Replaced,
}

/// The word that an operator appends to an instance's value, whoever wrote it.
pub const DRAIN: &str = " drain";

/// Whether a value is the one that its owner wrote, with or without an operator's ` drain`.
pub(crate) fn is_same(value: &str, written: &str) -> bool {
    let plain = |text: &str| text.trim().to_owned();
    plain(value.trim().strip_suffix(DRAIN).unwrap_or(value))
        == plain(written.trim().strip_suffix(DRAIN).unwrap_or(written))
}

/// Whether the process has held the lease before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has just started and takes over the keys of the last process with this name.
    First,
    /// It held the lease before. If another process holds it now, that one started later and keeps it.
    Again,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_the_same_name_at_every_start() {
        let (a, b) = (Owner::new("balancer", "web-1"), Owner::new("balancer", "web-1"));
        assert_eq!((a.id, a.place()), (b.id, "/_pointsman/leases/".to_owned() + &format!("{:016x}", b.id)));
        assert_ne!(a.session, b.session);
        assert_ne!(a.id, Owner::new("balancer", "web-2").id);
        assert_ne!(a.id, Owner::new("balancerweb", "-1").id);
        assert!(i64::try_from(a.id).is_ok_and(|id| id > 0));
    }
}
