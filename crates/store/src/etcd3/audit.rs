//! Compares fingerprints of the delivered keys with a new listing. Pure.
//!
//! etcd has had bugs that lose watch events, and somebody may replace the store. So every few minutes, and soon after a
//! resumed watch, all keys are listed at one revision and compared with the delivered ones.
//!
//! The list and the watch are two streams that race: at the time of the comparison, the watch may be ahead of the
//! list's revision or behind it. So a differing key is only a *suspect* at first, and an event for the key clears it.
//! If a key differs in two lists in a row without an event in between, its event was lost: if the watch was ahead, the
//! second list would have caught up and agree; if it was behind, the event would have come and cleared the key. Only a
//! lost event needs a new list; a suspect costs one more comparison.

use std::hash::BuildHasher;

use foldhash::HashMap;
use foldhash::HashSet;
use foldhash::quality::RandomState;
use pointsman_table::Change;

/// Makes fingerprints. Both sides of a comparison must use the same one.
#[derive(Clone, Default)]
pub(super) struct Fingerprinter {
    seed: RandomState,
}

/// Hashes of each key and its value: 16 bytes per key.
pub(super) type Fingerprints = HashMap<u64, u64>;

impl Fingerprinter {
    /// Adds a key.
    pub(super) fn add(&self, to: &mut Fingerprints, key: &str, value: &[u8]) {
        to.insert(self.seed.hash_one(key), self.seed.hash_one(value));
    }
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No difference.
    Sound,
    /// A difference that may be a race: compare again soon.
    Suspect,
    /// Events were lost for this many keys.
    Lost(usize),
}

/// The keys delivered so far.
#[derive(Default)]
pub(super) struct Delivered {
    maker: Fingerprinter,
    known: Fingerprints,
    suspects: HashSet<u64>,
}

impl Delivered {
    /// Replaces all keys with these entries.
    pub(super) fn reset(&mut self, entries: &[(Box<str>, Box<[u8]>)]) {
        self.suspects.clear();
        self.known.clear();
        for (key, value) in entries {
            self.maker.add(&mut self.known, key, value);
        }
        self.known.shrink_to_fit();
    }

    /// Records a delivered change. It clears the key of suspicion.
    pub(super) fn change(&mut self, change: &Change) {
        let (Change::Put { key, .. } | Change::Delete { key } | Change::DeleteTree { key }) = change;
        let hash = self.maker.seed.hash_one(&**key);
        self.suspects.remove(&hash);
        self.known.remove(&hash);
        if let Change::Put { key, value } = change {
            self.maker.add(&mut self.known, key, value);
        }
    }

    /// Makes fingerprints that can be compared with these.
    pub(super) fn maker(&self) -> Fingerprinter {
        self.maker.clone()
    }

    /// Compares with a list that was read after the last comparison.
    pub(super) fn compare(&mut self, listed: &Fingerprints) -> Verdict {
        let differing = self.differing(listed);
        let lost = differing.intersection(&self.suspects).count();
        self.suspects = differing;
        match (lost, self.suspects.is_empty()) {
            (0, true) => Verdict::Sound,
            (0, false) => Verdict::Suspect,
            (lost, _) => Verdict::Lost(lost),
        }
    }

    fn differing(&self, listed: &Fingerprints) -> HashSet<u64> {
        let wrong = listed.iter().filter(|(key, value)| self.known.get(key) != Some(value));
        let gone = self.known.iter().filter(|(key, _)| !listed.contains_key(key));
        wrong.chain(gone).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step is a delivered change (`+a=1`, `-a`), or a list to compare with (`?a=1,b=2`) and the expected verdict.
    fn check(steps: &[(&str, Option<Verdict>)]) {
        let mut delivered = Delivered::default();
        delivered.reset(&[("a".into(), b"1".as_slice().into()), ("b".into(), b"2".as_slice().into())]);
        for (step, want) in steps {
            let got = match step.split_at(1) {
                ("?", list) => Some(delivered.compare(&prints(&delivered, list))),
                (sign, change) => {
                    delivered.change(&parse(sign, change));
                    None
                }
            };
            assert_eq!(got, *want, "{step} in {steps:?}");
        }
    }

    fn prints(delivered: &Delivered, list: &str) -> Fingerprints {
        let mut prints = Fingerprints::default();
        for entry in list.split(',').filter(|entry| !entry.is_empty()) {
            let (key, value) = entry.split_once('=').unwrap();
            delivered.maker().add(&mut prints, key, value.as_bytes());
        }
        prints
    }

    fn parse(sign: &str, change: &str) -> Change {
        match (sign, change.split_once('=')) {
            ("+", Some((key, value))) => Change::Put { key: key.into(), value: value.as_bytes().into() },
            _ => Change::Delete { key: change.into() },
        }
    }

    const SOUND: Option<Verdict> = Some(Verdict::Sound);
    const SUSPECT: Option<Verdict> = Some(Verdict::Suspect);
    const LOST: Option<Verdict> = Some(Verdict::Lost(1));

    #[test]
    fn sound() {
        check(&[("?a=1,b=2", SOUND), ("+c=3", None), ("-a", None), ("?b=2,c=3", SOUND)]);
    }

    #[test]
    fn a_lost_event_is_found_the_second_time() {
        check(&[("?a=1,b=2,c=3", SUSPECT), ("?a=1,b=2,c=3", LOST)]);
        check(&[("?a=9,b=2", SUSPECT), ("?a=9,b=2", LOST)]);
        check(&[("?a=1", SUSPECT), ("?a=1", LOST)]);
        check(&[("?", SUSPECT), ("?", Some(Verdict::Lost(2)))]);
        check(&[("?a=9,b=2", SUSPECT), ("?a=10,b=2", LOST)]);
    }

    #[test]
    fn races_are_not_losses() {
        // The watch is behind: the event arrives between the lists, or after an even newer list.
        check(&[("?a=9,b=2", SUSPECT), ("+a=9", None), ("?a=9,b=2", SOUND)]);
        check(&[("?a=9,b=2", SUSPECT), ("+a=9", None), ("?a=10,b=2", SUSPECT), ("+a=10", None), ("?a=10,b=2", SOUND)]);
        // The watch is ahead of the list.
        check(&[("+a=9", None), ("?a=1,b=2", SUSPECT), ("?a=9,b=2", SOUND)]);
        check(&[("-a", None), ("?a=1,b=2", SUSPECT), ("?b=2", SOUND)]);
        // Different keys each time.
        check(&[("?a=9,b=2", SUSPECT), ("+a=9", None), ("?a=9,b=3", SUSPECT), ("+b=3", None), ("?a=9,b=3", SOUND)]);
    }
}
