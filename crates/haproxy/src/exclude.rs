//! Everything that is held back from HAProxy: what it refused, and ports that cannot be opened. Reads no HAProxy answer
//! and no file; only a probe of the ports touches a socket.

use std::collections::BTreeSet;

use pointsman_table::{Bind, Problem, Table};

use super::hold::{Refusals, Served};
use super::model::Held;
use super::ports::ClosedPorts;

/// What is held back, and why.
#[derive(Clone, Debug, Default)]
pub struct Excluded {
    /// Services and certificates that HAProxy refused.
    pub refusals: Refusals,
    /// Ports of TCP services that cannot be opened.
    pub closed: ClosedPorts,
}

impl Excluded {
    /// Tries the ports again that are not `open` in the current worker. Returns whether anything changed.
    pub fn probe(&mut self, table: &Table, open: &BTreeSet<Bind>) -> bool {
        let now = self.closed.probe(table, open);
        std::mem::replace(&mut self.closed, now) != self.closed
    }

    /// The services to leave out, with the form in which each serves on meanwhile.
    pub fn held(&self, table: &Table, served: &Served) -> Held {
        let mut held = self.refusals.held(table);
        self.closed.hold(table, served, &mut held);
        held
    }

    /// The problems, under the keys that caused them.
    pub fn problems(&self, table: &Table) -> impl Iterator<Item = Problem> {
        self.refusals.problems().chain(self.closed.problems(table))
    }
}
