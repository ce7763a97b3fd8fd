//! The last changes of the keys: what each changed, and when the engine began to serve it. Bounded; read by the pages.
//! Holds no secret, decides nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_table::{Fate, KeyDiff, Table, differences};
use serde::Serialize;

/// Most changes kept.
const MOST: usize = 400;
/// Most keys named of one change.
const MOST_KEYS: usize = 24;

/// The last changes, oldest first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    kept: Arc<Mutex<KeptChanges>>,
}

#[derive(Debug, Default)]
struct KeptChanges {
    /// Counts what was noted: entries that came, and entries that were served.
    edits: u64,
    entries: VecDeque<TimelineEntry>,
}

/// One change: everything that came in with one table.
#[derive(Clone, Debug, Serialize)]
pub struct TimelineEntry {
    /// Counts changes since the start.
    pub number: u64,
    /// When the table was published, in milliseconds since the epoch.
    pub at: u64,
    /// When the engine began to serve it, in milliseconds since the epoch; `None`: not yet.
    pub served: Option<u64>,
    /// The store's revision with the change.
    pub revision: u64,
    /// It is the first table since the start: no key is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// How many services it has, if it is the first; else how many places of the keys it changed.
    pub places: usize,
    /// The first of the keys.
    pub keys: Vec<ChangedKey>,
    /// How many more keys it changed, at least.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    #[serde(skip)]
    generation: u64,
    #[serde(skip)]
    edit: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// One key of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedKey {
    /// The key, relative to the prefix.
    pub key: String,
    /// `added`, `changed` or `removed`.
    pub fate: &'static str,
    /// The value before; `None`: there was none, or it is secret.
    pub before: Option<String>,
    /// The value after.
    pub after: Option<String>,
    /// The values are secret.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl From<KeyDiff> for ChangedKey {
    fn from(KeyDiff { key, before, after, is_secret, fate }: KeyDiff) -> Self {
        let fate = match fate {
            Fate::Added => "added",
            Fate::Changed => "changed",
            Fate::Removed => "removed",
        };
        Self { key, fate, before, after, secret: is_secret }
    }
}

impl Timeline {
    /// Notes a new table. One that differs in no key, because names resolve to other addresses, is no change.
    pub(super) fn published(&self, before: Option<&Table>, after: &Table, now: SystemTime) {
        let entry = TimelineEntry {
            number: 0,
            at: epoch_millis(now),
            served: None,
            revision: after.revision(),
            first: before.is_none(),
            places: after.services().len(),
            keys: Vec::new(),
            more: 0,
            generation: after.generation(),
            edit: 0,
        };
        match before {
            None => self.keep(entry),
            Some(before) => {
                if let Some(entry) = entry.with_keys(before, after) {
                    self.keep(entry);
                }
            }
        }
    }

    fn keep(&self, entry: TimelineEntry) {
        let mut kept = self.kept();
        kept.edits += 1;
        let number = kept.entries.back().map_or(1, |last| last.number + 1);
        let edit = kept.edits;
        kept.entries.push_back(TimelineEntry { number, edit, ..entry });
        if kept.entries.len() > MOST {
            kept.entries.pop_front();
        }
    }

    /// Notes that the engine serves this generation.
    pub(super) fn served(&self, generation: u64, now: SystemTime) {
        let mut kept = self.kept();
        let KeptChanges { edits, entries } = &mut *kept;
        let waiting = entries.iter_mut().rev().take_while(|entry| entry.served.is_none());
        for entry in waiting.filter(|entry| entry.generation <= generation) {
            *edits += 1;
            (entry.served, entry.edit) = (Some(epoch_millis(now)), *edits);
        }
    }

    /// The changes that came or were served after so many edits, oldest first, and the number to ask from next time.
    pub fn since(&self, edits: u64) -> (Vec<TimelineEntry>, u64) {
        let kept = self.kept();
        (kept.entries.iter().filter(|entry| entry.edit > edits).cloned().collect(), kept.edits)
    }

    fn kept(&self) -> MutexGuard<'_, KeptChanges> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimelineEntry {
    /// `None`: no key differs.
    fn with_keys(self, before: &Table, after: &Table) -> Option<Self> {
        let places = differences(before, after);
        let mut keys: Vec<ChangedKey> = Vec::new();
        let mut more = 0;
        for place in &places {
            if keys.len() >= MOST_KEYS {
                more += 1;
                continue;
            }
            let all = place.keys();
            let room = MOST_KEYS - keys.len();
            more += all.len().saturating_sub(room);
            keys.extend(all.into_iter().take(room).map(ChangedKey::from));
        }
        (!places.is_empty()).then_some(Self { places: places.len(), keys, more, ..self })
    }
}

/// Milliseconds since the epoch.
pub(crate) fn epoch_millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    fn table(keys: &[(&str, &str)], before: Option<&Table>) -> Arc<Table> {
        let mut key_set = KeySet::default();
        key_set.reset(7, keys.iter().map(|(key, value)| ((*key).into(), value.as_bytes().into())));
        compile(&key_set, before, &Limits::default()).table
    }

    #[test]
    fn a_change_has_its_keys_and_when_it_was_served() {
        let (timeline, at) = (Timeline::default(), UNIX_EPOCH + Duration::from_secs(5));
        let old = table(&[("services/a/domain", "a.test"), ("services/a/one", "h:1")], None);
        timeline.published(None, &old, at);
        timeline.served(old.generation(), at);
        let keys = [("services/a/domain", "b.test"), ("services/a/basic_auth_secret", "user x"), ("certs/c", "pem")];
        let new = table(&keys, Some(&old));
        timeline.published(Some(&old), &new, at);
        timeline.published(Some(&new), &new, at);
        let (entries, edits) = timeline.since(0);
        assert_eq!(entries.len(), 2, "the same table again is no change");
        assert!(entries[0].first && entries[0].served == Some(5000) && entries[1].served.is_none());
        let shown = |key: &ChangedKey| {
            let value = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
            format!("{} {} {} {} {}", key.key, key.fate, value(&key.before), value(&key.after), key.secret)
        };
        assert_eq!(
            entries[1].keys.iter().map(shown).collect::<Vec<_>>(),
            [
                "services/a/basic_auth_secret added - - true",
                "services/a/domain changed a.test b.test false",
                "services/a/one removed h:1 - false",
                "certs/c added - - true",
            ]
        );
        timeline.served(new.generation(), at);
        let (later, _) = timeline.since(edits);
        assert_eq!(later.iter().map(|entry| (entry.number, entry.served)).collect::<Vec<_>>(), [(2, Some(5000))]);
    }

    #[test]
    fn it_is_bounded() {
        let timeline = Timeline::default();
        let mut old = table(&[], None);
        for number in 0..MOST + 10 {
            let keys: Vec<_> =
                (0..MOST_KEYS + 5).map(|key| (format!("services/a/k{key}"), number.to_string())).collect();
            let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let new = table(&keys, Some(&old));
            timeline.published(Some(&old), &new, UNIX_EPOCH);
            old = new;
        }
        let (entries, _) = timeline.since(0);
        assert_eq!((entries.len(), entries[0].number), (MOST, 11));
        assert!(entries.iter().all(|entry| entry.keys.len() == MOST_KEYS && entry.more == 5));
    }
}
