//! What open pages show, once a second: one collector for all of them, that works only while somebody looks, and a
//! message of what changed. Never on the data path.
//!
//! ```text
//! Status, Timeline, Figures ─> collector ─> rows, parts ─> Message ─┬─> page (a full one first)
//!                                  └─> Past (always)                └─> page
//! ```

mod balancers;
mod collector;
mod hub;
mod inputs;
mod past;
mod pulse;
mod rows;
mod stream;
mod told;

pub use balancers::{FleetMember, KnownFleet};
pub use collector::collect;
pub use hub::LiveHub;
pub use inputs::{LiveAbout, LiveInputs};
pub use past::Past;
pub(super) use stream::messages;
