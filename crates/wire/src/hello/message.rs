//! A ClientHello, read across the records that it came in, without putting it together. Looks at nothing but the server
//! name, and at the lengths on the way there.

/// Bytes ahead of a record's content: its type, a version that says nothing (RFC 8446 §5.1), its length.
pub(super) const RECORD_HEADER: usize = 5;
/// The extension that holds the server name (RFC 6066 §3).
const SERVER_NAME: usize = 0;
/// The one type of server names that there is.
const HOST_NAME: usize = 0;
/// Version and random number.
const FIXED: usize = 2 + 32;
/// Longest session identifier, bytes.
const MAX_SESSION: usize = 32;
/// Longest server name that may be one, bytes: a DNS name has no more.
const MAX_NAME: usize = 255;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'b> {
    /// From here on, with the headers of later records.
    bytes: &'b [u8],
    /// Bytes up to the next record's header.
    in_record: usize,
    /// Bytes of the message.
    left: usize,
}

impl<'b> Message<'b> {
    /// A message of which so many bytes have come, from its first record on.
    pub(super) fn new(bytes: &'b [u8], come: usize) -> Self {
        Self { bytes, in_record: 0, left: come }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// A big-endian number of so many bytes.
    pub(super) fn number(&mut self, width: usize) -> Option<usize> {
        let mut number = 0;
        self.take(width, |piece| number = piece.iter().fold(number, |number, byte| number << 8 | usize::from(*byte)))?;
        Some(number)
    }

    /// The server name in a ClientHello of this length, if there is one; `None`: it is malformed.
    pub(super) fn server_name_of_hello(mut self, length: usize) -> Option<Option<Box<str>>> {
        self.left = length;
        self.skip(FIXED)?;
        let session = self.number(1).filter(|length| *length <= MAX_SESSION)?;
        self.skip(session)?;
        let suites = self.number(2)?;
        self.skip(suites)?;
        let compressions = self.number(1)?;
        self.skip(compressions)?;
        if self.left == 0 { Some(None) } else { self.extensions() }
    }

    /// The server name among the extensions, which are the rest of the message. Each comes once (RFC 8446 §4.2).
    fn extensions(&mut self) -> Option<Option<Box<str>>> {
        let length = self.number(2)?;
        if length != self.left {
            return None;
        }
        let mut name = None;
        while self.left > 0 {
            let (kind, length) = (self.number(2)?, self.number(2)?);
            match kind {
                SERVER_NAME if name.is_some() => return None,
                SERVER_NAME => name = Some(self.server_name(length)?),
                _ => self.skip(length)?,
            }
        }
        Some(name)
    }

    /// The host name in an extension of this length. What follows it there are names of other types, which nobody has.
    fn server_name(&mut self, length: usize) -> Option<Box<str>> {
        let behind = self.left.checked_sub(length)?;
        let (list, kind, name) = (self.number(2)?, self.number(1)?, self.number(2)?);
        let is_host_name = list + 2 == length && kind == HOST_NAME && (1..=MAX_NAME).contains(&name);
        if !is_host_name || self.left.checked_sub(name)? < behind {
            return None;
        }
        let mut text = Vec::with_capacity(name);
        self.take(name, |piece| text.extend_from_slice(piece))?;
        self.skip(self.left - behind)?;
        Some(String::from_utf8_lossy(&text).into())
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count, |_| ())
    }

    /// Takes bytes, piece by piece; `None`: there are not so many.
    fn take(&mut self, count: usize, mut piece: impl FnMut(&'b [u8])) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        let mut count = count;
        while count > 0 {
            if self.in_record == 0 {
                let (header, content) = self.bytes.split_first_chunk::<RECORD_HEADER>()?;
                self.in_record = usize::from(u16::from_be_bytes([header[3], header[4]]));
                self.bytes = content;
            }
            let (taken, rest) = self.bytes.split_at_checked(count.min(self.in_record))?;
            piece(taken);
            self.bytes = rest;
            self.in_record -= taken.len();
            count -= taken.len();
        }
        Some(())
    }
}
