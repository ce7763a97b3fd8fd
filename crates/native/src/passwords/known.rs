//! Answers of late, by tag: those that matched apart from those that did not, so that guesses push nobody out. Bounded.

use std::collections::{HashMap, VecDeque};

/// What stands for a hash, a user and a password: a keyed hash of them.
pub(super) type Tag = [u8; 32];

/// Most answers of each kind.
const MOST: usize = 4_096;

/// Answers of late.
#[derive(Debug, Default)]
pub(super) struct Known {
    good: Answers,
    bad: Answers,
}

/// Answers of one kind, and until when they are known, milliseconds of the coarse clock.
#[derive(Debug, Default)]
struct Answers {
    until: HashMap<Tag, u64>,
    /// The oldest first.
    order: VecDeque<Tag>,
}

impl Known {
    /// The answer, if it is known.
    pub(super) fn get(&self, tag: &Tag, now: u64) -> Option<bool> {
        match () {
            () if self.good.has(tag, now) => Some(true),
            () if self.bad.has(tag, now) => Some(false),
            () => None,
        }
    }

    /// Notes an answer.
    pub(super) fn put(&mut self, tag: Tag, matches: bool, until: u64) {
        if matches { self.good.put(tag, until) } else { self.bad.put(tag, until) }
    }
}

impl Answers {
    fn has(&self, tag: &Tag, now: u64) -> bool {
        self.until.get(tag).is_some_and(|until| now < *until)
    }

    fn put(&mut self, tag: Tag, until: u64) {
        if self.until.insert(tag, until).is_some() {
            return;
        }
        self.order.push_back(tag);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.until.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: usize) -> Tag {
        let mut tag = Tag::default();
        tag[..8].copy_from_slice(&number.to_le_bytes());
        tag
    }

    #[test]
    fn guesses_push_nobody_out() {
        let mut known = Known::default();
        known.put(tag(0), true, 10);
        (1..=2 * MOST).for_each(|number| known.put(tag(number), false, 10));
        assert_eq!((known.get(&tag(0), 9), known.get(&tag(0), 10)), (Some(true), None));
        assert_eq!((known.get(&tag(1), 0), known.get(&tag(2 * MOST), 0)), (None, Some(false)));
        assert_eq!((known.bad.until.len(), known.bad.order.len()), (MOST, MOST));
    }
}
