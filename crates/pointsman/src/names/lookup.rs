//! Looks up one name as this machine does: /etc/hosts, then the name servers of /etc/resolv.conf or of `--resolver`.
//! Keeps nothing of the answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
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
            Err(Unfound::Partly(part, _)) => Ok(part.addresses),
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
            let next = match records {
                true => resolver.records(name.clone(), patient).await,
                false => resolver.look_up(name.clone(), patient).await,
            };
            answer = match (answer, next) {
                // The best that was told, if nobody tells all.
                (Err(part @ Unfound::Partly(..)), Err(Unfound::Silent(_))) => Err(part),
                (_, next) => next,
            };
            if !matches!(answer, Err(Unfound::Silent(_) | Unfound::Partly(..))) {
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

    /// The addresses of both families.
    async fn look_up(&self, name: Name, patient: bool) -> Result<Located, Unfound> {
        let one = |family| self.family(name.clone(), family, patient);
        let (ipv4, ipv6) = tokio::join!(one(RecordType::A), one(RecordType::AAAA));
        both(ipv4, ipv6)
    }

    async fn family(&self, name: Name, family: RecordType, patient: bool) -> Result<Located, Unfound> {
        let asked = self.resolver.lookup(name, family);
        let answer = timeout(self.patience(patient), asked).await.unwrap_or(Err(NetError::Timeout));
        let found = answer.map_err(|error| failure(&error))?;
        let addresses = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        Ok(Located { addresses, records: Vec::new(), ttl: left(found.valid_until()) })
    }
}

/// The addresses of both families. If a name server cannot tell those of one, it has told a part.
fn both(ipv4: Result<Located, Unfound>, ipv6: Result<Located, Unfound>) -> Result<Located, Unfound> {
    match (ipv4, ipv6) {
        (Ok(mut all), Ok(more)) => {
            all.addresses.extend(more.addresses);
            all.ttl = all.ttl.min(more.ttl);
            Ok(all)
        }
        (Ok(one), Err(Unfound::Denied(_))) | (Err(Unfound::Denied(_)), Ok(one)) => Ok(one),
        (Ok(part), Err(other)) | (Err(other), Ok(part)) => Err(Unfound::Partly(part, other.why())),
        (Err(Unfound::Denied(_)), Err(other)) | (Err(other), Err(_)) => Err(other),
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

    /// A name server that answers everything with this code (RFC 1035 §4.1.1).
    fn name_server(code: u8) -> SocketAddr {
        serve(code, code)
    }

    /// One that answers with these codes for IPv4 and IPv6; if it is 0, with 10.0.0.1 and 2001:db8::1.
    fn serve(ipv4: u8, ipv6: u8) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((_, peer)) = socket.recv_from(&mut question) {
                // The name ends with a zero; type and class follow.
                let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
                let (code, kind, data) = match question[end + 1] {
                    1 => (ipv4, 1, vec![10, 0, 0, 1]),
                    _ => (ipv6, 28, [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat()),
                };
                let mut answer = question[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(code == 0), 0, 0, 0, 0]);
                answer.extend(&question[12..end + 4]);
                if code == 0 {
                    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
                    answer.extend(data);
                }
                let _ = socket.send_to(&answer, peer);
            }
        });
        address
    }

    const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const IPV6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

    /// A family without addresses is told; one that could not be asked for is not.
    #[tokio::test]
    async fn half_an_answer_is_none() {
        let (ok, fails, unknown) = (0, 2, 3);
        for (servers, expected) in [
            (vec![serve(ok, unknown)], Ok(vec![IPV4])),
            (vec![serve(unknown, ok)], Ok(vec![IPV6])),
            (vec![serve(fails, ok)], Err(vec![IPV6])),
            (vec![serve(ok, fails)], Err(vec![IPV4])),
            (vec![serve(fails, ok), serve(ok, ok)], Ok(vec![IPV4, IPV6])),
            (vec![serve(fails, ok), serve(fails, fails)], Err(vec![IPV6])),
        ] {
            let found = match Lookup::new(&servers).look_up("web.test.", true).await {
                Ok(found) => Ok(found.addresses),
                Err(Unfound::Partly(part, _)) => Err(part.addresses),
                Err(other) => panic!("{other:?} instead of {expected:?}"),
            };
            assert_eq!(found, expected);
        }
    }

    /// By itself, the library starts with any of several name servers, and accepts a refusal.
    #[tokio::test]
    async fn one_that_cannot_tell_is_passed_over() {
        let (fails, refuses, knows) = (name_server(2), name_server(5), name_server(0));
        for _ in 0..8 {
            let lookup = Lookup::new(&[fails, refuses, knows]);
            let found = lookup.look_up("web.test.", true).await.unwrap();
            assert_eq!(found.addresses, [IPV4, IPV6]);
        }
    }
}
