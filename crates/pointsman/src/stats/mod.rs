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
//! | `inputs` | what statistics are made of |
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
mod inputs;
mod look;
mod proxies;
mod row;
mod rows;
mod session;
mod socket;
mod state;
mod web;

pub use edits::KeyEdits;
pub use inputs::Stats;
pub use socket::{StatsListener, serve};
pub use web::router;
