//! How much work one lookup may do with expressions. Counts bytes, not time, so that the same request always has the same
//! outcome.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Steps that one request's expressions may take, all together: small ones over the whole of a 32 KiB target, 30 of them, or
/// 1,000 over 400 bytes. The dearest lookup takes 4.4 ms (bench group `table`).
const MOST: usize = 1 << 20;
/// Steps that reading memory which no cache holds costs. A large automaton is read in another place for each byte.
const READ: usize = 24;
/// Lines that each automaton reads, whatever it is searched for: its head, and how it starts.
const HEAD: usize = 6;

/// What is left of it. A step is one byte seen by one automaton, or one literal found; reading a line of memory takes more.
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
    /// Takes up to so many steps; fewer than asked for mean that it is spent, and that nothing found counts.
    pub(crate) fn take(&mut self, steps: usize) -> usize {
        let taken = steps.min(self.left);
        self.left -= taken;
        self.spent |= taken < steps;
        taken
    }

    /// How many of so many bytes an automaton of so many lines of memory may see.
    pub(crate) fn reach(&self, bytes: usize, lines: usize) -> usize {
        match cost(bytes, lines) <= self.left {
            true => bytes,
            false => {
                let left = self.left.saturating_sub(HEAD * READ);
                (left / (1 + READ)).max(left.saturating_sub(lines * READ)).min(bytes)
            }
        }
    }

    /// Pays for so many bytes that an automaton has seen, of so many that it was to see.
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
