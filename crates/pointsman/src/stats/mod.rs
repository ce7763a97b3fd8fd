//! HAProxy's statistics, for the tools that people have: hatop, exporters, checks, scripts. The figures are those of
//! every other page; what the socket changes are keys. Never on the data path.
//!
//! ```text
//! Table, Snapshot ─> look ─> rows ─> form ─┬─> web      /haproxy?stats;csv on --admin
//!                            state, info ──┴─> session  one client of --stats-socket <─ socket
//!                                              command ─> edits ─> the store
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `row` | the columns of HAProxy 2.6, and one row of them |
//! | `look` | all figures at one moment, shared by whoever asks within a second; what happened per second |
//! | `checked` | what a check said, as HAProxy's codes |
//! | `proxies` | listeners and services: names and numbers |
//! | `rows` | their rows, and those of instances |
//! | `form` | rows as CSV, typed lines and JSON |
//! | `dump` | an answer of any length, in pieces |
//! | `info` | the process |
//! | `state` | `show servers state` |
//! | `command` | command lines, parsed |
//! | `edits` | commands that change keys |
//! | `session` | one client of the socket |
//! | `socket` | the socket: few clients, every wait with a deadline |
//! | `web` | the pages on `--admin` |

mod checked;
mod command;
mod dump;
mod edits;
mod form;
mod info;
mod look;
mod proxies;
mod row;
mod rows;
mod session;
mod socket;
mod state;
mod web;

use std::sync::Arc;
use std::time::SystemTime;

use pointsman_table::Table;
use tokio::sync::watch;

use crate::admin::Pages;
use crate::control::Status;
use crate::logging::access::RequestsView;

pub use edits::KeyEdits;
pub use look::Looks;
pub use socket::{StatsListener, serve};
pub use web::router;

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
    fn table(&self) -> Option<Arc<Table>> {
        self.status.borrow().table.clone()
    }
}

/// What is said instead of figures before there are any.
const NOT_READ: &str = "The store was not read yet.\n";
