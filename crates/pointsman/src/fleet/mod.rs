//! The balancers of one prefix and their status: each keeps a status key under a lease. Status keys lie outside every
//! watched prefix, so no status ever wakes a balancer.
//!
//! ```text
//! control's Status, the engine's figures ─> keeper ─under a lease─> /_pointsman<prefix>/balancers/<name>
//!                                                                      └─followed by─> roll ─> wait, drain, status
//! ```

pub mod call;
pub mod keeper;
mod member;
mod roll;

use pointsman_store::{HistoryPoint, Store, StoreError, StoreSettings};
use pointsman_table::BARRIER;

pub use call::{FleetWait, WaitOutcome};
pub use member::{LastGoodService, Leaving, Member, Stage, folder, last_good};
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
