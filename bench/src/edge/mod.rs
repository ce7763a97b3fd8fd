//! TLS and HTTP/2 from clients, beside HAProxy and nginx: CPU of handshakes and requests in alternating turns, memory
//! of connections, 10,000 certificates.
//!
//! | module | owns |
//! |---|---|
//! | `proxies` | the proxies with TLS and HTTP/2, each alone on one core |
//! | `handshakes` | a client that does handshakes, in a process of its own |
//! | `requests` | runs h2load |
//! | `idle` | memory of connections that wait |
//! | `hold` | memory that clients hold who ask for much and take nearly nothing |
//! | `frames` | frames of HTTP/2 |
//! | `certificates` | many certificates; makes certificates for all |
//! | `terms` | what all are measured with |
//! | `secure` | TLS connections as clients open them |

mod certificates;
mod frames;
pub(crate) mod handshakes;
pub(crate) mod hold;
mod idle;
mod proxies;
mod requests;
mod secure;
mod terms;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxies::EdgeProxy;
use requests::Streams;
use terms::RSA_HOST;

use crate::drive::cpu_time;
use crate::options::{Options, Visit};
use crate::peers::{self, HOST, Workplace};
use crate::report::{Report, median};

/// The shortest turn.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long handshakes are made before they are measured.
const WARM: Duration = Duration::from_millis(200);

/// The work of a turn.
enum Work {
    /// Connections with one request each, to this host.
    Connections(&'static str, Visit),
    /// Requests.
    Requests(Streams),
}

/// A case, and Pointsman's maximum cost relative to each peer.
struct CostCase {
    name: &'static str,
    work: Work,
    unit: Unit,
    targets: Targets,
}

/// What costs are divided by.
#[derive(Clone, Copy)]
enum Unit {
    Connection,
    Request,
    Byte,
}

/// Peers, and the most that Pointsman may cost, as part of their cost.
type Targets = &'static [(&'static str, f64)];

const fn connections(name: &'static str, host: &'static str, visit: Visit, targets: Targets) -> CostCase {
    CostCase { name, work: Work::Connections(host, visit), unit: Unit::Connection, targets }
}

const fn requests(
    name: &'static str,
    (count, streams): (usize, Option<usize>),
    secure: bool,
    targets: Targets,
) -> CostCase {
    let work = Work::Requests(Streams { connections: count, streams, secure, path: "/" });
    CostCase { name, work, unit: Unit::Request, targets }
}

const HTTP2: Targets = &[("HAProxy", 0.95), ("nginx", 0.65)];
const CASES: [CostCase; 9] = [
    connections("handshake, ECDSA", HOST, Visit::First, &[("HAProxy", 0.55)]),
    connections("handshake, RSA", RSA_HOST, Visit::First, &[("HAProxy", 0.75)]),
    connections("handshake, resumed", HOST, Visit::Resumed, &[("HAProxy", 0.60)]),
    requests("64 kept alive, TLS", (64, None), true, &[("HAProxy", 0.65), ("nginx", 0.80)]),
    CostCase {
        name: "16 of 1 MiB, TLS",
        work: Work::Requests(Streams { connections: 16, streams: None, secure: true, path: "/large" }),
        unit: Unit::Byte,
        targets: &[("HAProxy", 0.90)],
    },
    requests("HTTP/2, 10 of 32 streams", (10, Some(32)), false, HTTP2),
    requests("HTTP/2, 64 of 1 stream", (64, Some(1)), false, HTTP2),
    requests("HTTP/2 over TLS, 10 of 32 streams", (10, Some(32)), true, HTTP2),
    requests("HTTP/2 over TLS, 64 of 1 stream", (64, Some(1)), true, HTTP2),
];

/// Measures everything.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(error) = measure_all(options, report) {
        report.fail("edge", &error);
    }
}

fn measure_all(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("edge")?;
    let backend = peers::responder()?;
    proxies::prepare(&place)?;
    measure_cost(options, backend.address, &place, report)?;
    if let Err(error) = idle::measure(options, backend.address, &place, report) {
        report.fail("edge, idle", &error);
    }
    if options.pointsman.exists()
        && let Err(error) = certificates::measure(options, backend.address, &place, report)
    {
        report.fail("edge, certificates", &error);
    }
    Ok(())
}

fn measure_cost(options: &Options, to: SocketAddr, place: &Workplace, report: &mut Report) -> io::Result<()> {
    let proxies = proxies::all(options, to, place)?;
    for case in &CASES {
        if let Err(error) = case.measure(&proxies, options, report) {
            report.fail(case.name, &error);
        }
    }
    let Some(ours) = proxies.iter().find(|proxy| proxy.peer.name == "Pointsman") else { return Ok(()) };
    // No peer can do it: what its key exchange costs more.
    let work = Work::Connections(HOST, Visit::PostQuantum);
    let costs = (0..options.rounds).map(|_| work.turn(ours, length(options))).collect::<io::Result<Vec<_>>>()?;
    report.note("handshake, ECDSA, post-quantum, Pointsman: CPU", median(costs), "us");
    Ok(())
}

/// Of a turn: there are many cases.
fn length(options: &Options) -> Duration {
    SHORTEST.max(options.turn / 2)
}

impl CostCase {
    fn measure(&self, proxies: &[EdgeProxy], options: &Options, report: &mut Report) -> io::Result<()> {
        proxies.iter().try_for_each(|proxy| self.work.warm(proxy))?;
        let round = || proxies.iter().map(|proxy| self.work.turn(proxy, length(options))).collect();
        let rounds = (0..options.rounds).map(|_| round()).collect::<io::Result<Vec<Vec<f64>>>>()?;
        for (column, proxy) in proxies.iter().enumerate() {
            let cost = median(rounds.iter().map(|round| round[column]).collect());
            self.unit.note(format!("{}, {}", self.name, proxy.peer.name), cost, report);
        }
        let Some(ours) = proxies.iter().position(|proxy| proxy.peer.name == "Pointsman") else { return Ok(()) };
        for (theirs, proxy) in proxies.iter().enumerate().filter(|(column, _)| *column != ours) {
            let ratio = median(rounds.iter().map(|round| round[ours] / round[theirs]).collect());
            let name = format!("{}: Pointsman / {}", self.name, proxy.peer.name);
            match self.targets.iter().find(|(name, _)| *name == proxy.peer.name) {
                Some((_, target)) => report.hold(name, ratio, "x", *target),
                None => report.note(name, ratio, "x"),
            }
        }
        Ok(())
    }
}

impl Work {
    /// Works a proxy for that time; the proxy's CPU time for one of what was done, microseconds.
    fn turn(&self, proxy: &EdgeProxy, span: Duration) -> io::Result<f64> {
        let before = cpu_time(&proxy.peer)?;
        let count = self.run(proxy, span)?;
        let spent = cpu_time(&proxy.peer)?.saturating_sub(before);
        if count == 0 {
            Err(io::Error::other("nothing was done"))
        } else {
            Ok(spent.as_secs_f64() * 1e6 / count as f64)
        }
    }

    fn warm(&self, proxy: &EdgeProxy) -> io::Result<()> {
        match self {
            Self::Connections(host, visit) => handshakes::count(proxy.secure, host, *visit, WARM).map(drop),
            Self::Requests(streams) => streams.warm(address(proxy, *streams)),
        }
    }

    /// Returns how much was done: connections, small requests, or bytes.
    fn run(&self, proxy: &EdgeProxy, span: Duration) -> io::Result<u64> {
        match self {
            Self::Connections(host, visit) => handshakes::count(proxy.secure, host, *visit, span),
            Self::Requests(streams) => {
                let served = streams.run(address(proxy, *streams), span)?;
                Ok(if streams.path == "/" { served.requests } else { served.bytes })
            }
        }
    }
}

/// Where a proxy takes them.
fn address(proxy: &EdgeProxy, streams: Streams) -> SocketAddr {
    if streams.secure { proxy.secure } else { proxy.clear }
}

impl Unit {
    /// Notes a cost, in microseconds for one.
    fn note(self, name: String, cost: f64, report: &mut Report) {
        match self {
            Self::Connection => report.note(format!("{name}: CPU"), cost, "us"),
            Self::Request => report.note(format!("{name}: CPU per request"), cost, "us"),
            Self::Byte => report.note(format!("{name}: CPU per GB"), cost / 1e6 * 1e9, "s"),
        }
    }
}
