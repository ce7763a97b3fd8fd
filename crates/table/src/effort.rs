//! How much work one lookup may do with expressions. Counts bytes, not time, so that the same request always has the
//! same outcome.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Maximum steps of all expressions for one request: 30 small ones over a target of 32 KiB, or 1,000 over 400 bytes.
/// The most expensive lookup takes 4.4 ms (bench group `table`).
const MOST: usize = 1 << 20;
/// Cost of reading memory that is in no cache, in steps. A large automaton is read in another place for each byte.
const READ: usize = 24;
/// Lines that each automaton reads, whatever it is searched for: its head, and how it starts.
const HEAD: usize = 6;

/// The steps left. A step is one byte read by one automaton, or one literal found; reading a line of memory takes more.
#[derive(Debug)]
pub(crate) struct Effort {
    left: usize,
    spent: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self { left: MOST, spent: false }
    }
}

impl Effort {
    /// Takes up to this many steps. Fewer than asked for: the effort is spent, and no match counts.
    pub(crate) fn take(&mut self, steps: usize) -> usize {
        let taken = steps.min(self.left);
        self.left -= taken;
        self.spent |= taken < steps;
        taken
    }

    /// How many of these bytes an automaton with this many lines of memory may read.
    pub(crate) fn reach(&self, bytes: usize, lines: usize) -> usize {
        match cost(bytes, lines) <= self.left {
            true => bytes,
            false => {
                let left = self.left.saturating_sub(HEAD * READ);
                (left / (1 + READ)).max(left.saturating_sub(lines * READ)).min(bytes)
            }
        }
    }

    /// Pays for the bytes that an automaton has read, out of those that it could have read.
    pub(crate) fn pay(&mut self, (seen, bytes): (usize, usize), lines: usize) {
        self.left = self.left.saturating_sub(cost(seen, lines));
        self.spent |= seen < bytes;
    }

    /// Whether a step was refused.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }
}

/// At most one line is read for a byte.
fn cost(bytes: usize, lines: usize) -> usize {
    bytes + (HEAD + bytes.min(lines)) * READ
}

/// The target is too long for the expressions that it would have to be searched for: more than 1 MiB of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Display for TooLong {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("the target is too long to be searched for so many expressions")
    }
}

impl Error for TooLong {}
