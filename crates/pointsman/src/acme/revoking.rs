//! The steps of a leader for certificates that are to be revoked: has the authority do so, and has a new one ordered in place
//! of the one that serves.

use pointsman_store::StoreError;
use tracing::{info, warn};

use super::authority::{again, now};
use super::book::{order_key, revoke_key};
use super::leader::Work;
use super::order::{CertOrder, OrderStage, Trouble};
use super::revoke::Revocation;

/// Seconds until a request that is done is tried to be removed again.
const REMOVE: i64 = 5;

impl Work<'_> {
    /// Has a certificate revoked once.
    pub(super) async fn revoke(&self, name: &str, revocation: Revocation) {
        let key = revoke_key(self.leader.folder, name);
        let left = match self.ask_to_revoke(&revocation).await {
            Ok(()) => {
                info!("certificate for {name}: revoked ({})", revocation.reason);
                self.replace(name, &revocation).await;
                let removed = self.leader.store.delete(&key, false).await;
                let is_removed = matches!(removed, Ok(_) | Err(StoreError::NoSuchKey { .. }));
                (!is_removed).then(|| Revocation { due: now() + REMOVE, ..revocation })
            }
            Err(trouble) => {
                warn!("certificate for {name} is not revoked: {}", trouble.said);
                let failed = revocation.failed(trouble, now());
                let Ok(text) = serde_json::to_vec(&failed) else { return };
                match self.leader.store.amend(&key, |_| Some(text.clone())).await {
                    // An operator does not want it any more.
                    Err(StoreError::NoSuchKey { .. }) => None,
                    // If it cannot be written, it is known here still.
                    _ => Some(failed),
                }
            }
        };
        self.leader.book.send_modify(|book| match left {
            Some(left) => drop(book.revocations.insert(name.into(), left)),
            None => drop(book.revocations.remove(name)),
        });
    }

    async fn ask_to_revoke(&self, revocation: &Revocation) -> Result<(), Trouble> {
        let authority = self.authority().await?;
        if !authority.is_at(&revocation.directory) {
            let its = &revocation.directory;
            return Err(Trouble::refusal(format!(
                "{its} issued it, and config/acme/directory names another authority"
            )));
        }
        let der = revocation.der();
        again(|| authority.revoke(&der, revocation.number())).await
    }

    /// Has a new certificate ordered if the revoked one serves, and none is on its way.
    async fn replace(&self, name: &str, revocation: &Revocation) {
        let order = {
            let book = self.leader.book.borrow();
            let serves = book.certs.get(name).is_some_and(|pem| revocation.is_of(pem));
            book.orders.get(name).filter(|order| serves && order.stage == OrderStage::Idle).cloned()
        };
        if let Some(mut order) = order {
            if let Some(issued) = &mut order.issued {
                // The new one does not take its place at the authority.
                issued.id = None;
            }
            let order = CertOrder { term: self.term, ..order.renewed(now()) };
            if self.save(&order_key(self.leader.folder, name), &order).await {
                self.leader.book.send_modify(|book| book.note(name, order));
            }
        }
    }
}
