//! One instance as a server of HAProxy: its line in the configuration, and the same words for `add server`. Never
//! decides which servers a backend has.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pointsman_table::{CheckWay, CookieFlag, HealthCheck, HttpVersion, Instance, Service, Target};

use super::model::{Address, Addresses, Server};
use super::version::Version;
use super::{names, outbound, words};

/// Health by traffic: three failures in a row eject an instance, and a check that connects, once a second, brings it
/// back. HAProxy needs a check for that, so one also runs once a minute while all is well.
const PASSIVE: &str =
    "check inter 60s fastinter 1s downinter 1s rise 1 fall 3 observe layer4 error-limit 3 on-error mark-down";
/// As with the native engine, checks are faster while a server is about to change its state.
const FASTER: u32 = 4;
/// But not faster than this.
const FASTEST: Duration = Duration::from_millis(250);
/// HAProxy starts even if a name cannot be resolved: its server is down until the next reload.
const RESOLVED_AT_START: &str = "init-addr last,libc,none";
/// HAProxy must not look up names: it does so one after another, and with a silent resolver every check and start would
/// take some five seconds longer for each name. We look them up ourselves.
const RESOLVED_BY_US: &str = "init-addr last,none";

/// HAProxy's connection limits are signed 32-bit numbers.
const MOST_CONNECTIONS: u32 = i32::MAX as u32;

impl Server {
    /// The server of an instance. HAProxy resolves names that have no address here, unless it is `driven` by the
    /// engine.
    pub fn new(service: &Service, instance: &Instance, addresses: &Addresses, driven: bool) -> Self {
        let name = names::server(instance.name.as_str());
        let address = Address::new(instance, addresses);
        let mut options = Vec::new();
        options.extend(instance.backup.then_some(Cow::Borrowed("backup")));
        options.push(Cow::Owned(check(service)));
        options.extend(slow_start(service).map(Cow::Owned));
        options.extend(outbound::words(service, instance).map(Cow::Owned));
        options.extend(version(service).map(Cow::Borrowed));
        options.extend(cookie(service, instance).map(|value| Cow::Owned(format!("cookie {value}"))));
        let unresolved = if driven { RESOLVED_BY_US } else { RESOLVED_AT_START };
        options.extend(matches!(address, Address::Name(..)).then_some(Cow::Borrowed(unresolved)));
        Self {
            name,
            address,
            weight: instance.weight,
            max_connections: instance.max_connections.map_or(0, |most| most.get().min(MOST_CONNECTIONS)),
            drain: instance.drain,
            options: options.join(" ").into(),
            check: true,
        }
    }

    /// Its weight in force: 0 while it drains, so that it keeps its work and gets no more.
    pub fn effective_weight(&self) -> u16 {
        if self.drain { 0 } else { self.weight }
    }

    /// Whether only the names differ: one instance may be several servers, one after another.
    pub fn is_like(&self, other: &Self) -> bool {
        self.address == other.address
            && (self.effective_weight(), self.max_connections) == (other.effective_weight(), other.max_connections)
            && (&self.options, self.check) == (&other.options, other.check)
    }

    /// Whether it can be added at run time: HAProxy resolves names at its start only.
    pub fn is_literal(&self) -> bool {
        !matches!(self.address, Address::Name(..))
    }

    /// The words behind `server <name>`, unquoted.
    pub fn words(&self) -> Vec<Cow<'_, str>> {
        let mut words = vec![Cow::Owned(self.address.to_string())];
        let mut pair = |word: &'static str, number: u32| words.extend([Cow::Borrowed(word), number.to_string().into()]);
        if self.effective_weight() != 1 {
            pair("weight", self.effective_weight().into());
        }
        if self.max_connections != 0 {
            pair("maxconn", self.max_connections);
        }
        words.extend(self.options.split_ascii_whitespace().map(Cow::Borrowed));
        words
    }

    /// Its line in the configuration.
    pub fn line(&self) -> String {
        let words: Vec<_> = self.words().iter().map(|word| words::quote(word).into_owned()).collect();
        format!("    server {} {}\n", self.name, words.join(" "))
    }
}

impl Address {
    /// The address of an instance: of several that its name resolves to, the one chosen.
    pub fn new(instance: &Instance, addresses: &Addresses) -> Self {
        let resolved = &instance.resolved;
        let is_one = |ip: &&IpAddr| resolved.is_empty() || resolved.iter().any(|address| address.ip() == **ip);
        let chosen = || addresses.get(&instance.target).filter(is_one).copied();
        match &instance.target {
            Target::Socket(socket) => Self::Socket(socket.ip(), socket.port()),
            Target::Name(name, port) => match chosen().or(resolved.first().map(SocketAddr::ip)) {
                Some(ip) => Self::Socket(ip, *port),
                None => Self::Name(name.clone(), *port),
            },
            Target::Unix(path) => Self::Unix(path.clone()),
        }
    }
}

/// As HAProxy writes it.
impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(ip, port) => Display::fmt(&SocketAddr::new(*ip, *port), f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix@{}", path.display()),
        }
    }
}

/// Why HAProxy cannot be given this instance, if it cannot.
pub fn refusal(service: &Service, instance: &Instance, version: Version) -> Option<&'static str> {
    match &instance.target {
        // HAProxy expands variables in addresses, and has no escape there.
        Target::Unix(path) if path.to_string_lossy().contains('$') => {
            Some("HAProxy takes a $ in an address for a variable; rename the socket. The instance is left out")
        }
        Target::Unix(_) | Target::Socket(_) | Target::Name(..) => outbound::refusal(service, instance, version),
    }
}

/// The checks of a service's instances. Independent of their number: a new instance must not change the others.
pub fn check(service: &Service) -> String {
    let Some(check) = service.health_check.as_deref() else { return PASSIVE.to_owned() };
    let HealthCheck { way, port, interval, timeout: _, rise, fall } = check;
    let fast = (*interval / FASTER).max(FASTEST).min(*interval);
    let (interval, fast) = (words::time(*interval), words::time(fast));
    let mut words = format!("check inter {interval} fastinter {fast} fall {fall} rise {rise}");
    words.extend(port.map(|port| format!(" port {port}")));
    // Another port speaks plain HTTP/1.
    let is_http2 = service.http_version == HttpVersion::Http2 && matches!(way, CheckWay::Http(_));
    match port {
        _ if !is_http2 => {}
        Some(_) => words.push_str(" check-proto h1"),
        None => words.push_str(" check-proto h2"),
    }
    words
}

/// The growth of a returning instance's share, which HAProxy begins with nothing.
pub fn slow_start(service: &Service) -> Option<String> {
    service.timeouts.slow_start.map(|ramp| format!("slowstart {}", words::time(ramp)))
}

/// The value of its cookie. HAProxy makes the values of `dynamic` itself, and sets none for a server that has one.
fn cookie(service: &Service, instance: &Instance) -> Option<Box<str>> {
    let cookie = service.cookie().filter(|cookie| !cookie.has(CookieFlag::Dynamic))?;
    cookie.values(&service.name, instance).into_iter().next()
}

/// The version of HTTP, if it is not HAProxy's own choice.
pub fn version(service: &Service) -> Option<&'static str> {
    match service.http_version {
        HttpVersion::Http1 => None,
        HttpVersion::Http2 => Some("proto h2"),
    }
}
