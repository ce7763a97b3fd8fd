//! Shared by request and response heads: versions, headers, limits, body lengths, and the rules for header lines. Does
//! not know which of the two it reads.

use std::mem::MaybeUninit;

use memchr::memchr_iter;

/// The upper bound of any setting for headers per head.
pub const MAX_HEADERS: usize = 256;

/// One header line, name as received.
pub type Header<'b> = httparse::Header<'b>;

/// Room for a head's headers, on the caller's stack.
pub type HeaderSpace<'b> = [MaybeUninit<Header<'b>>; MAX_HEADERS];

/// HTTP/1's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Maximum bytes, including the final empty line.
    pub bytes: usize,
    /// Maximum header lines, at most [`MAX_HEADERS`].
    pub headers: usize,
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    None,
    /// This many bytes; 0 is written as `Content-Length: 0`.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// Until the sender closes. Responses only.
    UntilClose,
}

/// A head line that violates RFC 9112 §2.2 or §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLine {
    /// A line feed without a carriage return before it.
    #[error("a line ends with a bare line feed")]
    BareLineFeed,
    /// A header line that begins with white space (obs-fold).
    #[error("a header line is folded or begins with white space")]
    Folded,
    /// White space between a header's name and its colon.
    #[error("white space stands before the colon of a header")]
    SpaceBeforeColon,
    /// A header name that is empty or not a token, or a line without a colon.
    #[error("a header line has no valid name")]
    Name,
    /// A control byte in a header's value; a bare carriage return is one.
    #[error("a header value holds a control byte")]
    Value,
}

impl BadLine {
    /// The response status for a request with such a line.
    pub(crate) fn status(self) -> u16 {
        match self {
            BadLine::BareLineFeed | BadLine::Folded | BadLine::SpaceBeforeColon | BadLine::Name | BadLine::Value => 400,
        }
    }
}

/// Decides when to parse an incomplete head again. A peer that sends one byte at a time costs parsing time in
/// proportion to its bytes, and a malformed head is still refused before it is complete.
///
/// Use a new one for each head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadProgress {
    scanned: usize,
    next: usize,
}

impl HeadProgress {
    /// Whether to parse `buffer`, which holds the head from its first byte. True if it was never parsed, if the new
    /// bytes contain an empty line, if it is at least twice as long as at the last parse, or if it has reached the
    /// limit.
    pub fn ready(&mut self, buffer: &[u8], limits: HeadLimits) -> bool {
        let new = buffer.get(self.scanned.saturating_sub(2)..).unwrap_or(buffer);
        self.scanned = buffer.len();
        let ready = buffer.len() >= self.next.min(limits.bytes) || has_empty_line(new);
        if ready {
            self.next = buffer.len().saturating_mul(2);
        }
        ready
    }
}

fn has_empty_line(bytes: &[u8]) -> bool {
    memchr_iter(b'\n', bytes).any(|at| matches!(bytes[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

impl HeadLimits {
    /// The part of the buffer within the limit.
    pub(crate) fn window<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[..buffer.len().min(self.bytes)]
    }

    /// Whether an incomplete head that fills this window exceeds the limit.
    pub(crate) fn exhausted(&self, window: &[u8]) -> bool {
        window.len() >= self.bytes
    }

    pub(crate) fn slots<'h, 'b>(&self, space: &'h mut HeaderSpace<'b>) -> &'h mut [MaybeUninit<Header<'b>>] {
        &mut space[..self.headers.min(MAX_HEADERS)]
    }
}

/// Refuses bare line feeds, which httparse accepts as line ends. httparse itself refuses bare carriage returns.
pub(crate) fn check_line_ends(head: &[u8]) -> Result<(), BadLine> {
    let bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr_iter(b'\n', head).any(bare) { Err(BadLine::BareLineFeed) } else { Ok(()) }
}

/// Same check for a whole head without scanning every byte: httparse accepts a line feed only at the end of a line, so
/// it is enough to check the line feeds before each header name and the final empty line.
pub(crate) fn check_parsed_line_ends(head: &[u8], headers: &[Header<'_>]) -> Result<(), BadLine> {
    let begins_line = |header: &Header<'_>| {
        let at = (header.name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        head.get(..at).is_some_and(|before| before.ends_with(b"\r\n"))
    };
    let proper = head.ends_with(b"\r\n\r\n") && headers.iter().all(begins_line);
    if proper { Ok(()) } else { Err(BadLine::BareLineFeed) }
}

/// Finds what is wrong with the first header name that httparse refused.
pub(crate) fn diagnose_name(head: &[u8]) -> BadLine {
    let lines = head.split(|&byte| byte == b'\n').skip(1);
    lines.filter_map(name_fault).next().unwrap_or(BadLine::Name)
}

fn name_fault(line: &[u8]) -> Option<BadLine> {
    let name = line.split(|&byte| byte == b':').next().unwrap_or(line);
    match name {
        [] | [b'\r'] => None,
        [b' ' | b'\t', ..] => Some(BadLine::Folded),
        [.., b' ' | b'\t'] if name.len() < line.len() => Some(BadLine::SpaceBeforeColon),
        _ => None,
    }
}

/// Appends `name: value` and the line end.
pub(crate) fn push_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Adds a header at the end of a complete head. The value must hold no line end.
pub fn add_header(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.truncate(head.len() - b"\r\n".len());
    push_header(head, name, value);
    head.extend_from_slice(b"\r\n");
}

/// Appends the body framing header, if the body needs one.
pub(crate) fn push_framing(out: &mut Vec<u8>, body: BodyLength) {
    match body {
        BodyLength::Length(bytes) => push_length(out, bytes),
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::None | BodyLength::UntilClose => {}
    }
}

fn push_length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_digits(out, bytes, 10);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number's digits, lower case, without leading zeros.
pub(crate) fn push_digits(out: &mut Vec<u8>, mut number: u64, base: u64) {
    // 2^64 has 20 decimal digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1000, headers: 8 };

    #[test]
    fn a_head_sent_byte_by_byte_is_parsed_a_logarithmic_number_of_times() {
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(900));
        let mut progress = HeadProgress::default();
        let tries: Vec<_> = (1..=head.len()).filter(|&len| progress.ready(&head.as_bytes()[..len], LIMITS)).collect();
        assert_eq!(tries.last(), Some(&head.len()));
        assert!(tries.len() < 13, "{tries:?}");
    }

    #[test]
    fn the_limit_and_any_empty_line_are_worth_parsing() {
        let mut progress = HeadProgress { scanned: 999, next: 1800 };
        assert!(progress.ready(&[b'a'; 1000], LIMITS));
        for end in ["\n\n", "\n\r\n", "\r\n\r\n"] {
            let head = format!("GET / HTTP/1.1{end}");
            let mut progress = HeadProgress { scanned: head.len() - 1, next: 500 };
            assert!(progress.ready(head.as_bytes(), LIMITS), "{end:?}");
        }
    }

    #[test]
    fn digits_are_what_format_prints() {
        for number in [0, 9, 10, 15, 16, 255, 1 << 40, u64::MAX] {
            let mut out = Vec::new();
            push_digits(&mut out, number, 10);
            out.push(b' ');
            push_digits(&mut out, number, 16);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number} {number:x}"));
        }
    }
}
