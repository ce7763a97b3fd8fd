//! Classifies a head's header lines in one pass: body framing, connection headers, headers that we replace. Accepts or
//! refuses nothing; requests and responses do.

use crate::head::{Header, Version};
use crate::login::logs_connection_in;

/// The role of a header, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// End-to-end: forwarded unchanged.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    ForwardedFor,
    /// `CDN-Loop`: the proxies that a request has passed (RFC 8586).
    Loop,
    ForwardedProto,
    ForwardedPort,
    /// Any other `X-Forwarded-*`.
    ForwardedOther,
    Forwarded,
    RealIp,
    /// Removed: a name that a CGI backend would read as one of those before, and what only a proxy may say of its client
    /// (`Client-Cert` and `Client-Cert-Chain`, RFC 9440).
    Replaced,
    /// A login, end-to-end: `Authorization` or `WWW-Authenticate`.
    Login,
    /// The same between two hops, and removed: `Proxy-Authorization` or `Proxy-Authenticate`.
    ProxyLogin,
    /// Removed at this hop: RFC 9110 §7.6.1, and `Proxy`, which CGI would turn into the variable `HTTP_PROXY`.
    HopByHop,
    /// Not `Content-Length` or `Transfer-Encoding`, but read as such by a backend that folds `_` and the like into `-`.
    FramingLookAlike,
}

/// Names by length: most headers are ruled out by their length or first byte.
pub(crate) fn classify(name: &str) -> Field {
    if let [b'x' | b'X', ..] = name.as_bytes() {
        return classify_extension(name);
    }
    match name.len() {
        2 => pick(name, &[("te", Field::HopByHop)]),
        4 => pick(name, &[("host", Field::Host)]),
        5 => pick(name, &[("proxy", Field::HopByHop)]),
        6 => pick(name, &[("expect", Field::Expect)]),
        7 => pick(name, &[("upgrade", Field::Upgrade)]),
        8 => pick(name, &[("cdn-loop", Field::Loop)]),
        9 => pick(name, &[("forwarded", Field::Forwarded)]),
        10 => pick(name, &[("connection", Field::Connection), ("keep-alive", Field::HopByHop)]),
        11 => look_alike(name, &[("client-cert", Field::Replaced)]),
        13 => pick(name, &[("authorization", Field::Login)]),
        14 => look_alike(name, &[("content-length", Field::ContentLength), ("http2-settings", Field::HopByHop)]),
        16 => pick(name, &[("proxy-connection", Field::HopByHop), ("www-authenticate", Field::Login)]),
        17 => {
            look_alike(name, &[("transfer-encoding", Field::TransferEncoding), ("client-cert-chain", Field::Replaced)])
        }
        18 => pick(name, &[("proxy-authenticate", Field::ProxyLogin)]),
        19 => pick(name, &[("proxy-authorization", Field::ProxyLogin)]),
        _ => Field::Other,
    }
}

/// Names that begin with an `X`.
fn classify_extension(name: &str) -> Field {
    const FORWARDED: &str = "x-forwarded-";
    match name.split_at_checked(FORWARDED.len()) {
        Some((start, end)) if start.eq_ignore_ascii_case(FORWARDED) => {
            let known =
                [("for", Field::ForwardedFor), ("proto", Field::ForwardedProto), ("port", Field::ForwardedPort)];
            known
                .into_iter()
                .find(|(of, _)| end.eq_ignore_ascii_case(of))
                .map_or(Field::ForwardedOther, |(_, field)| field)
        }
        Some((start, _)) if folds_into(start, FORWARDED) => Field::Replaced,
        _ => look_alike(name, &[("x-real-ip", Field::RealIp)]),
    }
}

#[inline]
fn pick(name: &str, known: &[(&str, Field)]) -> Field {
    known.iter().find(|(of, _)| is_named(name, of)).map_or(Field::Other, |&(_, field)| field)
}

/// Whether a name is this one, in any case. Without a branch a byte: among the bytes of a token (RFC 9110 §5.6.2) only an
/// upper-case letter becomes a lower-case letter, and no other byte becomes a hyphen or a digit, when bit 5 is set.
#[inline]
fn is_named(name: &str, known: &str) -> bool {
    let differing = |all: u8, (byte, known): (u8, u8)| all | ((byte | 0x20) ^ known);
    name.len() == known.len() && name.bytes().zip(known.bytes()).fold(0, differing) == 0
}

#[inline]
fn look_alike(name: &str, known: &[(&str, Field)]) -> Field {
    match pick(name, known) {
        Field::Other => known.iter().find(|(of, _)| folds_into(name, of)).map_or(Field::Other, folded),
        field => field,
    }
}

fn folded((_, field): &(&str, Field)) -> Field {
    match field {
        Field::ContentLength | Field::TransferEncoding => Field::FramingLookAlike,
        Field::RealIp | Field::Replaced => Field::Replaced,
        _ => Field::HopByHop,
    }
}

/// Whether a reader that folds every byte other than a letter or digit into `-` reads the two names as the same.
/// `known`: in that form.
pub(crate) fn folds_into(name: &str, known: &str) -> bool {
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(|(a, b)| fold(a) == b)
}

/// Whether such a reader reads any two names as the same.
pub fn look_alikes(name: &str, other: &str) -> bool {
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| fold(a) == fold(b))
}

#[inline]
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// A set of positions in a head's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions([u64; crate::MAX_HEADERS / 64]);

impl Positions {
    pub(crate) fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    pub(crate) fn union(self, other: Positions) -> Positions {
        Positions(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub(crate) fn contains(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }
}

/// A header that may occur once in a head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Seen<'b> {
    #[default]
    Never,
    Once(&'b [u8]),
    Often,
}

impl<'b> Seen<'b> {
    fn add(&mut self, value: &'b [u8]) {
        *self = match self {
            Seen::Never => Seen::Once(value),
            Seen::Once(_) | Seen::Often => Seen::Often,
        };
    }
}

/// Headers about a request's way, besides `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// A `Forwarded`.
    pub(crate) forwarded: bool,
    /// An `X-Forwarded-Proto` with a value.
    pub(crate) proto: bool,
    /// An `X-Forwarded-Port` with a value.
    pub(crate) port: bool,
    /// Whether there is any.
    pub(crate) any: bool,
}

/// A head's headers, classified.
#[derive(Debug, Default)]
pub(crate) struct Fields<'b> {
    pub(crate) host: Seen<'b>,
    pub(crate) length: Seen<'b>,
    pub(crate) coding: Seen<'b>,
    pub(crate) upgrade: Seen<'b>,
    pub(crate) expect: Seen<'b>,
    pub(crate) options: Options,
    /// Headers removed at this hop: connection headers, the headers that they list, and framing, which is rewritten.
    pub(crate) hop: Positions,
    /// Request headers that we replace with our own.
    pub(crate) ours: Positions,
    pub(crate) forwarded_for: bool,
    /// The number of proxies in `CDN-Loop`.
    pub(crate) hops: usize,
    pub(crate) told: Told,
    pub(crate) framing_look_alike: bool,
    /// A login that holds for the connection. One that only the other side may send counts too, and does no harm.
    pub(crate) login: bool,
}

impl<'b> Fields<'b> {
    pub(crate) fn sort(headers: &[Header<'b>]) -> Self {
        let mut fields = Fields::default();
        for (position, header) in headers.iter().enumerate() {
            fields.add(position, header);
        }
        if fields.options.others {
            nominate(headers, &mut fields);
        }
        fields
    }

    /// Whether the sender keeps the connection open (RFC 9112 §9.3).
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.options.close && (version == Version::Http11 || self.options.keep_alive)
    }

    #[inline]
    fn add(&mut self, position: usize, header: &Header<'b>) {
        match classify(header.name) {
            Field::Other => return,
            Field::FramingLookAlike => return self.framing_look_alike = true,
            Field::Host => return self.add_ours(position, |fields| fields.host.add(header.value)),
            Field::Expect => {
                return self.add_ours(position, |fields| fields.expect.add(header.value));
            }
            Field::ForwardedFor => {
                return self.add_ours(position, |fields| fields.forwarded_for = true);
            }
            Field::Loop => return self.hops += list(header.value).count(),
            Field::Login => return self.login |= logs_connection_in(header.value),
            Field::ProxyLogin => self.login |= logs_connection_in(header.value),
            Field::Replaced => return self.ours.insert(position),
            Field::ForwardedProto | Field::ForwardedPort if header.value.is_empty() => {
                return self.ours.insert(position);
            }
            field @ (Field::ForwardedProto
            | Field::ForwardedPort
            | Field::ForwardedOther
            | Field::Forwarded
            | Field::RealIp) => return self.add_told(position, field),
            Field::ContentLength => self.length.add(header.value),
            Field::TransferEncoding => self.coding.add(header.value),
            Field::Connection => self.options.add(header.value),
            Field::Upgrade => self.upgrade.add(header.value),
            Field::HopByHop => {}
        }
        self.hop.insert(position);
    }

    #[cold]
    fn add_told(&mut self, position: usize, field: Field) {
        self.told.any = true;
        self.told.proto |= field == Field::ForwardedProto;
        self.told.port |= field == Field::ForwardedPort;
        if field == Field::Forwarded {
            self.told.forwarded = true;
            self.ours.insert(position);
        }
    }

    #[inline]
    fn add_ours(&mut self, position: usize, note: impl FnOnce(&mut Self)) {
        self.ours.insert(position);
        note(self);
    }
}

/// The options of the Connection headers (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other options: names of headers to remove.
    pub(crate) others: bool,
    /// Options that would remove a routing or framing header.
    pub(crate) routing: bool,
    pub(crate) count: usize,
}

/// The maximum number of options in a head's Connection headers: each is compared with each header.
pub(crate) const MAX_OPTIONS: usize = 32;

impl Options {
    fn add(&mut self, value: &[u8]) {
        for option in list(value) {
            self.count += 1;
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => self.others = true,
            }
        }
    }
}

/// The members of a comma-separated list, without empty ones (RFC 9110 §5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Marks the headers that Connection lists. End-to-end headers stay: a client that could remove `Cookie` or
/// `X-Forwarded-For` here would reach the instance as somebody else.
#[cold]
fn nominate(headers: &[Header<'_>], fields: &mut Fields<'_>) {
    let connection = headers.iter().filter(|header| classify(header.name) == Field::Connection);
    for option in connection.flat_map(|header| list(header.value)).take(MAX_OPTIONS) {
        fields.options.routing |= is_routing(option);
        if !is_end_to_end(option) {
            mark(headers, option, &mut fields.hop);
        }
    }
}

fn mark(headers: &[Header<'_>], name: &[u8], hop: &mut Positions) {
    for (position, header) in headers.iter().enumerate() {
        if header.name.as_bytes().eq_ignore_ascii_case(name) {
            hop.insert(position);
        }
    }
}

fn is_routing(option: &[u8]) -> bool {
    [&b"host"[..], b"content-length", b"transfer-encoding"].iter().any(|name| option.eq_ignore_ascii_case(name))
}

/// Headers for the final recipient, which Connection must not list (RFC 9110 §7.6.1).
const END_TO_END: [&str; 26] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "cdn-loop",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "strict-transport-security",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// Prefixes of more such names.
const END_TO_END_PREFIXES: [&str; 6] = ["accept-", "access-control-", "content-", "if-", "sec-", "x-forwarded-"];

fn is_end_to_end(option: &[u8]) -> bool {
    END_TO_END.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes()))
        || END_TO_END_PREFIXES
            .iter()
            .any(|prefix| option.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_in_any_case() {
        let rows = [
            ("HOST", Field::Host),
            ("content-length", Field::ContentLength),
            ("Content_Length", Field::FramingLookAlike),
            ("content.length", Field::FramingLookAlike),
            ("Transfer-Encoding", Field::TransferEncoding),
            ("Transfer_Encoding", Field::FramingLookAlike),
            ("X-Forwarded-For", Field::ForwardedFor),
            ("X_Forwarded_For", Field::Replaced),
            ("X_FORWARDED_PROTO", Field::Replaced),
            ("X-Forwarded_Proto", Field::Replaced),
            ("x_forwarded_host", Field::Replaced),
            ("X-Forwarded-Proto", Field::ForwardedProto),
            ("x-forwarded-host", Field::ForwardedOther),
            ("X-Forwarded-PORT", Field::ForwardedPort),
            ("X-Forwarded-Ssl", Field::ForwardedOther),
            ("X-Forwarded", Field::Other),
            ("X-REAL-IP", Field::RealIp),
            ("X_Real_IP", Field::Replaced),
            ("forwarded", Field::Forwarded),
            ("Client-Cert", Field::Replaced),
            ("CLIENT_CERT", Field::Replaced),
            ("client-cert-chain", Field::Replaced),
            ("Client_Cert_Chain", Field::Replaced),
            ("Client-Certs", Field::Other),
            ("HTTP2-Settings", Field::HopByHop),
            ("Keep-Alive", Field::HopByHop),
            ("Accept-Charset", Field::Other),
            ("If-Modified-Since", Field::Other),
            ("X", Field::Other),
        ];
        for (name, expected) in rows {
            assert_eq!(classify(name), expected, "{name}");
        }
    }

    #[test]
    fn connection_takes_out_what_it_may() {
        let rows = [
            ("close, X-Hop", "X-Hop", true),
            ("CDN-Loop", "cdn-loop", false),
            ("x-hop ,close", "X-Hop", true),
            ("X-Forwarded-Host", "X-Forwarded-Host", false),
            ("cookie", "Cookie", false),
            ("Content-Type", "Content-Type", false),
            ("X-Hop2", "X-Hop", false),
        ];
        for (options, name, gone) in rows {
            let headers = [Header { name: "Connection", value: options.as_bytes() }, Header { name, value: b"1" }];
            let fields = Fields::sort(&headers);
            assert!(fields.hop.contains(0));
            assert_eq!(fields.hop.contains(1), gone, "{options} / {name}");
        }
    }
}
