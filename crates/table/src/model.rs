//! What a table is made of. Every value here is already judged: later code cannot doubt it.

use std::fmt::{Display, Formatter};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::acme::AcmeTerms;
use crate::address::{Bind, HostPattern};
use crate::balance::Balance;
use crate::client_auth::ClientAuth;
use crate::conditions::Conditions;
use crate::cookie::Cookie;
use crate::discovery::Dns;
use crate::eject::{Eject, Panic, Percent};
use crate::health_check::{CheckKeys, HealthCheck};
use crate::hsts::Hsts;
use crate::http_version::HttpVersion;
use crate::instance::Instance;
use crate::instance_link::{InstanceLink, ProxyForm};
use crate::names::{Protocol, ServiceName};
use crate::networks::Networks;
use crate::page::{Page, Pages};
use crate::pattern::Pattern;
use crate::policy::{Policy, Scheme};
use crate::retries::Bounds;
use crate::split::Split;
use crate::userlist::UserList;

/// A service in its compiled form, shared between tables while its keys stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its name.
    pub name: ServiceName,
    /// How requests reach it: rules for HTTP, listening ports for TCP.
    pub entry: Entry,
    /// Its keys ask for protection and keep it from being served: its rules count, and nobody answers.
    pub closed: bool,
    /// Port of instances whose value names none, and of the addresses of a [`Dns::Name`].
    pub port: u16,
    /// Its instances, ordered by name. Instances that were bad are not here.
    pub instances: Box<[Instance]>,
    /// How an instance is picked.
    pub balance: Balance,
    /// The most open work of an instance, in percent of the mean, for a hashing balance.
    pub bounded: Option<u16>,
    /// What its instances speak, if it is an HTTP service.
    pub http_version: HttpVersion,
    /// Waits, with the configuration's defaults already in.
    pub timeouts: ServiceTimeouts,
    /// How often its requests are sent, how long they may take and how many may be at work; `None`: nothing says.
    pub bounds: Option<Arc<Bounds>>,
    /// What is done with its requests; `None` in most services.
    pub policy: Option<Arc<Policy>>,
    /// More instances, from a name. Only in tables for an engine that honours it.
    pub dns: Option<Dns>,
    /// How its instances are checked; `None`: traffic alone decides about their health.
    pub health_check: Option<Arc<HealthCheck>>,
    /// When an instance is ejected for its answers, with the configuration's default already in; `None`: never.
    pub eject: Option<Eject>,
    /// Below which share of healthy instances all are used; `None`: only when none is healthy.
    pub panic: Option<Percent>,
    /// How connections to instances are set up; `None`: no key says.
    pub link: Option<Arc<InstanceLink>>,
    /// `custom_settings`, HAProxy's own lines, for HAProxy to judge: lines as written, a line feed between them, no
    /// other control character but the tabulator. Only in tables for an engine that honours it.
    pub custom_settings: Option<Box<str>>,
}

impl Service {
    /// Its rules alone: nobody answers its requests, and no other service gets them.
    pub fn to_closed(&self) -> Self {
        Self {
            closed: true,
            instances: Box::default(),
            policy: None,
            dns: None,
            health_check: None,
            link: None,
            custom_settings: None,
            ..self.clone()
        }
    }

    /// Whether it has neither instances nor a name to get them from.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.dns.is_none()
    }

    /// Whether an instance takes new work, or may come from `dns`.
    pub fn may_take_work(&self) -> bool {
        self.dns.is_some() || self.instances.iter().any(Instance::takes_work)
    }

    /// What is known of its rules, when it is an HTTP service.
    pub fn http(&self) -> Option<&HttpEntry> {
        match &self.entry {
            Entry::Http(entry) => Some(entry),
            Entry::Tcp(_) => None,
        }
    }

    /// The rules by which requests reach it; `None`: a TCP service, or one that only gets requests from other services.
    pub fn rules(&self) -> Option<&HttpEntry> {
        self.http().filter(|entry| !entry.is_unreached())
    }

    /// Its ports, when it is a TCP service.
    pub fn tcp(&self) -> Option<&TcpEntry> {
        match &self.entry {
            Entry::Tcp(entry) => Some(entry),
            Entry::Http(_) => None,
        }
    }

    /// Its TLS server names, if it is a TCP service; empty: it takes every connection.
    pub fn sni(&self) -> &[HostPattern] {
        self.tcp().map(|entry| &*entry.sni).unwrap_or_default()
    }

    /// The PROXY header that connections to instances begin with.
    pub fn send_proxy(&self) -> Option<ProxyForm> {
        self.link.as_ref()?.send_proxy
    }

    /// Whether it is a TCP service whose TLS ends here.
    pub fn terminates(&self) -> bool {
        self.tcp().is_some_and(|entry| entry.terminates)
    }

    /// How clients reach it.
    pub fn scheme(&self) -> Scheme {
        self.policy.as_ref().map(|policy| policy.scheme).unwrap_or_default()
    }

    /// What browsers are told in answers over HTTPS.
    pub fn hsts(&self) -> Option<&Hsts> {
        self.policy.as_ref()?.hsts.as_ref()
    }

    /// Whether a request is finished even if its client left: `abort=false`.
    pub fn finishes_abandoned(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.finish)
    }

    /// What is asked of clients' certificates, if anything.
    pub fn client_auth(&self) -> Option<&ClientAuth> {
        self.policy.as_ref()?.client_auth.as_ref()
    }

    /// Whether fewer of the instances that serve are healthy than `panic` asks for: of the ordinary ones, or of the backups
    /// if no other is healthy. If none is healthy at all, all are used in any case. `takes_work`, `is_healthy`: of the
    /// instance at this index.
    pub fn in_panic(&self, takes_work: impl Fn(usize) -> bool, is_healthy: impl Fn(usize) -> bool) -> Option<Panic> {
        let share = self.panic?;
        let of = |backups: bool| {
            let all = (0..self.instances.len()).filter(|index| self.instances[*index].backup == backups);
            let (mut healthy, mut count) = (0, 0);
            for index in all.filter(|index| takes_work(*index)) {
                count += 1;
                healthy += usize::from(is_healthy(index));
            }
            Panic { backups, healthy, count }
        };
        let serving = [false, true].into_iter().map(of).find(|one| one.healthy > 0)?;
        share.exceeds(serving.healthy, serving.count).then_some(serving)
    }

    /// The users with access; `None`: everybody.
    pub fn basic_auth(&self) -> Option<&UserList> {
        self.policy.as_ref()?.basic_auth.as_ref()
    }

    /// The greatest body that its requests may have, bytes.
    pub fn max_body(&self) -> Option<u64> {
        self.policy.as_ref()?.max_body
    }

    /// Whether a client at this address may reach it.
    pub fn admits(&self, client: IpAddr) -> bool {
        let access = self.policy.as_ref().and_then(|policy| policy.access.as_ref());
        access.is_none_or(|access| access.admits(client))
    }

    /// Its own bodies of local replies, by status.
    pub fn errors(&self) -> &[(u16, Arc<Page>)] {
        self.policy.as_ref().map(|policy| &*policy.errors).unwrap_or_default()
    }

    /// Who takes a share of its requests, if others do.
    pub fn split(&self) -> Option<&Split> {
        self.policy.as_ref()?.split.as_ref()
    }

    /// Who gets copies of its requests, and of which share of them.
    pub fn mirrors(&self) -> &[(ServiceName, u32)] {
        self.policy.as_ref().map(|policy| &*policy.mirrors).unwrap_or_default()
    }

    /// How clients stick to its instances, if they do.
    pub fn cookie(&self) -> Option<&Cookie> {
        self.policy.as_ref()?.cookie.as_ref()
    }

    /// Whether its balance needs to know the open work of all workers.
    pub fn counts_work(&self) -> bool {
        matches!(self.balance, Balance::LeastConnections | Balance::PowerOfTwo) || self.bounded.is_some()
    }
}

/// How requests or connections reach a service.
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
    /// `default=true`: takes requests that no other service matches.
    pub default: bool,
    /// `keep_virtual_path=true`.
    pub keep_virtual_path: bool,
    /// What else a request must have; `None` in most services.
    pub conditions: Option<Arc<Conditions>>,
}

impl HttpEntry {
    /// Whether no request matches it.
    pub(crate) fn is_unreached(&self) -> bool {
        self.hosts.is_empty() && self.paths.is_empty() && !self.default
    }
}

/// How connections reach one TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpEntry {
    /// The addresses that it claims; [`crate::Table::tcp`] has those that it got.
    pub binds: Box<[Bind]>,
    /// Its TLS server names there; empty: it takes every connection.
    pub sni: Box<[HostPattern]>,
    /// `tls=terminate`: TLS ends here, and the instance gets what was in it.
    pub terminates: bool,
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

/// The key and its value: `url_beg /api`.
impl Display for PathRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key(), self.text())
    }
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
    /// From an instance's return or appearance to its full share; `None`: at once.
    pub slow_start: Option<Duration>,
}

/// Everything below `config/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Waits.
    pub timeouts: Timeouts,
    /// What bounds the requests of services that say nothing else.
    pub bounds: Bounds,
    /// Most open client connections; `None`: as many as file descriptors allow.
    pub max_connections: Option<NonZeroU32>,
    /// Longest head, bytes.
    pub head_bytes: usize,
    /// Most headers in a head.
    pub headers: usize,
    /// Most requests at the same time on an HTTP/2 connection of a client.
    pub streams: usize,
    /// `request_id` of services that do not say.
    pub request_id: bool,
    /// Path answered 200 by the balancer itself.
    pub health_uri: Option<Box<str>>,
    /// `eject` of services that do not say.
    pub eject: Option<Eject>,
    /// `panic` of services that do not say.
    pub panic: Option<Percent>,
    /// Defaults of the keys `health_check*` of services.
    pub health_check: CheckKeys,
    /// Trusted proxies; empty: none.
    pub trusted_proxies: Networks,
    /// Whose connections begin with a PROXY header; empty: nobody's.
    pub accept_proxy: Networks,
    /// The oldest TLS version that clients may speak.
    pub tls_min_version: TlsVersion,
    /// No handshake for a server name that no certificate covers, or for none.
    pub tls_strict_sni: bool,
    /// How certificates are asked for.
    pub acme: AcmeTerms,
    /// Bodies of local replies, by status.
    pub errors: Pages,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
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
    /// To finish requests and connections after a removal or TERM: 60 s.
    pub drain: Duration,
    /// From an instance's return or appearance to its full share; `None`: at once.
    pub slow_start: Option<Duration>,
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
            slow_start: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            max_connections: None,
            head_bytes: 32 * 1024,
            headers: 128,
            streams: 128,
            request_id: false,
            health_uri: None,
            eject: None,
            panic: None,
            health_check: CheckKeys::default(),
            trusted_proxies: Networks::default(),
            accept_proxy: Networks::default(),
            tls_min_version: TlsVersion::default(),
            tls_strict_sni: false,
            acme: AcmeTerms::default(),
            errors: Box::default(),
        }
    }
}
