//! Keys that live as long as somebody renews them, in whichever store, and edits that only their owner can make.
//! Never waits to try again: that is `tenure`'s.
//!
//! ```text
//! owner ─grant─> Lease ─renew, renew ...─> Ended (grant anew, write everything again) | Replaced (stop)
//!                  └─apply edits: Done | Taken | Ended | Replaced
//! ```
//!
//! An owner's lease has the same name at every start, so that a process that comes back finds its own keys. Whoever
//! comes last under one name is the owner: the one before is told `Replaced`, and touches nothing any more.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Api, Chosen, Store, StoreError, directory, etcd2, etcd3};

/// Who holds a lease.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The same at every start: never 0, and positive as a signed number.
    pub(super) id: u64,
    /// Another one for each process.
    pub(super) session: String,
}

impl Owner {
    /// An owner of this role, such as `balancer` or `agent`, and of a name that is the same at every start and nobody
    /// else's.
    pub fn new(role: &str, name: &str) -> Self {
        let session = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { id: fingerprint(&format!("{role}\0{name}")), session }
    }

    /// The full key, or the file's, under which the store keeps the session that is the owner now.
    pub(super) fn place(&self) -> String {
        format!("{}/leases/{:016x}", super::ASIDE, self.id)
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
pub(super) fn is_same(value: &str, written: &str) -> bool {
    let plain = |text: &str| text.trim().to_owned();
    plain(value.trim().strip_suffix(DRAIN).unwrap_or(value))
        == plain(written.trim().strip_suffix(DRAIN).unwrap_or(written))
}

/// Values of keys, read one by one, so many at once. Keys that are gone are left out.
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

/// A lease, granted.
pub struct Lease<'a>(Held<'a>);

enum Held<'a> {
    Etcd2(etcd2::Lease<'a>),
    Etcd3(etcd3::Lease<'a>),
    Directory(directory::Lease),
}

/// What a process has been to its lease before it asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has just started, and takes over what the last process of this name had.
    First,
    /// It had the lease: another process that has it now came later, and stays.
    Again,
}

impl Store {
    /// Grants the owner's lease for `ttl`, or takes over the one that is there under its name, with its keys and for as
    /// long as that was granted for. `None` if another process came later.
    ///
    /// # Errors
    /// [`StoreError::LeaseHeld`] in a folder where the process before still runs, and whatever keeps the store from
    /// answering.
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
    /// How long it lives without being renewed.
    pub fn ttl(&self) -> Duration {
        match &self.0 {
            Held::Etcd2(lease) => lease.ttl(),
            Held::Etcd3(lease) => lease.ttl(),
            Held::Directory(lease) => lease.ttl(),
        }
    }

    /// Whether the store still speaks the API that it is of.
    pub fn is_of(&self, store: &Store) -> bool {
        match store.in_use() {
            None => true,
            Some(Api::V2) => matches!(self.0, Held::Etcd2(_)),
            Some(Api::V3 | Api::Auto) => matches!(self.0, Held::Etcd3(_)),
        }
    }

    /// Makes it live for another `ttl`.
    ///
    /// # Errors
    /// Whatever keeps the store from answering: it may have been renewed or not.
    pub async fn renew(&self) -> Result<Grip, StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.renew().await,
            Held::Etcd3(lease) => lease.renew().await,
            Held::Directory(lease) => lease.renew().await,
        }
    }

    /// Makes edits, in no particular order; the answers are in that of the edits.
    pub async fn apply(&self, edits: &[Edit]) -> Vec<Result<Grip, StoreError>> {
        match &self.0 {
            Held::Etcd2(lease) => lease.apply(edits).await,
            Held::Etcd3(lease) => Box::pin(lease.apply(edits)).await,
            Held::Directory(lease) => lease.apply(edits).await,
        }
    }

    /// The keys that are this lease's, by their full names, and their values.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.held().await,
            Held::Etcd3(lease) => Box::pin(lease.held()).await,
            Held::Directory(lease) => lease.held().await,
        }
    }

    /// Ends it, and with it every key that it has, at once.
    ///
    /// # Errors
    /// Whatever keeps the store from answering: it ends by itself then.
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
