//! A lease of etcd v2, which has none: every key has a time to live of its own, and each is refreshed. Which keys are
//! whose is in a record beside them; a key is only written if it is as this process left it.
//!
//! Source: etcd v2 API, "Refreshing key TTL" and "Atomic Compare-and-Swap"
//! (<https://etcd.io/docs/v2.3/api/#refreshing-key-ttl>). A refresh wakes no watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::http::Method;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::event::{Event, Node};
use super::{Etcd2, Got, encode, event_of, got};
use crate::store::error::StoreError;
use crate::store::lease::{self, Claim, Edit, Grip, Owner};

/// Requests under way at once.
const AT_ONCE: usize = 16;
/// Directories above a deleted key that are removed if they are empty now: `upstreams`, and the service's.
const EMPTIED: usize = 2;

/// What is kept in the store of a lease.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Record {
    session: String,
    /// Full keys.
    keys: BTreeSet<String>,
}

/// A lease and its owner.
pub(in crate::store) struct Lease<'a> {
    store: &'a Etcd2,
    /// The key of the record.
    place: String,
    session: String,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Index of the record as this process left it.
    index: u64,
    /// Our keys, and the index of each as this process left it; 0 for one of an earlier process, not looked at yet.
    keys: BTreeMap<String, u64>,
}

/// What became of one write.
enum Written {
    At(u64),
    /// The key is not as it was thought to be.
    Differs,
    /// There is no such key.
    Missing,
}

impl<'a> Lease<'a> {
    pub(in crate::store) async fn grant(
        store: &'a Etcd2,
        owner: &Owner,
        ttl: Duration,
        claim: Claim,
    ) -> Result<Option<Self>, StoreError> {
        let lease = Self { store, place: owner.place(), session: owner.session.clone(), ttl, state: Mutex::default() };
        let before: Record = match store.event_at(&lease.place).await?.map(Event::into_node) {
            Some(Node::Value(text)) => serde_json::from_str(&text).unwrap_or_default(),
            Some(Node::Directory) | None => Record::default(),
        };
        if claim == Claim::Again && !before.session.is_empty() && before.session != lease.session {
            return Ok(None);
        }
        let mut state = lease.state.lock().await;
        state.keys = before.keys.into_iter().map(|key| (key, 0)).collect();
        let form = lease.form(&lease.record(&state));
        let Written::At(index) = lease.put(&lease.place, "", &form).await? else {
            return Ok(None);
        };
        state.index = index;
        drop(state);
        Ok(Some(lease))
    }

    pub(in crate::store) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(in crate::store) async fn renew(&self) -> Result<Grip, StoreError> {
        let mut state = self.state.lock().await;
        match self.announce(&mut state, &[]).await? {
            Grip::Done(_) => {}
            lost => return Ok(lost),
        }
        let refreshed = stream::iter(state.keys.clone().into_iter().map(|(key, index)| async move {
            let index = self.refreshed(&key, index).await;
            (key, index)
        }));
        let mut refreshed = refreshed.buffer_unordered(AT_ONCE);
        while let Some((key, index)) = refreshed.next().await {
            match index? {
                Some(index) => state.keys.insert(key, index),
                None => state.keys.remove(&key),
            };
        }
        Ok(Grip::Done(0))
    }

    /// The key's index after it was given another `ttl`; `None` if it is not ours any more.
    async fn refreshed(&self, key: &str, index: u64) -> Result<Option<u64>, StoreError> {
        let refresh = self.refresh();
        let mut index = index;
        for _ in 0..2 {
            match self.put(key, &format!("?prevIndex={}", index.max(1)), &refresh).await? {
                Written::At(index) => return Ok(Some(index)),
                Written::Missing => return Ok(None),
                Written::Differs => match self.adopted(key).await? {
                    Some(now) => index = now,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// The index of a key of ours that somebody else wrote to: still ours if it ends by itself, as it does when an
    /// operator drains it.
    async fn adopted(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let event = self.store.event_at(key).await?;
        Ok(event.filter(|event| event.ttl().is_some()).map(|event| event.index()))
    }

    pub(in crate::store) async fn apply(&self, edits: &[Edit]) -> Vec<Result<Grip, StoreError>> {
        let mut state = self.state.lock().await;
        let new: Vec<_> = edits.iter().filter_map(|edit| new_key(edit, &state.keys)).collect();
        match self.announce(&mut state, &new).await {
            Ok(Grip::Done(_)) => {}
            other => return edits.iter().map(|_| other.clone()).collect(),
        }
        let known = state.keys.clone();
        let done = stream::iter(edits.iter().map(|edit| self.edit(edit, known.get(edit.key()).copied())));
        let done: Vec<_> = done.buffered(AT_ONCE).collect().await;
        for (edit, outcome) in edits.iter().zip(&done) {
            match (edit, outcome) {
                (Edit::Put { key, .. }, Ok(Grip::Done(index))) => drop(state.keys.insert(key.clone(), *index)),
                (Edit::Delete { key }, Ok(_)) => drop(state.keys.remove(key)),
                (_, Ok(Grip::Taken)) => drop(state.keys.remove(edit.key())),
                (_, Ok(_) | Err(_)) => {}
            }
        }
        done
    }

    /// Makes sure that this process is the owner, and enters keys in the record before they are written, so that none is
    /// left behind that nobody knows of.
    async fn announce(&self, state: &mut State, new: &[String]) -> Result<Grip, StoreError> {
        let form = match new {
            [] => self.refresh(),
            new => {
                let mut record = self.record(state);
                record.keys.extend(new.iter().cloned());
                self.form(&record)
            }
        };
        for _ in 0..2 {
            match self.put(&self.place, &format!("?prevIndex={}", state.index), &form).await? {
                Written::At(index) => {
                    state.index = index;
                    return Ok(Grip::Done(0));
                }
                Written::Missing => return Ok(Grip::Ended),
                Written::Differs => match self.look().await? {
                    // A write of ours whose answer was lost.
                    Some((session, index)) if session == self.session => state.index = index,
                    Some(_) => return Ok(Grip::Replaced),
                    None => return Ok(Grip::Ended),
                },
            }
        }
        Ok(Grip::Replaced)
    }

    /// Whose the record is now, and its index.
    async fn look(&self) -> Result<Option<(String, u64)>, StoreError> {
        let Some(event) = self.store.event_at(&self.place).await? else { return Ok(None) };
        let index = event.index();
        Ok(match event.into_node() {
            Node::Value(text) => Some((serde_json::from_str::<Record>(&text).unwrap_or_default().session, index)),
            Node::Directory => None,
        })
    }

    async fn edit(&self, edit: &Edit, known: Option<u64>) -> Result<Grip, StoreError> {
        match edit {
            Edit::Put { key, value } => {
                let value =
                    std::str::from_utf8(value).map_err(|_| super::bad_key(key, "etcd v2 keeps UTF-8 text only"))?;
                let form = format!("value={}&ttl={}", encode(value), self.seconds());
                self.write(Method::PUT, key, Some(&form), known).await
            }
            Edit::Delete { key } if known.is_some() => {
                let gone = self.write(Method::DELETE, key, None, known).await;
                if let Ok(Grip::Done(_)) = gone {
                    self.prune(key).await;
                }
                gone
            }
            Edit::Delete { .. } => Ok(Grip::Taken),
        }
    }

    /// Writes a key of ours as this process left it, or one that is not there.
    async fn write(
        &self,
        method: Method,
        key: &str,
        form: Option<&str>,
        known: Option<u64>,
    ) -> Result<Grip, StoreError> {
        let mut query = match known {
            Some(index) => format!("?prevIndex={}", index.max(1)),
            None => "?prevExist=false".to_owned(),
        };
        for _ in 0..3 {
            match self.send(method.clone(), key, &query, form).await? {
                Written::At(index) => return Ok(Grip::Done(index)),
                Written::Missing if method == Method::DELETE => return Ok(Grip::Done(0)),
                Written::Missing => "?prevExist=false".clone_into(&mut query),
                Written::Differs if known.is_none() => return Ok(Grip::Taken),
                Written::Differs => match self.adopted(key).await? {
                    Some(index) => query = format!("?prevIndex={index}"),
                    None => return Ok(Grip::Taken),
                },
            }
        }
        Ok(Grip::Taken)
    }

    /// Removes directories that are empty now: etcd refuses for one that is not.
    async fn prune(&self, key: &str) {
        let mut directory = key;
        for _ in 0..EMPTIED {
            directory = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
            let refused = match self.store.send(Method::DELETE, directory, "?dir=true", None).await {
                Ok(answer) => got(answer).is_err(),
                Err(_) => true,
            };
            if refused {
                return;
            }
        }
    }

    async fn put(&self, key: &str, query: &str, form: &str) -> Result<Written, StoreError> {
        self.send(Method::PUT, key, query, Some(form)).await
    }

    async fn send(&self, method: Method, key: &str, query: &str, form: Option<&str>) -> Result<Written, StoreError> {
        Ok(match got(self.store.send(method, key, query, form).await?)? {
            Got::Some(answer) => Written::At(event_of(&answer)?.index()),
            Got::NotFound(_) => Written::Missing,
            Got::Differs | Got::Cleared => Written::Differs,
        })
    }

    pub(in crate::store) async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let keys: Vec<_> = self.state.lock().await.keys.keys().cloned().collect();
        lease::values(keys, AT_ONCE, async |key: String| self.store.get(&key).await).await
    }

    pub(in crate::store) async fn release(&self) -> Result<(), StoreError> {
        let keys: Vec<_> = self.state.lock().await.keys.keys().cloned().collect();
        let edits: Vec<_> = keys.into_iter().map(|key| Edit::Delete { key }).collect();
        self.apply(&edits).await.into_iter().try_for_each(|done| done.map(|_| ()))?;
        let index = self.state.lock().await.index;
        self.send(Method::DELETE, &self.place, &format!("?prevIndex={index}"), None).await.map(|_| ())
    }

    fn record(&self, state: &State) -> Record {
        Record { session: self.session.clone(), keys: state.keys.keys().cloned().collect() }
    }

    fn form(&self, record: &Record) -> String {
        let text = serde_json::to_string(record).expect("plain text");
        format!("value={}&ttl={}", encode(&text), self.seconds())
    }

    fn refresh(&self) -> String {
        format!("ttl={}&refresh=true", self.seconds())
    }

    fn seconds(&self) -> u64 {
        self.ttl.as_secs().max(1)
    }
}

/// The key of a put that is not in the record yet.
fn new_key(edit: &Edit, known: &BTreeMap<String, u64>) -> Option<String> {
    match edit {
        Edit::Put { key, .. } if !known.contains_key(key) => Some(key.clone()),
        Edit::Put { .. } | Edit::Delete { .. } => None,
    }
}
