//! TLS from clients and to instances: certificates ready for handshakes, who gets which, and how much of a worker handshakes may take.
//!
//! ```text
//! table.certs() ─> Keys::next ─> Arc<Keys> ─> worker     off the workers, when certificates change
//! table.services() ─> Outbound::next ─> Arc<Outbound> ─> view ─> pool: connect     the same, to instances
//! ticket secrets ─> Keys::with_tickets ─────> worker     when they are rotated
//! connection ─> greet ─> Handshakes::enter, turn ─> session     one handshake
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `keys` | the certificates of a table, and what handshakes need besides |
//! | `awaited` | the handshakes that wait for a certificate on demand |
//! | `challenges` | what authorities get that check a name by a handshake |
//! | `chooser` | which certificate a server name gets |
//! | `outbound` | what TLS to the instances of each service is set up with |
//! | `clients` | what clients' certificates are asked for and verified by |
//! | `tickets` | session tickets, from secrets that others rotate |
//! | `handshakes` | how many handshakes run at once, and how much time they may take from established connections |

mod awaited;
mod challenges;
mod chooser;
mod clients;
mod handshakes;
mod keys;
mod outbound;
mod tickets;

pub(crate) use awaited::Awaited;
pub use chooser::certificate_fault;
pub(crate) use handshakes::{Crowded, HandshakeStage, Handshakes};
pub(crate) use keys::Keys;
pub(crate) use outbound::Outbound;
pub use tickets::new_ticket_secret;
