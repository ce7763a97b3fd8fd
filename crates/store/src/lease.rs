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

use crate::chosen::Chosen;
use crate::directory::DirectoryLease;
use crate::error::StoreError;
use crate::etcd2::Etcd2Lease;
use crate::etcd3::Etcd3Lease;
use crate::model::Api;
pub use crate::model::{Claim, DRAIN, Edit, Grip, Owner};
use crate::store::Store;

/// A lease, granted.
pub struct Lease<'a>(Held<'a>);

enum Held<'a> {
    Etcd2(Etcd2Lease<'a>),
    Etcd3(Etcd3Lease<'a>),
    Directory(DirectoryLease),
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
            Chosen::Etcd2(store) => Etcd2Lease::grant(store, owner, ttl, claim).await?.map(Held::Etcd2),
            Chosen::Etcd3(store) => Box::pin(Etcd3Lease::grant(store, owner, ttl, claim)).await?.map(Held::Etcd3),
            Chosen::Directory(store) => Some(Held::Directory(DirectoryLease::grant(store, owner, ttl).await?)),
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
