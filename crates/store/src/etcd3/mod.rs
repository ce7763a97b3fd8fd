//! etcd by its v3 API: followed by a watch, edited by single calls. Knows keys as bytes; never judges a value.
//!
//! | file | owns |
//! |---|---|
//! | `store` | the cluster, and single calls to it |
//! | `follow` | the loop that never gives up: connect, list or resume, watch, audit |
//! | `watch` | pure: a watch's responses to changes, revision by revision |
//! | `audit` | pure: what was delivered against what etcd lists |
//! | `list` | all keys at one revision, in pages |
//! | `lease` | keys that live as long as they are renewed, and edits that only their owner makes |
//! | `client` | calls, tokens, and whose fault an error is |
//! | `transport` | one HTTP/2 connection |
//! | `keys` | a prefix as a range, full keys as relative ones |
//! | `messages` | the gRPC messages |

mod audit;
mod client;
mod follow;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod keys;
mod lease;
mod list;
mod messages;
mod store;
mod transport;
mod watch;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use fuzz::fuzz;
#[cfg(test)]
pub(crate) use fuzz::seeds;
pub(super) use lease::Etcd3Lease;
pub use store::{Etcd3, Probe};
