//! Tells the keeper of the journal what each update of the store changes. Never waits: what finds no room is counted.

use std::time::SystemTime;

use pointsman_table::{Change, KeyChange, KeySet};
use tokio::sync::mpsc;

/// What one update of the store changed.
#[derive(Clone, Debug)]
pub struct ChangeNote {
    /// When it came.
    pub at: SystemTime,
    /// The store's revision afterwards.
    pub revision: u64,
    /// The etcd cluster; 0 if that is not known, and for a folder.
    pub cluster: u64,
    /// What changed; `None`: nobody knows, as this is the first that was seen of these keys.
    pub changes: Option<Vec<KeyChange>>,
    /// How many keys there are, if nobody knows what changed.
    pub keys: usize,
    /// All keys, if they were listed and what changed is known.
    pub listed: Option<KeySet>,
    /// Changes before it that found no room.
    pub lost: usize,
    /// The store's revision after the last of those.
    pub lost_at: u64,
}

/// The way to the keeper of the journal.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    to: Option<mpsc::Sender<ChangeNote>>,
    lost: usize,
    lost_at: u64,
    cluster: u64,
}

impl Recorder {
    /// To this keeper.
    pub fn to(keeper: mpsc::Sender<ChangeNote>) -> Self {
        Self { to: Some(keeper), ..Self::default() }
    }

    /// Some keys will change.
    pub(super) fn changing(&mut self, keys: &KeySet, revision: u64, changes: &[Change]) {
        if self.to.is_some() {
            let changes = keys.effects(changes);
            if !changes.is_empty() {
                self.note(revision, Some(changes), 0, None);
            }
        }
    }

    /// All keys were listed; `before`: what they were, if that is known.
    pub(super) fn listed(&mut self, keys: &KeySet, before: Option<&KeySet>, cluster: u64) {
        if self.to.is_none() {
            return;
        }
        let is_other = cluster != 0 && self.cluster != 0 && cluster != self.cluster;
        self.cluster = if cluster == 0 { self.cluster } else { cluster };
        // An etcd whose revision went back was restored. A folder counts from its follower's start.
        let went_back = |before: &&KeySet| cluster != 0 && keys.revision() < before.revision();
        let before = before.filter(|before| !is_other && !went_back(before));
        let count = if before.is_none() { keys.len() } else { 0 };
        let changes = before.map(|before| keys.changes_since(before));
        let listed = changes.is_some().then(|| keys.clone());
        self.note(keys.revision(), changes, count, listed);
    }

    /// The cluster of the keys before the first listing.
    pub(super) fn follows(&mut self, cluster: u64) {
        self.cluster = cluster;
    }

    fn note(&mut self, revision: u64, changes: Option<Vec<KeyChange>>, keys: usize, listed: Option<KeySet>) {
        let count = changes.as_ref().map_or(1, Vec::len);
        let Some(to) = &self.to else { return };
        let (at, cluster, lost, lost_at) = (SystemTime::now(), self.cluster, self.lost, self.lost_at);
        match to.try_send(ChangeNote { at, revision, cluster, changes, keys, listed, lost, lost_at }) {
            Ok(()) => self.lost = 0,
            Err(_) => (self.lost, self.lost_at) = (self.lost + count, revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(revision: u64, name: &str) -> KeySet {
        let mut keys = KeySet::default();
        keys.reset(revision, [("services/a/domain".into(), name.as_bytes().into())]);
        keys
    }

    #[test]
    fn a_listing_is_compared_only_with_its_own_past() {
        let (to, mut notes) = mpsc::channel(9);
        let mut recorder = Recorder::to(to);
        let mut known = |before: Option<&KeySet>, now: &KeySet, cluster| {
            recorder.listed(now, before, cluster);
            notes.try_recv().ok().map(|note| note.changes.map(|changes| changes.len()))
        };
        let (one, two) = (keys(5, "a.test"), keys(7, "b.test"));
        assert_eq!(known(None, &one, 1), Some(None), "the first");
        assert_eq!(known(Some(&one), &two, 1), Some(Some(1)));
        assert_eq!(known(Some(&two), &two, 1), Some(Some(0)), "nothing has changed, and the journal may not know it");
        assert_eq!(known(Some(&two), &one, 1), Some(None), "etcd went back");
        assert_eq!(known(Some(&one), &two, 2), Some(None), "another cluster");
        assert_eq!(known(Some(&two), &one, 0), Some(Some(1)), "a folder counts anew");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (to, mut notes) = mpsc::channel(1);
        let mut recorder = Recorder::to(to);
        let put = |value: &str| [Change::Put { key: "services/a/domain".into(), value: value.as_bytes().into() }];
        for value in ["b", "c", "d"] {
            recorder.changing(&keys(1, "a"), 2, &put(value));
        }
        assert_eq!(notes.try_recv().unwrap().lost, 0);
        recorder.changing(&keys(1, "a"), 3, &put("e"));
        let note = notes.try_recv().unwrap();
        assert_eq!((note.lost, note.lost_at), (2, 2));
    }
}
