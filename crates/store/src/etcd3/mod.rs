//! etcd through its v3 API: followed by a watch, edited by single calls. Treats keys as bytes; never interprets a
//! value.
//!
//! | file | owns |
//! |---|---|
//! | `store` | the cluster, and single calls to it |
//! | `follow` | the loop that never gives up: connect, list or resume, watch, audit |
//! | `watch` | pure: turns a watch's responses into changes, revision by revision |
//! | `audit` | pure: compares the delivered keys with a listing |
//! | `list` | all keys at one revision, in pages |
//! | `past` | the keys at an earlier revision, and the changes since |
//! | `lease` | keys that live as long as their owner renews them, and edits that only the owner can make |
//! | `health` | what each member says of itself |
//! | `client` | calls, tokens, and the party at fault for an error |
//! | `transport` | one HTTP/2 connection |
//! | `keys` | maps a prefix to a range, full keys to relative ones |
//! | `messages` | the gRPC messages |

mod audit;
mod client;
mod follow;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod health;
mod keys;
mod lease;
mod list;
mod messages;
mod past;
mod store;
mod transport;
mod watch;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use fuzz::fuzz;
#[cfg(test)]
pub(crate) use fuzz::seeds;
pub use health::MemberStatus;
pub(super) use lease::Etcd3Lease;
pub use store::{Etcd3, Probe};
