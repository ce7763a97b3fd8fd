//! Follows a prefix as the control loop would, and keeps what it was told.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_store::etcd3::Etcd3;
use pointsman_store::{Api, Condition, Location, StoreSettings, Update};
use pointsman_table::Change;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// For anything that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What the control loop would know.
pub(crate) struct Follower {
    pub(crate) keys: BTreeMap<String, String>,
    pub(crate) revision: u64,
    pub(crate) resets: usize,
    pub(crate) updates: Vec<Update>,
    incoming: mpsc::Receiver<Update>,
    condition: watch::Receiver<Condition>,
    task: JoinHandle<()>,
}

/// Settings for `/x` at these URLs.
pub(crate) fn settings(urls: &[&str]) -> StoreSettings {
    StoreSettings {
        location: Location::Etcd(urls.iter().map(|url| (*url).to_owned()).collect()),
        api: Api::V3,
        prefix: "/x".to_owned(),
        user: None,
        ca: None,
        identity: None,
        audit: Duration::from_secs(180),
    }
}

impl Follower {
    /// Follows `/x` there.
    pub(crate) fn start(urls: &[&str]) -> Self {
        Self::with(Etcd3::new(&settings(urls)).unwrap())
    }

    /// Follows with this store.
    pub(crate) fn with(store: Etcd3) -> Self {
        let (updates, incoming) = mpsc::channel(16);
        let (teller, condition) = watch::channel(Condition::Connecting { error: None });
        let task = tokio::spawn(async move { store.follow(updates, teller).await });
        let keys = BTreeMap::new();
        Self { keys, revision: 0, resets: 0, updates: Vec::new(), incoming, condition, task }
    }

    /// Takes updates until the keys are as wanted.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !holds(self) {
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(update) => self.take(update.expect("follow() never ends")),
                Err(_) => panic!("{what}: not within {SOON:?}; {:?}; {:?}", self.condition.borrow(), self.keys),
            }
        }
    }

    /// Takes updates until the key has the value.
    pub(crate) async fn sees(&mut self, key: &str, value: &str) {
        self.until(&format!("{key}={value}"), |it| it.keys.get(key).is_some_and(|it| it == value)).await;
    }

    /// Takes no updates, and waits for a condition.
    pub(crate) async fn condition(&mut self, what: &str, holds: impl Fn(&Condition) -> bool) -> Condition {
        let wait = self.condition.wait_for(|condition| holds(condition));
        match timeout(SOON, wait).await {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("{what}: not within {SOON:?}"),
        }
    }

    /// Waits until the watch stands.
    pub(crate) async fn watching(&mut self) {
        self.condition("watching", |condition| matches!(condition, Condition::Watching { .. })).await;
    }

    /// Waits until the store is found lost.
    pub(crate) async fn lost(&mut self) {
        self.condition("lost", |condition| matches!(condition, Condition::Lost { .. })).await;
    }

    fn take(&mut self, update: Update) {
        match update.clone() {
            Update::Reset { revision, entries } => {
                self.resets += 1;
                self.revision = revision;
                self.keys = entries.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
            }
            Update::Changes { revision, changes } => {
                assert!(revision > self.revision, "{revision} after {}", self.revision);
                self.revision = revision;
                changes.into_iter().for_each(|change| self.apply(change));
            }
        }
        self.updates.push(update);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put { key, value } => drop(self.keys.insert(key.into(), text(&value))),
            Change::Delete { key } => drop(self.keys.remove(&*key)),
            Change::DeleteTree { key } => panic!("v3 has no trees: {key}"),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many changes an update brings, unless it replaces everything.
pub(crate) fn change_count(update: &Update) -> Option<usize> {
    match update {
        Update::Changes { changes, .. } => Some(changes.len()),
        Update::Reset { .. } => None,
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
