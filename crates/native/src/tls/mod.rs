//! TLS from clients: certificates ready for handshakes, who gets which, and how much of a worker handshakes may take.
//!
//! ```text
//! table.certs() ─> Keys::next ─> Arc<Keys> ─> worker     off the workers, when certificates change
//! connection ─> greet ─> Handshakes::enter, turn ─> session     one handshake
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `keys` | the certificates of a table; which one a server name gets |
//! | `handshakes` | how many handshakes run at once, and how much time they may take from established connections |

mod handshakes;
mod keys;

pub(crate) use handshakes::{Crowded, Handshakes};
pub(crate) use keys::Keys;
