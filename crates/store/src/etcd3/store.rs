//! An etcd cluster by its v3 API: single calls over any member that answers.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::client::Client;
use super::keys::{Folder, raw};
use super::list::{self, Position};
use super::messages::{
    Compare, CompareTarget, DeleteRangeRequest, KeyValue, Operation, PutRequest, RangeRequest, TxnRequest,
};
use super::transport::Endpoint;
use crate::error::StoreError;
use crate::members::{Members, first_answer};
use crate::model::{Amended, ClusterId, Edit, Listing, Location, StoreSettings, check_key};
use crate::tls;

/// Keys per page.
const PAGE: u32 = 1000;
/// etcd's default limit of operations in one list (`--max-txn-ops`). The length of a list reduces the limit of a
/// transaction nested in it, so lists of half that length hold the most.
const MOST_OPERATIONS: usize = 128;
const SHARE: usize = MOST_OPERATIONS / 2;
/// Most edits of one transaction.
const MOST_EDITS: usize = SHARE * SHARE;
/// etcd's default limit of bytes in one transaction (`--max-request-bytes`).
const MOST_BYTES: usize = 3 << 19;
/// Maximum bytes of an edit besides its key and value.
const FRAME: usize = 32;

/// An etcd cluster with its v3 API.
pub struct Etcd3 {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) members: Members,
    pub(super) user: Option<(String, String)>,
    pub(super) folder: Folder,
    pub(super) audit: Duration,
    pub(super) page: u32,
    /// The client for single calls; each follower has its own.
    pub(super) client: Mutex<Option<Arc<Client>>>,
    /// The cluster that is followed.
    pub(crate) cluster: ClusterId,
}

/// The result of a first look at a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The server's version, or `unknown`.
    pub version: String,
    /// Whether any key is below the prefix.
    pub holds_prefix: bool,
}

impl fmt::Debug for Etcd3 {
    /// Omits the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.endpoints.iter().map(Endpoint::url).collect();
        f.debug_struct("Etcd3").field("endpoints", &urls).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Etcd3 {
    /// Checks the settings and reads the PEM files. Does not connect.
    ///
    /// # Errors
    /// [`StoreError::BadSettings`].
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let urls = match &settings.location {
            Location::Etcd(urls) if !urls.is_empty() => urls,
            _ => {
                return Err(StoreError::BadSettings { what: "--store: etcd needs at least one URL".to_owned() });
            }
        };
        let shared = OnceLock::new();
        let tls = || shared.get_or_init(|| http2_tls(settings)).clone();
        Ok(Self {
            endpoints: urls.iter().map(|url| Endpoint::new(url, tls)).collect::<Result<_, _>>()?,
            members: Members::new(urls.len()),
            user: settings.user.clone(),
            folder: Folder::new(&settings.prefix),
            audit: settings.audit,
            page: PAGE,
            client: Mutex::new(None),
            cluster: ClusterId::default(),
        })
    }

    /// The same with this page size instead of 1,000 keys.
    #[must_use]
    pub fn paged(mut self, keys: u32) -> Self {
        self.page = keys.max(1);
        self
    }

    /// Whether the server speaks v3, and whether it holds the prefix.
    ///
    /// # Errors
    /// [`StoreError::NotSupported`] if a server answers that does not speak etcd's v3 API.
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        let client = self.client().await?;
        match list::glance(&client, &self.folder).await {
            Ok((_, holds_prefix)) => Ok(Probe { version: client.version().to_owned(), holds_prefix }),
            Err(error) => {
                // The member may be cut off from its cluster, so the next call must reach another one.
                self.forget(&client).await;
                Err(error)
            }
        }
    }

    /// Everything below the folder `prefix_full` at one revision, with keys relative to it.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn list(&self, prefix_full: &str) -> Result<Listing, StoreError> {
        let folder = Folder::new(prefix_full);
        let client = self.client().await?;
        let fold = |listing: &mut Listing, kv| listing.take(&folder, kv);
        let (position, listing) = list::list(&client, &folder, self.page, fold).await?;
        Ok(Listing { revision: position.revision, ..listing })
    }

    /// The value of a full key, if it has one.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(key)?;
        let request = RangeRequest { key: raw(key), ..RangeRequest::default() };
        let reply = self.client().await?.call(request).await?;
        Ok(reply.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Sets a full key; returns the revision that shows it.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<u64, StoreError> {
        check_key(key)?;
        let client = self.client().await?;
        let reply = client.call(PutRequest { key: raw(key), value: value.into(), ..PutRequest::default() }).await?;
        Ok(Position::read(&client, reply.header)?.revision)
    }

    /// Sets a full key that does not exist; `false`: it does, and stays as it is.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<bool, StoreError> {
        check_key(key)?;
        let put = PutRequest { key: raw(key), value: value.into(), ..PutRequest::default() };
        let put = Operation { put: Some(put), ..Operation::default() };
        let txn = TxnRequest { compare: vec![Compare::absent(raw(key))], success: vec![put], failure: Vec::new() };
        Ok(self.client().await?.call(txn).await?.succeeded)
    }

    /// Deletes a full key, with everything below it if `recursive`; returns the revision that shows it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`] if there is nothing to delete; any error of the store.
    pub async fn delete(&self, key: &str, recursive: bool) -> Result<u64, StoreError> {
        check_key(key)?;
        let client = self.client().await?;
        let folder = Folder::new(key);
        let below = DeleteRangeRequest { key: folder.start(), range_end: folder.end() };
        let itself = DeleteRangeRequest { key: raw(key), range_end: Vec::new() };
        let mut last = None;
        for request in recursive.then_some(below).into_iter().chain([itself]) {
            let reply = client.call(request).await?;
            if reply.deleted > 0 {
                last = Some(Position::read(&client, reply.header)?.revision);
            }
        }
        last.ok_or_else(|| StoreError::NoSuchKey { key: key.to_owned() })
    }

    /// Checks that these edits fit into one transaction. Returns a warning if the server must allow more bytes than by
    /// default.
    ///
    /// # Errors
    /// [`StoreError::BadKey`] if there are more edits than etcd takes at once.
    pub fn check_commit(edits: &[Edit]) -> Result<Option<String>, StoreError> {
        if let Some(edit) = edits.get(MOST_EDITS) {
            let why = format!(
                "is one of {} changes; etcd makes at most {MOST_EDITS} in one transaction: write them in parts",
                edits.len()
            );
            return Err(StoreError::BadKey { key: edit.key().to_owned(), why });
        }
        let size = |edit: &Edit| match edit {
            Edit::Put { key, value } => FRAME + key.len() + value.len(),
            Edit::Delete { key } => FRAME + key.len(),
        };
        let bytes: usize = edits.iter().map(size).sum();
        Ok((bytes > MOST_BYTES).then(|| {
            let asked = bytes.div_ceil(1 << 10);
            format!(
                "the change has {asked} KiB; etcd takes 1536 KiB at once by default: write it in parts if it is refused"
            )
        }))
    }

    /// Makes all these edits in one transaction; returns the revision that shows them.
    ///
    /// # Errors
    /// [`StoreError::BadKey`] if there are more than etcd takes at once; any error of the store.
    pub async fn commit(&self, edits: &[Edit]) -> Result<u64, StoreError> {
        let (_, revision) = self.commit_if(Vec::new(), edits).await?;
        Ok(revision)
    }

    /// The same if no key below the folder `place` was written after this revision; `None`: one was, and nothing is done.
    ///
    /// # Errors
    /// As [`Etcd3::commit`].
    pub async fn commit_over(&self, edits: &[Edit], place: &str, revision: u64) -> Result<Option<u64>, StoreError> {
        let folder = Folder::new(place);
        let untouched = Compare::untouched_since(revision, folder.start(), folder.end());
        let (is_made, revision) = self.commit_if(vec![untouched], edits).await?;
        Ok(is_made.then_some(revision))
    }

    async fn commit_if(&self, compare: Vec<Compare>, edits: &[Edit]) -> Result<(bool, u64), StoreError> {
        Self::check_commit(edits)?;
        let all: Vec<_> = edits.iter().map(operation).collect();
        let txn = |success| TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
        let nested = |part: &[Operation]| Operation { txn: Some(Box::new(txn(part.to_vec()))), ..Operation::default() };
        let operations = if all.len() <= MOST_OPERATIONS { all } else { all.chunks(SHARE).map(nested).collect() };
        let client = self.client().await?;
        let reply = client.call(TxnRequest { compare, ..txn(operations) }).await?;
        Ok((reply.succeeded, Position::read(&client, reply.header)?.revision))
    }

    /// Replaces a value with the result of `change`; the key keeps its lease. If the key changes meanwhile, does
    /// nothing and returns `None`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`]; any error of the store.
    pub async fn amend(
        &self,
        key: &str,
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Amended>, StoreError> {
        check_key(key)?;
        let client = self.client().await?;
        let reply = client.call(RangeRequest { key: raw(key), ..RangeRequest::default() }).await?;
        let kv = reply.kvs.into_iter().next().ok_or_else(|| StoreError::NoSuchKey { key: key.to_owned() })?;
        let Some(value) = change(&kv.value) else {
            return Ok(Some(Amended::Same));
        };
        let unchanged = Compare {
            target: CompareTarget::Mod.into(),
            key: raw(key),
            mod_revision: Some(kv.mod_revision),
            ..Compare::default()
        };
        let put = PutRequest { key: raw(key), value, lease: 0, ignore_lease: true };
        let put = Operation { put: Some(put), ..Operation::default() };
        let txn = TxnRequest { compare: vec![unchanged], success: vec![put], failure: Vec::new() };
        let reply = client.call(txn).await?;
        let revision = Position::read(&client, reply.header)?.revision;
        Ok(reply.succeeded.then_some(Amended::At(revision)))
    }

    /// The connection for single calls: the last one if its member still answers, or one to the first member that does.
    pub(super) async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref() {
            let is_usable = if self.members.has_others() { client.is_well().await } else { !client.is_closed() };
            if is_usable {
                return Ok(client.clone());
            }
            self.members.failed(client.member());
            *kept = None;
        }
        let client = Arc::new(self.connect(self.members.order()).await?);
        self.members.answered(client.member());
        *kept = Some(client.clone());
        Ok(client)
    }

    /// A client of the first of these members to answer.
    pub(super) async fn connect(&self, order: impl Iterator<Item = usize>) -> Result<Client, StoreError> {
        let connect = |member: usize| Client::connect(&self.endpoints[member], member, self.user.clone());
        first_answer(order.map(connect)).await
    }

    /// Drops the connection for single calls, if it is this one, and looks for another member next time.
    pub(super) async fn forget(&self, client: &Arc<Client>) {
        let mut kept = self.client.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, client)) {
            self.members.failed(client.member());
            *kept = None;
        }
    }
}

/// TLS with gRPC's application protocol, which newer servers require.
fn http2_tls(settings: &StoreSettings) -> Result<Arc<rustls::ClientConfig>, StoreError> {
    let mut config = tls::client_config(settings)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

impl Listing {
    /// Adds a key, if it is one of ours.
    pub(super) fn take(&mut self, folder: &Folder, kv: KeyValue) {
        let Some(key) = folder.relative_or_say(&kv.key) else { return };
        if kv.lease != 0 {
            self.leased.insert(key.clone());
        }
        self.entries.push((key, kv.value.into_boxed_slice()));
    }
}

fn operation(edit: &Edit) -> Operation {
    match edit {
        Edit::Put { key, value } => {
            let put = PutRequest { key: raw(key), value: value.clone(), ..PutRequest::default() };
            Operation { put: Some(put), ..Operation::default() }
        }
        Edit::Delete { key } => {
            let delete = DeleteRangeRequest { key: raw(key), range_end: Vec::new() };
            Operation { delete: Some(delete), ..Operation::default() }
        }
    }
}
