//! The words that every store and its users share: where keys are, what is told of them, what an owner's edits come to.
//! Does nothing: no IO, no waiting.

use std::path::PathBuf;
use std::time::Duration;

use pointsman_table::Change;

use crate::error::StoreError;

/// Below this is what balancers and agents keep for themselves and each other, such as their status: nothing that is
/// followed as keys, whatever the prefix, so that it never wakes a balancer. Its keys are in etcd v3 without the slash in
/// front, in v2 hidden by their underscore, in a folder below `.pointsman`.
pub const ASIDE: &str = "/_pointsman";
/// A moment of a store that a follower can tell to be past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The store's revision.
    Revision(u64),
    /// The number in the key that was written, in a store without revisions: it only grows.
    Count(u64),
}

/// What `amend` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The value is another one, and the store shows it at this revision (0 where it has none).
    At(u64),
    /// Nothing: the value is as it should be.
    Same,
}

/// What `mkdir` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The directory is there.
    Directory,
    /// Nothing: in etcd v3 a directory is only a shared beginning of keys.
    Nothing,
}

/// Everything below a key at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision.
    pub revision: u64,
    /// Keys relative to what was listed, and values; ordered by key.
    pub entries: Vec<(Box<str>, Box<[u8]>)>,
    /// Directories relative to what was listed, in stores where a directory is a real node.
    pub directories: Vec<Box<str>>,
}

/// What a store tells the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All keys at one revision: replaces everything known, whole. The revision may be lower than the last one.
    Reset {
        /// The store's revision.
        revision: u64,
        /// Keys relative to the prefix, and values.
        entries: Vec<(Box<str>, Box<[u8]>)>,
    },
    /// Everything that changed at one revision, in order: an etcd transaction is one of these.
    Changes {
        /// The store's revision after them.
        revision: u64,
        /// The changes.
        changes: Vec<Change>,
    },
}

/// How it stands with the store; watched by admin and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not reached yet since the start.
    Connecting {
        /// What the last try said.
        error: Option<String>,
    },
    /// Listed and watched.
    Watching {
        /// Which one, in words: `etcd v3 at http://127.0.0.1:2379`.
        via: String,
    },
    /// Was watched, is out of reach; what was last read is served on.
    Lost {
        /// What the last try said.
        error: String,
    },
}

/// Where keys are and how to get at them.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Which store.
    pub location: Location,
    /// Which etcd API.
    pub api: Api,
    /// `/haproxy-haproxy-1`, no slash at the end; empty for `/`.
    pub prefix: String,
    /// User name and password for etcd.
    pub user: Option<(String, String)>,
    /// PEM file of the certificate authority that signs etcd's certificate.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and key for etcd.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How often the tree is listed again and compared (default 3 min, jittered).
    pub audit: Duration,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// etcd, by URLs (`http://` or `https://`, port included, no path).
    Etcd(Vec<String>),
    /// Files as keys below this folder; the prefix is a sub-folder path, as in etcd.
    Directory(PathBuf),
}

/// Which etcd API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// v3 where the server has it, unless only v2 holds the prefix.
    Auto,
    /// v2 over HTTP.
    V2,
    /// v3 over gRPC.
    V3,
}

/// A full key is `/` and segments that mean the same in every store: none of them empty, `.` or `..`.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    let proper = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
    match key.strip_prefix('/') {
        Some(rest) if rest.split('/').all(proper) => Ok(()),
        _ => Err(StoreError::BadKey {
            key: key.to_owned(),
            why: "not a key: it starts with a slash and no part of it is empty, . or ..".to_owned(),
        }),
    }
}

/// Who holds a lease.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The same at every start: never 0, and positive as a signed number.
    pub(crate) id: u64,
    /// Another one for each process.
    pub(crate) session: String,
}

impl Owner {
    /// An owner of this role, such as `balancer` or `agent`, and of a name that is the same at every start and nobody
    /// else's.
    pub fn new(role: &str, name: &str) -> Self {
        let session = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { id: fingerprint(&format!("{role}\0{name}")), session }
    }

    /// The full key, or the file's, under which the store keeps the session that is the owner now.
    pub(crate) fn place(&self) -> String {
        format!("{}/leases/{:016x}", ASIDE, self.id)
    }
}

/// FNV-1a, as the number must be the same from version to version.
fn fingerprint(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 1).max(1)
}

/// One change of a key, by its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The key is to have this value, and to end with the lease.
    Put {
        /// Full key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// The key is to be gone, if it is the lease's.
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

/// What came of an edit or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grip {
    /// Done, and the store's revision that shows it (0 where it has none).
    Done(u64),
    /// The key is somebody else's, and was left alone.
    Taken,
    /// The lease has ended, and its keys with it.
    Ended,
    /// Another process has this owner's name now.
    Replaced,
}

/// What an operator adds to an instance, whoever keeps it.
pub const DRAIN: &str = " drain";

/// Whether a value is what its owner wrote, be it with an operator's word behind it.
pub(crate) fn is_same(value: &str, written: &str) -> bool {
    let plain = |text: &str| text.trim().to_owned();
    plain(value.trim().strip_suffix(DRAIN).unwrap_or(value))
        == plain(written.trim().strip_suffix(DRAIN).unwrap_or(written))
}

/// What a process has been to its lease before it asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has just started, and takes over what the last process of this name had.
    First,
    /// It had the lease: another process that has it now came later, and stays.
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
