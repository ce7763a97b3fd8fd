//! What statistics are made of. Plain data.

use std::sync::Arc;
use std::time::SystemTime;

use pointsman_table::Table;
use tokio::sync::watch;

use super::look::Looks;
use crate::admin::Pages;
use crate::control::Status;
use crate::logging::access::RequestsView;

/// What statistics are made of.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The control side's state.
    pub status: watch::Receiver<Status>,
    /// The figures.
    pub looks: Looks,
    /// What does not change while the program runs.
    pub about: Arc<StatsAbout>,
}

/// What does not change while the program runs.
#[derive(Debug)]
pub struct StatsAbout {
    /// The balancer's name.
    pub name: String,
    /// Its worker threads.
    pub workers: usize,
    /// How many addresses it listens on for HTTP.
    pub http: usize,
    /// How many it listens on for HTTPS, besides those that keys open.
    pub https: usize,
    /// When the program started.
    pub started: SystemTime,
    /// The counts of the access log.
    pub requests: RequestsView,
}

impl Stats {
    /// The statistics of what the pages show, on a balancer of this name, with so many workers and so many addresses for
    /// HTTP and for HTTPS.
    pub fn new(pages: &Pages, name: String, workers: usize, [http, https]: [usize; 2]) -> Self {
        let (started, requests) = (pages.started, pages.requests.clone());
        let about = Arc::new(StatsAbout { name, workers, http, https, started, requests });
        Self { status: pages.status.clone(), looks: Looks::new(pages.figures.clone()), about }
    }

    /// The table in use; `None`: the store was not read yet.
    pub(super) fn table(&self) -> Option<Arc<Table>> {
        self.status.borrow().table.clone()
    }
}

/// What is said instead of figures before there are any.
pub(super) const NOT_READ: &str = "The store was not read yet.\n";
