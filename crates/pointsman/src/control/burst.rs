//! Decides when a burst of changes is over. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A burst ends after this long without a change.
const QUIET: Duration = Duration::from_millis(5);
/// Or this long after its first change, as a multiple of the last compile's duration. A burst without a pause is then
/// followed closely while compiling is cheap, and takes at most a tenth of a core when it is not.
const SHARE: u32 = 10;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(50);

/// Changes received but not yet compiled.
#[derive(Debug)]
pub(super) struct Burst {
    span: Option<Span>,
    longest: Duration,
}

impl Default for Burst {
    fn default() -> Self {
        Self { span: None, longest: SHORTEST }
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first: Instant,
    last: Instant,
}

impl Burst {
    /// Adds a change.
    pub(super) fn add(&mut self, now: Instant) {
        let first = self.span.map_or(now, |span| span.first);
        self.span = Some(Span { first, last: now });
    }

    /// When to compile; `None` if there is nothing to compile.
    pub(super) fn due(&self) -> Option<Instant> {
        self.span.map(|span| (span.last + QUIET).min(span.first + self.longest))
    }

    /// The burst was compiled; this took `cost`.
    pub(super) fn end(&mut self, cost: Duration) {
        self.span = None;
        self.longest = (cost * SHARE).clamp(SHORTEST, LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When these changes, by their milliseconds, are compiled after a compile that took `cost` milliseconds.
    fn check(cost: u64, changes: &[u64], expected: Option<u128>) {
        let start = Instant::now();
        let mut burst = Burst::default();
        burst.end(Duration::from_millis(cost));
        for at in changes {
            burst.add(start + Duration::from_millis(*at));
        }
        let due = burst.due().map(|due| (due - start).as_millis());
        assert_eq!(due, expected, "{changes:?} after {cost} ms");
    }

    #[test]
    fn ends_when_quiet_or_after_its_longest() {
        let steady: Vec<u64> = (0..60).step_by(3).collect();
        check(0, &[], None);
        check(0, &[0], Some(5));
        check(0, &[0, 4], Some(9));
        check(0, &[0, 4, 8], Some(10));
        check(0, &[100, 104], Some(109));
        check(2, &steady, Some(20));
        check(300, &steady, Some(50));
    }
}
