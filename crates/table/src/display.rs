//! How the model reads in pages, logs and commands. Owns no decision.

use std::fmt::{Display, Formatter, Result};
use std::net::SocketAddr;

use crate::model::{Balance, Bind, HostPattern, InstanceName, PathRule, Protocol, ServiceName, Target};

impl Display for ServiceName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.as_str())
    }
}

impl Display for InstanceName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.as_str())
    }
}

/// The tree's name in keys: `services`, `tcp-services`.
impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.tree())
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Socket(address) => Display::fmt(address, f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Display for Bind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Display::fmt(&SocketAddr::new(self.address, self.port), f)
    }
}

/// The key's value, as an operator writes it.
impl Display for Balance {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::RoundRobin => f.write_str("roundrobin"),
            Self::StaticRoundRobin => f.write_str("static-rr"),
            Self::LeastConnections => f.write_str("leastconn"),
            Self::First => f.write_str("first"),
            Self::Source => f.write_str("source"),
            Self::Uri => f.write_str("uri"),
            Self::Header(name) => write!(f, "hdr({name})"),
            Self::UrlParam(name) => write!(f, "url_param({name})"),
            Self::Random => f.write_str("random"),
            Self::PowerOfTwo => f.write_str("p2c"),
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

/// The key and its value: `url_beg /api`.
impl Display for PathRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}", self.key(), self.text())
    }
}
