//! The stores: followed by the balancer, edited by the commands. Nothing here knows what a key means.
//!
//! ```text
//! Store ─> Auto ─> etcd3 | etcd2      follow: Update{Reset | Changes} and Condition
//!      └─> directory                  lease ─> tenure: keys that live as long as their owner
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `model` | the words that stores and their users share |
//! | `error` | what can go wrong, and whose fault it is |
//! | `backoff`, `tls`, `values` | pauses between tries; certificates; values asked for one by one |
//! | `known` | what a follower has told so far |
//! | `etcd3`, `etcd2`, `directory` | the stores, each followed and edited |
//! | `chosen`, `auto` | one of them; which etcd API holds the prefix |
//! | `store` | all of them behind one face |
//! | `lease` | keys that live as long as somebody renews them |
//! | `tenure` | a lease, held for as long as its owner runs |

mod auto;
pub mod backoff;
mod chosen;
pub mod directory;
pub mod error;
pub mod etcd2;
pub mod etcd3;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod known;
pub mod lease;
mod model;
mod store;
pub mod tenure;
pub mod tls;
mod values;

pub use auto::Auto;
pub use directory::Directory;
pub use error::StoreError;
pub use etcd2::Etcd2;
pub use etcd3::Etcd3;
pub use model::{ASIDE, Amended, Api, Condition, Listing, Location, Made, Moment, StoreSettings, Update};
pub use store::Store;
