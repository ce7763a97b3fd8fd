//! Lists every key below a folder at one revision, page by page. Never watches.

use super::client::Client;
use super::keys::Folder;
use super::messages::{KeyValue, RangeRequest, ResponseHeader};
use crate::error::StoreError;

/// How often to restart a list that takes longer than etcd keeps its revision.
const ATTEMPTS: usize = 3;

/// A revision of one cluster's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The cluster's id: another id means another history.
    pub(super) cluster: u64,
    /// The revision.
    pub(super) revision: u64,
}

impl Position {
    /// From the header of any response.
    pub(super) fn new(header: Option<ResponseHeader>) -> Option<Self> {
        let ResponseHeader { cluster_id, revision } = header?;
        Some(Self { cluster: cluster_id, revision: u64::try_from(revision).ok()? })
    }

    /// As `new`, from a response that must have a header.
    pub(super) fn read(client: &Client, header: Option<ResponseHeader>) -> Result<Self, StoreError> {
        Self::new(header).ok_or_else(|| client.nonsense("no header"))
    }
}

/// The cluster's current position: a lagging member waits until it has caught up.
pub(super) async fn position(client: &Client, folder: &Folder) -> Result<Position, StoreError> {
    Ok(glance(client, folder).await?.0)
}

/// The current position, and whether the folder holds any key.
pub(super) async fn glance(client: &Client, folder: &Folder) -> Result<(Position, bool), StoreError> {
    let request = RangeRequest {
        key: folder.start(),
        range_end: folder.end(),
        limit: 1,
        keys_only: true,
        ..RangeRequest::default()
    };
    let reply = client.call(request).await?;
    Ok((Position::read(client, reply.header)?, !reply.kvs.is_empty()))
}

/// Reads all pages of one revision and folds each key with `fold`, starting from `C::default()`.
pub(super) async fn list<C: Default>(
    client: &Client,
    folder: &Folder,
    page: u32,
    fold: impl Fn(&mut C, KeyValue),
) -> Result<(Position, C), StoreError> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match pages(client, folder, (page, 0), &fold).await {
            Err(StoreError::Compacted { .. }) if left > 0 => continue,
            other => return other,
        }
    }
}

/// The same at this revision, which etcd may have compacted.
pub(super) async fn list_at<C: Default>(
    client: &Client,
    folder: &Folder,
    (page, revision): (u32, u64),
    fold: impl Fn(&mut C, KeyValue),
) -> Result<(Position, C), StoreError> {
    pages(client, folder, (page, revision), &fold).await
}

/// `at`: the revision; 0 is the current one.
async fn pages<C: Default>(
    client: &Client,
    folder: &Folder,
    (page, at): (u32, u64),
    fold: &impl Fn(&mut C, KeyValue),
) -> Result<(Position, C), StoreError> {
    let mut all = C::default();
    let mut first: Option<Position> = None;
    let mut key = folder.start();
    loop {
        let revision = if at > 0 { at } else { first.map_or(0, |position| position.revision) }.cast_signed();
        let (limit, range_end, from) = (i64::from(page), folder.end(), key.clone());
        let request = RangeRequest { key, range_end, limit, revision, ..RangeRequest::default() };
        let reply = client.call(request).await?;
        let position = Position::read(client, reply.header)?;
        let position = *first.get_or_insert(position);
        let last = reply.kvs.last().map(|last| last.key.clone());
        if last.as_ref().is_some_and(|last| *last < from || *last >= folder.end()) {
            return Err(client.nonsense("keys that were not asked for"));
        }
        reply.kvs.into_iter().for_each(|kv| fold(&mut all, kv));
        match last {
            Some(last) if reply.more => key = after(last),
            _ => return Ok((position, all)),
        }
    }
}

/// The first key after this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
