//! The types of settings: those that the rest of the program takes, and the draft that flags are read into. Reads
//! nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_haproxy::HaproxySettings;
use pointsman_native::LineFormat;
use pointsman_store::{Api, Location, StoreSettings};
use pointsman_table::{Answers, Bind, Capabilities, OuterCert, Places, guard_share};
use thiserror::Error;

use super::docker_host::DockerHost;
use super::stats_socket::StatsSocket;
use crate::control::GuardSettings;
use crate::logging::access::{LogTarget, SyslogForm};
use crate::traces::OtlpSettings;

/// How many requests are kept in memory beside an access log.
const USUAL_RECENT: usize = 10_000;

/// How certificates are asked for, as far as no key says.
#[derive(Clone, Debug, Default)]
pub struct AcmeSettings {
    /// The file of `--acme-ca`.
    pub ca: Option<PathBuf>,
    /// The program of `--acme-dns-hook`.
    pub hook: Option<PathBuf>,
    /// The name server of `--acme-dns-server`.
    pub updates: Option<DnsUpdates>,
    /// Answers to authorities that somebody else asked, from variables of the environment.
    pub answers: Arc<Answers>,
}

/// The server that takes changes of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdates {
    /// Where it listens, for TCP.
    pub server: SocketAddr,
    /// The zone to change; else the server says in which zone a name is.
    pub zone: Option<Box<str>>,
    /// The file with the key that changes are signed with.
    pub key: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{origin}: {what}")]
pub struct SettingsError {
    /// The flag, variable or file key.
    pub origin: String,
    /// What is wrong and what is expected.
    pub what: String,
}

/// The proxy engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The native engine, in this process.
    #[default]
    Native,
    /// A real HAProxy, started and driven.
    Haproxy,
}

impl Engine {
    /// Its name in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Haproxy => "haproxy",
        }
    }

    /// The keys that it honours.
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Native => Capabilities::NATIVE,
            Self::Haproxy => Capabilities::HAPROXY,
        }
    }
}

/// How to follow Docker and to write its containers' keys. Without effect on a balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// The daemon's address.
    pub docker: DockerHost,
    /// This machine's name; `None`: the daemon's.
    pub node: Option<String>,
    /// This machine's address as balancers see it.
    pub host: Option<IpAddr>,
    /// The network to use for containers that are in several.
    pub network: Option<String>,
    /// How long the keys outlive the agent.
    pub ttl: Duration,
}

impl Default for AgentSettings {
    fn default() -> Self {
        let (docker, ttl) = (DockerHost::default(), Duration::from_secs(15));
        Self { docker, node: None, host: None, network: None, ttl }
    }
}

/// How requests are logged. Without effect on the HAProxy engine.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessSettings {
    /// Where lines go; none: requests are not logged.
    pub to: Vec<LogTarget>,
    /// How a line is written.
    pub format: LineFormat,
    /// The share of requests without a fault that are logged.
    pub sample: f64,
    /// How lines for syslog are framed.
    pub syslog: SyslogForm,
    /// How many requests are kept in memory, if that is said.
    pub recent: Option<usize>,
}

impl AccessSettings {
    /// How many requests are kept in memory.
    pub fn recent(&self) -> usize {
        self.recent.unwrap_or(if self.to.is_empty() { 0 } else { USUAL_RECENT })
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        let (format, syslog) = (LineFormat::default(), SyslogForm::default());
        Self { to: Vec::new(), format, sample: 1.0, syslog, recent: None }
    }
}

/// The facts about the machine and its user that defaults depend on.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Whether the user is root.
    pub root: bool,
    /// The number of threads that can run at once.
    pub cores: NonZeroUsize,
    /// The file of settings that is read if it is there and no other is named; `None`: no file.
    pub config: Option<&'static Path>,
    /// Whether that file must be readable for this user: for a balancer, an agent and `register`.
    pub needs_config: bool,
}

/// Everything that the program needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the keys are.
    pub store: StoreSettings,
    /// The HTTP listeners' addresses.
    pub http: Vec<SocketAddr>,
    /// The HTTPS listeners' addresses: HTTP services over TLS.
    pub https: Vec<SocketAddr>,
    /// Where HTTPS is served once there are certificates, if no setting says where.
    pub usual_https: Box<[Bind]>,
    /// The address of the admin pages; `None`: there are none.
    pub admin: Option<SocketAddr>,
    /// The most series of the metrics; `None`: no limit.
    pub metrics_detail: Option<usize>,
    /// The host names of the admin pages, beside addresses and `localhost`, in lower case.
    pub admin_hosts: Vec<Box<str>>,
    /// The socket for HAProxy's tools, if there is one.
    pub stats_socket: Option<StatsSocket>,
    /// The proxy engine.
    pub engine: Engine,
    /// How to run HAProxy.
    pub haproxy: HaproxySettings,
    /// How requests are logged.
    pub access: AccessSettings,
    /// How requests are traced.
    pub otlp: OtlpSettings,
    /// Where instances may be.
    pub places: Places,
    /// The name servers to ask; none: those of the machine.
    pub resolvers: Vec<SocketAddr>,
    /// How to follow Docker.
    pub agent: AgentSettings,
    /// The folder for the balancer's own files; `None` if nothing needs it and there is no default folder.
    pub state: Option<PathBuf>,
    /// This balancer's name, if one was given.
    pub name: Option<String>,
    /// The number of worker threads.
    pub workers: NonZeroUsize,
    /// The path that the balancer itself answers with 200, unless the keys name one.
    pub health_uri: Option<Box<str>>,
    /// Whose connections begin with a PROXY header, unless the keys say so.
    pub accept_proxy: Option<Box<str>>,
    /// The folder of certificates in files.
    pub certs: Option<PathBuf>,
    /// How certificates are asked for, as far as no key says.
    pub acme: AcmeSettings,
    /// Certificates in variables of the environment. Secret.
    pub cert_variables: Arc<[OuterCert]>,
    /// How much may be taken away at once.
    pub guard: GuardSettings,
    /// The log filter, if one was given.
    pub log: Option<String>,
}

/// Values as read, before the rules between them.
pub(super) struct Draft {
    pub(super) store: Option<Location>,
    pub(super) id: Option<(String, u8)>,
    pub(super) prefix: Option<(String, u8)>,
    pub(super) api: Api,
    pub(super) user: Option<(String, String)>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) http: Vec<SocketAddr>,
    pub(super) https: Option<Vec<SocketAddr>>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_hosts: Vec<Box<str>>,
    pub(super) stats_socket: Option<StatsSocket>,
    pub(super) metrics_detail: Option<usize>,
    pub(super) engine: Engine,
    pub(super) haproxy: HaproxySettings,
    pub(super) access: AccessSettings,
    pub(super) otlp: OtlpSettings,
    pub(super) places: Places,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) agent: AgentSettings,
    pub(super) name: Option<String>,
    pub(super) workers: Option<NonZeroUsize>,
    pub(super) health_uri: Option<Box<str>>,
    pub(super) accept_proxy: Option<Box<str>>,
    pub(super) certs: Option<PathBuf>,
    pub(super) acme: AcmeSettings,
    pub(super) state: Option<PathBuf>,
    pub(super) guard: GuardSettings,
    pub(super) log: Option<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            store: None,
            id: None,
            prefix: None,
            api: Api::Auto,
            user: None,
            ca: None,
            cert: None,
            key: None,
            http: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))],
            https: None,
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8404))),
            admin_hosts: Vec::new(),
            stats_socket: None,
            metrics_detail: Some(2000),
            engine: Engine::Native,
            haproxy: HaproxySettings::default(),
            access: AccessSettings::default(),
            otlp: OtlpSettings::default(),
            places: Places::default(),
            resolvers: Vec::new(),
            agent: AgentSettings::default(),
            name: None,
            workers: None,
            health_uri: None,
            accept_proxy: None,
            certs: None,
            acme: AcmeSettings::default(),
            state: None,
            guard: GuardSettings { share: guard_share("50%").expect("a share"), hold: Duration::from_secs(600) },
            log: None,
        }
    }
}
