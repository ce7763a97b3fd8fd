//! Compares the wanted keys, our keys and the store's keys, and computes the edits that make them match. Pure: no
//! store, no clock.
//!
//! ```text
//! wanted ──┐
//! ours   ──┼─ edits ─> lease ─ settled ─> ours
//! seen   ──┘                                ^── saw: updates of followers
//! ```
//!
//! `weight=0` is ours: for an instance that takes no new work for our own reasons (its container is paused, unhealthy
//! or stopping). The word `drain` is the operator's (`pointsman drain`). So the two stay distinct, and our writes keep
//! the operator's word.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_table::Change;
use tokio::time::Instant;

use super::conflict::Conflict;
use super::wanted::Plan;
use pointsman_store::Update;
use pointsman_store::lease::{DRAIN, Edit, LeaseOutcome};

/// How long to leave a key of somebody else alone before trying again; earlier if the key is deleted.
const LATER: Duration = Duration::from_secs(5);

/// A key under our lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ours {
    /// As we wrote it, without the operator's ` drain`.
    value: Box<str>,
    /// The operator drains it.
    drained: bool,
    /// The store's revision of our last write. Watch events of earlier revisions are ignored.
    revision: u64,
}

/// All known keys, by full name.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    instances: BTreeMap<String, Box<str>>,
    settings: BTreeMap<String, Box<str>>,
    ours: BTreeMap<String, Ours>,
    /// Keys in the store that are not ours.
    seen: BTreeMap<String, Box<[u8]>>,
    /// Wanted keys that somebody else wrote before us, and when to try again. A setting leaves this map when a follower
    /// shows its value: any writer's will do.
    taken: BTreeMap<String, Instant>,
}

impl Reconciler {
    /// Replaces the wanted keys.
    pub(super) fn want(&mut self, plan: &Plan) {
        (self.instances, self.settings) = (BTreeMap::new(), BTreeMap::new());
        for (prefix, wanted) in plan {
            let full = |key: &str| format!("{prefix}/{key}");
            self.instances.extend(wanted.instances.iter().map(|(key, value)| (full(key), value.clone())));
            self.settings.extend(wanted.settings.iter().map(|(key, value)| (full(key), value.clone())));
        }
        self.taken.retain(|key, _| self.instances.contains_key(key));
    }

    /// Starts a new term of the lease with the keys that it holds.
    pub(super) fn begin(&mut self, held: BTreeMap<String, Vec<u8>>) {
        self.taken.clear();
        self.ours = held.into_iter().map(|(key, value)| Ours::of(key, &value)).collect();
        self.seen.retain(|key, _| !self.ours.contains_key(key));
    }

    /// Takes an update of a follower of this prefix.
    pub(super) fn saw(&mut self, prefix: &str, update: Update) {
        match update {
            Update::Reset { revision, entries } => self.reset(prefix, revision, entries),
            Update::Changes { revision, changes } => {
                changes.into_iter().for_each(|change| self.change(prefix, revision, change));
            }
        }
    }

    fn change(&mut self, prefix: &str, revision: u64, change: Change) {
        match change {
            Change::Put { key, value } => self.put(format!("{prefix}/{key}"), value, revision),
            Change::Delete { key } => self.gone(&format!("{prefix}/{key}"), revision),
            Change::DeleteTree { key } => {
                let tree = if key.is_empty() { prefix.to_owned() } else { format!("{prefix}/{key}") };
                let below = |key: &&String| key.strip_prefix(&tree).is_some_and(|rest| rest.starts_with('/'));
                let known = self.seen.keys().chain(self.ours.keys());
                let gone: Vec<_> = known.filter(|key| **key == tree || below(key)).cloned().collect();
                gone.iter().for_each(|key| self.gone(key, revision));
            }
        }
    }

    fn put(&mut self, key: String, value: Box<[u8]>, revision: u64) {
        let Some(ours) = self.ours.get_mut(&key) else {
            self.theirs(key, value);
            return;
        };
        if revision <= ours.revision {
            return;
        }
        let (key, read) = Ours::of(key, &value);
        if read.value == ours.value {
            ours.drained = read.drained;
        } else {
            // Somebody has overwritten it, so it is no longer ours.
            self.ours.remove(&key);
            self.theirs(key, value);
        }
    }

    fn theirs(&mut self, key: String, value: Box<[u8]>) {
        if self.settings.contains_key(&key) {
            self.taken.remove(&key);
        }
        self.seen.insert(key, value);
    }

    fn gone(&mut self, key: &str, revision: u64) {
        self.seen.remove(key);
        self.taken.remove(key);
        if self.ours.get(key).is_some_and(|ours| revision > ours.revision) {
            self.ours.remove(key);
        }
    }

    fn reset(&mut self, prefix: &str, revision: u64, entries: Vec<(Box<str>, Box<[u8]>)>) {
        let below = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let entries: BTreeMap<_, _> =
            entries.into_iter().map(|(key, value)| (format!("{prefix}/{key}"), value)).collect();
        let known = self.seen.keys().chain(self.ours.keys());
        let gone: Vec<_> = known.filter(|key| below(key) && !entries.contains_key(*key)).cloned().collect();
        gone.iter().for_each(|key| self.gone(key, revision));
        entries.into_iter().for_each(|(key, value)| self.put(key, value, revision));
    }

    /// The edits to make now.
    pub(super) fn edits(&self, now: Instant) -> Vec<Edit> {
        let free = |key: &str| self.taken.get(key).is_none_or(|until| *until <= now);
        let settings =
            self.settings.iter().filter(|(key, _)| !self.seen.contains_key(*key) || self.ours.contains_key(*key));
        let wanted = self.instances.iter().chain(settings).filter(|(key, _)| self.ours.contains_key(*key) || free(key));
        let puts = wanted.filter_map(|(key, value)| self.put_of(key, value));
        let unwanted = |key: &&String| !self.instances.contains_key(*key) && !self.settings.contains_key(*key);
        let deletes = self.ours.keys().filter(unwanted).map(|key| Edit::Delete { key: key.clone() });
        deletes.chain(puts).collect()
    }

    fn put_of(&self, key: &str, value: &str) -> Option<Edit> {
        let drained = match self.ours.get(key) {
            Some(ours) if *ours.value == *value => return None,
            Some(ours) => ours.drained,
            None => false,
        };
        let word = if drained { DRAIN } else { "" };
        Some(Edit::Put { key: key.to_owned(), value: format!("{value}{word}").into_bytes() })
    }

    /// Takes the result of an edit.
    pub(super) fn settled(&mut self, edit: &Edit, outcome: LeaseOutcome, now: Instant) {
        match (edit, outcome) {
            (Edit::Put { key, value }, LeaseOutcome::Done(revision)) => {
                self.seen.remove(key);
                self.taken.remove(key);
                let (key, ours) = Ours::of(key.clone(), value);
                self.ours.insert(key, Ours { revision, ..ours });
            }
            (Edit::Delete { key }, LeaseOutcome::Done(_)) => drop(self.ours.remove(key)),
            (edit, LeaseOutcome::Taken) => {
                self.ours.remove(edit.key());
                if matches!(edit, Edit::Put { .. }) {
                    self.taken.insert(edit.key().to_owned(), now + LATER);
                }
            }
            (_, LeaseOutcome::Ended | LeaseOutcome::Replaced) => {}
        }
    }

    /// When to try a taken key again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.taken.values().min().copied()
    }

    /// The number of our keys.
    pub(super) fn len(&self) -> usize {
        self.ours.len()
    }

    /// Whether every wanted key is in the store: instances written by us, settings by anyone.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.taken.is_empty() && self.edits(now).is_empty()
    }

    /// Instances that belong to somebody else, and settings for which others want another value.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let taken = self.taken.keys().filter(|key| self.instances.contains_key(*key)).map(|key| Conflict::taken(key));
        let differ = self.settings.iter().filter_map(|(key, value)| {
            let theirs = self.seen.get(key).map(|theirs| String::from_utf8_lossy(theirs).trim().to_owned())?;
            (!self.ours.contains_key(key) && *theirs != **value).then(|| Conflict::differs(key, &theirs, value))
        });
        taken.chain(differ).collect()
    }
}

impl Ours {
    /// Reads a key's value. Only instances can be drained.
    fn of(key: String, value: &[u8]) -> (String, Self) {
        let text = String::from_utf8_lossy(value);
        let (value, drained) = match text.trim().strip_suffix(DRAIN) {
            Some(value) if key.contains("/upstreams/") => (value, true),
            _ => (&*text, false),
        };
        let ours = Self { value: value.into(), drained, revision: 0 };
        (key, ours)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;

    /// A book with these wanted instances and settings below `/p`.
    fn wanting(reconciler: &mut Reconciler, instances: &[(&str, &str)], settings: &[(&str, &str)]) {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        reconciler.want(&[("/p".to_owned(), Wanted { instances: map(instances), settings: map(settings) })].into());
    }

    fn saw(reconciler: &mut Reconciler, revision: u64, line: &str) {
        let changes = line.split(", ").map(|word| match word.split_once('=') {
            Some((key, value)) => Change::Put { key: key.into(), value: value.as_bytes().into() },
            None if word.ends_with('/') => Change::DeleteTree { key: word.trim_end_matches('/').into() },
            None => Change::Delete { key: word.into() },
        });
        reconciler.saw("/p", Update::Changes { revision, changes: changes.collect() });
    }

    /// Makes the edits, all with this result, and describes them.
    fn make(reconciler: &mut Reconciler, now: Instant, outcome: LeaseOutcome) -> String {
        let edits = reconciler.edits(now);
        edits.iter().for_each(|edit| reconciler.settled(edit, outcome, now));
        let shown = edits.iter().map(|edit| match edit {
            Edit::Put { key, value } => format!("{key}={}", String::from_utf8_lossy(value)),
            Edit::Delete { key } => format!("-{key}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    #[tokio::test]
    async fn keys_follow_what_is_wanted() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[("a", "1"), ("b", "2")], &[("s", "x")]);
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(5)), "/p/a=1, /p/b=2, /p/s=x");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(6)), "");
        assert!(reconciler.is_settled(now));
        wanting(&mut reconciler, &[("a", "3")], &[]);
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(7)), "-/p/b, -/p/s, /p/a=3");
        // Late watch events of earlier revisions change nothing.
        saw(&mut reconciler, 5, "a=1, b=2");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(8)), "");
    }

    #[tokio::test]
    async fn what_goes_comes_back() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[("x/a", "1"), ("b", "1")], &[]);
        make(&mut reconciler, now, LeaseOutcome::Done(5));
        for (revision, line, expected) in
            [(6, "x/a", "/p/x/a=1"), (8, "x/", "/p/x/a=1"), (9, "b", "/p/b=1"), (9, "b", "")]
        {
            saw(&mut reconciler, revision, line);
            assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(revision)), expected, "{line}");
        }
        // The lease ended and a new one was granted.
        reconciler.begin(BTreeMap::new());
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(10)), "/p/b=1, /p/x/a=1");
        reconciler.begin([("/p/b".to_owned(), b"1".to_vec()), ("/q/c".to_owned(), b"1".to_vec())].into());
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(11)), "-/q/c, /p/x/a=1");
    }

    #[tokio::test]
    async fn what_is_somebody_elses_is_left_alone() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[("a", "1")], &[("s", "x"), ("t", "y")]);
        saw(&mut reconciler, 1, "a=9, s=x, t=z");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "/p/a=1");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "");
        let said: Vec<_> = reconciler.conflicts().iter().map(ToString::to_string).collect();
        assert!(said[0].contains("/p/a") && said[1].contains("/p/t") && said.len() == 2, "{said:?}");
        assert_eq!(make(&mut reconciler, now + LATER, LeaseOutcome::Taken), "/p/a=1");
        // When the others leave, the key becomes ours.
        saw(&mut reconciler, 2, "a, s");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(3)), "/p/a=1, /p/s=x");
        // An operator who writes another address means it.
        saw(&mut reconciler, 4, "a=7");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "/p/a=1");
    }

    #[tokio::test]
    async fn a_setting_of_another_writer_will_do() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[], &[("s", "x"), ("t", "y")]);
        // They were written before a follower shows them.
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "/p/s=x, /p/t=y");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "");
        assert!(!reconciler.is_settled(now) && reconciler.conflicts().is_empty());
        assert_eq!(reconciler.due(), Some(now + LATER));
        assert_eq!(make(&mut reconciler, now + LATER, LeaseOutcome::Taken), "/p/s=x, /p/t=y");
        saw(&mut reconciler, 1, "s=x, t=z");
        assert!(reconciler.is_settled(now));
        assert_eq!(reconciler.due(), None);
        let said: Vec<_> =
            reconciler.conflicts().iter().map(|conflict| (conflict.kind, conflict.key.clone())).collect();
        assert_eq!(said, [("differs", "/p/t".to_owned())]);
        assert_eq!(make(&mut reconciler, now + LATER, LeaseOutcome::Taken), "");
        saw(&mut reconciler, 2, "s");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(3)), "/p/s=x");
        // A follower may show a key before the new term reads it as ours.
        reconciler.begin([("/p/t".to_owned(), b"z".to_vec()), ("/p/s".to_owned(), b"x".to_vec())].into());
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Taken), "/p/t=y");
        assert_eq!(make(&mut reconciler, now + LATER, LeaseOutcome::Done(4)), "/p/t=y");
    }

    #[tokio::test]
    async fn an_operators_drain_survives() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[("upstreams/a", "1")], &[]);
        make(&mut reconciler, now, LeaseOutcome::Done(1));
        saw(&mut reconciler, 2, "upstreams/a=1 drain");
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(3)), "");
        wanting(&mut reconciler, &[("upstreams/a", "1 weight=0")], &[]);
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(3)), "/p/upstreams/a=1 weight=0 drain");
        wanting(&mut reconciler, &[("upstreams/a", "1")], &[]);
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(4)), "/p/upstreams/a=1 drain");
        saw(&mut reconciler, 5, "upstreams/a=1");
        wanting(&mut reconciler, &[("upstreams/a", "2")], &[]);
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(6)), "/p/upstreams/a=2");
        // After a restart.
        reconciler.begin([("/p/upstreams/a".to_owned(), b"2 drain".to_vec())].into());
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(6)), "");
    }

    #[tokio::test]
    async fn a_full_listing_is_the_truth_from_its_revision() {
        let (mut reconciler, now) = (Reconciler::default(), Instant::now());
        wanting(&mut reconciler, &[("a", "1"), ("b", "1")], &[]);
        make(&mut reconciler, now, LeaseOutcome::Done(5));
        reconciler.saw("/p", Update::Reset { revision: 4, entries: Vec::new() });
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(6)), "");
        reconciler.saw("/p", Update::Reset { revision: 6, entries: vec![("a".into(), b"1"[..].into())] });
        assert_eq!(make(&mut reconciler, now, LeaseOutcome::Done(7)), "/p/b=1");
    }
}
