//! Addresses in rules: the hosts that requests ask for, and where TCP services listen. Parses and prints them; resolves
//! nothing.

use std::fmt::{Display, Formatter, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::value::{self, Parsed};

/// A host rule, in lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// The exact name.
    Exact(Box<str>),
    /// `*.example.org`: every name below it. Holds `example.org`.
    Wildcard(Box<str>),
}

impl HostPattern {
    /// The name, or the part behind `*.`.
    pub fn name(&self) -> &str {
        match self {
            Self::Exact(name) | Self::Wildcard(name) => name,
        }
    }
}

impl Display for HostPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A listening address: `PORT` is every IPv4 address, as HAProxy's `bind *:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind {
    /// The address; `0.0.0.0` for a bare port.
    pub address: IpAddr,
    /// The port, never 0.
    pub port: u16,
}

impl Display for Bind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Display::fmt(&SocketAddr::new(self.address, self.port), f)
    }
}

/// A host rule: a name, `*.` and a name, or an IP address; a port behind it is ignored, as in a request's host.
pub(crate) fn host_pattern(text: &str) -> Parsed<HostPattern> {
    let name = value::without_dot(without_port(text));
    if let Some(literal) = ipv6(name) {
        return Ok(HostPattern::Exact(format!("[{literal}]").into()));
    }
    match name.strip_prefix("*.") {
        Some(suffix) => Ok(HostPattern::Wildcard(value::host_name(suffix)?)),
        None => Ok(HostPattern::Exact(value::host_name(name)?)),
    }
}

/// A TLS server name: a host rule that is no IP address (RFC 6066 §3).
pub(crate) fn server_name(text: &str) -> Parsed<HostPattern> {
    let pattern = host_pattern(text)?;
    match pattern.name().starts_with('[') || pattern.name().parse::<Ipv4Addr>().is_ok() {
        true => Err("expected a host name; an IP address is never sent as a TLS server name".into()),
        false => Ok(pattern),
    }
}

/// A listening address: `PORT`, `ADDR:PORT`, `[ADDR]:PORT`, `*:PORT`.
pub(crate) fn bind(text: &str) -> Parsed<Bind> {
    let wrong = || "expected PORT or ADDRESS:PORT, the port between 1 and 65535".to_owned();
    let (address, number) = text.rsplit_once(':').unwrap_or(("*", text));
    let port = value::port(number).map_err(|_| wrong())?;
    let address = match address {
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        _ if address.starts_with('[') => ipv6(address).map(IpAddr::V6),
        _ => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    address.map(|address| Bind { address, port }).ok_or_else(wrong)
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

/// A host without the port behind it, if there is one: `a.test:80`, `[::1]:80`, but not `::1`.
fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if value::is_number(port) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn hosts() {
        check(host_pattern("Shop.Test"), "Exact(\"shop.test\")");
        check(host_pattern("shop.test."), "Exact(\"shop.test\")");
        check(host_pattern("shop.test:8080"), "Exact(\"shop.test\")");
        check(host_pattern("my_shop"), "Exact(\"my_shop\")");
        check(host_pattern("*.Shop.test"), "Wildcard(\"shop.test\")");
        check(host_pattern("10.0.0.1"), "Exact(\"10.0.0.1\")");
        check(host_pattern("[::1]:80"), "Exact(\"[::1]\")");
        check(host_pattern("::1"), "Exact(\"[::1]\")");
        for wrong in ["http://a", "a/b", "a b", "*", "*.", "a.*.b", "a..b", ".a", "-a b", "ü.test", "a:b", "[::1", ""]
        {
            check(host_pattern(wrong), "error: expected a host name");
        }
        check(server_name("*.Shop.test"), "Wildcard(\"shop.test\")");
        for wrong in ["10.0.0.1", "[::1]", "::1:443", "a/b"] {
            check(server_name(wrong), "error: expected a host name");
        }
        check(host_pattern(&"a.".repeat(127)), "Exact");
        check(host_pattern(&"a".repeat(64)), "error");
        check(host_pattern(&"aa.".repeat(90)), "error");
    }

    #[test]
    fn binds() {
        check(bind("80"), "address: 0.0.0.0, port: 80");
        check(bind("*:80"), "address: 0.0.0.0, port: 80");
        check(bind("10.0.0.1:80"), "address: 10.0.0.1, port: 80");
        check(bind("[::1]:80"), "address: ::1, port: 80");
        for wrong in ["", ":", "0", "::1:80", "a.test:80", "10.0.0.1", "[10.0.0.1]:80", "10.0.0.1:", "80-90"] {
            check(bind(wrong), "error: expected PORT");
        }
    }
}
