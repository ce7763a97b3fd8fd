//! What a table is made of. Every value here is already judged: later code cannot doubt it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use crate::extras::{Cookie, CookieFlag, CookieMode, Extras, Group, Password, User, UserList};
pub use crate::pattern::Pattern;

/// A service's name: one path segment, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(pub(crate) Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that a map by name can be asked with a plain `str`.
impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An instance's name within its service: one path segment, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(pub(crate) Box<str>);

impl InstanceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which tree a service lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Below `services/`.
    Http,
    /// Below `tcp-services/`.
    Tcp,
}

impl Protocol {
    /// The tree that holds its services: `services`, `tcp-services`.
    pub fn tree(self) -> &'static str {
        match self {
            Self::Http => "services",
            Self::Tcp => "tcp-services",
        }
    }
}

/// A service in its compiled form, shared between tables while its keys stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its name.
    pub name: ServiceName,
    /// How requests reach it: rules for HTTP, listening ports for TCP.
    pub entry: Entry,
    /// Port of what `dns` resolves to, as of instances that name none.
    pub port: u16,
    /// Its instances, ordered by name. Instances that were bad are not here.
    pub instances: Box<[Instance]>,
    /// How an instance is picked.
    pub balance: Balance,
    /// Waits, with the configuration's defaults already in.
    pub timeouts: ServiceTimeouts,
    /// Keys that another engine honours and the native one reports; parsed, not acted on.
    pub extras: Extras,
}

impl Service {
    /// Its rules, when it is an HTTP service.
    pub fn http(&self) -> Option<&HttpEntry> {
        match &self.entry {
            Entry::Http(entry) => Some(entry),
            Entry::Tcp(_) => None,
        }
    }

    /// Its ports, when it is a TCP service.
    pub fn tcp(&self) -> Option<&TcpEntry> {
        match &self.entry {
            Entry::Tcp(entry) => Some(entry),
            Entry::Http(_) => None,
        }
    }
}

/// How work reaches a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An HTTP service's rules.
    Http(HttpEntry),
    /// A TCP service's listening ports.
    Tcp(TcpEntry),
}

/// Rules of one HTTP service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpEntry {
    /// Hosts from `domain` and `virtual_hosts`; empty means any host.
    pub hosts: Box<[HostPattern]>,
    /// Path rules from `url_beg`, `virtual_path`, `path` and `url_reg`; empty means any path.
    pub paths: Box<[PathRule]>,
    /// Higher wins before anything else.
    pub priority: i64,
    /// `match=any`: host or path is enough.
    pub either: bool,
    /// `default=true`: takes what no other service takes.
    pub default: bool,
    /// `keep_virtual_path=true`.
    pub keep_virtual_path: bool,
}

/// Ports of one TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpEntry {
    /// Where it asks to listen; [`crate::Table::tcp`] says what it got.
    pub binds: Box<[Bind]>,
}

/// A listening address: `PORT` is every IPv4 address, as HAProxy's `bind *:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind {
    /// The address; `0.0.0.0` for a bare port.
    pub address: IpAddr,
    /// The port, never 0.
    pub port: u16,
}

/// A host rule, in lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This very name.
    Exact(Box<str>),
    /// `*.example.org`: every name below; the text kept is `example.org`.
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

/// A path rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// `url_beg`: plain string prefix of path and query.
    Begins(Box<str>),
    /// `virtual_path`: as `Begins`, and taken off unless `keep_virtual_path`.
    Virtual(Box<str>),
    /// `path`: whole segments.
    Segments(Box<str>),
    /// `url_reg`: searched in path and query, ASCII case ignored.
    Pattern(Arc<Pattern>),
}

impl PathRule {
    /// The key it was written in.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Begins(_) => "url_beg",
            Self::Virtual(_) => "virtual_path",
            Self::Segments(_) => "path",
            Self::Pattern(_) => "url_reg",
        }
    }

    /// The prefix or the expression.
    pub fn text(&self) -> &str {
        match self {
            Self::Begins(text) | Self::Virtual(text) | Self::Segments(text) => text,
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

/// How an instance is picked, in HAProxy's words (Configuration Manual, `balance`), and `p2c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Turns, weighted, dynamic.
    RoundRobin,
    /// Turns, weighted, fixed.
    StaticRoundRobin,
    /// Fewest open connections per weight.
    LeastConnections,
    /// The first with room.
    First,
    /// By client address.
    Source,
    /// By path.
    Uri,
    /// By a request header.
    Header(Box<str>),
    /// By a query parameter.
    UrlParam(Box<str>),
    /// By chance, weighted.
    Random,
    /// The less busy of two taken by chance.
    PowerOfTwo,
}

/// One place that does the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name within the service.
    pub name: InstanceName,
    /// Where it is.
    pub target: Target,
    /// 0..=256, default 1; 0 takes no new work.
    pub weight: u16,
    /// Most connections at once.
    pub max_connections: Option<NonZeroU32>,
    /// Only used when no other instance is.
    pub backup: bool,
    /// Takes no new work and finishes what it has.
    pub drain: bool,
    /// Speaks TLS. Only in tables for an engine with [`crate::Abilities::tls_instances`].
    pub tls: bool,
}

impl Instance {
    /// Whether its keys give it new work.
    pub fn takes_work(&self) -> bool {
        self.weight > 0 && !self.drain
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

/// Waits that a service may override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTimeouts {
    /// To connect to an instance.
    pub connect: Duration,
    /// Without a byte from an instance.
    pub server: Duration,
    /// Idle tunnel or TCP relay.
    pub tunnel: Duration,
}

/// Everything below `config/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Waits.
    pub timeouts: Timeouts,
    /// Open client connections; `None`: what file descriptors allow.
    pub max_connections: Option<NonZeroU32>,
    /// Longest head, bytes.
    pub head_bytes: usize,
    /// Most headers in a head.
    pub headers: usize,
    /// Path answered 200 by the balancer itself.
    pub health_uri: Option<Box<str>>,
    /// Bodies of our own error answers, by status.
    pub errors: Box<[(u16, Arc<str>)]>,
}

/// Waits, with KEYS' defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect to an instance: 5 s.
    pub connect: Duration,
    /// For a whole request head: 5 s.
    pub head: Duration,
    /// Idle between requests: 60 s.
    pub keep_alive: Duration,
    /// Without a byte from a client in the middle of a request: 60 s.
    pub client: Duration,
    /// Without a byte from an instance: 60 s.
    pub server: Duration,
    /// Idle tunnel or TCP relay: 1 h.
    pub tunnel: Duration,
    /// To finish work after a removal or TERM: 60 s.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(5),
            keep_alive: Duration::from_secs(60),
            client: Duration::from_secs(60),
            server: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            drain: Duration::from_secs(60),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            max_connections: None,
            head_bytes: 32 * 1024,
            headers: 128,
            health_uri: None,
            errors: Box::default(),
        }
    }
}
