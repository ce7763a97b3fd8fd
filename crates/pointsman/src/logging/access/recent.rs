//! The last requests in memory, each a line of JSON. Knows nothing of their content.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes of lines that are kept for each request that may be: twice a usual line.
const BYTES_EACH: usize = 1_024;

/// The last requests.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    most: usize,
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Box<str>>,
    /// The length of all lines, bytes.
    bytes: usize,
    /// The number of the next one.
    next: u64,
}

impl Recent {
    /// Keeps so many; none: the list is off.
    pub fn new(most: usize) -> Self {
        Self { most, ring: Arc::default() }
    }

    /// Whether any are kept.
    pub fn is_on(&self) -> bool {
        self.most > 0
    }

    /// Adds lines, and forgets the oldest ones beyond the limits of their number and their length.
    pub(super) fn add(&self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let mut ring = self.ring();
        for line in text.lines() {
            ring.add(line);
            while ring.lines.len() > self.most || (ring.bytes > self.most * BYTES_EACH && ring.lines.len() > 1) {
                ring.forget();
            }
        }
    }

    /// Those from this number on, oldest first, as a JSON page: `{"next":8,"requests":[...]}`.
    pub fn page(&self, from: u64) -> String {
        let ring = self.ring();
        let new = usize::try_from(ring.next.saturating_sub(from)).unwrap_or(usize::MAX).min(ring.lines.len());
        let lines: Vec<_> = ring.lines.iter().skip(ring.lines.len() - new).map(|line| &**line).collect();
        format!("{{\"next\":{},\"requests\":[{}]}}\n", ring.next, lines.join(","))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn add(&mut self, line: &str) {
        self.bytes += line.len();
        self.lines.push_back(line.into());
        self.next += 1;
    }

    /// Drops the oldest line.
    fn forget(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_are_kept() {
        let recent = Recent::new(2);
        assert_eq!(recent.page(0), "{\"next\":0,\"requests\":[]}\n");
        recent.add(b"{\"a\":1}\n{\"a\":2}\n");
        recent.add(b"{\"a\":3}\n");
        assert_eq!(recent.page(0), "{\"next\":3,\"requests\":[{\"a\":2},{\"a\":3}]}\n");
        assert_eq!(recent.page(2), "{\"next\":3,\"requests\":[{\"a\":3}]}\n");
        assert_eq!(recent.page(3), "{\"next\":3,\"requests\":[]}\n");
        assert_eq!(recent.page(9), "{\"next\":3,\"requests\":[]}\n");
    }

    #[test]
    fn long_lines_make_the_list_shorter() {
        let recent = Recent::new(100);
        let long = format!("{{\"host\":\"{}\"}}\n", "x".repeat(10 * BYTES_EACH));
        for _ in 0..200 {
            recent.add(long.as_bytes());
        }
        let ring = recent.ring();
        assert_eq!((ring.lines.len(), ring.next), (9, 200));
        assert_eq!(ring.bytes, ring.lines.iter().map(|line| line.len()).sum::<usize>());
        drop(ring);
        recent.add("x".repeat(200 * BYTES_EACH).as_bytes());
        assert_eq!(recent.ring().lines.len(), 1, "the newest one is kept in any case");
    }
}
