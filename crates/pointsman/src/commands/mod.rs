//! One file per command. Each takes settings, writes to the `out` that it is given, and returns its outcome. None
//! decides the exit code.

pub mod agent;
mod apis;
pub mod apply;
mod ask;
pub mod certs;
pub mod change;
pub mod check;
pub mod cli;
pub mod demo;
pub mod edit;
pub mod explain;
pub mod fleet;
pub mod guard;
pub mod health;
mod import;
mod listing;
pub mod logs;
mod once;
mod patience;
mod proposal;
pub mod register;
pub mod render;
mod review;
pub mod routes;
pub mod run;
mod samples;
mod self_signed;
pub mod teach;
mod tips;

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
