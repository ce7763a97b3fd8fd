//! The balancers of one prefix, and what they say of themselves: each keeps a status key under a lease, aside from the
//! keys that balancers follow, so that no status ever wakes one.
//!
//! ```text
//! control's Status, the engine's figures ─> keeper ─under a lease─> /_pointsman<prefix>/balancers/<name>
//!                                                                      └─followed by─> roll ─> wait, drain, status
//! ```

pub mod call;
pub mod keeper;
mod member;
mod roll;

use pointsman_store::{Moment, Store, StoreError, StoreSettings};
use pointsman_table::BARRIER;

pub use call::{Call, Outcome};
pub use member::{Leaving, Member, Stage, folder};
pub use roll::{Point, Roll, Wish};

/// A moment from which on everything that is in the store now is served: that of a key which nobody reads.
///
/// # Errors
/// The store is out of reach, or refuses.
pub async fn barrier(settings: &StoreSettings) -> Result<Point, StoreError> {
    let key = format!("{}/{BARRIER}", settings.prefix);
    Ok(match Store::open(settings)?.advance(&key).await? {
        Moment::Revision(revision) => Point::Revision(revision),
        Moment::Count(number) => Point::Barrier(number),
    })
}
