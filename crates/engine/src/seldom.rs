//! Limits a log line that many events would write: at most one per period, with the number of events since the last.
//! Writes nothing itself; time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};

/// The rate limit of one log line, shared by the threads that would write it.
#[derive(Debug)]
pub struct Seldom {
    /// Least time between two lines, in milliseconds.
    every: u64,
    next: AtomicU64,
    untold: AtomicU64,
}

impl Seldom {
    /// At most one line in this many milliseconds.
    pub const fn new(every: u64) -> Self {
        Self { every, next: AtomicU64::new(0), untold: AtomicU64::new(0) }
    }

    /// Counts an event at this time. `Some`: write the line, and state this number of other events since the last line.
    pub fn happened(&self, now: u64) -> Option<u64> {
        if self.is_due(now) {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// The number of events without a line, once a line about them is due: for use when no further event comes.
    pub fn rest(&self, now: u64) -> Option<u64> {
        let is_due = self.untold.load(Ordering::Relaxed) > 0 && self.is_due(now);
        is_due.then(|| self.untold.swap(0, Ordering::Relaxed))
    }

    /// Whether the line is due and this caller is the one to write it. Used alone, for events counted elsewhere, it
    /// costs other threads nothing while no line is due.
    pub fn is_due(&self, now: u64) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let then = now.saturating_add(self.every);
        now >= next && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// For the end of a line: how many more failures there were since the last one.
pub fn untold_failures(untold: u64) -> String {
    if untold == 0 { String::new() } else { format!("; {untold} more failures since the last such line") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_and_the_count_of_the_others() {
        let seldom = Seldom::new(60_000);
        let lines: Vec<_> = (0..1300).filter_map(|tenth| seldom.happened(tenth * 100)).collect();
        assert_eq!(lines, [0, 599, 599]);
        assert_eq!(seldom.rest(130_000), None, "a line was written at 120 s");
        assert_eq!(seldom.rest(180_000), Some(99));
        assert_eq!(seldom.rest(300_000), None);
        assert_eq!(seldom.happened(300_000), Some(0));
    }
}
