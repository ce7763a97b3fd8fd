//! An instance, and its value: `ADDRESS[:PORT] [weight=N] [maxconn=N] [backup] [drain] [tls]`.

use std::fmt::{Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;

use crate::names::InstanceName;
use crate::value::{self, Parsed};

const SHAPE: &str = "expected ADDRESS[:PORT] with an IPv4 address, [IPv6], a host name, or unix:/path";

/// One instance of a service: where its requests or connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name within the service.
    pub name: InstanceName,
    /// Where it is.
    pub target: Target,
    /// The allowed addresses of its host name, ordered. Empty: it has no host name, or names are not looked up.
    pub resolved: Box<[SocketAddr]>,
    /// 0..=256, default 1; 0 takes no new work.
    pub weight: u16,
    /// Most connections at once.
    pub max_connections: Option<NonZeroU32>,
    /// Serves when all others are down, not when they are full.
    pub backup: bool,
    /// Takes no new work and finishes what it has.
    pub drain: bool,
    /// Speaks TLS.
    pub tls: bool,
}

impl Instance {
    /// Whether its value allows new work.
    pub fn takes_work(&self) -> bool {
        self.weight > 0 && !self.drain
    }

    /// Whether it is named by its address, as those are that come from `dns`.
    pub fn is_of_dns(&self) -> bool {
        matches!(self.target, Target::Socket(address) if self.name.as_str() == address.to_string())
    }
}

/// An instance's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An address and port.
    Socket(SocketAddr),
    /// A host name to resolve, and a port.
    Name(Box<str>, u16),
    /// A Unix socket.
    Unix(Box<Path>),
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => Display::fmt(address, f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses a value. `port` is used if it names none.
pub(crate) fn parse(name: &str, text: &str, port: u16) -> Parsed<Instance> {
    let mut words = text.split_ascii_whitespace();
    let address = words.next().ok_or(SHAPE)?;
    let mut instance = Instance {
        name: InstanceName(name.into()),
        target: target(address, port)?,
        resolved: Box::default(),
        weight: 1,
        max_connections: None,
        backup: false,
        drain: false,
        tls: false,
    };
    while let Some(word) = words.next() {
        option(&mut instance, word)?;
        value::once(word, words.clone())?;
    }
    Ok(instance)
}

fn option(instance: &mut Instance, word: &str) -> Parsed<()> {
    match word.split_once('=') {
        None if word == "backup" => instance.backup = true,
        None if word == "drain" => instance.drain = true,
        None if word == "tls" => instance.tls = true,
        Some(("weight", number)) => instance.weight = weight(number)?,
        Some(("maxconn", number)) => instance.max_connections = most(number)?,
        _ => {
            return Err(format!("unknown option {word:?}; expected weight=0..256, maxconn=N, backup, drain or tls"));
        }
    }
    Ok(())
}

fn weight(number: &str) -> Parsed<u16> {
    let weight = value::within(number, 0, 256).map_err(|_| "expected a weight from 0 to 256")?;
    Ok(u16::try_from(weight).expect("at most 256"))
}

/// As in HAProxy, 0 is no limit.
fn most(number: &str) -> Parsed<Option<NonZeroU32>> {
    let most =
        value::within(number, 0, u32::MAX as usize).map_err(|_| "expected maxconn=N, a number of connections")?;
    Ok(u32::try_from(most).ok().and_then(NonZeroU32::new))
}

fn target(address: &str, port: u16) -> Parsed<Target> {
    if let Some(path) = address.strip_prefix("unix:") {
        return unix(path);
    }
    if address.contains("://") || address.contains('/') {
        return Err(format!("{SHAPE}; without scheme or path"));
    }
    if address.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("{SHAPE}; an IPv6 address goes in brackets"));
    }
    let (host, port) = split(address, port)?;
    match bracketed(host) {
        Some(inner) => inner.parse().map(|ip| socket(IpAddr::V6(ip), port)).map_err(|_| SHAPE.into()),
        None => named(host, port),
    }
}

fn split(address: &str, port: u16) -> Parsed<(&str, u16)> {
    match address.rsplit_once(':') {
        Some((host, number)) if !address.ends_with(']') => Ok((host, value::port(number)?)),
        _ => Ok((address, port)),
    }
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn socket(ip: IpAddr, port: u16) -> Target {
    Target::Socket(SocketAddr::new(ip, port))
}

fn named(host: &str, port: u16) -> Parsed<Target> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(socket(IpAddr::V4(ip), port));
    }
    let name = value::host_name(value::without_dot(host)).map_err(|_| SHAPE)?;
    match name.rsplit('.').next() {
        Some(last) if is_number(last) => Err(format!("{SHAPE}; this is not an IPv4 address")),
        _ => Ok(Target::Name(name, port)),
    }
}

/// RFC 1123 §2.1: a name's last label is never all digits. Some resolvers take such a name, and hexadecimal digits, for
/// an IPv4 address (inet_aton(3): `127.1`, `0x7f000001`), past every check of addresses.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// `sun_path` holds 108 bytes with its final zero (unix(7)).
fn unix(path: &str) -> Parsed<Target> {
    let climbs = path.split('/').any(|part| part == "..");
    if !path.starts_with('/') || path.len() > 107 || path.contains('\0') || climbs {
        return Err("expected unix:/path, absolute, without .. and at most 107 bytes".into());
    }
    Ok(Target::Unix(Path::new(path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match parse("x", text, 8080) {
            Ok(Instance { target, weight, max_connections, backup, drain, tls, .. }) => {
                let most = max_connections.map_or(0, NonZeroU32::get);
                format!("{target} weight={weight} maxconn={most} backup={backup} drain={drain} tls={tls}")
            }
            Err(advice) => format!("error: {advice}"),
        };
        assert!(said.starts_with(expected), "{text:?}: {said} is not {expected}");
    }

    #[test]
    fn addresses() {
        check("10.0.0.1", "10.0.0.1:8080 weight=1 maxconn=0 backup=false drain=false tls=false");
        check("10.0.0.1:81", "10.0.0.1:81 ");
        check("[::1]", "[::1]:8080 ");
        check("[::1]:81", "[::1]:81 ");
        check("Web.Test", "web.test:8080 ");
        check("web_1.:81", "web_1:81 ");
        check("unix:/run/web.sock", "unix:/run/web.sock ");
        for wrong in
            ["", "::1", "fe80::1:80", "[::1", "[a]", "http://a", "a/b", "10.0.0.300", "10.0.0.1:", "a:0", "a b"]
        {
            check(wrong, "error: ");
        }
        check("unix:run", "error: expected unix:/path");
        check("unix:/run/../etc/web.sock", "error: expected unix:/path");
        for wrong in ["127.1", "0x7f000001", "2130706433", "0x7f.0.0.0x1", "0177.0.0.1", "127.0.0.1.", "a.0X1F:80"] {
            check(wrong, "error: expected ADDRESS[:PORT]");
        }
        check("0xa.test", "0xa.test:8080 ");
        check("1.2.3.4:99999", "error: expected a port between 1 and 65535");
        check("10.0.0.300:80", "error: expected ADDRESS[:PORT] with an IPv4 address");
    }

    #[test]
    fn options() {
        check("a:1 weight=0  maxconn=5 backup drain tls", "a:1 weight=0 maxconn=5 backup=true drain=true tls=true");
        check("a:1 weight=256 maxconn=0", "a:1 weight=256 maxconn=0 ");
        check("a:1 weight=257", "error: expected a weight from 0 to 256");
        check("a:1 weight=-1", "error: expected a weight");
        check("a:1 maxconn=x", "error: expected maxconn=N");
        check("a:1 backup=yes", "error: unknown option \"backup=yes\"");
        check("a:1 Backup", "error: unknown option");
        check("a:1 weight=1 tls weight=2", "error: expected weight once, but it is given again");
        check("a:1 maxconn=1 maxconn=1", "error: expected maxconn once");
        check("a:1 drain backup drain", "error: expected drain once");
    }
}
