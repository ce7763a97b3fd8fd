//! etcd v2 over HTTP: the follower waits for one event after another, an edit is one request.
//!
//! ```text
//! GET recursive -> Reset -> GET wait=true&waitIndex=N+1 -> one event -> Changes -> N := its index -> ...
//!   401 EventIndexCleared, another endpoint, the audit: GET recursive again, and Reset only if it differs
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `store` | single requests, over any member that answers |
//! | `follow` | the loop that never gives up |
//! | `event` | pure: interprets the events and listings in answers |
//! | `lease` | keys that live as long as they are renewed |
//! | `http` | one request, and its errors |

mod event;
mod follow;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod http;
mod lease;
mod store;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use fuzz::fuzz;
pub(super) use lease::Etcd2Lease;
pub use store::{Etcd2, Holding};
