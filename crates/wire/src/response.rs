//! Response heads: parsed, checked, rewritten (RFC 9112 §4, §6, §7). Does not decide what a bad response means.

use httparse::Status;

use crate::edits::HeaderEdits;
use crate::fields::{Fields, MAX_OPTIONS, Positions, Seen};
use crate::framing::{BadFraming, declared};
use crate::head::{
    BadLine, BodyLength, HeadLimits, Header, HeaderSpace, Version, check_line_ends, check_parsed_line_ends,
    diagnose_name, push_framing, push_header,
};
use crate::request::{passable_protocol, push_upgrade};

/// Part of the handshake of a WebSocket over HTTP/1 that HTTP/2 has no use for (RFC 8441 §5).
pub const WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";

/// A response head with exactly one meaning.
#[derive(Clone, Debug)]
pub struct ResponseHead<'h, 'b> {
    /// Length of the head in the buffer.
    pub len: usize,
    /// 100..=599.
    pub status: u16,
    /// The reason phrase as sent; empty if it contains bytes beyond ASCII.
    pub reason: &'b str,
    /// The instance's version.
    pub version: Version,
    /// All header lines as received.
    pub headers: &'h [Header<'b>],
    /// The body's length, given the request's method (HEAD, 1xx, 204, 304: `None`).
    pub body: BodyLength,
    /// Whether the instance keeps the connection open. Never after 101, a body until close, or a body where none is
    /// allowed.
    pub keep_alive: bool,
    /// The protocol that a 101 switches to; `None` for every other status.
    pub upgrade: Option<&'b str>,
    /// Whether it asks for a login, or goes on with one, that holds for the connection on which it came.
    pub asks_for_connection_login: bool,
    /// The declared length, kept for HEAD and 304 responses.
    pub(crate) declared: BodyLength,
    /// Headers that `write` omits.
    pub(crate) left_out: Positions,
}

/// The reason to refuse a response (502).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadResponse {
    /// Head longer than the limit.
    #[error("the response head is longer than the limit")]
    HeadTooLong,
    /// More header lines than the limit.
    #[error("there are more response headers than the limit")]
    TooManyHeaders,
    /// Not `version SP status SP reason CRLF`, or a version other than 1.0 and 1.1.
    #[error("the status line is malformed")]
    StatusLine,
    /// A status that is not 100 to 599.
    #[error("the status is not one of 100 to 599")]
    Status,
    /// A malformed header line.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// Framing headers that are invalid or ambiguous.
    #[error(transparent)]
    Framing(#[from] BadFraming),
    /// Connection has too many options.
    #[error("the Connection header has too many options")]
    TooManyOptions,
    /// A 101 that does not name one protocol that may be forwarded.
    #[error("the instance switches to a protocol that may not be forwarded")]
    Upgrade,
    /// A response that breaks the rules of HTTP/2 (RFC 9113 §8.1.1).
    #[error("the instance broke the rules of HTTP/2")]
    Http2,
}

/// How to write the response for the client.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The client's version.
    pub version: Version,
    /// Whether the client's connection stays open afterwards.
    pub keep_alive: bool,
    /// The framing towards the client; never chunked for HTTP/1.0.
    pub body: BodyLength,
    /// What the service changes in it; `None` for interim heads.
    pub edits: Option<&'a HeaderEdits>,
}

/// Parses one response head. `Ok(None)`: more bytes are needed. `head_request`: it answers a HEAD request.
///
/// # Errors
/// [`BadResponse`] if the head is malformed, exceeds a limit, or is ambiguous.
pub fn parse_response<'h, 'b>(
    buffer: &'b [u8],
    head_request: bool,
    limits: HeadLimits,
    space: &'h mut HeaderSpace<'b>,
) -> Result<Option<ResponseHead<'h, 'b>>, BadResponse> {
    let window = limits.window(buffer);
    // httparse would skip empty lines here, as it does for requests.
    if !matches!(window, [] | [b'H', ..]) {
        return Err(BadResponse::StatusLine);
    }
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, window, limits.slots(space));
    match status.map_err(|error| diagnose(error, window))? {
        Status::Complete(len) => judge(parsed, &window[..len], head_request).map(Some),
        Status::Partial => judge_beginning(&parsed, window, limits.exhausted(window)).map(|()| None),
    }
}

#[cold]
fn diagnose(error: httparse::Error, window: &[u8]) -> BadResponse {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => BadResponse::TooManyHeaders,
        Error::HeaderName => diagnose_name(window).into(),
        Error::HeaderValue => BadLine::Value.into(),
        Error::Token | Error::NewLine | Error::Status | Error::Version => BadResponse::StatusLine,
    }
}

fn judge_beginning(parsed: &httparse::Response<'_, '_>, window: &[u8], exhausted: bool) -> Result<(), BadResponse> {
    check_line_ends(window)?;
    parsed.code.map_or(Ok(()), judge_status)?;
    if exhausted { Err(BadResponse::HeadTooLong) } else { Ok(()) }
}

pub(crate) fn judge_status(status: u16) -> Result<(), BadResponse> {
    if (100..=599).contains(&status) { Ok(()) } else { Err(BadResponse::Status) }
}

fn judge<'h, 'b>(
    parsed: httparse::Response<'h, 'b>,
    head: &'b [u8],
    head_request: bool,
) -> Result<ResponseHead<'h, 'b>, BadResponse> {
    let headers: &'h [Header<'b>] = parsed.headers;
    check_parsed_line_ends(head, headers)?;
    let status = parsed.code.unwrap_or_default();
    judge_status(status)?;
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let fields = Fields::sort(headers);
    if fields.options.count > MAX_OPTIONS {
        return Err(BadResponse::TooManyOptions);
    }
    let declared = declared(&fields, version)?;
    let body = body_length(status, head_request, declared);
    Ok(ResponseHead {
        len: head.len(),
        status,
        reason: parsed.reason.unwrap_or_default(),
        version,
        headers,
        body,
        keep_alive: fields.keep_alive(version) && may_follow(status, body, declared),
        upgrade: switched_to(status, fields.upgrade)?,
        asks_for_connection_login: fields.login,
        declared,
        left_out: fields.hop,
    })
}

/// RFC 9112 §6.3, rules 1 and 8 among others.
pub(crate) fn body_length(status: u16, head_request: bool, declared: BodyLength) -> BodyLength {
    match declared {
        _ if head_request || is_bodiless(status) => BodyLength::None,
        BodyLength::None => BodyLength::UntilClose,
        declared => declared,
    }
}

fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// Whether another response may follow on the connection. Not after a protocol switch, and not when an instance
/// declares a body where none is allowed, because it might send that body anyway.
fn may_follow(status: u16, body: BodyLength, declared: BodyLength) -> bool {
    let stray_body = matches!(status, 100..=199 | 204) && !matches!(declared, BodyLength::None | BodyLength::Length(0));
    status != 101 && body != BodyLength::UntilClose && !stray_body
}

fn switched_to(status: u16, upgrade: Seen<'_>) -> Result<Option<&str>, BadResponse> {
    match upgrade {
        _ if status != 101 => Ok(None),
        Seen::Once(value) => passable_protocol(value).map(Some).ok_or(BadResponse::Upgrade),
        Seen::Never | Seen::Often => Err(BadResponse::Upgrade),
    }
}

impl ResponseHead<'_, '_> {
    /// The framing towards a client of this version: lengths stay, chunked and until-close become chunked for 1.1
    /// and until-close for 1.0.
    pub fn body_for(&self, client: Version) -> BodyLength {
        match (self.body, client) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
            (body @ (BodyLength::None | BodyLength::Length(_)), _) => body,
        }
    }

    /// The same head for a body that is written anew, of which nobody knows the length before its end. That of a HEAD response
    /// declares none either.
    #[must_use]
    pub fn without_length(&self) -> Self {
        let body = if self.body == BodyLength::None { BodyLength::None } else { BodyLength::Chunked };
        Self { body, declared: BodyLength::None, ..self.clone() }
    }

    /// Writes the head for the client: `HTTP/1.1`, without hop-by-hop headers. A 101 keeps `Upgrade` and `Connection:
    /// upgrade`. If `reply.body` is `None` for a HEAD response or a 304, `Content-Length` is kept as sent.
    ///
    /// Interim heads (1xx) have neither framing nor `Connection`; never send them to an HTTP/1.0 client (RFC 9110
    /// §15.2). A body until close always gets `Connection: close`, whatever `reply.keep_alive` says.
    pub fn write(&self, reply: &Reply<'_>, out: &mut Vec<u8>) {
        out.reserve(self.len + 128);
        self.write_status_line(out);
        match reply.edits {
            None => self.write_headers(self.left_out, out),
            Some(edits) => self.write_edited(edits, out),
        }
        match self.status {
            101 => push_upgrade(out, self.upgrade.unwrap_or_default()),
            100..=199 => {}
            _ => self.write_framing(reply, out),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the answer to an extended CONNECT (RFC 8441 §5) as HTTP/1 has it: 101, with the answer to the client's
    /// `Sec-WebSocket-Key`.
    pub fn write_websocket(&self, accept: &str, out: &mut Vec<u8>) {
        out.reserve(self.len + 160);
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        for header in self.fields().filter(|header| !header.name.eq_ignore_ascii_case(WEBSOCKET_ACCEPT)) {
            push_header(out, header.name, header.value);
        }
        push_upgrade(out, "websocket");
        push_header(out, "Sec-WebSocket-Accept", accept.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// The headers for the client, framing and connection headers aside.
    pub fn fields(&self) -> impl Iterator<Item = &Header<'_>> {
        let stays = |(position, _): &(usize, _)| !self.left_out.contains(*position);
        self.headers.iter().enumerate().filter(stays).map(|(_, header)| header)
    }

    /// The length to declare for a body of this framing, bytes; that of a HEAD response or a 304 as sent.
    pub fn length(&self, body: BodyLength) -> Option<u64> {
        match (body, self.declared) {
            (BodyLength::Length(length), _) => Some(length),
            (BodyLength::None, BodyLength::Length(length)) if self.status >= 200 && self.status != 204 => Some(length),
            _ => None,
        }
    }

    #[inline]
    fn write_headers(&self, left_out: Positions, out: &mut Vec<u8>) {
        for (position, header) in self.headers.iter().enumerate() {
            if !left_out.contains(position) {
                push_header(out, header.name, header.value);
            }
        }
    }

    fn write_edited(&self, edits: &HeaderEdits, out: &mut Vec<u8>) {
        let mut left_out = self.left_out;
        let edited = self.headers.iter().enumerate().filter(|(_, header)| edits.leaves_out(header));
        edited.for_each(|(position, _)| left_out.insert(position));
        self.write_headers(left_out, out);
        out.extend_from_slice(edits.lines());
    }

    fn write_status_line(&self, out: &mut Vec<u8>) {
        let mut start = *b"HTTP/1.1 000 ";
        let digits = [self.status / 100, self.status / 10 % 10, self.status % 10];
        start[9..12].iter_mut().zip(digits).for_each(|(byte, digit)| *byte += digit as u8);
        out.extend_from_slice(&start);
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn write_framing(&self, reply: &Reply<'_>, out: &mut Vec<u8>) {
        match (reply.body, self.declared) {
            (BodyLength::None, BodyLength::Length(_)) if self.status != 204 => push_framing(out, self.declared),
            (body, _) => push_framing(out, body),
        }
        push_connection(out, reply);
    }
}

fn push_connection(out: &mut Vec<u8>, reply: &Reply<'_>) {
    match (reply.keep_alive && reply.body != BodyLength::UntilClose, reply.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
}
