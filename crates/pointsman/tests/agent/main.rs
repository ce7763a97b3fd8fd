//! Acceptance tests of `pointsman agent`: the real program between a real Docker daemon, a real store and balancers
//! that serve its keys. One file per topic; `place` holds what they share.
//!
//! Without a Docker daemon, and if none can be started, each test says so and passes. `POINTSMAN_LONG=1` runs the long
//! forms.

#![allow(clippy::print_stdout, reason = "helpers of tests print what they measured, as tests may")]

#[path = "../support/docker.rs"]
mod docker;
#[allow(dead_code, unused_imports, reason = "made for another program of tests too")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod place;

mod agents;
mod clock;
mod crowd;
mod daemon;
mod mistakes;
mod outage;
mod rolling;
mod stopping;
mod traffic;
