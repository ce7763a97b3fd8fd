//! Counters and health, keyed by (service, instance, address). They survive every table.
//! Each worker writes only its own cache lines; readers add them up. No lock is taken per request.
//!
//! | module | owns |
//! |---|---|
//! | `health` | whether an instance works, its free slots, and its queue |
//! | `bounded` | budgets of retries, and places and queues of services with limits |
//! | `counters` | the counters of services, instances and workers |
//! | `snapshot` | sums at one moment |
//! | `registry` | all counters and health, kept from table to table |

mod bounded;
mod counters;
mod health;
mod registry;
mod snapshot;

pub use bounded::{Bounded, Budget, Spans};
pub use counters::{
    Counter, Counters, InstanceShared, Latency, MAX_FAULTS, REASONS, Reason, ServiceShared, WorkerStats,
};
pub use health::{
    Asked, Circuit, Ejection, EjectionRules, Flip, FlipCount, Health, HealthEvent, IdlePlace, Place, Rank, Room, Slots,
    Wanted,
};
pub use registry::Registry;
pub use snapshot::{Histogram, InstancePath, InstanceStats, ServiceStats, SetApart, Snapshot, Totals, Working};
