//! One program takes over from another without losing a connection: listening sockets, health, counts, last good settings,
//! keys and ticket secrets go from the old one to the new one over a Unix socket in `--state`.
//!
//! ```text
//! new (taker)                                    old (giver)
//! Take{format, prefix, engine, pid} ───────────>
//!                       <─────────── Offer, state, keys, sockets (SCM_RIGHTS)  | Refused{why}
//! opens its addresses with them, serves
//! Serving | Failed{why} ───────────────────────>                               | Withdrawn{why}
//!                       <─────────── Released: it accepts no more, and drains
//!                       <─────────── Counts, once a second until it ends; all of them each time
//!
//! `pointsman upgrade`: Upgrade{within} ────────> starts the program at its path with --takeover
//!                       <─────────── Upgraded{pid} | Refused{why}
//! ```
//!
//! The old program serves on if anything fails before `Serving`; the new one if the old one dies after `Serving`. Every step
//! has a deadline.
//!
//! | module | owns |
//! |---|---|
//! | `messages` | what both say |
//! | `frames` | messages and descriptors on a Unix socket |
//! | `before` | what a program starts with |
//! | `succession` | when this program's turn begins and ends |
//! | `spot` | the socket's path: who listens there, and who does next |
//! | `taker`, `giver` | both sides |
//! | `successor` | starting the new program |
//! | `passed` | sockets that the service manager opened |

mod before;
mod frames;
mod giver;
mod messages;
mod passed;
mod spot;
mod succession;
mod successor;
mod taker;

pub use before::Before;
pub use giver::GiverInputs;
pub use messages::HaproxyBefore;
pub use spot::{ask_for_upgrade, listener_of};
pub use succession::Succession;
pub use successor::launch;
