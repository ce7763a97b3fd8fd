//! What a connection begins with: whether it is a TLS ClientHello, and the server name in it (RFC 8446 §4.1.2 and §5.1,
//! RFC 6066 §3). Never decides who takes the connection, and changes and keeps none of its bytes.
//!
//! ```text
//! bytes ─> HelloReader::read ── records walked as they come ─> Message (complete) ─> FirstBytes
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `message` | a complete ClientHello, read across its records |

mod message;

use message::{Message, RECORD_HEADER};

/// Longest ClientHello, bytes: one with key shares of post-quantum algorithms has a few thousand.
pub const MAX_HELLO: usize = 64 * 1024;

/// A record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The first byte of a ClientHello (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
/// Longest content of a record, bytes.
const MAX_RECORD: usize = 1 << 14;
/// Bytes ahead of a message's content: its type and length.
const MESSAGE_HEADER: usize = 4;

/// The alert that ends a connection whose server name nobody has: `unrecognized_name`, fatal (RFC 6066 §3), in a record
/// (RFC 8446 §6).
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// The alert that ends a connection whose client names no protocol that is spoken for its name (ALPN):
/// `no_application_protocol`, fatal (RFC 7301 §3.2).
pub const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// No well-formed ClientHello: another protocol, or garbage.
    Other,
    /// A ClientHello, and the server name in it. Of one that is encrypted (ECH), the outer name.
    Hello {
        /// The name as sent; `None`: the client sent none.
        name: Option<Box<str>>,
    },
}

/// The ClientHello is longer than [`MAX_HELLO`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ClientHello is longer than {MAX_HELLO} bytes")]
pub struct HelloTooLong;

/// Reads a ClientHello in whatever pieces and records it comes. Remembers how far it has come, so that each record's
/// header is looked at once, and the message once, when it is complete.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Where the next record begins.
    next: usize,
    /// Bytes of the message in the records before that.
    before: usize,
}

/// A record's header.
enum Record {
    /// More bytes are needed.
    Partial,
    /// It is no record of a handshake.
    Other,
    /// The length of its content.
    Content(usize),
}

impl HelloReader {
    /// Looks at all bytes that have come, from the first. `None`: more are needed.
    ///
    /// # Errors
    /// [`HelloTooLong`], as soon as its length is known.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<FirstBytes>, HelloTooLong> {
        loop {
            let rest = bytes.get(self.next..).unwrap_or_default();
            let length = match record(rest) {
                Record::Partial => return Ok(None),
                Record::Other => return Ok(Some(FirstBytes::Other)),
                Record::Content(length) => length,
            };
            let here = length.min(rest.len() - RECORD_HEADER);
            if let Some(first_bytes) = look(bytes, self.before + here)? {
                return Ok(Some(first_bytes));
            }
            if here < length {
                return Ok(None);
            }
            self.next += RECORD_HEADER + length;
            self.before += length;
        }
    }
}

/// Judges a record's header as far as it has come. Handshake records are never empty (RFC 8446 §5.1), so the number of
/// records is bounded too.
fn record(bytes: &[u8]) -> Record {
    match *bytes {
        [kind, ..] if kind != HANDSHAKE => Record::Other,
        [_, major, ..] if major != 3 => Record::Other,
        [_, _, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            length @ 1..=MAX_RECORD => Record::Content(length),
            _ => Record::Other,
        },
        _ => Record::Partial,
    }
}

/// Looks at a message of which so many bytes have come. `None`: more are needed.
fn look(bytes: &[u8], come: usize) -> Result<Option<FirstBytes>, HelloTooLong> {
    let mut message = Message::new(bytes, come);
    match message.number(1) {
        None => return Ok(None),
        Some(kind) if kind != usize::from(CLIENT_HELLO) => return Ok(Some(FirstBytes::Other)),
        Some(_) => {}
    }
    let Some(length) = message.number(3) else { return Ok(None) };
    match length {
        _ if length > MAX_HELLO - MESSAGE_HEADER => Err(HelloTooLong),
        _ if length > message.left() => Ok(None),
        _ => {
            let name = message.server_name_of_hello(length);
            Ok(Some(name.map_or(FirstBytes::Other, |name| FirstBytes::Hello { name })))
        }
    }
}

#[cfg(test)]
mod tests;
