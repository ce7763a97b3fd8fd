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
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use pointsman_table::Record;
use tokio::time::timeout;
use tracing::{info, warn};

use super::book::{Located, Unfound};

/// The machine's own files.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// The longest that one name server may take; resolv.conf may say less, and says 5 seconds by default.
const LONGEST: Duration = Duration::from_secs(2);
/// The same while other names wait.
const SHORTEST: Duration = Duration::from_millis(400);

/// Asks name servers.
#[derive(Clone)]
pub struct Lookup {
    /// One for each name server, in their order. Empty: the settings cannot be used.
    resolvers: Arc<[Resolver]>,
    /// The name servers to ask instead of the machine's.
    servers: Arc<[SocketAddr]>,
    /// When each of [`FILES`] was written.
    written: [Option<SystemTime>; 2],
}

/// Asks a single name server: a resolver with several stops at the first answer, even if it is a refusal.
struct Resolver {
    resolver: TokioResolver,
    /// How long it may take.
    patience: Duration,
}

impl Lookup {
    /// Asks these name servers; if there are none, the machine's.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self { resolvers: resolvers(servers), servers: servers.into(), written: written() }
    }

    /// The addresses of a host name, or in words why there are none.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Box<str>> {
        match self.look_up(&format!("{name}."), true).await {
            Ok(located) => Ok(located.addresses),
            Err(Unfound::Denied(why) | Unfound::Silent(why)) => Err(why),
        }
    }

    /// Reads the machine's files again if they changed. Returns whether they did.
    pub(crate) fn refresh(&mut self) -> bool {
        let written = written();
        if written == self.written {
            return false;
        }
        info!("read {} again", FILES.join(" and "));
        self.resolvers = resolvers(&self.servers);
        self.written = written;
        true
    }

    /// The addresses of a host name, or the records of `srv:NAME`. Asks one name server after the other until one gives an
    /// answer.
    pub(super) async fn look_up(&self, name: &str, patient: bool) -> Result<Located, Unfound> {
        let (name, records) = name.strip_prefix("srv:").map_or((name, false), |name| (name, true));
        let name = Name::from_ascii(name).map_err(|error| Unfound::Denied(error.to_string().into()))?;
        let mut answer = Err(Unfound::Denied("the settings of name servers cannot be used".into()));
        for resolver in &*self.resolvers {
            answer = match records {
                true => resolver.records(name.clone(), patient).await,
                false => resolver.look_up(name.clone(), patient).await,
            };
            if !matches!(answer, Err(Unfound::Silent(_))) {
                break;
            }
        }
        answer
    }
}

impl Resolver {
    fn new(config: ResolverConfig, options: ResolverOpts) -> Option<Self> {
        let patience = options.timeout;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let built = builder.build().inspect_err(|error| warn!("no host name can be looked up: {error}"));
        Some(Self { resolver: built.ok()?, patience })
    }

    fn patience(&self, patient: bool) -> Duration {
        if patient { self.patience } else { self.patience.min(SHORTEST) }
    }

    /// SRV records. One with the target `.` says that there is no such service (RFC 2782).
    async fn records(&self, name: Name, patient: bool) -> Result<Located, Unfound> {
        let asked = self.resolver.lookup(name, RecordType::SRV);
        let answer = timeout(self.patience(patient), asked).await.unwrap_or(Err(NetError::Timeout));
        let found = answer.map_err(|error| failure(&error))?;
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) if !srv.target.is_root() => {
                let target = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase().into();
                Some(Record { priority: srv.priority, weight: srv.weight, target, port: srv.port })
            }
            _ => None,
        });
        Ok(Located { addresses: Vec::new(), records: records.collect(), ttl: left(found.valid_until()) })
    }

    async fn look_up(&self, name: Name, patient: bool) -> Result<Located, Unfound> {
        let patience = self.patience(patient);
        let answer = timeout(patience, self.resolver.lookup_ip(name)).await.unwrap_or(Err(NetError::Timeout));
        let found = answer.map_err(|error| failure(&error))?;
        Ok(Located { addresses: found.iter().collect(), records: Vec::new(), ttl: left(found.valid_until()) })
    }
}

fn left(until: std::time::Instant) -> Duration {
    until.saturating_duration_since(tokio::time::Instant::now().into_std())
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

fn resolvers(servers: &[SocketAddr]) -> Arc<[Resolver]> {
    let (config, options) = settings(servers);
    let (domain, search, servers) = config.into_parts();
    let alone = |server| ResolverConfig::from_parts(domain.clone(), search.clone(), vec![server]);
    servers.into_iter().filter_map(|server| Resolver::new(alone(server), options.clone())).collect()
}

/// The machine's settings, except for the options that we choose.
fn settings(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let of_machine = read_system_conf();
    // resolv.conf(5): without a name server, the one of this machine.
    let alone = || NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (config, mut options) =
        of_machine.unwrap_or_else(|_| (ResolverConfig::from_name_servers(vec![alone()]), ResolverOpts::default()));
    let (domain, search, known) = config.into_parts();
    let servers = if servers.is_empty() { known } else { servers.iter().map(server).collect() };
    options.timeout = options.timeout.min(LONGEST);
    options.num_concurrent_reqs = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // `book` keeps the answers, asks again when they expire, and bounds the number of lookups.
    options.cache_size = 0;
    options.max_active_requests = usize::from(u16::MAX);
    (ResolverConfig::from_parts(domain, search, servers), options)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// A name server that answers everything with this code (RFC 1035 §4.1.1), and with 10.0.0.1 if it is 0.
    fn name_server(code: u8) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((_, peer)) = socket.recv_from(&mut question) {
                // The name ends with a zero; type and class follow.
                let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
                let has_address = code == 0 && question[end + 1] == 1;
                let mut answer = question[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
                answer.extend(&question[12..end + 4]);
                let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1];
                answer.extend(record.iter().filter(|_| has_address));
                let _ = socket.send_to(&answer, peer);
            }
        });
        address
    }

    /// By itself, the library starts with any of several name servers, and accepts a refusal.
    #[tokio::test]
    async fn one_that_cannot_tell_is_passed_over() {
        let (fails, refuses, knows) = (name_server(2), name_server(5), name_server(0));
        for _ in 0..8 {
            let lookup = Lookup::new(&[fails, refuses, knows]);
            let found = lookup.look_up("web.test.", true).await.unwrap();
            assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 1])]);
        }
    }
}
