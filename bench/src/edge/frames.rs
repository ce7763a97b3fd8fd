//! Frames of HTTP/2, as a client writes and reads them (RFC 9113 §6). Knows no connection's state.

use std::io::{self, Read};

use crate::peers::HOST;

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const WINDOW_UPDATE: u8 = 8;
/// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame as bytes.
///
/// # Errors
/// A payload that is too long.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat())
}

/// A whole request for `/` on a stream.
///
/// # Errors
/// None that could happen.
pub(super) fn get(stream: u32) -> io::Result<Vec<u8>> {
    // `:method` GET, `:scheme` https and `:path` / of the static table, and an `:authority` (RFC 7541 §6).
    let length = u8::try_from(HOST.len()).map_err(io::Error::other)?;
    let head = [&[0x82, 0x87, 0x84, 0x41, length], HOST.as_bytes()].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
}

/// Reads a frame; its type and its flags.
///
/// # Errors
/// Those of the connection.
pub(super) fn read_frame(stream: &mut impl Read) -> io::Result<(u8, u8)> {
    let mut head = [0_u8; 9];
    stream.read_exact(&mut head)?;
    let [high, middle, low, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, high, middle, low]);
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut payload)?;
    Ok((kind, flags))
}
