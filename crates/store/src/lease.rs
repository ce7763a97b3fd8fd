//! Keys that live as long as their owner renews them, in any store, and edits that only the owner can make. Never
//! retries; `tenure` does.
//!
//! ```text
//! owner ─grant─> Lease ─renew, renew ...─> Ended (grant anew, write everything again) | Replaced (stop)
//!                  └─apply edits: Done | Taken | Ended | Replaced
//! ```
//!
//! An owner's lease has the same name at every start, so a restarted process finds its own keys. The last process to
//! start under a name is the owner; the one before gets `Replaced` and makes no more edits.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Api, Chosen, Store, StoreError, directory, etcd2, etcd3};

/// The holder of a lease.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The same at every start: never 0, and positive as a signed number.
    pub(super) id: u64,
    /// Different for each process.
    pub(super) session: String,
}

impl Owner {
    /// An owner with this role, such as `balancer` or `agent`, and a unique name that is the same at every start.
    pub fn new(role: &str, name: &str) -> Self {
        let session = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { id: fingerprint(&format!("{role}\0{name}")), session }
    }

    /// The full key, or the file's key, where the store records the session of the current owner.
    pub(super) fn place(&self) -> String {
        format!("{}/leases/{:016x}", super::ASIDE, self.id)
    }
}

/// FNV-1a: the number must be the same in every version.
fn fingerprint(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 1).max(1)
}

/// One change of a key, named in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Set this value; the key ends with the lease.
    Put {
        /// Full key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Delete the key if it belongs to the lease.
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
pub enum Grip {
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
pub(super) fn is_same(value: &str, written: &str) -> bool {
    let plain = |text: &str| text.trim().to_owned();
    plain(value.trim().strip_suffix(DRAIN).unwrap_or(value))
        == plain(written.trim().strip_suffix(DRAIN).unwrap_or(written))
}

/// Reads the values of keys, one request each, `at_once` in parallel. Omits keys that no longer exist.
pub(super) async fn values<F>(
    keys: Vec<String>,
    at_once: usize,
    get: impl Fn(String) -> F,
) -> Result<BTreeMap<String, Vec<u8>>, StoreError>
where
    F: Future<Output = Result<Option<Vec<u8>>, StoreError>>,
{
    let get = &get;
    let read = keys.into_iter().map(|key| async move { Ok::<_, StoreError>((key.clone(), get(key).await?)) });
    let read: Vec<_> = stream::iter(read).buffer_unordered(at_once).try_collect().await?;
    Ok(read.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// A granted lease.
pub struct Lease<'a>(Held<'a>);

enum Held<'a> {
    Etcd2(etcd2::Lease<'a>),
    Etcd3(etcd3::Lease<'a>),
    Directory(directory::Lease),
}

/// Whether the process held the lease before it asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has just started and takes over the keys of the last process with this name.
    First,
    /// It held the lease before. If another process holds it now, that one started later and keeps it.
    Again,
}

impl Store {
    /// Grants the owner's lease for `ttl`, or takes over the existing one with its keys and its own time to live.
    /// `None` if another process started later.
    ///
    /// # Errors
    /// [`StoreError::LeaseHeld`] in a folder whose previous process still runs; any error of the store.
    pub async fn lease(&self, owner: &Owner, ttl: Duration, claim: Claim) -> Result<Option<Lease<'_>>, StoreError> {
        let held = match self.resolve().await? {
            Chosen::Etcd2(store) => etcd2::Lease::grant(store, owner, ttl, claim).await?.map(Held::Etcd2),
            Chosen::Etcd3(store) => Box::pin(etcd3::Lease::grant(store, owner, ttl, claim)).await?.map(Held::Etcd3),
            Chosen::Directory(store) => Some(Held::Directory(directory::Lease::grant(store, owner, ttl).await?)),
        };
        Ok(held.map(Lease))
    }
}

impl Lease<'_> {
    /// How long it lives after a renewal.
    pub fn ttl(&self) -> Duration {
        match &self.0 {
            Held::Etcd2(lease) => lease.ttl(),
            Held::Etcd3(lease) => lease.ttl(),
            Held::Directory(lease) => lease.ttl(),
        }
    }

    /// Whether the store still uses this lease's API.
    pub fn is_of(&self, store: &Store) -> bool {
        match store.in_use() {
            None => true,
            Some(Api::V2) => matches!(self.0, Held::Etcd2(_)),
            Some(Api::V3 | Api::Auto) => matches!(self.0, Held::Etcd3(_)),
        }
    }

    /// Extends it by another `ttl`.
    ///
    /// # Errors
    /// Any error of the store. The lease may or may not have been renewed.
    pub async fn renew(&self) -> Result<Grip, StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.renew().await,
            Held::Etcd3(lease) => lease.renew().await,
            Held::Directory(lease) => lease.renew().await,
        }
    }

    /// Makes edits, in no particular order. The results are in the order of the edits.
    pub async fn apply(&self, edits: &[Edit]) -> Vec<Result<Grip, StoreError>> {
        match &self.0 {
            Held::Etcd2(lease) => lease.apply(edits).await,
            Held::Etcd3(lease) => Box::pin(lease.apply(edits)).await,
            Held::Directory(lease) => lease.apply(edits).await,
        }
    }

    /// The lease's keys, by full name, and their values.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.held().await,
            Held::Etcd3(lease) => Box::pin(lease.held()).await,
            Held::Directory(lease) => lease.held().await,
        }
    }

    /// Ends the lease and all its keys at once.
    ///
    /// # Errors
    /// Any error of the store. The lease then ends when its time is over.
    pub async fn release(&self) -> Result<(), StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.release().await,
            Held::Etcd3(lease) => lease.release().await,
            Held::Directory(lease) => lease.release().await,
        }
    }
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
