//! The steps of a leader for names that only handshakes want certificates for: whether they are allowed still, and forgetting
//! them.

use std::sync::Arc;

use pointsman_store::StoreError;
use pointsman_table::{Allowance, Table};
use tokio::time::sleep;
use tracing::{debug, info};

use super::authority::now;
use super::book::{cert_key, order_key};
use super::endpoint::bare;
use super::leader::{RETRY, Work};
use super::order::{CertOrder, Trouble};

impl Work<'_> {
    /// Whether a certificate is wanted for this name.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.borrow().contains_key(name) || self.on_demand.borrow().contains(name)
    }

    /// Whether nobody wants a certificate for this name any more, and there is none that still counts.
    pub(super) fn is_forgotten(&self, name: &str, order: &CertOrder) -> bool {
        let is_allowed = |table: &Arc<Table>| table.acme_on_demand(name) != Allowance::No;
        let is_allowed = self.leader.status.borrow().table.as_ref().is_none_or(is_allowed);
        let is_over = if is_allowed { order.is_hopeless(now()) } else { order.is_over(now()) };
        !self.wanted.borrow().contains_key(name) && is_over
    }

    /// Removes a name from the store.
    pub(super) async fn forget(&self, name: &str) {
        let challenge = self.leader.book.borrow().orders.get(name).and_then(|order| order.challenge().cloned());
        if let Some(challenge) = challenge {
            self.clean_up(name, &challenge).await;
        }
        let (store, folder) = (self.leader.store, self.leader.folder);
        // There may be no certificate. A key that stays is removed the next time.
        let _ = store.delete(&cert_key(folder, name), false).await;
        match store.delete(&order_key(folder, name), false).await {
            Ok(_) | Err(StoreError::NoSuchKey { .. }) => {
                info!("certificate for {name}: forgotten, as nobody wants it");
                self.leader.book.send_modify(|book| book.forget(name));
            }
            Err(error) => {
                debug!("the order for {name} cannot be removed: {error}");
                sleep(RETRY).await;
            }
        }
    }

    /// Whether the operator's URL, if there is one, still allows a certificate that only handshakes want.
    pub(super) async fn check_allowed(&self, name: &str) -> Result<(), Trouble> {
        let table = self.leader.status.borrow().table.clone();
        if self.wanted.borrow().contains_key(name) {
            return Ok(());
        }
        let Some(table) = table else { return Ok(()) };
        let Allowance::Endpoint(url) = table.acme_on_demand(name) else { return Ok(()) };
        match self.leader.endpoint.allows(url, name).await? {
            true => Ok(()),
            false => Err(Trouble::unwanted(format!("config/acme/on_demand: {} does not allow it", bare(url)))),
        }
    }
}
