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

use crate::chosen::Chosen;
use crate::directory::DirectoryLease;
use crate::error::StoreError;
use crate::etcd2::Etcd2Lease;
use crate::etcd3::Etcd3Lease;
use crate::model::Api;
pub use crate::model::{Claim, DRAIN, Edit, LeaseOutcome, Owner};
use crate::store::Store;

/// A granted lease.
pub struct Lease<'a>(Held<'a>);

enum Held<'a> {
    Etcd2(Etcd2Lease<'a>),
    Etcd3(Etcd3Lease<'a>),
    Directory(DirectoryLease),
}

impl Store {
    /// Grants the owner's lease for `ttl`, or takes over the existing one with its keys and its own time to live.
    /// `None` if another process started later.
    ///
    /// # Errors
    /// [`StoreError::LeaseHeld`] in a folder whose previous process still runs; any error of the store.
    pub async fn lease(&self, owner: &Owner, ttl: Duration, claim: Claim) -> Result<Option<Lease<'_>>, StoreError> {
        let held = match self.resolve().await? {
            Chosen::Etcd2(store) => Etcd2Lease::grant(store, owner, ttl, claim).await?.map(Held::Etcd2),
            Chosen::Etcd3(store) => Box::pin(Etcd3Lease::grant(store, owner, ttl, claim)).await?.map(Held::Etcd3),
            Chosen::Directory(store) => Some(Held::Directory(DirectoryLease::grant(store, owner, ttl, claim).await?)),
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
    pub async fn renew(&self) -> Result<LeaseOutcome, StoreError> {
        match &self.0 {
            Held::Etcd2(lease) => lease.renew().await,
            Held::Etcd3(lease) => lease.renew().await,
            Held::Directory(lease) => lease.renew().await,
        }
    }

    /// Makes edits, in no particular order. The results are in the order of the edits.
    pub async fn apply(&self, edits: &[Edit]) -> Vec<Result<LeaseOutcome, StoreError>> {
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
