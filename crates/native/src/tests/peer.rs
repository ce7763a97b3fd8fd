//! A client's or an instance's end of a connection, driven by a script. Waits for nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::hpack::Decoder;

/// The most unread bytes that are looked at.
const LOOK: usize = 1 << 20;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// `None`: closed by its script.
    stream: Option<UnixStream>,
    /// Bytes that came, read by its script or not.
    pub(super) seen: usize,
    /// Reads header blocks of HTTP/2.
    pub(super) decoder: Decoder,
    /// The script said that the other side ends it.
    pub(super) ended: bool,
}

/// What can be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Bytes(usize),
    End,
    /// The other side closed without reading everything: a reset.
    Torn,
}

impl Peer {
    pub(super) fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self { stream: Some(stream), seen: 0, decoder: Decoder::default(), ended: false }
    }

    fn stream(&self) -> Result<&UnixStream, String> {
        self.stream.as_ref().ok_or_else(|| "its script closed it before".into())
    }

    /// Sends what can be sent now; returns how many bytes.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, String> {
        match self.stream()?.write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(format!("cannot send: {error}")),
        }
    }

    /// Reads what is there, this many bytes at most.
    pub(super) fn read(&mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; most];
        let count = match self.stream()?.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(format!("cannot read: {error}")),
        };
        bytes.truncate(count);
        self.seen += count;
        Ok(bytes)
    }

    /// What can be read now; reads nothing.
    pub(super) fn look(&self) -> Result<Found, String> {
        let mut space = Vec::with_capacity(LOOK);
        match socket2::SockRef::from(self.stream()?).peek(space.spare_capacity_mut()) {
            Ok(0) => Ok(Found::End),
            Ok(count) => Ok(Found::Bytes(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Found::Nothing),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Found::Torn),
            Err(error) => Err(format!("cannot look: {error}")),
        }
    }

    /// Sends no more, and may still read.
    pub(super) fn end(&self) -> Result<(), String> {
        self.stream()?.shutdown(Shutdown::Write).map_err(|error| error.to_string())
    }

    /// Closes. `unread`: bytes are left unread, which makes it a reset.
    pub(super) fn close(&mut self, unread: bool) -> Result<(), String> {
        let left = match self.look()? {
            Found::Bytes(count) => count,
            Found::Nothing | Found::End | Found::Torn => 0,
        };
        if unread != (left > 0) {
            return Err(format!("{left} bytes are unread; close leaves none, abort leaves some"));
        }
        self.seen += left;
        self.stream = None;
        Ok(())
    }

    /// Closes, whatever is unread.
    pub(super) fn leave(&mut self) {
        self.stream = None;
    }

    /// Whether its script closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none()
    }
}
