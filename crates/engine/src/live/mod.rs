//! Counters and health, keyed by (service, instance, address). They survive every table.
//! Each worker writes only its own cache lines; readers add them up. No lock is taken per request.
//!
//! | module | owns |
//! |---|---|
//! | `health` | whether an instance takes connections, and how many at once |
//! | `counters` | what is counted, of whom |
//! | `snapshot` | sums at one moment |
//! | `registry` | all of it, from table to table |

mod counters;
mod health;
mod registry;
mod snapshot;

pub use counters::{Counter, Counters, InstanceShared, Latency, MAX_FAULTS, ServiceShared, WorkerStats};
pub use health::{Circuit, ConnectEvent, EjectionRules, Flip, FlipCount, Health, Room, Slots};
pub use registry::Registry;
pub use snapshot::{Histogram, InstanceStats, ServiceStats, Snapshot, Totals, Working};
