//! TLS from clients: certificates ready for handshakes, who gets which, and how much of a worker handshakes may take.
//!
//! ```text
//! table.certs() ─> Keys::next ─> Arc<Keys> ─> worker     off the workers, when certificates change
//! ticket secrets ─> Keys::with_tickets ─────> worker     when they are rotated
//! connection ─> greet ─> Handshakes::enter, turn ─> session     one handshake
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `keys` | the certificates of a table; which one a server name gets |
//! | `clients` | what clients' certificates are asked for and verified by |
//! | `tickets` | session tickets, from secrets that others rotate |
//! | `handshakes` | how many handshakes run at once, and how much time they may take from established connections |

mod clients;
mod handshakes;
mod keys;
mod tickets;

pub(crate) use handshakes::{Crowded, Handshakes};
pub(crate) use keys::Keys;
pub use tickets::{TicketSecret, TicketSecrets, new_ticket_secret};
