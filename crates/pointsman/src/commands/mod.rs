//! One file per command. Each takes settings, writes to the `out` that it is given, and returns its outcome. None
//! decides the exit code.

pub mod agent;
mod apis;
pub mod apply;
pub mod arguments;
mod ask;
pub mod certs;
mod certs_import;
mod certs_revoke;
pub mod change;
pub mod check;
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod edit;
pub mod explain;
pub mod export;
pub mod fleet;
pub mod guard;
pub mod health;
pub mod history;
mod listing;
pub mod logs;
mod once;
mod past;
mod patience;
pub mod plan;
mod proposal;
pub mod register;
pub mod render;
mod reroute;
mod review;
pub mod rollback;
pub mod routes;
pub mod run;
mod samples;
mod self_signed;
mod signals;
pub mod teach;
mod tips;
#[cfg(feature = "tui")]
pub mod top;
pub mod upgrade;

/// The outcome of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or yes.
    Yes,
    /// No: problems were found, no service takes the URL.
    No,
    /// The exit status of a program that the command ran.
    Status(u8),
}
