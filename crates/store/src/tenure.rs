//! Holds a lease as long as it runs: asks for it until it is granted, renews it, and asks again when it is lost. Does
//! not know which keys depend on it.
//!
//! ```text
//! Awaited ─granted─> Held{term 1} ─lease ended: slow machine or outage─> Awaited ─> Held{term 2} ...
//!                        └─another process started later─> Replaced
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
use crate::lease::{Claim, Edit, Lease, LeaseOutcome, Owner};
use crate::store::Store;

/// Renewals per time to live.
const RENEWALS: u32 = 3;
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Low, so that a store that returns is found within a second.
const LAST_RETRY: Duration = Duration::from_millis(500);
/// The pause after a refusal, which only an operator can resolve.
const REFUSED: Duration = Duration::from_secs(15);

/// The state of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Not granted, or lost.
    Awaited {
        /// The error of the last attempt.
        error: Option<StoreError>,
    },
    /// Granted; `term` counts grants. A new term may mean that the keys of the last one are gone.
    Held {
        /// Counts grants, from 1.
        term: u64,
    },
    /// Another process has taken over the owner's name; this one holds nothing.
    Replaced,
}

/// Holds one owner's lease.
pub struct LeaseHolder<'a> {
    store: &'a Store,
    owner: Owner,
    ttl: Duration,
    lease: RwLock<Option<Arc<Lease<'a>>>>,
    state: watch::Sender<LeaseState>,
    /// The number of grants.
    terms: AtomicU64,
    /// Signals that an edit found the lease ended.
    doubt: Notify,
}

impl<'a> LeaseHolder<'a> {
    /// For this owner's lease, which ends `ttl` after its last renewal. Does nothing until it is run.
    pub fn new(store: &'a Store, owner: Owner, ttl: Duration) -> Self {
        let state = watch::Sender::new(LeaseState::Awaited { error: None });
        Self { store, owner, ttl, lease: RwLock::default(), state, terms: AtomicU64::new(0), doubt: Notify::new() }
    }

    /// The state of the lease, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.subscribe()
    }

    /// Holds the lease until dropped, or until another process has taken over. A second run does not take it back: it
    /// gets the lease only if that process has ended.
    pub async fn run(&self) {
        let mut rng = fastrand::Rng::new();
        while let Some(lease) = self.granted(self.claim(), &mut rng).await {
            let term = self.terms.fetch_add(1, Ordering::Relaxed) + 1;
            let lease = Arc::new(lease);
            *self.lease.write().await = Some(lease.clone());
            self.state.send_replace(LeaseState::Held { term });
            let end = self.hold(&lease, &mut rng).await;
            *self.lease.write().await = None;
            if end == LeaseOutcome::Replaced {
                break;
            }
            info!("the lease has ended; asking for a new one");
            self.state.send_replace(LeaseState::Awaited { error: None });
        }
        self.state.send_replace(LeaseState::Replaced);
    }

    fn claim(&self) -> Claim {
        if self.terms.load(Ordering::Relaxed) == 0 { Claim::First } else { Claim::Again }
    }

    /// Asks until it is granted. `None`: another process started later.
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
        let is_news = !matches!(&*self.state.borrow(), LeaseState::Awaited { error: Some(known) } if *known == error);
        if is_news {
            self.state.send_replace(LeaseState::Awaited { error: Some(error) });
        }
    }

    /// Renews until the lease ends, and returns how it ended.
    async fn hold(&self, lease: &Lease<'a>, rng: &mut fastrand::Rng) -> LeaseOutcome {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        // Renew at once: a lease taken over may have little time left.
        let mut pause = Duration::ZERO;
        let mut api = self.store.api();
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.doubt.notified() => {}
                Ok(()) = api.changed() => {}
            }
            if !lease.is_of(self.store) {
                return LeaseOutcome::Ended;
            }
            pause = match lease.renew().await {
                Ok(end @ (LeaseOutcome::Ended | LeaseOutcome::Replaced)) => return end,
                Ok(LeaseOutcome::Done(_) | LeaseOutcome::Taken) => {
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

    /// Makes edits under the lease; returns [`LeaseOutcome::Ended`] for each while there is none.
    pub async fn apply(&self, edits: &[Edit]) -> Vec<Result<LeaseOutcome, StoreError>> {
        let Some(lease) = self.lease.read().await.clone() else {
            return edits.iter().map(|_| Ok(LeaseOutcome::Ended)).collect();
        };
        let done = lease.apply(edits).await;
        if done.iter().any(|done| matches!(done, Ok(LeaseOutcome::Ended | LeaseOutcome::Replaced))) {
            self.doubt.notify_one();
        }
        done
    }

    /// The lease's keys and their values; `None` while there is none.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn held(&self) -> Result<Option<BTreeMap<String, Vec<u8>>>, StoreError> {
        match self.lease.read().await.clone() {
            Some(lease) => lease.held().await.map(Some),
            None => Ok(None),
        }
    }

    /// Ends the lease and its keys. Gives up after `within`; the lease then ends when its time is over.
    pub async fn release(&self, within: Duration) {
        let Some(lease) = self.lease.write().await.take() else { return };
        match timeout(within, lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("cannot end the lease; it expires within {:?}: {error}", lease.ttl()),
            Err(_) => warn!("cannot end the lease within {within:?}; it expires within {:?}", lease.ttl()),
        }
    }
}
