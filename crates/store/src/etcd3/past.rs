//! What etcd remembers of a folder: its keys at an earlier revision, and every change since. Follows nothing.
//!
//! The changes come from a watch that starts in the past. etcd does not say when such a watch has caught up, so a listing
//! says what must come: the last change of each key that there is, and the removal of each other one. What then can still be
//! missing was written and removed again at the very end; it comes with the rest, or within [`QUIET`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::timeout;

use super::client::Client;
use super::keys::Folder;
use super::list::{self, Position};
use super::messages::{EventKind, KeyValue, WatchCreate, WatchEvent, WatchResponse};
use super::store::Etcd3;
use crate::error::StoreError;
use crate::model::{Listing, PastChange, PastChanges};

/// Longest time for the whole history.
const LONGEST: Duration = Duration::from_secs(15);
/// Nothing more comes once nothing is missing and nothing came for so long. etcd serves watches of the past every 100 ms.
const QUIET: Duration = Duration::from_millis(500);
/// Most bytes of values that are kept.
const MOST_BYTES: usize = 64 << 20;

/// How a look at the past ended.
enum Told {
    /// Everything came.
    Whole(Kept),
    /// etcd has forgotten the changes before this revision, and a part of those at it.
    Compacted(u64),
}

impl Etcd3 {
    /// Everything below the folder `place` at this revision, with keys relative to it.
    ///
    /// # Errors
    /// [`StoreError::Compacted`]; [`StoreError::Failed`] if the revision has not come yet; any error of the store.
    pub async fn list_at(&self, place: &str, revision: u64) -> Result<Listing, StoreError> {
        let folder = Folder::new(place);
        let client = self.client().await?;
        let fold = |listing: &mut Listing, kv| listing.take(&folder, kv);
        let (_, listing) = list::list_at(&client, &folder, (self.page, revision), fold).await?;
        Ok(Listing { revision, ..listing })
    }

    /// The changes below the folder `place` after this revision, the last `most` of them, as far as etcd remembers them.
    ///
    /// # Errors
    /// Any error of the store; etcd did not send everything within 15 s.
    pub async fn past(&self, place: &str, since: u64, most: usize) -> Result<PastChanges, StoreError> {
        let folder = Folder::new(place);
        let client = self.client().await?;
        let late = |_| Err(client.failed(format!("it did not send its history within {LONGEST:?}")));
        timeout(LONGEST, replay(&client, &folder, (self.page, since, most))).await.unwrap_or_else(late)
    }
}

async fn replay(
    client: &Client,
    folder: &Folder,
    (page, since, most): (u32, u64, usize),
) -> Result<PastChanges, StoreError> {
    let fold = |live: &mut HashMap<Vec<u8>, i64>, kv: KeyValue| {
        live.insert(kv.key, kv.mod_revision);
    };
    let (now, live) = list::list(client, folder, page, fold).await?;
    let mut begin = since;
    loop {
        let kept = Kept { changes: VecDeque::new(), bytes: 0, most, begin };
        if begin >= now.revision {
            return Ok(kept.told(now.revision));
        }
        match watched(client, folder, (now, &live), kept).await? {
            Told::Whole(kept) => return Ok(kept.told(now.revision)),
            Told::Compacted(at) if at > begin => begin = at,
            Told::Compacted(_) => return Err(client.nonsense("it has compacted what it has not")),
        }
    }
}

async fn watched(
    client: &Client,
    folder: &Folder,
    (now, live): (Position, &HashMap<Vec<u8>, i64>),
    mut kept: Kept,
) -> Result<Told, StoreError> {
    let create = WatchCreate {
        key: folder.start(),
        range_end: folder.end(),
        start_revision: kept.begin.cast_signed().saturating_add(1),
        progress_notify: false,
        prev_kv: true,
        fragment: true,
    };
    let mut missing = Missing::new(live, create.start_revision);
    let (mut response, mut watch) = client.watch(create).await?;
    loop {
        let WatchResponse { canceled, compact_revision, cancel_reason, fragment, events, .. } = response;
        if canceled && compact_revision > 0 {
            return Ok(Told::Compacted(compact_revision.cast_unsigned()));
        }
        if canceled {
            return Err(client.failed(format!("it ended the watch: {cancel_reason}")));
        }
        for event in events {
            let Some((key, revision)) = event.kv.as_ref().map(|kv| (kv.key.clone(), kv.mod_revision)) else { continue };
            // It is later than the listing; all earlier ones have come.
            if revision.cast_unsigned() > now.revision {
                return Ok(Told::Whole(kept));
            }
            let is_put = EventKind::try_from(event.kind) == Ok(EventKind::Put);
            missing.see(key, revision, is_put);
            kept.add(folder, event);
        }
        let next = client.next(&mut watch);
        response = match missing.is_none() && !fragment {
            false => next.await?,
            true => match timeout(QUIET, next).await {
                Ok(response) => response?,
                Err(_) => return Ok(Told::Whole(kept)),
            },
        };
    }
}

/// The changes that must still come.
struct Missing<'l> {
    live: &'l HashMap<Vec<u8>, i64>,
    /// Keys whose last change has not come.
    awaited: HashSet<&'l [u8]>,
    /// Keys that were written, and that there are not, or with a later change.
    ghosts: HashSet<Vec<u8>>,
}

impl<'l> Missing<'l> {
    fn new(live: &'l HashMap<Vec<u8>, i64>, from: i64) -> Self {
        let awaited = live.iter().filter(|(_, revision)| **revision >= from).map(|(key, _)| key.as_slice());
        Self { live, awaited: awaited.collect(), ghosts: HashSet::new() }
    }

    fn see(&mut self, key: Vec<u8>, revision: i64, is_put: bool) {
        let last = self.live.get(&key).copied();
        let is_last = if is_put { last == Some(revision) } else { last.is_none() };
        match is_last {
            true => {
                self.awaited.remove(key.as_slice());
                self.ghosts.remove(&key);
            }
            false => drop(self.ghosts.insert(key)),
        }
    }

    fn is_none(&self) -> bool {
        self.awaited.is_empty() && self.ghosts.is_empty()
    }
}

/// The last changes, as many as may be kept.
struct Kept {
    changes: VecDeque<PastChange>,
    bytes: usize,
    most: usize,
    /// All changes after this revision are here.
    begin: u64,
}

impl Kept {
    fn add(&mut self, folder: &Folder, event: WatchEvent) {
        let is_put = EventKind::try_from(event.kind) == Ok(EventKind::Put);
        let (Some(kv), before) = (event.kv, event.prev_kv) else { return };
        let Some(key) = folder.relative(&kv.key) else { return };
        let lease = if is_put { kv.lease } else { before.as_ref().map_or(0, |before| before.lease) };
        let change = PastChange {
            revision: kv.mod_revision.cast_unsigned(),
            key,
            before: before.map(|before| before.value.into()),
            after: is_put.then(|| kv.value.into()),
            lease: lease.cast_unsigned(),
        };
        self.bytes += change.bytes();
        self.changes.push_back(change);
        while (self.changes.len() > self.most || self.bytes > MOST_BYTES)
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.begin = oldest.revision;
        }
    }

    fn told(self, revision: u64) -> PastChanges {
        PastChanges { revision, begin: self.begin, changes: self.changes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_once_the_last_change_of_each_key_came() {
        let live = HashMap::from([(b"a".to_vec(), 5), (b"b".to_vec(), 9), (b"old".to_vec(), 2)]);
        let mut missing = Missing::new(&live, 3);
        for (key, revision, is_put, is_none) in [
            ("a", 3, true, false),
            ("a", 5, true, false),
            ("gone", 6, true, false),
            ("b", 7, true, false),
            ("b", 8, false, false),
            ("b", 9, true, false),
            ("gone", 10, false, true),
            ("late", 11, true, false),
            ("late", 12, false, true),
        ] {
            missing.see(key.into(), revision, is_put);
            assert_eq!(missing.is_none(), is_none, "{key} at {revision}");
        }
        assert!(Missing::new(&live, 10).is_none());
    }

    #[test]
    fn the_oldest_go_first() {
        let mut kept = Kept { changes: VecDeque::new(), bytes: 0, most: 2, begin: 4 };
        for revision in [5, 6, 6] {
            let kv = KeyValue { key: b"/x/a".to_vec(), mod_revision: revision, ..Default::default() };
            kept.add(&Folder::new("/x"), WatchEvent { kind: EventKind::Put.into(), kv: Some(kv), prev_kv: None });
        }
        assert_eq!((kept.begin, kept.changes.len()), (5, 2));
    }
}
