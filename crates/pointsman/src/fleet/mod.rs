//! The balancers of one prefix and their status: each keeps a status key under a lease. Status keys lie outside every
//! watched prefix, so no status ever wakes a balancer.
//!
//! ```text
//! control's Status, the engine's figures ─> keeper ─under a lease─> /_pointsman<prefix>/balancers/<name>
//!                                                                      └─followed by─> roll ─> wait, drain, status
//! ```

pub mod call;
pub mod glance;
pub mod instance_key;
pub mod keeper;
mod member;
pub mod release;
mod roll;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use pointsman_store::{HistoryPoint, Store, StoreError, StoreSettings};
use pointsman_table::BARRIER;

pub use call::{FleetWait, WaitOutcome};
pub use member::{HeldCount, LastGoodService, Leaving, Listens, Member, Stage, folder, last_good};
pub use roll::{Balancers, Goal, Point};

/// Writes the key `barrier`, which nobody reads. A balancer that has reached the returned point serves everything that
/// is in the store now.
///
/// # Errors
/// The store is unreachable, or refuses.
pub async fn barrier(settings: &StoreSettings) -> Result<Point, StoreError> {
    let key = format!("{}/{BARRIER}", settings.prefix);
    Ok(match Store::open(settings)?.advance(&key).await? {
        HistoryPoint::Revision(revision) => Point::Revision(revision),
        HistoryPoint::Count(number) => Point::Barrier(number),
    })
}

/// The live balancers of this prefix, by name.
///
/// # Errors
/// The store is unreachable.
pub async fn members(store: &Store, prefix: &str) -> Result<Vec<Member>, StoreError> {
    let listing = store.list(&folder(prefix)).await?;
    // A deeper folder belongs to another prefix.
    let own = listing.entries.iter().filter(|(name, _)| !name.contains('/'));
    Ok(own.map(|(name, value)| Member::read(name, value)).collect())
}

/// Where these balancers listen themselves, all together.
pub fn listeners(members: &[Member]) -> Vec<SocketAddr> {
    let serving = members.iter().filter(|member| member.stage == Stage::Serving);
    let all: BTreeSet<_> = serving.flat_map(|member| member.listens.all()).collect();
    all.into_iter().collect()
}
