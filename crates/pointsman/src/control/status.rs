//! What is known of the balancer's state, as admin shows it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_table::{Problem, Table};

use pointsman_engine::Phase;
use pointsman_store::Condition;

/// The state of the control side.
#[derive(Clone, Debug)]
pub struct Status {
    /// The table in use; `None` until the store was read once.
    pub table: Option<Arc<Table>>,
    /// What compile found wrong with the keys.
    pub found: Arc<[Problem]>,
    /// What the engine could not do.
    pub refused: Arc<[Problem]>,
    /// The revision of the table that the engine has taken into use: what users see.
    pub applied: u64,
    /// The generation of that table: tells it from other tables of the same revision.
    pub generation: u64,
    /// Whether the engine ever took a table from the store into use.
    pub served: bool,
    /// The number in the key `barrier`, and the first revision of a table that shows it.
    pub barrier: Option<(u64, u64)>,
    /// The last such number that the engine has taken into use.
    pub barrier_served: Option<u64>,
    /// Whether the store has this balancer's status key as it should be.
    pub kept: bool,
    /// How it stands with the store.
    pub condition: Condition,
    /// When the table was last replaced.
    pub changed: Option<SystemTime>,
    /// How long the last compile took.
    pub compile: Duration,
    /// How many tables were published.
    pub swaps: u64,
    /// Serving, draining or ending.
    pub phase: Phase,
}

impl Status {
    /// The state at the start.
    pub fn new() -> Self {
        Self {
            table: None,
            found: Arc::default(),
            refused: Arc::default(),
            applied: 0,
            generation: 0,
            served: false,
            barrier: None,
            barrier_served: None,
            kept: false,
            condition: Condition::Connecting { error: None },
            changed: None,
            compile: Duration::ZERO,
            swaps: 0,
            phase: Phase::Serve,
        }
    }

    /// All problems, the keys' own first.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter().chain(self.refused.iter())
    }

    /// Why the balancer should get no traffic now; `None` if it should.
    pub fn unready(&self) -> Option<&'static str> {
        match (self.phase, &self.table) {
            (Phase::Drain | Phase::Halt, _) => Some("draining: finishing what runs, then exiting"),
            (Phase::Serve, None) => Some("the store was not read yet"),
            (Phase::Serve, Some(_)) if !self.served => Some("the first table is being taken into use"),
            (Phase::Serve, Some(_)) => None,
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}
