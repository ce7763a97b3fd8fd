//! A lease of etcd v3. etcd itself checks each edit, in one transaction: the key must not exist or must have this
//! lease, and this process must be the owner.
//!
//! Source: etcd `api/etcdserverpb/rpc.proto` (Lease, Txn); comparing leases needs etcd 3.3.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::client::Client;
use super::keys::{full, raw};
use super::list::Position;
use super::messages::{
    Compare, CompareTarget, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, Operation,
    OperationResponse, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use super::store::Etcd3;
use crate::error::StoreError;
use crate::model::{Claim, Edit, LeaseOutcome, Owner, check_key};
use crate::values::values;

/// Maximum concurrent edits; etcd writes edits that arrive together to its log at once.
const AT_ONCE: usize = 64;
/// A lease and its owner.
pub(crate) struct Etcd3Lease<'a> {
    store: &'a Etcd3,
    id: i64,
    /// The key that names the owning process.
    fence: Vec<u8>,
    session: Vec<u8>,
    ttl: Duration,
    /// Deadline of each call: another member can be asked before the lease ends.
    patience: Duration,
}

impl<'a> Etcd3Lease<'a> {
    pub(crate) async fn grant(
        store: &'a Etcd3,
        owner: &Owner,
        ttl: Duration,
        claim: Claim,
    ) -> Result<Option<Self>, StoreError> {
        let id = owner.id.cast_signed();
        let (fence, session, patience) =
            (raw(&owner.place()), owner.session.clone().into(), store.members.patience(ttl));
        let mut lease = Self { store, id, fence, session, ttl, patience };
        let client = store.client().await?;
        let granted = lease.grant_on(&client, claim).await;
        Ok(lease.forget_broken(&client, granted).await?.then_some(lease))
    }

    async fn grant_on(&mut self, client: &Client, claim: Claim) -> Result<bool, StoreError> {
        // Check before renewing: that owner may be dead, and its keys about to end.
        if claim == Claim::Again && self.is_anothers(client).await? {
            return Ok(false);
        }
        let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let granted = match client.keep_alive(self.id, self.patience).await? {
            0 => client.call_within(LeaseGrantRequest { ttl: seconds, id: self.id }, self.patience).await?.ttl,
            granted => granted,
        };
        self.ttl = Duration::from_secs(u64::try_from(granted).unwrap_or(0).max(1));
        self.patience = self.store.members.patience(self.ttl);
        let fence = put(self.fence.clone(), self.session.clone(), self.id);
        let compare = match claim {
            Claim::First => Vec::new(),
            Claim::Again => vec![Compare::absent(self.fence.clone())],
        };
        let txn = TxnRequest { compare, success: vec![fence], failure: vec![self.ask_fence()] };
        let reply = client.call_within(txn, self.patience).await?;
        Ok(reply.succeeded || said(&reply.responses) == Some(&*self.session))
    }

    async fn is_anothers(&self, client: &Client) -> Result<bool, StoreError> {
        let request = RangeRequest { key: self.fence.clone(), ..RangeRequest::default() };
        let reply = client.call_within(request, self.patience).await?;
        Ok(value(&reply).is_some_and(|session| session != self.session))
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) async fn renew(&self) -> Result<LeaseOutcome, StoreError> {
        let client = self.store.client().await?;
        let renewed = async {
            if client.keep_alive(self.id, self.patience).await? == 0 {
                return Ok(LeaseOutcome::Ended);
            }
            // A local read of one member is enough while it names us: the next renewal finds a later owner, and until
            // then etcd refuses our edits. A lagging member may not know us yet, so the cluster decides.
            match self.look(&client, true).await? {
                LeaseOutcome::Done(_) => Ok(LeaseOutcome::Done(0)),
                _ => self.look(&client, false).await,
            }
        };
        self.forget_broken(&client, renewed.await).await
    }

    /// The owner of the lease, as one member sees it (`serializable`) or as the cluster does.
    async fn look(&self, client: &Client, serializable: bool) -> Result<LeaseOutcome, StoreError> {
        let request = RangeRequest { key: self.fence.clone(), serializable, ..RangeRequest::default() };
        let reply = client.call_within(request, self.patience).await?;
        Ok(self.judge(value(&reply), LeaseOutcome::Done(0)))
    }

    pub(crate) async fn apply(&self, edits: &[Edit]) -> Vec<Result<LeaseOutcome, StoreError>> {
        stream::iter(edits.iter().map(|edit| self.edit(edit))).buffered(AT_ONCE).collect().await
    }

    async fn edit(&self, edit: &Edit) -> Result<LeaseOutcome, StoreError> {
        check_key(edit.key())?;
        let client = self.store.client().await?;
        let done = match client.call_within(self.guarded(raw(edit.key()), edit), self.patience).await {
            Err(StoreError::LeaseEnded { .. }) => Ok(LeaseOutcome::Ended),
            Err(error) => Err(error),
            Ok(reply) => self.outcome(&client, &reply),
        };
        self.forget_broken(&client, done).await
    }

    /// The edit, if this process is the owner and the key is ours; otherwise, for a put, if the key does not exist.
    fn guarded(&self, key: Vec<u8>, edit: &Edit) -> TxnRequest {
        let ours = Compare {
            target: CompareTarget::Lease.into(),
            key: key.clone(),
            lease: Some(self.id),
            ..Compare::default()
        };
        let (success, failure) = match edit {
            Edit::Put { value, .. } => {
                let put = put(key.clone(), value.clone(), self.id);
                let fresh = TxnRequest {
                    compare: vec![self.is_owner(), Compare::absent(key)],
                    success: vec![put.clone()],
                    failure: vec![self.ask_fence()],
                };
                (put, Operation { txn: Some(Box::new(fresh)), ..Operation::default() })
            }
            Edit::Delete { .. } => {
                let delete = DeleteRangeRequest { key, range_end: Vec::new() };
                (Operation { delete: Some(delete), ..Operation::default() }, self.ask_fence())
            }
        };
        TxnRequest { compare: vec![self.is_owner(), ours], success: vec![success], failure: vec![failure] }
    }

    fn outcome(&self, client: &Client, reply: &TxnResponse) -> Result<LeaseOutcome, StoreError> {
        let done = LeaseOutcome::Done(Position::read(client, reply.header)?.revision);
        let inner = reply.responses.first().and_then(|response| response.txn.as_deref());
        Ok(match (reply.succeeded, inner) {
            (true, _) => done,
            (false, Some(inner)) if inner.succeeded => done,
            (false, Some(inner)) => self.judge(said(&inner.responses), LeaseOutcome::Taken),
            (false, None) => self.judge(said(&reply.responses), LeaseOutcome::Taken),
        })
    }

    /// The result for this value of the fence; `otherwise` if it names us.
    fn judge(&self, fence: Option<&[u8]>, otherwise: LeaseOutcome) -> LeaseOutcome {
        match fence {
            Some(session) if session == self.session => otherwise,
            Some(_) => LeaseOutcome::Replaced,
            None => LeaseOutcome::Ended,
        }
    }

    /// The member may be cut off from its cluster, so the next call must reach another one.
    async fn forget_broken<T>(&self, client: &Arc<Client>, done: Result<T, StoreError>) -> Result<T, StoreError> {
        use StoreError::{BadAnswer, Failed, Unreachable};
        if matches!(done, Err(Unreachable { .. } | Failed { .. } | BadAnswer { .. })) {
            self.store.forget(client).await;
        }
        done
    }

    fn is_owner(&self) -> Compare {
        Compare {
            target: CompareTarget::Value.into(),
            key: self.fence.clone(),
            value: Some(self.session.clone()),
            ..Compare::default()
        }
    }

    fn ask_fence(&self) -> Operation {
        let range = RangeRequest { key: self.fence.clone(), ..RangeRequest::default() };
        Operation { range: Some(range), ..Operation::default() }
    }

    pub(crate) async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let client = self.store.client().await?;
        let about = client.call_within(LeaseTimeToLiveRequest { id: self.id, keys: true }, self.patience).await;
        let keys = self.forget_broken(&client, about).await?.keys;
        let keys = keys.into_iter().filter(|key| *key != self.fence).filter_map(|key| full(&key)).collect();
        values(keys, AT_ONCE, async |key: String| self.store.get(&key).await).await
    }

    /// Deletes the keys and lets the lease expire. Revoking it by id would also revoke it for a process that has just
    /// taken it over.
    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        let keys = self.held().await?.into_keys();
        let edits: Vec<_> = keys.map(|key| Edit::Delete { key }).collect();
        self.apply(&edits).await.into_iter().try_for_each(|done| done.map(|_| ()))?;
        let client = self.store.client().await?;
        let delete = DeleteRangeRequest { key: self.fence.clone(), range_end: Vec::new() };
        let delete = Operation { delete: Some(delete), ..Operation::default() };
        let txn = TxnRequest { compare: vec![self.is_owner()], success: vec![delete], failure: Vec::new() };
        client.call_within(txn, self.patience).await.map(|_| ())
    }
}

fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Operation {
    Operation { put: Some(PutRequest { key, value, lease, ignore_lease: false }), ..Operation::default() }
}

/// The value in the first response, from a range of one key.
fn said(responses: &[OperationResponse]) -> Option<&[u8]> {
    value(responses.first()?.range.as_ref()?)
}

fn value(range: &RangeResponse) -> Option<&[u8]> {
    range.kvs.first().map(|kv| &*kv.value)
}
