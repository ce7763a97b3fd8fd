//! One attempt to load a configuration, beside the engine's loop: it takes the reloader and HAProxy along and brings
//! both back. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use pointsman_table::Table;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::exclude::Excluded;
use crate::process::Process;
use crate::reloader::{Loaded, Order, ReloadFault, Reloader};

/// An attempt that has ended.
pub(super) struct Attempt {
    pub(super) reloader: Reloader,
    pub(super) outcome: Outcome,
    /// The table that was to be loaded.
    pub(super) table: Arc<Table>,
    /// What is held back now.
    pub(super) excluded: Excluded,
    pub(super) took: Duration,
}

/// Its outcome.
pub(super) enum Outcome {
    /// Another worker serves.
    Loaded(Box<Loaded>),
    /// No other worker serves.
    Failed(Box<Failed>),
}

/// A failure, and what it left.
pub(super) struct Failed {
    pub(super) fault: ReloadFault,
    /// HAProxy, if it still runs: then what it ran before stays in force.
    pub(super) process: Option<Process>,
}

impl Outcome {
    /// HAProxy, if it runs.
    pub(super) fn process(self) -> Option<Process> {
        match self {
            Self::Loaded(loaded) => Some(loaded.process),
            Self::Failed(failed) => failed.process,
        }
    }
}

/// Begins an attempt: a reload of `process`, or a start.
pub(super) fn begin(mut reloader: Reloader, mut process: Option<Process>, mut order: Order) -> JoinHandle<Attempt> {
    let began = Instant::now();
    tokio::spawn(async move {
        let outcome = match reloader.attempt(&mut process, &mut order).await {
            Ok(loaded) => Outcome::Loaded(Box::new(loaded)),
            Err(fault) => Outcome::Failed(Box::new(Failed { fault, process })),
        };
        let Order { table, excluded, .. } = order;
        Attempt { reloader, outcome, table, excluded, took: began.elapsed() }
    })
}
