//! Version 1: a line of text (`proxy-protocol.txt`, section 2.1). Never looks beyond 107 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::header::{BadProxyHeader, ProxyHeader, ProxyOrigin, ProxyVersion, may_begin};

const PREFIX: &[u8] = b"PROXY ";
const END: &[u8] = b"\r\n";
/// The longest line, CRLF included.
const MAX_LINE: usize = 107;

/// The protocol that a line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp4,
    Tcp6,
    Unknown,
}

/// What may follow `PROXY `. The line may end behind UNKNOWN.
const PROTOCOLS: [(&[u8], Protocol); 4] = [
    (b"TCP4 ", Protocol::Tcp4),
    (b"TCP6 ", Protocol::Tcp6),
    (b"UNKNOWN ", Protocol::Unknown),
    (b"UNKNOWN\r\n", Protocol::Unknown),
];

/// Parses a buffer that begins with `P`.
pub(super) fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader<'_>>, BadProxyHeader> {
    let window = &buffer[..buffer.len().min(MAX_LINE)];
    if !may_begin(window, PREFIX) {
        return Err(BadProxyHeader::Signature);
    }
    let behind = window.get(PREFIX.len()..).unwrap_or_default();
    let possible = PROTOCOLS.into_iter().find(|(name, _)| may_begin(behind, name));
    let (name, protocol) = possible.ok_or(BadProxyHeader::Protocol)?;
    check_bytes(behind.get(name.len()..).unwrap_or_default(), protocol)?;
    let Some(end) = window.windows(END.len()).position(|bytes| bytes == END) else {
        return if window.len() < MAX_LINE { Ok(None) } else { Err(BadProxyHeader::LineTooLong) };
    };
    // Only UNKNOWN may be followed by the end, and then nothing is read.
    let text = window.get(PREFIX.len() + name.len()..end).unwrap_or_default();
    let origin = match protocol {
        Protocol::Tcp4 => addresses::<Ipv4Addr>(text)?,
        Protocol::Tcp6 => addresses::<Ipv6Addr>(text)?,
        Protocol::Unknown => ProxyOrigin::Unknown,
    };
    let len = end + END.len();
    Ok(Some(ProxyHeader { len, version: ProxyVersion::V1, origin, authority: None, unique_id: None }))
}

/// Refuses early what can become no address. Anything may follow UNKNOWN.
fn check_bytes(text: &[u8], protocol: Protocol) -> Result<(), BadProxyHeader> {
    let known = |byte: &u8| match byte {
        b'0'..=b'9' | b'.' | b' ' => true,
        b'a'..=b'f' | b'A'..=b'F' | b':' => protocol != Protocol::Tcp4,
        _ => protocol == Protocol::Unknown,
    };
    match text.iter().position(|byte| !known(byte)).map_or(&[][..], |at| &text[at..]) {
        [] | [b'\r'] | [b'\r', b'\n', ..] => Ok(()),
        [b'\r' | b'\n', ..] => Err(BadProxyHeader::LineEnd),
        _ => Err(BadProxyHeader::LineByte),
    }
}

/// `source destination port port`.
fn addresses<A: FromStr + Into<IpAddr>>(text: &[u8]) -> Result<ProxyOrigin, BadProxyHeader> {
    let text = str::from_utf8(text).map_err(|_| BadProxyHeader::LineByte)?;
    let mut fields = text.split(' ');
    let mut next = || fields.next().ok_or(BadProxyHeader::LineFields);
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    if fields.next().is_some() {
        return Err(BadProxyHeader::LineFields);
    }
    Ok(ProxyOrigin::Ip {
        source: (address::<A>(source)?, port(source_port)?).into(),
        destination: (address::<A>(destination)?, port(destination_port)?).into(),
    })
}

/// The standard library refuses leading zeros in IPv4, as the document does. Of IPv6 it also takes `::ffff:192.0.2.1`,
/// which senders write where `inet_ntop` does.
fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, BadProxyHeader> {
    text.parse::<A>().map(Into::into).map_err(|_| BadProxyHeader::Address)
}

fn port(digits: &str) -> Result<u16, BadProxyHeader> {
    // `parse` alone would accept a sign and leading zeros.
    let canonical = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse().ok().filter(|_| canonical).ok_or(BadProxyHeader::Port)
}
