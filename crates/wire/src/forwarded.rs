//! Headers in which proxies tell a request's way: `X-Forwarded-For`, else `Forwarded` (RFC 7239), else `X-Real-IP`. The
//! caller says which peers are trusted.

use std::net::{IpAddr, SocketAddr};

use crate::fields::{Field, classify};
use crate::head::Header;
use crate::lists::{from_the_end, pairs};

/// How far a peer's headers about its client are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: `X-Forwarded-*`, `X-Real-IP` and `Forwarded` are removed; `X-Forwarded-For` is kept and added to.
    #[default]
    Nothing,
    /// `X-Forwarded-*` pass to the instance; the rest is removed, and none of it is believed.
    Passing,
    /// A trusted proxy: all are kept, and added to.
    Full,
}

/// How requests arrive, as the lines that tell instances: made once for a connection, written for each request.
#[derive(Clone, Debug)]
pub struct Arrived {
    lines: Box<[u8]>,
    /// Length of the line about the protocol, which comes first.
    proto: usize,
}

impl Arrived {
    /// `proto`: `http` or `https`; `port`: where the client connected to.
    pub fn new(proto: &str, port: u16) -> Self {
        let first = format!("X-Forwarded-Proto: {proto}\r\n");
        let second = format!("X-Forwarded-Port: {port}\r\n");
        // Every idle connection has it: not a byte more than needed.
        Self { lines: [first.as_bytes(), second.as_bytes()].concat().into(), proto: first.len() }
    }

    /// The lines to write where the client's own word about the protocol or the port is passed on. Beside another's
    /// protocol, our port would be wrong.
    pub(crate) fn lines(&self, proto_passed: bool, port_passed: bool) -> &[u8] {
        match (proto_passed, port_passed) {
            (false, false) => &self.lines,
            (false, true) => &self.lines[..self.proto],
            (true, _) => &[],
        }
    }
}

/// The address that a request comes from: the last one on its way that is not trusted, seen from us (as nginx'
/// `real_ip_recursive` has it). An entry that is no address ends the way.
pub(crate) fn client(headers: &[Header<'_>], peer: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let told = [Field::ForwardedFor, Field::Forwarded, Field::RealIp];
    match told.into_iter().find(|field| values(headers, *field).next().is_some()) {
        Some(Field::Forwarded) => walk(peer, trusts, values(headers, Field::Forwarded).flat_map(elements)),
        Some(field) => walk(peer, trusts, values(headers, field).flat_map(|value| value.rsplit(',')).map(address)),
        None => peer,
    }
}

/// The values of a header, the last line first.
fn values<'b>(headers: &[Header<'b>], field: Field) -> impl Iterator<Item = &'b str> {
    let lines = headers.iter().rev().filter(move |header| classify(header.name) == field);
    lines.map(|header| str::from_utf8(header.value).unwrap_or("?")).filter(|value| !value.is_empty())
}

fn walk(peer: IpAddr, trusts: impl Fn(IpAddr) -> bool, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut at = peer;
    for hop in hops {
        match hop {
            Some(hop) if trusts(at) => at = hop,
            _ => break,
        }
    }
    at
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare).map(|address: IpAddr| address.to_canonical())
}

/// The `for` of each element of a `Forwarded` value, the last first (RFC 7239 §4). An element that does not say it once ends
/// the way. What clients choose, such as `host`, is in quotes there, with commas and semicolons of their own.
fn elements(value: &str) -> impl Iterator<Item = Option<IpAddr>> {
    from_the_end(value.as_bytes()).map(|element| {
        let pairs = pairs(element).filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='));
        let mut nodes = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, node)| node);
        let node = nodes.next().filter(|_| nodes.next().is_none())?;
        address(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
    })
}

/// Appends `for=ADDRESS` as RFC 7239 §6 writes it.
pub(crate) fn push_for(out: &mut Vec<u8>, client: &str) {
    let (open, close): (&[u8], &[u8]) = if client.contains(':') { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    for part in [open, client.as_bytes(), close] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client of a request from 10.0.0.1, if 10.0.0.0/8 is trusted.
    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: &str) {
        let headers: Vec<_> = lines.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect();
        let trusts = |address: IpAddr| address.to_string().starts_with("10.");
        let client = client(&headers, [10, 0, 0, 1].into(), trusts);
        assert_eq!(client.to_string(), expected, "{lines:?}");
    }

    #[test]
    fn the_way_is_walked_from_the_right() {
        let xff = "X-Forwarded-For";
        check(&[], "10.0.0.1");
        check(&[(xff, "")], "10.0.0.1");
        check(&[(xff, "192.0.2.1")], "192.0.2.1");
        check(&[(xff, "198.51.100.9, 192.0.2.1")], "192.0.2.1");
        check(&[(xff, "198.51.100.9, 192.0.2.1 , 10.0.0.2,10.0.0.3")], "192.0.2.1");
        check(&[(xff, "198.51.100.9"), (xff, "192.0.2.1"), (xff, "10.0.0.3")], "192.0.2.1");
        check(&[(xff, "10.0.0.3, 10.0.0.2")], "10.0.0.3");
        check(&[(xff, "192.0.2.1, unknown, 10.0.0.2")], "10.0.0.2");
        check(&[(xff, "192.0.2.1, 10.0.0.2,")], "10.0.0.1");
        check(&[(xff, "192.0.2.1:4711")], "192.0.2.1");
        check(&[(xff, "2001:db8::1")], "2001:db8::1");
        check(&[(xff, "[2001:db8::1]:80")], "2001:db8::1");
        check(&[(xff, "::ffff:192.0.2.1")], "192.0.2.1");
    }

    #[test]
    fn forwarded_counts_without_x_forwarded_for() {
        check(&[("Forwarded", "for=192.0.2.1")], "192.0.2.1");
        check(&[("Forwarded", "For=\"[2001:db8::1]:4711\"; proto=https, for=10.0.0.2;by=x")], "2001:db8::1");
        check(&[("Forwarded", "for=192.0.2.1, for=_hidden")], "10.0.0.1");
        check(&[("Forwarded", "for=192.0.2.1, by=10.0.0.2")], "10.0.0.1");
        // What a client chooses: its host, and how the value begins.
        check(&[("Forwarded", "for=192.0.2.1;host=\"a,for=10.9.9.9;z=\"")], "192.0.2.1");
        check(&[("Forwarded", "host=\"a;for=10.9.9.9;z\";for=192.0.2.1")], "192.0.2.1");
        check(&[("Forwarded", "host=\"\\\";for=10.9.9.9\";for=192.0.2.1")], "192.0.2.1");
        check(&[("Forwarded", "for=\", for=192.0.2.1")], "192.0.2.1");
        check(&[("Forwarded", "for=192.0.2.1;for=10.9.9.9")], "10.0.0.1");
        check(&[("Forwarded", "for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")], "192.0.2.2");
        check(&[("X-Real-IP", "192.0.2.1")], "192.0.2.1");
        check(&[("X-Real-IP", "192.0.2.1"), ("Forwarded", "for=192.0.2.2")], "192.0.2.2");
        check(&[("X_Forwarded_For", "192.0.2.1"), ("X_Real_IP", "192.0.2.1")], "10.0.0.1");
    }
}
