//! What a program that begins to write the journal still has to write: another one may have written what this one saw, too.
//! Reads and writes nothing.
//!
//! ```text
//! journal   5 6 7 8 |                 what the program before noted
//! notes         7 8 9 10              what this one saw since its start
//! remaining         9 10              with revisions: those above the journal's last
//! ```
//!
//! Without revisions, the changes up to the one that leads to the journal's newest value of a key are there already.

use std::collections::HashMap;

use super::journal::{JournalChange, JournalRead, JournalValue};
use crate::control::{ChangeNote, epoch_millis};

/// Two programs may see the same change so many milliseconds apart.
const APART: u64 = 10_000;

/// A note, in the journal's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JournalStep {
    pub(super) at: u64,
    /// The store's.
    pub(super) revision: u64,
    pub(super) cluster: u64,
    /// `None`: nobody knows what was before.
    pub(super) changes: Option<Vec<JournalChange>>,
    pub(super) keys: usize,
    /// Changes before it that are missing.
    pub(super) lost: usize,
}

impl From<ChangeNote> for JournalStep {
    fn from(note: ChangeNote) -> Self {
        let ChangeNote { revision, cluster, keys, lost, .. } = note;
        let at = epoch_millis(note.at);
        let of = |change| JournalChange::of(at, revision, &change);
        let changes = note.changes.map(|changes| changes.into_iter().map(of).collect());
        Self { at, revision, cluster, changes, keys, lost }
    }
}

/// The last values of keys, as the journal has them.
type Newest = HashMap<String, Option<JournalValue>>;

/// What the journal does not have of these notes, which begin with a listing. `counts`: the store has no revisions.
pub(super) fn remaining(notes: Vec<ChangeNote>, read: &JournalRead, counts: bool) -> Vec<JournalStep> {
    let mut newest = read.newest();
    let mut steps = Vec::new();
    let mut last = if counts || read.begin.is_none() { None } else { Some(read.last()) };
    for mut note in notes {
        if is_another_past(&note, read) {
            (last, newest) = (None, Newest::new());
        }
        if last.is_some_and(|last| note.revision <= last) {
            continue;
        }
        if last.is_some_and(|last| note.lost_at <= last) {
            note.lost = 0;
        }
        let listed = note.listed.take();
        let mut step = JournalStep::from(note);
        if let (Some(listed), Some(changes)) = (&listed, &mut step.changes) {
            let value = |key: &str| listed.value(key).flatten();
            let differs = |key: &String, noted: &Option<JournalValue>| {
                !changes.iter().any(|change| change.key == *key)
                    && noted.as_ref().and_then(JournalValue::bytes).as_deref() != value(key)
                    && !matches!(noted, Some(JournalValue::Untold(_)) if value(key).is_some())
            };
            let unseen: Vec<_> = newest.iter().filter(|(key, noted)| differs(key, noted)).collect();
            let (at, revision) = (step.at, step.revision);
            let change = |(key, noted): (&String, &Option<JournalValue>)| JournalChange {
                at,
                revision,
                key: key.clone(),
                before: noted.clone(),
                after: value(key).map(|value| JournalValue::of(key, value)),
            };
            let unseen: Vec<_> = unseen.into_iter().map(change).collect();
            changes.extend(unseen);
        }
        if !counts {
            connect(&mut step, &mut newest);
        }
        steps.push(step);
    }
    if counts {
        without_known(&mut steps, newest);
    }
    steps
}

/// Whether this beginning is of other keys than the journal's: of another cluster, or of an etcd that was restored.
fn is_another_past(note: &ChangeNote, read: &JournalRead) -> bool {
    let is_other = note.cluster != 0 && read.cluster != 0 && note.cluster != read.cluster;
    let is_later = read.changes.last().is_none_or(|change| change.at + APART < epoch_millis(note.at));
    note.changes.is_none() && (is_other || is_later && note.revision < read.last())
}

/// With revisions, the first change of each key begins where the journal ends.
fn connect(step: &mut JournalStep, newest: &mut Newest) {
    let Some(changes) = step.changes.take() else {
        newest.clear();
        return;
    };
    let after = |change: JournalChange| {
        let noted = newest.remove(&change.key);
        change.after(noted)
    };
    step.changes = Some(changes.into_iter().filter_map(after).collect());
}

/// Without revisions, of each key only what follows the journal's newest value; all in one change if that did not come.
fn without_known(steps: &mut [JournalStep], mut newest: Newest) {
    let changes = || steps.iter().flat_map(|step| step.changes.iter().flatten());
    let mut known = HashMap::<String, (usize, bool)>::new();
    for (place, change) in changes().enumerate() {
        let Some(noted) = newest.get(&change.key) else { continue };
        let is_it = *noted == change.after && !matches!(noted, Some(JournalValue::Untold(_)));
        let entry = known.entry(change.key.clone()).or_insert((place, is_it));
        if is_it || !entry.1 {
            *entry = (place, is_it);
        }
    }
    let mut place = 0;
    for changes in steps.iter_mut().filter_map(|step| step.changes.as_mut()) {
        *changes = std::mem::take(changes)
            .into_iter()
            .filter_map(|change| {
                let here = place;
                place += 1;
                match known.get(&change.key) {
                    Some((known, is_it)) if here < *known || here == *known && *is_it => None,
                    Some((known, false)) if here == *known => {
                        let noted = newest.remove(&change.key);
                        change.after(noted)
                    }
                    _ => Some(change),
                }
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pointsman_table::{KeyChange, KeySet};

    use super::*;

    const KEY: &str = "services/a/domain";

    fn text(value: &str) -> Option<JournalValue> {
        (value != "-").then(|| JournalValue::Text(value.to_owned()))
    }

    /// `5 a b`: the revision, the value before and after.
    fn journal(rows: &str) -> JournalRead {
        let change = |row: &str| {
            let words: Vec<_> = row.split_whitespace().collect();
            let (revision, key) = (words[0].parse().unwrap(), KEY.to_owned());
            JournalChange { at: revision, revision, key, before: text(words[1]), after: text(words[2]) }
        };
        JournalRead { changes: rows.split(',').map(change).collect(), begin: Some(1), cluster: 7, ..Default::default() }
    }

    /// `9 a b`; `listed` says that all keys were listed.
    fn notes(rows: &str) -> Vec<ChangeNote> {
        let value = |value: &str| (value != "-").then(|| value.as_bytes().into());
        let note = |row: &str| {
            let words: Vec<_> = row.split_whitespace().collect();
            let revision = words[0].parse().unwrap();
            let (before, after) = (value(words[1]), value(words[2]));
            let listed = words.get(3).map(|_| {
                let mut keys = KeySet::default();
                keys.reset(revision, after.clone().map(|value| (KEY.into(), value)));
                keys
            });
            let change = KeyChange { key: KEY.to_owned(), before, after };
            let changes = Some(if change.before == change.after { Vec::new() } else { vec![change] });
            let at = UNIX_EPOCH + Duration::from_millis(revision);
            ChangeNote { at, revision, cluster: 7, changes, keys: 0, listed, lost: 0, lost_at: 0 }
        };
        rows.split(',').map(note).collect()
    }

    #[track_caller]
    fn check(read: &JournalRead, rows: Vec<ChangeNote>, counts: bool, expected: &str) {
        let word = |value: &Option<JournalValue>| match value {
            Some(JournalValue::Text(text)) => text.clone(),
            Some(_) => "?".to_owned(),
            None => "-".to_owned(),
        };
        let changes = remaining(rows, read, counts).into_iter().flat_map(|step| step.changes.unwrap_or_default());
        let said: Vec<_> = changes
            .map(|change| match counts {
                true => format!("{} {}", word(&change.before), word(&change.after)),
                false => format!("{} {} {}", change.revision, word(&change.before), word(&change.after)),
            })
            .collect();
        assert_eq!(said.join(", "), expected);
    }

    #[test]
    fn with_revisions_only_what_is_above_the_last_remains() {
        let read = journal("5 a b, 6 b c, 8 c d");
        let check = |rows, expected| check(&read, notes(rows), false, expected);
        check("7 a c listed, 8 c d", "");
        check("7 a c listed, 8 c d, 9 d e", "9 d e");
        check("9 a e listed, 10 e f", "9 d e, 10 e f");
        // It was changed, and back again before this program listed it.
        check("9 a a listed", "9 d a");
        check("9 a d listed", "");
    }

    #[test]
    fn without_revisions_what_leads_to_the_newest_value_is_known() {
        let read = journal("5 a b, 6 b c, 7 c d");
        let check = |rows, expected| check(&read, notes(rows), true, expected);
        check("1 a c listed, 2 c d", "");
        check("1 a c listed, 2 c d, 3 d e, 4 e f", "d e, e f");
        check("1 a c listed, 2 c e, 3 e f", "d f");
        check("1 a a listed", "d a");
        check("1 a - listed", "d -");
    }

    #[test]
    fn what_the_journal_does_not_know_stays() {
        check(&JournalRead::default(), notes("1 a c listed, 2 c d"), false, "1 a c, 2 c d");
        // A restored etcd counts anew; a program that waited long begins where the journal is already.
        let begin = |at: u64, revision| {
            let mut note = notes("1 a b").remove(0);
            (note.changes, note.revision) = (None, revision);
            note.at = UNIX_EPOCH + Duration::from_millis(at);
            note
        };
        let read = journal("5 a b, 8 b c");
        for (at, revision, count) in [(9, 6, 0), (9, 8, 0), (9, 9, 1), (9 + 2 * APART, 6, 1), (9 + 2 * APART, 8, 0)] {
            assert_eq!(remaining(vec![begin(at, revision)], &read, false).len(), count, "{at} {revision}");
        }
        // What found no room is in the journal.
        let mut note = notes("9 c d").remove(0);
        (note.lost, note.lost_at) = (3, 8);
        assert_eq!(remaining(vec![note.clone()], &read, false)[0].lost, 0);
        note.lost_at = 9;
        assert_eq!(remaining(vec![note], &read, false)[0].lost, 3);
    }
}
