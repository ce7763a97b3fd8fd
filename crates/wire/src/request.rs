//! Request heads: parsed, checked, rewritten (RFC 9112 §2, §3, §6, §7, §11). Never routes.

use std::borrow::Cow;
use std::net::IpAddr;

use httparse::Status;

use crate::fields::{Field, Fields, MAX_OPTIONS, Positions, Seen, Told, classify};
use crate::forwarded::{self, Arrived, Trust};
use crate::framing::declared;
use crate::head::{
    BadLine, BodyLength, HeadLimits, Header, HeaderSpace, Version, check_line_ends, check_parsed_line_ends,
    diagnose_name, push_framing, push_header,
};
use crate::refusal::BadRequest;
use crate::target::{Authority, Target};

/// A request head with exactly one meaning.
#[derive(Debug)]
pub struct RequestHead<'h, 'b> {
    /// Length of the head in the buffer, including leading empty lines and the final empty line.
    pub len: usize,
    /// The method as sent, a token.
    pub method: &'b str,
    /// Path and query, from origin or absolute form; starts with `/`, or is `*` (OPTIONS only).
    pub target: Cow<'b, str>,
    /// Authority from an absolute-form target, else the Host header, else empty (HTTP/1.0). Valid host\[:port\] bytes.
    pub host: &'b str,
    /// The client's version.
    pub version: Version,
    /// All header lines as received.
    pub headers: &'h [Header<'b>],
    /// The body's length. Never `UntilClose`.
    pub body: BodyLength,
    /// Whether the client keeps the connection open.
    pub keep_alive: bool,
    /// `Expect: 100-continue` from an HTTP/1.1 client that has not sent its body yet.
    pub expect_continue: bool,
    /// The protocol in Upgrade, if `Connection: upgrade` asks for it and it may be forwarded (never `h2c`).
    pub upgrade: Option<&'b str>,
    /// How many proxies it has passed, as `CDN-Loop` says (RFC 8586 §2); [`RequestHead::write`] adds us.
    pub hops: usize,
    /// Whether it logs in, or goes on with a login, that holds for its connection to the instance.
    pub logs_connection_in: bool,
    /// It asks for a WebSocket over HTTP/2, which has no `Sec-WebSocket-Key`; HTTP/1 needs one.
    pub(crate) lacks_websocket_key: bool,
    /// There are several cookie lines, which `write` joins.
    pub(crate) has_crumbs: bool,
    /// Headers that `write` omits.
    pub(crate) left_out: Positions,
    pub(crate) forwarded_for: bool,
    pub(crate) told: Told,
}

/// Our name in `CDN-Loop`.
const CDN_LINE: &[u8] = b"CDN-Loop: pointsman\r\n";

/// Changes to a head on its way to the instance.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Bytes to remove from the front of the target; the rest gets a leading `/` if it has none.
    pub strip: usize,
    /// The client's address as text, appended to `X-Forwarded-For`.
    pub client: &'a str,
    /// How the request arrived, unless the client's word about that is passed on.
    pub arrived: &'a Arrived,
    /// How far the client's own headers are trusted.
    pub trust: Trust,
    /// Makes a new `Sec-WebSocket-Key`, for a head that lacks one (RFC 6455 §4.1).
    pub websocket_key: fn() -> String,
    /// What `Cookie` says instead of the client's lines; empty: there is none. It holds no control character.
    pub cookie: Option<&'a [u8]>,
}

/// Parses one request head. `Ok(None)`: more bytes are needed.
///
/// An incomplete head that is already malformed is refused at once. Each call parses from the first byte;
/// [`HeadProgress`](crate::HeadProgress) tells when to call again.
///
/// # Errors
/// [`BadRequest`] if the head is malformed, exceeds a limit, or is ambiguous.
pub fn parse_request<'h, 'b>(
    buffer: &'b [u8],
    limits: HeadLimits,
    space: &'h mut HeaderSpace<'b>,
) -> Result<Option<RequestHead<'h, 'b>>, BadRequest> {
    let window = limits.window(buffer);
    let text = skip_empty_lines(window)?;
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(text, limits.slots(space));
    match status.map_err(|error| diagnose(error, text))? {
        Status::Complete(len) => judge(parsed, text, len, window.len() - text.len()).map(Some),
        Status::Partial => judge_beginning(&parsed, text, limits.exhausted(window)).map(|()| None),
    }
}

/// Whether these bytes, from which no head could be parsed, begin a HEAD request: it is refused without a body, too
/// (RFC 9110 §9.3.2).
pub fn begins_head_request(buffer: &[u8]) -> bool {
    skip_empty_lines(buffer).is_ok_and(|text| text.starts_with(b"HEAD "))
}

/// Some clients send an empty line after a body (RFC 9112 §2.2).
fn skip_empty_lines(window: &[u8]) -> Result<&[u8], BadRequest> {
    const MOST: usize = 2;
    let mut text = window;
    for _ in 0..MOST {
        text = text.strip_prefix(b"\r\n").unwrap_or(text);
    }
    match text {
        [b'\n', ..] => Err(BadLine::BareLineFeed.into()),
        [b'\r', b'\n', ..] => Err(BadRequest::EmptyLines),
        [b'\r', _, ..] => Err(BadRequest::RequestLine),
        _ => Ok(text),
    }
}

#[cold]
fn diagnose(error: httparse::Error, text: &[u8]) -> BadRequest {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => BadRequest::TooManyHeaders,
        Error::HeaderName => diagnose_name(text).into(),
        Error::HeaderValue => BadLine::Value.into(),
        Error::Version if is_other_version(text) => BadRequest::Version,
        Error::Token | Error::NewLine | Error::Status | Error::Version => BadRequest::RequestLine,
    }
}

/// Whether the request line, as far as received, ends with `HTTP/` and two digits with a dot between.
fn is_other_version(text: &[u8]) -> bool {
    let version = text.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        Some([major] | [major, b'.']) => major.is_ascii_digit(),
        Some([major, b'.', minor] | [major, b'.', minor, b'\r', ..]) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// Checks an incomplete head.
fn judge_beginning(parsed: &httparse::Request<'_, '_>, text: &[u8], exhausted: bool) -> Result<(), BadRequest> {
    check_line_ends(text)?;
    match (parsed.method, parsed.path) {
        (Some(method), Some(path)) => judge_request_line(method, path).map(|_| ())?,
        (Some(method), None) => judge_method(method)?,
        (None, _) if text.len() > MAX_METHOD => return Err(BadRequest::MethodTooLong),
        (None, _) => {}
    }
    match exhausted {
        false => Ok(()),
        true if parsed.version.is_some() => Err(BadRequest::HeadTooLong),
        true => Err(BadRequest::TargetTooLong),
    }
}

fn judge<'h, 'b>(
    parsed: httparse::Request<'h, 'b>,
    text: &'b [u8],
    len: usize,
    skipped: usize,
) -> Result<RequestHead<'h, 'b>, BadRequest> {
    let headers: &'h [Header<'b>] = parsed.headers;
    check_parsed_line_ends(&text[..len], headers)?;
    let method = parsed.method.unwrap_or_default();
    let target = judge_request_line(method, parsed.path.unwrap_or_default())?;
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let fields = Fields::sort(headers);
    check_fields(&fields)?;
    let body = declared(&fields, version)?;
    Ok(RequestHead {
        len: skipped + len,
        method,
        host: judge_host(&fields, &target, version)?,
        target: target.path,
        version,
        headers,
        body,
        keep_alive: fields.keep_alive(version),
        expect_continue: judge_expectation(fields.expect, version, body)?,
        upgrade: upgrade(&fields, version, body),
        hops: fields.hops,
        logs_connection_in: fields.login,
        lacks_websocket_key: false,
        has_crumbs: false,
        left_out: fields.hop.union(fields.ours),
        forwarded_for: fields.forwarded_for,
        told: fields.told,
    })
}

/// The longest registered method has 17 bytes.
const MAX_METHOD: usize = 32;

pub(crate) fn judge_method(method: &str) -> Result<(), BadRequest> {
    match method {
        _ if method.len() > MAX_METHOD => Err(BadRequest::MethodTooLong),
        "CONNECT" => Err(BadRequest::Connect),
        _ => Ok(()),
    }
}

fn judge_request_line<'b>(method: &str, path: &'b str) -> Result<Target<'b>, BadRequest> {
    judge_method(method)?;
    Target::parse(method, path)
}

pub(crate) fn check_fields(fields: &Fields<'_>) -> Result<(), BadRequest> {
    if fields.framing_look_alike {
        return Err(BadRequest::FramingLookAlike);
    }
    if fields.options.count > MAX_OPTIONS {
        return Err(BadRequest::TooManyOptions);
    }
    if fields.options.routing { Err(BadRequest::ConnectionOption) } else { Ok(()) }
}

/// RFC 9112 §3.2.2 lets the target win over Host; an instance that reads Host would see the other one, so they must
/// agree.
pub(crate) fn judge_host<'b>(
    fields: &Fields<'b>,
    target: &Target<'b>,
    version: Version,
) -> Result<&'b str, BadRequest> {
    let host = match fields.host {
        Seen::Often => return Err(BadRequest::SeveralHosts),
        Seen::Never if version == Version::Http11 => return Err(BadRequest::NoHost),
        Seen::Never => return Ok(target.authority.map_or("", |(authority, _)| authority.text)),
        Seen::Once(b"") if target.authority.is_none() => return Ok(""),
        Seen::Once(b"") => return Err(BadRequest::HostMismatch),
        Seen::Once(value) => Authority::parse(value).ok_or(BadRequest::Host)?,
    };
    match target.authority {
        None => Ok(host.text),
        Some((authority, default_port)) if authority.same_as(&host, default_port) => Ok(authority.text),
        Some(_) => Err(BadRequest::HostMismatch),
    }
}

/// An obscured expectation (`Expect: y 100-continue`) makes some readers wait for an interim response that others never
/// send.
pub(crate) fn judge_expectation(expect: Seen<'_>, version: Version, body: BodyLength) -> Result<bool, BadRequest> {
    match expect {
        Seen::Never => Ok(false),
        Seen::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => {
            // RFC 9110 §10.1.1: ignored in HTTP/1.0. Without a body there is nothing to wait for.
            Ok(version == Version::Http11 && !matches!(body, BodyLength::None | BodyLength::Length(0)))
        }
        Seen::Once(_) | Seen::Often => Err(BadRequest::Expectation),
    }
}

/// A server may ignore an Upgrade (RFC 9110 §7.8). Three kinds are forwarded as plain requests: a WebSocket with a
/// body, which no client means (RFC 6455 §4.1), a list of protocols, and a protocol that would hide requests from us or
/// that we cannot agree to (`h2c`, `HTTP/2.0`, `TLS/1.0`). Any other protocol may begin behind a body: Docker's `exec`
/// does.
fn upgrade<'b>(fields: &Fields<'b>, version: Version, body: BodyLength) -> Option<&'b str> {
    let Seen::Once(value) = fields.upgrade else {
        return None;
    };
    let bodiless = matches!(body, BodyLength::None | BodyLength::Length(0));
    let asked = fields.options.upgrade && version == Version::Http11;
    let may_begin = asked && (bodiless || !value.eq_ignore_ascii_case(b"websocket"));
    if may_begin { passable_protocol(value) } else { None }
}

/// The protocol, if it is a single one that may be forwarded.
pub(crate) fn passable_protocol(value: &[u8]) -> Option<&str> {
    let protocol = str::from_utf8(value).ok()?;
    let (name, version) = protocol.split_once('/').unwrap_or((protocol, "-"));
    let token = |text: &str| !text.is_empty() && text.bytes().all(is_protocol_byte);
    let ours = ["h2c", "h2", "http", "tls"].iter().any(|refused| name.eq_ignore_ascii_case(refused));
    (token(name) && token(version) && !ours).then_some(protocol)
}

fn is_protocol_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+')
}

impl RequestHead<'_, '_> {
    /// Whether the method is idempotent: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 §9.2.2).
    pub fn repeatable(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }

    /// First value of a header, by case-insensitive name; `None` if absent.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.header_lines(name).next()
    }

    /// The values of a header, line by line, by case-insensitive name.
    pub fn header_lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let lines = self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        lines.map(|header| header.value)
    }

    /// Whether it asks for a WebSocket, which has no body.
    pub fn asks_for_websocket(&self) -> bool {
        self.method == "GET" && self.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
    }

    /// Writes the head for the instance: HTTP/1.1, without hop-by-hop headers, with the body framing of `self.body`.
    ///
    /// `TE` is omitted too: trailers are forwarded, but the instance is not asked for them.
    pub fn write(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        out.reserve(self.len + forward.client.len() + 128);
        self.write_request_line(forward.strip, out);
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut left_out = if self.told.any { self.left_out(forward.trust) } else { self.left_out };
        if self.has_crumbs || forward.cookie.is_some() {
            left_out = left_out.union(self.write_cookie(forward.cookie, out));
        }
        for (position, header) in self.headers.iter().enumerate() {
            if !left_out.contains(position) {
                push_header(out, header.name, header.value);
            }
        }
        self.write_forwarded(forward, out);
        if self.expect_continue {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        push_framing(out, self.body);
        if let Some(protocol) = self.upgrade {
            push_upgrade(out, protocol);
        }
        if self.lacks_websocket_key {
            push_header(out, "Sec-WebSocket-Key", (forward.websocket_key)().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The client's address, from headers of trusted proxies; `peer` if it is not trusted, or sends none.
    pub fn client(&self, peer: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
        forwarded::client(self.headers, peer, trusts)
    }

    /// Headers that stay here, if the client's word counts so much.
    fn left_out(&self, trust: Trust) -> Positions {
        let stays = |field| match field {
            Field::RealIp => trust != Trust::Full,
            Field::ForwardedProto | Field::ForwardedPort | Field::ForwardedOther => trust == Trust::Nothing,
            _ => false,
        };
        let mut left_out = self.left_out;
        for (position, header) in self.headers.iter().enumerate() {
            if stays(classify(header.name)) {
                left_out.insert(position);
            }
        }
        left_out
    }

    /// Writes the pieces of a cookie as one line (RFC 9113 §8.2.3), or else what stands for them, and returns where they
    /// are.
    #[cold]
    fn write_cookie(&self, instead: Option<&[u8]>, out: &mut Vec<u8>) -> Positions {
        let is_cookie = |(_, header): &(usize, &Header<'_>)| header.name.eq_ignore_ascii_case("cookie");
        let crumbs = || self.headers.iter().enumerate().filter(is_cookie);
        let mut positions = Positions::default();
        crumbs().for_each(|(position, _)| positions.insert(position));
        match instead {
            Some([]) => {}
            Some(cookie) => push_header(out, "Cookie", cookie),
            None => {
                let pieces: Vec<_> = crumbs().map(|(_, piece)| piece.value).collect();
                push_header(out, "Cookie", &pieces.join(&b"; "[..]));
            }
        }
        positions
    }

    /// The request line, and the beginning of the next.
    fn write_request_line(&self, strip: usize, out: &mut Vec<u8>) {
        let target = self.target.get(strip..).unwrap_or_default();
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        if !target.starts_with('/') && target != "*" {
            out.push(b'/');
        }
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    }

    /// Our name in `CDN-Loop`, and one `X-Forwarded-For` line with the client's own values, then the client's address.
    fn write_forwarded(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if self.forwarded_for {
            self.write_earlier(Field::ForwardedFor, out);
        }
        out.extend_from_slice(forward.client.as_bytes());
        out.extend_from_slice(b"\r\n");
        let passed = if forward.trust == Trust::Nothing { Told::default() } else { self.told };
        out.extend_from_slice(forward.arrived.lines(passed.proto, passed.port));
        if forward.trust == Trust::Full && self.told.forwarded {
            out.extend_from_slice(b"Forwarded: ");
            self.write_earlier(Field::Forwarded, out);
            forwarded::push_for(out, forward.client);
            out.extend_from_slice(b"\r\n");
        }
        // After what other proxies say there: several lines are one list (RFC 9110 §5.3).
        out.extend_from_slice(CDN_LINE);
    }

    /// The values of these headers as the beginning of a list.
    fn write_earlier(&self, field: Field, out: &mut Vec<u8>) {
        let hops = self.headers.iter().filter(|header| classify(header.name) == field);
        for hop in hops.filter(|hop| !hop.value.is_empty()) {
            out.extend_from_slice(hop.value);
            out.extend_from_slice(b", ");
        }
    }
}

/// Appends the two headers that request or accept a protocol switch.
pub(crate) fn push_upgrade(out: &mut Vec<u8>, protocol: &str) {
    out.extend_from_slice(b"Connection: upgrade\r\n");
    push_header(out, "Upgrade", protocol.as_bytes());
}
