//! How much work one lookup may do with expressions. Counts bytes, not time, so that the same request always has the same
//! outcome.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Bytes that one request's expressions may look at, all together: 32 expressions over the whole of a 32 KiB target, or
/// 1,000 over 1 KiB. At 1 to 4 ns each that is at most 5 ms.
const MOST: usize = 1 << 20;

/// What is left of it. A step is one byte seen by one automaton, or one literal found.
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

    /// Gives steps back that were not needed.
    pub(crate) fn give_back(&mut self, steps: usize) {
        self.left += steps;
    }

    /// Whether a step was refused.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }
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
