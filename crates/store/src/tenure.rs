//! Holds a lease for as long as it runs: asks for it until it is granted, renews it in time, and asks again when it was
//! lost. Knows nothing of what is kept under it.
//!
//! ```text
//! Awaited ─granted─> Held{term 1} ─lease ended, on a slow machine or in an outage─> Awaited ─> Held{term 2} ...
//!                        └─another process came later─> Replaced
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, RwLock, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, jitter};
use crate::error::StoreError;
use crate::lease::{Claim, Edit, Grip, Lease, Owner};
use crate::store::Store;

/// A lease is renewed so many times in its life.
const RENEWALS: u32 = 3;
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Low, so that a store that returns is found within a second.
const LAST_RETRY: Duration = Duration::from_millis(500);
/// A wish that the store refuses for reasons that only an operator can change is repeated less often.
const REFUSED: Duration = Duration::from_secs(15);

/// How it stands with a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not granted, or lost.
    Awaited {
        /// What the last try said.
        error: Option<StoreError>,
    },
    /// Granted. With each new term, what was kept under it may be gone.
    Held {
        /// Counts grants, from 1.
        term: u64,
    },
    /// Another process has taken over the owner's name: this one keeps nothing.
    Replaced,
}

/// The holding of one owner's lease.
pub struct Tenure<'a> {
    store: &'a Store,
    owner: Owner,
    ttl: Duration,
    lease: RwLock<Option<Arc<Lease<'a>>>>,
    standing: watch::Sender<Standing>,
    /// How often it was granted.
    terms: AtomicU64,
    /// Somebody found the lease ended.
    doubt: Notify,
}

impl<'a> Tenure<'a> {
    /// Of this owner's lease, which is to outlive its last renewal by `ttl`. Does nothing before it is run.
    pub fn new(store: &'a Store, owner: Owner, ttl: Duration) -> Self {
        let standing = watch::Sender::new(Standing::Awaited { error: None });
        Self { store, owner, ttl, lease: RwLock::default(), standing, terms: AtomicU64::new(0), doubt: Notify::new() }
    }

    /// How it stands, now and from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Holds the lease until dropped, or until another process has taken over. Run again, it does not take over in turn:
    /// it has the lease only if that process is gone.
    pub async fn run(&self) {
        let mut rng = fastrand::Rng::new();
        while let Some(lease) = self.granted(self.claim(), &mut rng).await {
            let term = self.terms.fetch_add(1, Ordering::Relaxed) + 1;
            let lease = Arc::new(lease);
            *self.lease.write().await = Some(lease.clone());
            self.standing.send_replace(Standing::Held { term });
            let end = self.hold(&lease, &mut rng).await;
            *self.lease.write().await = None;
            if end == Grip::Replaced {
                break;
            }
            info!("the lease has ended; asking for it again");
            self.standing.send_replace(Standing::Awaited { error: None });
        }
        self.standing.send_replace(Standing::Replaced);
    }

    fn claim(&self) -> Claim {
        if self.terms.load(Ordering::Relaxed) == 0 { Claim::First } else { Claim::Again }
    }

    /// Asks until it is granted. `None`: another process came later.
    async fn granted(&self, claim: Claim, rng: &mut fastrand::Rng) -> Option<Lease<'a>> {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let error = match self.store.lease(&self.owner, self.ttl, claim).await {
                Ok(granted) => return granted,
                Err(error) => error,
            };
            let pause = match error {
                StoreError::Refused { .. } => jitter(REFUSED, 0.8..1.2, rng),
                _ => backoff.next(rng),
            };
            self.failed(error);
            sleep(pause).await;
        }
    }

    fn failed(&self, error: StoreError) {
        debug!("lease: {error}");
        let is_news = !matches!(&*self.standing.borrow(), Standing::Awaited { error: Some(known) } if *known == error);
        if is_news {
            self.standing.send_replace(Standing::Awaited { error: Some(error) });
        }
    }

    /// Renews until it is over, and says how it ended.
    async fn hold(&self, lease: &Lease<'a>, rng: &mut fastrand::Rng) -> Grip {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        // At once: what was taken over may have little time left.
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.doubt.notified() => {}
            }
            if !lease.is_of(self.store) {
                return Grip::Ended;
            }
            pause = match lease.renew().await {
                Ok(end @ (Grip::Ended | Grip::Replaced)) => return end,
                Ok(Grip::Done(_) | Grip::Taken) => {
                    backoff.reset();
                    jitter(lease.ttl() / RENEWALS, 0.8..1.0, rng)
                }
                Err(error) => {
                    debug!("cannot renew the lease: {error}");
                    backoff.next(rng)
                }
            };
        }
    }

    /// Makes edits under the lease; [`Grip::Ended`] for each while there is none.
    pub async fn apply(&self, edits: &[Edit]) -> Vec<Result<Grip, StoreError>> {
        let Some(lease) = self.lease.read().await.clone() else {
            return edits.iter().map(|_| Ok(Grip::Ended)).collect();
        };
        let done = lease.apply(edits).await;
        if done.iter().any(|done| matches!(done, Ok(Grip::Ended | Grip::Replaced))) {
            self.doubt.notify_one();
        }
        done
    }

    /// The keys under the lease and their values; `None` while there is none.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub async fn held(&self) -> Result<Option<BTreeMap<String, Vec<u8>>>, StoreError> {
        match self.lease.read().await.clone() {
            Some(lease) => lease.held().await.map(Some),
            None => Ok(None),
        }
    }

    /// Ends the lease, and with it its keys, for so long at most: else they end by themselves.
    pub async fn release(&self, within: Duration) {
        let Some(lease) = self.lease.write().await.take() else { return };
        match timeout(within, lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("cannot end the lease, it ends by itself within {:?}: {error}", lease.ttl()),
            Err(_) => warn!("cannot end the lease within {within:?}, it ends by itself within {:?}", lease.ttl()),
        }
    }
}
