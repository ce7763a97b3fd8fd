//! HTTP/2 on either side: streams as the two ends of an exchange. Serves nothing, picks nothing.
//!
//! ```text
//! client's stream ── Recv (request) ─> exchange ─> Outgoing ── instance's stream
//!                 <── Outgoing (response) <── exchange <── Recv ──
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `turn` | one request of a client's connection |
//! | `recv`, `outgoing` | a message that comes, a message that goes |
//! | `fields` | heads between their two forms |
//! | `connection` | a connection to an instance, and the requests on it |
//! | `backlog` | how much of responses a client's connection holds |
//! | `carrier` | the bytes below the frames |
//! | `glitches` | what a client's frames cost against what they move |

pub(crate) mod backlog;
pub(crate) mod carrier;
pub(crate) mod connection;
pub(crate) mod fields;
pub(crate) mod glitches;
pub(crate) mod outgoing;
pub(crate) mod recv;
pub(crate) mod turn;
