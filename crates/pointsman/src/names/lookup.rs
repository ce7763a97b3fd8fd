//! Looks up one name as this machine does: /etc/hosts, then the name servers of /etc/resolv.conf or of `--resolver`.
//! Keeps nothing of the answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use tracing::{info, warn};

use super::book::{Located, Unfound};

/// The machine's own files.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How long a name server may take before another, or it again, is asked.
const PATIENCE: Duration = Duration::from_millis(400);

/// Asks name servers.
#[derive(Clone)]
pub struct Lookup {
    /// `None`: the settings cannot be used.
    resolver: Option<Arc<TokioResolver>>,
    /// The name servers to ask instead of the machine's.
    servers: Arc<[SocketAddr]>,
    /// When each of [`FILES`] was written.
    written: [Option<SystemTime>; 2],
}

impl Lookup {
    /// Asks these name servers; if there are none, the machine's.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self { resolver: resolver(servers), servers: servers.into(), written: written() }
    }

    /// Reads the machine's files again if they changed. Returns whether they did.
    pub(super) fn refresh(&mut self) -> bool {
        let written = written();
        if written == self.written {
            return false;
        }
        info!("read {} again", FILES.join(" and "));
        self.resolver = resolver(&self.servers);
        self.written = written;
        true
    }

    /// The addresses of a host name.
    pub(super) async fn look_up(&self, name: &str) -> Result<Located, Unfound> {
        let wrong = |error: &dyn std::fmt::Display| Unfound::Denied(error.to_string().into());
        let resolver = self.resolver.as_ref().ok_or_else(|| wrong(&"the settings of name servers cannot be used"))?;
        let name = Name::from_ascii(name).map_err(|error| wrong(&error))?;
        let found = resolver.lookup_ip(name).await.map_err(|error| failure(&error))?;
        let ttl = found.valid_until().saturating_duration_since(tokio::time::Instant::now().into_std());
        Ok(Located { addresses: found.iter().collect(), ttl })
    }
}

fn failure(error: &NetError) -> Unfound {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            Unfound::Denied("there is no such name".into())
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError => {
            Unfound::Denied("it has no address".into())
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => Unfound::Silent(none.response_code.to_string().into()),
        NetError::Timeout => Unfound::Silent("no answer".into()),
        other => Unfound::Silent(other.to_string().into()),
    }
}

fn written() -> [Option<SystemTime>; 2] {
    FILES.map(|file| Path::new(file).metadata().ok()?.modified().ok())
}

fn resolver(servers: &[SocketAddr]) -> Option<Arc<TokioResolver>> {
    let (config, options) = settings(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let built = builder.build();
    built.map(Arc::new).inspect_err(|error| warn!("no host name can be looked up: {error}")).ok()
}

/// The machine's settings, with what is ours to choose.
fn settings(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let of_machine = read_system_conf();
    // resolv.conf(5): without a name server, the one of this machine.
    let alone = || NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (config, mut options) =
        of_machine.unwrap_or_else(|_| (ResolverConfig::from_name_servers(vec![alone()]), ResolverOpts::default()));
    let (domain, search, known) = config.into_parts();
    let servers = if servers.is_empty() { known } else { servers.iter().map(server).collect() };
    options.timeout = options.timeout.min(PATIENCE);
    options.num_concurrent_reqs = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Answers are kept by us, and asked for again when they are over; the bound on lookups is ours too.
    options.cache_size = 0;
    options.max_active_requests = usize::from(u16::MAX);
    (ResolverConfig::from_parts(domain, search, servers), options)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}
