//! A lease for etcd v2, which has none: each key has its own time to live, and each is refreshed. A record beside the
//! keys lists the owner's keys. A key is only written if its index is unchanged since this process's last write.
//!
//! Source: etcd v2 API, "Refreshing key TTL" and "Atomic Compare-and-Swap"
//! (<https://etcd.io/docs/v2.3/api/#refreshing-key-ttl>). A refresh wakes no watcher.

use std::collections::BTreeMap;
use std::time::Duration;

use ::http::Method;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::event::{Event, Node};
use super::http::Bounds;
use super::store::{Etcd2, Got, bad_key, encode, event_about, got};
use crate::error::StoreError;
use crate::model::{Claim, Edit, LeaseOutcome, Owner, is_same};
use crate::values::values;

/// Maximum concurrent requests.
const AT_ONCE: usize = 16;
/// Parent directories of a deleted key that are removed if they are empty: `upstreams`, and the service's directory.
const EMPTIED: usize = 2;

/// A lease's record in the store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Record {
    session: String,
    /// Full keys and the last value of each; a returning owner recognises its keys by their values.
    keys: BTreeMap<String, String>,
}

/// A lease and its owner.
pub(crate) struct Etcd2Lease<'a> {
    store: &'a Etcd2,
    /// The record's key.
    place: String,
    session: String,
    ttl: Duration,
    /// The bounds of each request: short enough to ask another member before the lease ends.
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The record's index after this process's last write.
    index: u64,
    /// The lease has ended; late edits do nothing.
    ended: bool,
    /// The record lists keys that are no longer ours.
    dirty: bool,
    keys: BTreeMap<String, Own>,
}

/// A key of ours.
#[derive(Clone, Debug)]
struct Own {
    /// Its index after this process's last write; 0 if it was not looked up yet.
    index: u64,
    /// Its value as an owner of this name wrote it.
    value: String,
    /// The previous value, if it may still be there.
    before: Option<String>,
}

/// The result of a write.
enum Written {
    At(u64),
    /// The key does not have the expected index.
    Differs,
    /// The key does not exist.
    Missing,
}

impl<'a> Etcd2Lease<'a> {
    pub(crate) async fn grant(
        store: &'a Etcd2,
        owner: &Owner,
        ttl: Duration,
        claim: Claim,
    ) -> Result<Option<Self>, StoreError> {
        let bounds = Bounds::one().within(store.members.patience(ttl));
        let (place, session) = (owner.place(), owner.session.clone());
        let lease = Self { store, place, session, ttl, bounds, state: Mutex::default() };
        let there = store.event_at(&lease.place, bounds).await?;
        let guard = match (&there, claim) {
            (_, Claim::First) => String::new(),
            (Some(event), Claim::Again) => format!("?prevIndex={}", event.index()),
            (None, Claim::Again) => "?prevExist=false".to_owned(),
        };
        let before: Record = match there.map(Event::into_node) {
            Some(Node::Value(text)) => serde_json::from_str(&text).unwrap_or_default(),
            Some(Node::Directory) | None => Record::default(),
        };
        if claim == Claim::Again && !before.session.is_empty() && before.session != lease.session {
            return Ok(None);
        }
        let mut state = lease.state.lock().await;
        state.keys = before.keys.into_iter().map(|(key, value)| (key, Own { index: 0, value, before: None })).collect();
        let form = lease.form(&lease.record(&state));
        let Written::At(index) = lease.put(&lease.place, &guard, &form).await? else {
            return Ok(None);
        };
        state.index = index;
        drop(state);
        Ok(Some(lease))
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) async fn renew(&self) -> Result<LeaseOutcome, StoreError> {
        let mut state = self.state.lock().await;
        // The keys are refreshed even if the record was not: each key expires on its own.
        let mut done = match self.announce(&mut state, &BTreeMap::new()).await {
            Ok(LeaseOutcome::Done(_)) => Ok(LeaseOutcome::Done(0)),
            Ok(lost) => return Ok(lost),
            Err(error) => Err(error),
        };
        let refreshed = stream::iter(state.keys.clone().into_iter().map(|(key, own)| async move {
            let index = self.refreshed(&key, &own).await;
            (key, index)
        }));
        let mut refreshed = refreshed.buffer_unordered(AT_ONCE);
        while let Some((key, index)) = refreshed.next().await {
            match index {
                Ok(Some(index)) => {
                    if let Some(own) = state.keys.get_mut(&key) {
                        own.index = index;
                    }
                }
                Ok(None) => state.dirty |= state.keys.remove(&key).is_some(),
                // The other keys are refreshed anyway.
                Err(error) => done = Err(error),
            }
        }
        done
    }

    /// Extends the key by another `ttl` and returns its index; `None` if it is no longer ours.
    async fn refreshed(&self, key: &str, own: &Own) -> Result<Option<u64>, StoreError> {
        let refresh = self.refresh();
        let mut index = own.index;
        for _ in 0..2 {
            match self.put(key, &format!("?prevIndex={}", index.max(1)), &refresh).await? {
                Written::At(index) => return Ok(Some(index)),
                Written::Missing => return Ok(None),
                Written::Differs => match self.adopted(key, own).await? {
                    Some(now) => index = now,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// The index of a key that changed since this process wrote it. It is still ours if it expires and holds our value,
    /// with or without an operator's ` drain`.
    async fn adopted(&self, key: &str, own: &Own) -> Result<Option<u64>, StoreError> {
        let Some(event) = self.store.event_at(key, self.bounds).await? else { return Ok(None) };
        let (index, ends) = (event.index(), event.ttl().is_some());
        let is_ours = |value: &str| {
            is_same(value, &own.value) || own.before.as_deref().is_some_and(|before| is_same(value, before))
        };
        let says = matches!(event.into_node(), Node::Value(value) if is_ours(&value));
        Ok((ends && says).then_some(index))
    }

    pub(crate) async fn apply(&self, edits: &[Edit]) -> Vec<Result<LeaseOutcome, StoreError>> {
        let mut state = self.state.lock().await;
        let new: BTreeMap<_, _> = edits.iter().filter_map(|edit| new_value(edit, &state.keys)).collect();
        match self.announce(&mut state, &new).await {
            Ok(LeaseOutcome::Done(_)) => {}
            other => return edits.iter().map(|_| other.clone()).collect(),
        }
        let known = state.keys.clone();
        let done = stream::iter(edits.iter().map(|edit| self.edit(edit, known.get(edit.key()))));
        let done: Vec<_> = done.buffered(AT_ONCE).collect().await;
        let before = state.keys.len();
        for (edit, outcome) in edits.iter().zip(&done) {
            note(&mut state.keys, edit, outcome);
        }
        state.dirty |= state.keys.len() < before;
        if state.dirty {
            // Otherwise a returning owner would take them for its own. A failure here does no harm.
            let _ = self.announce(&mut state, &BTreeMap::new()).await;
        }
        done
    }

    /// Checks that this process is the owner, and lists new keys in the record before they are written, so that no key
    /// is left behind unrecorded.
    async fn announce(&self, state: &mut State, new: &BTreeMap<String, String>) -> Result<LeaseOutcome, StoreError> {
        if state.ended {
            return Ok(LeaseOutcome::Ended);
        }
        let done = self.announced(state, new).await;
        state.ended = matches!(done, Ok(LeaseOutcome::Ended));
        done
    }

    async fn announced(&self, state: &mut State, new: &BTreeMap<String, String>) -> Result<LeaseOutcome, StoreError> {
        let form = if new.is_empty() && !state.dirty {
            self.refresh()
        } else {
            let mut record = self.record(state);
            record.keys.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
            self.form(&record)
        };
        for _ in 0..2 {
            match self.put(&self.place, &format!("?prevIndex={}", state.index), &form).await? {
                Written::At(index) => {
                    (state.index, state.dirty) = (index, false);
                    return Ok(LeaseOutcome::Done(0));
                }
                Written::Missing => return Ok(LeaseOutcome::Ended),
                Written::Differs => match self.look().await? {
                    // Our own write, whose answer was lost.
                    Some((session, index)) if session == self.session => state.index = index,
                    Some(_) => return Ok(LeaseOutcome::Replaced),
                    None => return Ok(LeaseOutcome::Ended),
                },
            }
        }
        Ok(LeaseOutcome::Replaced)
    }

    /// The session of the record's owner now, and the record's index.
    async fn look(&self) -> Result<Option<(String, u64)>, StoreError> {
        let Some(event) = self.store.event_at(&self.place, self.bounds).await? else { return Ok(None) };
        let index = event.index();
        Ok(match event.into_node() {
            Node::Value(text) => Some((serde_json::from_str::<Record>(&text).unwrap_or_default().session, index)),
            Node::Directory => None,
        })
    }

    async fn edit(&self, edit: &Edit, known: Option<&Own>) -> Result<LeaseOutcome, StoreError> {
        match edit {
            Edit::Put { key, value } => {
                self.store.check_visible(key)?;
                let value = std::str::from_utf8(value).map_err(|_| bad_key(key, "etcd v2 keeps UTF-8 text only"))?;
                let form = format!("value={}&ttl={}", encode(value), self.seconds());
                self.write(Method::PUT, key, Some(&form), known).await
            }
            Edit::Delete { key } if known.is_some() => {
                let gone = self.write(Method::DELETE, key, None, known).await;
                if let Ok(LeaseOutcome::Done(_)) = gone {
                    self.prune(key).await;
                }
                gone
            }
            Edit::Delete { .. } => Ok(LeaseOutcome::Taken),
        }
    }

    /// Writes a key of ours if it still has our index, or a key that does not exist.
    async fn write(
        &self,
        method: Method,
        key: &str,
        form: Option<&str>,
        known: Option<&Own>,
    ) -> Result<LeaseOutcome, StoreError> {
        let mut query = match known {
            Some(own) => format!("?prevIndex={}", own.index.max(1)),
            None => "?prevExist=false".to_owned(),
        };
        for _ in 0..3 {
            match self.send(method.clone(), key, &query, form).await? {
                Written::At(index) => return Ok(LeaseOutcome::Done(index)),
                Written::Missing if method == Method::DELETE => return Ok(LeaseOutcome::Done(0)),
                Written::Missing => "?prevExist=false".clone_into(&mut query),
                Written::Differs => {
                    let Some(own) = known else { return Ok(LeaseOutcome::Taken) };
                    match self.adopted(key, own).await? {
                        Some(index) => query = format!("?prevIndex={index}"),
                        None => return Ok(LeaseOutcome::Taken),
                    }
                }
            }
        }
        Ok(LeaseOutcome::Taken)
    }

    /// Removes empty directories; etcd refuses to remove others.
    async fn prune(&self, key: &str) {
        let mut directory = key;
        for _ in 0..EMPTIED {
            directory = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
            let refused = match self.store.send(Method::DELETE, directory, "?dir=true", None, self.bounds).await {
                Ok(answer) => got(answer, directory).is_err(),
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
        Ok(match got(self.store.send(method, key, query, form, self.bounds).await?, key)? {
            Got::Some(answer) => Written::At(event_about(&answer, key)?.index()),
            Got::NotFound(_) => Written::Missing,
            Got::Differs | Got::Cleared => Written::Differs,
        })
    }

    pub(crate) async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let keys: Vec<_> = self.state.lock().await.keys.keys().cloned().collect();
        values(keys, AT_ONCE, async |key: String| self.store.get(&key).await).await
    }

    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        let keys: Vec<_> = self.state.lock().await.keys.keys().cloned().collect();
        let edits: Vec<_> = keys.into_iter().map(|key| Edit::Delete { key }).collect();
        self.apply(&edits).await.into_iter().try_for_each(|done| done.map(|_| ()))?;
        let index = self.state.lock().await.index;
        self.send(Method::DELETE, &self.place, &format!("?prevIndex={index}"), None).await.map(|_| ())
    }

    fn record(&self, state: &State) -> Record {
        let keys = state.keys.iter().map(|(key, own)| (key.clone(), own.value.clone()));
        Record { session: self.session.clone(), keys: keys.collect() }
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

/// The key and value of a put, if the record does not have it yet.
fn new_value(edit: &Edit, known: &BTreeMap<String, Own>) -> Option<(String, String)> {
    match edit {
        Edit::Put { key, value } => {
            let value = String::from_utf8_lossy(value).into_owned();
            let is_known = known.get(key).is_some_and(|own| own.value == value);
            (!is_known).then(|| (key.clone(), value))
        }
        Edit::Delete { .. } => None,
    }
}

/// Updates our keys after an edit.
fn note(keys: &mut BTreeMap<String, Own>, edit: &Edit, outcome: &Result<LeaseOutcome, StoreError>) {
    match (edit, outcome) {
        (Edit::Put { key, value }, Ok(LeaseOutcome::Done(index))) => {
            let value = String::from_utf8_lossy(value).into_owned();
            keys.insert(key.clone(), Own { index: *index, value, before: None });
        }
        // It may have been written; the next lookup will tell.
        (Edit::Put { key, value }, Err(_)) => {
            let value = String::from_utf8_lossy(value).into_owned();
            let before = keys.remove(key).map(|own| own.value);
            keys.insert(key.clone(), Own { index: 0, value, before });
        }
        (Edit::Delete { key }, Ok(_)) => drop(keys.remove(key)),
        (_, Ok(LeaseOutcome::Taken)) => drop(keys.remove(edit.key())),
        (_, Ok(_) | Err(_)) => {}
    }
}
