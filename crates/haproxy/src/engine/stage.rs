//! The stages of a HAProxy under the engine, each with exactly what exists in it. Decides nothing about when.
//!
//! ```text
//! Waiting ──first table, or too long──> Down <────────────────────────────┐
//!                                        │ ^                              │
//!                                        v │ failed                       │ HAProxy ended
//!                                     Starting ──another worker──> Serving ┤
//!                                                                   │ ^   │
//!                                                                   v │   │
//!                                                                Reloading┘
//! ```

use std::future::pending;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::attempt::Attempt;
use super::errand::answer;
use super::event::Event;
use super::worker::Workers;
use crate::process::Process;
use crate::reloader::Reloader;

/// HAProxy's stage.
pub(super) enum Stage {
    /// No table has come yet.
    Waiting(Waiting),
    /// HAProxy does not run; a start is due.
    Down(Down),
    /// HAProxy is being started.
    Starting(Starting),
    /// A worker serves.
    Serving(Box<Serving>),
    /// A worker serves, and the next one is being loaded.
    Reloading(Box<Reloading>),
}

pub(super) struct Waiting {
    pub(super) reloader: Reloader,
    /// When to start HAProxy even without a table.
    pub(super) until: Instant,
}

pub(super) struct Down {
    pub(super) reloader: Reloader,
}

pub(super) struct Starting {
    pub(super) attempt: JoinHandle<Attempt>,
}

pub(super) struct Serving {
    pub(super) reloader: Reloader,
    pub(super) process: Process,
    pub(super) workers: Workers,
}

pub(super) struct Reloading {
    /// Has the reloader and HAProxy meanwhile.
    pub(super) attempt: JoinHandle<Attempt>,
    pub(super) workers: Workers,
}

impl Stage {
    pub(super) fn waiting(reloader: Reloader, until: Instant) -> Self {
        Self::Waiting(Waiting { reloader, until })
    }

    pub(super) fn down(reloader: Reloader) -> Self {
        Self::Down(Down { reloader })
    }

    pub(super) fn starting(attempt: JoinHandle<Attempt>) -> Self {
        Self::Starting(Starting { attempt })
    }

    pub(super) fn serving(reloader: Reloader, process: Process, workers: Workers) -> Self {
        Self::Serving(Box::new(Serving { reloader, process, workers }))
    }

    pub(super) fn reloading(attempt: JoinHandle<Attempt>, workers: Workers) -> Self {
        Self::Reloading(Box::new(Reloading { attempt, workers }))
    }

    /// There is something to serve: waits no longer.
    pub(super) fn with_table(self) -> Self {
        match self {
            Self::Waiting(waiting) => Self::down(waiting.reloader),
            later => later,
        }
    }

    /// Waits no longer once it has waited long enough.
    pub(super) fn at(self, now: Instant) -> Self {
        match self {
            Self::Waiting(waiting) if now >= waiting.until => Self::down(waiting.reloader),
            other => other,
        }
    }

    pub(super) fn workers(&self) -> Option<&Workers> {
        match self {
            Self::Waiting(_) | Self::Down(_) | Self::Starting(_) => None,
            Self::Serving(serving) => Some(&serving.workers),
            Self::Reloading(reloading) => Some(&reloading.workers),
        }
    }

    pub(super) fn workers_mut(&mut self) -> Option<&mut Workers> {
        match self {
            Self::Waiting(_) | Self::Down(_) | Self::Starting(_) => None,
            Self::Serving(serving) => Some(&mut serving.workers),
            Self::Reloading(reloading) => Some(&mut reloading.workers),
        }
    }

    pub(super) fn into_workers(self) -> Option<Workers> {
        match self {
            Self::Waiting(_) | Self::Down(_) | Self::Starting(_) => None,
            Self::Serving(serving) => Some(serving.workers),
            Self::Reloading(reloading) => Some(reloading.workers),
        }
    }

    /// Waits until an attempt or HAProxy ends; for ever where there is neither. May be dropped and called again.
    pub(super) async fn event(&mut self) -> Event {
        let attempt = match self {
            Self::Waiting(_) | Self::Down(_) => pending().await,
            Self::Serving(serving) => return Event::Died(serving.death().await),
            Self::Starting(starting) => &mut starting.attempt,
            Self::Reloading(reloading) => &mut reloading.attempt,
        };
        Event::Attempted(Box::new(answer(attempt).await))
    }

    /// Closes our listening sockets and lets HAProxy finish its work, within this time. An attempt under way may end
    /// first: it has HAProxy, and with it every connection.
    pub(super) async fn end(self, limit: Duration) {
        let attempt = match self {
            Self::Waiting(_) | Self::Down(_) => return,
            Self::Serving(serving) => return stop(serving.reloader, Some(serving.process), limit).await,
            Self::Starting(starting) => starting.attempt,
            Self::Reloading(reloading) => reloading.attempt,
        };
        if let Ok(Ok(Attempt { reloader, outcome, .. })) = timeout(limit, attempt).await {
            stop(reloader, outcome.process(), limit).await;
        }
    }
}

async fn stop(reloader: Reloader, process: Option<Process>, limit: Duration) {
    // It holds the listening sockets: from now on they are HAProxy's alone to close.
    drop(reloader);
    if let Some(process) = process {
        process.stop(limit).await;
    }
}

impl Serving {
    async fn death(&mut self) -> String {
        match self.process.exited().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}
