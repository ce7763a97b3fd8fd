//! One file a command. Each takes settings and says how it ended; what it prints is written to the `out` it is given.

pub mod agent;
mod ask;
pub mod check;
pub mod cli;
pub mod demo;
pub mod edit;
pub mod explain;
pub mod fleet;
pub mod health;
mod once;
mod patience;
pub mod register;
pub mod render;
pub mod routes;
pub mod run;
mod samples;

/// How a command ended, when it could be done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the answer is yes.
    Yes,
    /// The answer is no: problems were found, nothing takes the URL.
    No,
    /// A command that was run ended with this status.
    Status(u8),
}
