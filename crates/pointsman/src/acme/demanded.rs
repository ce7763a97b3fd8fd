//! The steps of a leader for names that only handshakes want certificates for: whether they are allowed still, and forgetting
//! them.

use std::sync::Arc;

use pointsman_store::StoreError;
use pointsman_table::{Allowance, Table};
use tokio::time::sleep;
use tracing::{debug, info};

use super::authority::now;
use super::book::{cert_key, order_key};
use super::leader::{RETRY, Work};
use super::order::{CertOrder, Trouble};

impl Work<'_> {
    /// Whether a certificate is wanted for this name.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.borrow().contains(name) || self.on_demand.borrow().contains(name)
    }

    /// Whether only handshakes wanted a certificate for this name, and none is asked for any more.
    pub(super) fn is_forgotten(&self, name: &str, order: &CertOrder) -> bool {
        let is_allowed = |table: &Arc<Table>| table.acme_on_demand(name) != Allowance::No;
        let is_allowed = self.leader.status.borrow().table.as_ref().is_none_or(is_allowed);
        order.on_demand.is_some() && !self.wanted.borrow().contains(name) && (!is_allowed || order.is_hopeless(now()))
    }

    /// Removes a name from the store.
    pub(super) async fn forget(&self, name: &str) {
        let (store, folder) = (self.leader.store, self.leader.folder);
        // There may be no certificate. A key that stays is removed the next time.
        let _ = store.delete(&cert_key(folder, name), false).await;
        match store.delete(&order_key(folder, name), false).await {
            Ok(_) | Err(StoreError::NoSuchKey { .. }) => {
                info!("certificate for {name}: forgotten; another handshake may ask for it again");
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
        if self.wanted.borrow().contains(name) {
            return Ok(());
        }
        let Some(table) = table else { return Ok(()) };
        let Allowance::Endpoint(url) = table.acme_on_demand(name) else { return Ok(()) };
        match self.leader.endpoint.allows(url, name).await? {
            true => Ok(()),
            false => Err(Trouble::refusal(format!("config/acme/on_demand: {url} does not allow {name}"))),
        }
    }
}
