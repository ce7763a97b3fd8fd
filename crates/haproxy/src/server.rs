//! One instance as a server of HAProxy: its line in the configuration, which is also what `add server` takes. Decides
//! what a server is; never which of them a backend has.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};

use pointsman_table::{Instance, Protocol, Service, Target};

use super::model::{Address, Addresses, Server};
use super::version::Version;
use super::{names, words};

/// Health as traffic tells it: three failures in a row take an
/// instance out, and a connection a second brings it back. HAProxy gives an instance back only by a check, hence the
/// probe that runs while all is well, once a minute.
const PASSIVE: &str =
    "check inter 60s fastinter 1s downinter 1s rise 1 fall 3 observe layer4 error-limit 3 on-error mark-down";
/// Health as asked for with `health_check_uri` or `health_check_port`.
const ACTIVE: &str = "check inter 2s fall 3 rise 2";
/// Instances are encrypted to, not verified: certificates of instances are rarely signed by anyone the machine knows.
const TLS: &str = "ssl verify none alpn http/1.1";
/// A name that cannot be resolved must not keep HAProxy from starting: its server is down until the next reload.
const RESOLVED_AT_START: &str = "init-addr last,libc,none";
/// We look names up ourselves. HAProxy would do so one after another, and a resolver that is silent would hold up every
/// check and every start by some five seconds a name.
const RESOLVED_BY_US: &str = "init-addr last,none";

/// HAProxy's numbers of connections are signed 32 bit.
const MOST_CONNECTIONS: u32 = i32::MAX as u32;

impl Server {
    /// The server of an instance. Names without an address are left to HAProxy only where nobody drives it.
    pub fn new(service: &Service, instance: &Instance, addresses: &Addresses, driven: bool) -> Self {
        let name = names::server(instance.name.as_str());
        let address = Address::new(&instance.target, addresses);
        let mut options = Vec::new();
        options.extend(instance.backup.then_some(Cow::Borrowed("backup")));
        options.push(Cow::Owned(check(service)));
        options.extend(instance.tls.then(|| Cow::Owned(tls(service.protocol, &instance.target))));
        options.extend(service.cookie().is_some().then(|| Cow::Owned(format!("cookie {name}"))));
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

    /// Its weight in force: one that drains keeps what it has and gets nothing new, as with weight 0.
    pub fn effective_weight(&self) -> u16 {
        if self.drain { 0 } else { self.weight }
    }

    /// Whether it is the same but for its name: one instance may be several servers, one after another.
    pub fn is_like(&self, other: &Self) -> bool {
        self.address == other.address
            && (self.effective_weight(), self.max_connections) == (other.effective_weight(), other.max_connections)
            && (&self.options, self.check) == (&other.options, other.check)
    }

    /// Whether it can be added at run time: HAProxy resolves names at its start only.
    pub fn is_literal(&self) -> bool {
        !matches!(self.address, Address::Name(..))
    }

    /// The words behind `server <name>`, each as HAProxy is to read it: to be quoted by whoever writes them.
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
    /// Where a target is, by its IP address where that is known.
    pub fn new(target: &Target, addresses: &Addresses) -> Self {
        match target {
            Target::Socket(socket) => Self::Socket(socket.ip(), socket.port()),
            Target::Name(name, port) => match addresses.get(name) {
                Some(&ip) => Self::Socket(ip, *port),
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
            Self::Socket(ip, port) => Display::fmt(&std::net::SocketAddr::new(*ip, *port), f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix@{}", path.display()),
        }
    }
}

/// Why HAProxy cannot be given this instance, if it cannot.
pub fn refusal(instance: &Instance, version: Version) -> Option<&'static str> {
    match &instance.target {
        // HAProxy replaces variables in addresses, and knows no escape for it there.
        Target::Unix(path) if path.to_string_lossy().contains('$') => {
            Some("HAProxy takes a $ in an address for a variable; rename the socket. The instance is left out")
        }
        _ if instance.tls && !version.tls => Some("this HAProxy was built without TLS; the instance is left out"),
        Target::Unix(_) | Target::Socket(_) | Target::Name(..) => None,
    }
}

/// How the instances of a service are checked. However many they are: an instance that comes must not change the others.
pub fn check(service: &Service) -> String {
    match (service.health_check.port, &service.health_check.uri) {
        (Some(port), _) => format!("{ACTIVE} port {port}"),
        (None, Some(_)) => ACTIVE.to_owned(),
        (None, None) => PASSIVE.to_owned(),
    }
}

/// The server name sent is that of the instance, or else the host that was asked for.
fn tls(protocol: Protocol, target: &Target) -> String {
    match (target, protocol) {
        (Target::Name(name, _), _) => format!("{TLS} sni str({name}) check-sni {name}"),
        (_, Protocol::Http) => format!("{TLS} sni var(txn.host)"),
        (_, Protocol::Tcp) => TLS.replace(" alpn http/1.1", ""),
    }
}
