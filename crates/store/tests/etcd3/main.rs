//! The etcd v3 store against real etcd servers.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod calls;
mod etcd;
mod follower;
mod following;
#[path = "../../../pointsman/tests/support/ports.rs"]
mod ports;
mod recovery;
mod security;
