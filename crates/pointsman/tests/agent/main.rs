//! Acceptance tests of `pointsman agent`: the real program between a real Docker daemon, a real store and balancers that
//! serve what it writes. One file a theme; `place` is what they have in common.
//!
//! Without a Docker daemon, and where none can be started, each says so and passes. `POINTSMAN_LONG=1`: the long forms.

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
