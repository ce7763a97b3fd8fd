//! Writes PROXY headers. Never decides which connection gets one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::header::ProxyVersion;
use super::v2::{AUTHORITY, LOCAL, PROXY, SIGNATURE};

/// A header for a new connection to an instance.
#[derive(Clone, Copy, Debug)]
pub struct SendProxy<'a> {
    /// The form.
    pub version: ProxyVersion,
    /// The client, and what it connected to. `None`: a connection of our own, LOCAL in version 2. Version 1 has only
    /// UNKNOWN for that, which some receivers refuse: the document asks for the connection's own addresses instead.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The host name that the client asked for. Version 1 and connections of our own have no place for it. One that is
    /// empty or has more than 255 bytes is left out: it is no host name (RFC 1035 §2.3.4).
    pub authority: Option<&'a [u8]>,
}

/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;

/// A header names one family. IPv4 within IPv6 becomes IPv4 again if both addresses can; if they differ, both are IPv6.
#[derive(Clone, Copy, Debug)]
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
            (source, destination) => Pair::V6(to_v6(source), to_v6(destination)),
        }
    }
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl SendProxy<'_> {
    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        match (self.version, self.addresses) {
            (ProxyVersion::V1, None) => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
            (ProxyVersion::V1, Some((source, destination))) => push_line(source, destination, out),
            (ProxyVersion::V2, None) => push_fixed(LOCAL, 0, 0, out),
            (ProxyVersion::V2, Some((source, destination))) => self.push_binary(source, destination, out),
        }
    }

    fn push_binary(&self, source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
        let authority = self.authority.filter(|name| !name.is_empty());
        let authority = authority.and_then(|name| Some((u8::try_from(name.len()).ok()?, name)));
        let tlvs = authority.map_or(0, |(length, _)| 3 + u16::from(length));
        match Pair::new(source, destination) {
            Pair::V4(source, destination) => {
                push_fixed(PROXY, TCP4, 12 + tlvs, out);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&destination.octets());
            }
            Pair::V6(source, destination) => {
                push_fixed(PROXY, TCP6, 36 + tlvs, out);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&destination.octets());
            }
        }
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
        if let Some((length, name)) = authority {
            out.extend_from_slice(&[AUTHORITY, 0, length]);
            out.extend_from_slice(name);
        }
    }
}

fn push_line(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let ports = (source.port(), destination.port());
    let line = match Pair::new(source, destination) {
        Pair::V4(source, destination) => format!("PROXY TCP4 {source} {destination} {} {}\r\n", ports.0, ports.1),
        Pair::V6(source, destination) => format!("PROXY TCP6 {source} {destination} {} {}\r\n", ports.0, ports.1),
    };
    out.extend_from_slice(line.as_bytes());
}

fn push_fixed(command: u8, kind: u8, length: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[command, kind]);
    out.extend_from_slice(&length.to_be_bytes());
}
