//! Counters and health, keyed by (service, instance, address). They survive every table.
//! Each worker writes only its own cache lines; readers add them up. No lock is taken per request.
//!
//! | module | owns |
//! |---|---|
//! | `health` | whether an instance works, its free slots, and its queue |
//! | `bounded` | budgets of retries, and places and queues of services with limits |
//! | `carried` | the counts of an earlier program, beside our own |
//! | `counters` | the counters of services, instances and workers |
//! | `load` | what workers must know of each other to balance exactly |
//! | `rates` | how many requests came of late, by client |
//! | `snapshot` | sums at one moment |
//! | `sums` | what all services have counted together |
//! | `registry` | all counters and health, kept from table to table |

mod bounded;
mod carried;
mod counters;
mod health;
mod load;
mod rates;
mod registry;
mod snapshot;
mod sums;

pub use bounded::{Bounded, Budget, Spans};
pub use carried::{CarriedCounts, Earlier};
pub use counters::{
    Compressed, Counter, Counters, InstanceShared, Latency, MAX_FAULTS, REASONS, RetryReason, ServiceShared,
    WorkerStats, latency_bucket, sent_again,
};
pub use health::carried::CarriedHealth;
pub use health::{
    Asked, Cause, CheckFlip, CheckOutcome, CheckRules, CheckState, Circuit, Ejection, EjectionRules, Flip, FlipCount,
    Grounds, Health, HealthEvent, IdlePlace, InstanceError, LastCheck, Needs, Peer, Place, Places, Rank, Reason, Room,
    Slots, Standing, StandingEvent, StandingFlip, StandingRules, Wanted, outliers,
};
pub use load::{Load, Turns};
pub use rates::{Allowance, Rate, Rates};
pub use registry::{DownBefore, HealthBefore, InstanceHealth, Registry, ServicePeers};
pub use snapshot::{
    CheckedNow, Histogram, InstancePath, InstanceStats, ServiceStats, SetApart, Snapshot, Totals, Working,
};
pub use sums::{LATENCY_BOUNDS, LATENCY_BUCKETS, Sums};
