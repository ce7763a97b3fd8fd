//! The stores. The balancer follows them, the commands edit them. Does not know what a key means.
//!
//! ```text
//! Store ─> Auto ─> etcd3 | etcd2      follow: Update{Reset | Changes} and Condition
//!      └─> directory                  lease ─> tenure: keys that live as long as their owner
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `model` | types that stores and their users share |
//! | `error` | the errors, and whose fault they are |
//! | `backoff`, `tls`, `values` | pauses between retries; certificates; values requested one by one |
//! | `members` | which endpoint to ask first, and going on to others |
//! | `known` | the keys that a follower has reported |
//! | `etcd3`, `etcd2`, `directory` | the stores: following and editing |
//! | `chosen`, `auto`, `side`, `choice` | one store; which etcd API holds the prefix, and where that is remembered |
//! | `store` | one interface to all of them |
//! | `health` | how the members of an etcd cluster do |
//! | `lease` | keys that live as long as their owner renews them |
//! | `tenure` | holds a lease while its owner runs |

mod auto;
pub mod backoff;
mod choice;
mod chosen;
pub mod directory;
pub mod error;
pub mod etcd2;
pub mod etcd3;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod health;
mod known;
pub mod lease;
mod members;
mod model;
mod side;
mod store;
pub mod tenure;
pub mod tls;
mod values;

pub use auto::Auto;
pub use directory::Directory;
pub use error::StoreError;
pub use etcd2::Etcd2;
pub use etcd3::{Etcd3, MemberStatus};
pub use health::{MemberHealth, members_health};
pub use model::{
    ASIDE, Amended, Api, ClusterId, Condition, HistoryPoint, Listing, Location, Made, Outage, PastChange, PastChanges,
    StoreSettings, Update,
};
pub use store::Store;
