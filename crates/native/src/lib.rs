//! The native engine: one thread per core, HTTP/1 and TCP, in this process. Takes tables, and acknowledges them with
//! the problems that it found; knows no store and no settings file.
//!
//! ```text
//! accept ─┬─ serve ─> decide ─> exchange ─> checkout (pick, then a pooled or new connection) ─> up, down ─┐
//!         └─ tcp ───────────────────────────> checkout ─> relay ──────────────────────────────────────────┤
//!                                                                                                  record <┘
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `workers` | the worker threads, and the ports that they listen on together |
//! | `accept` | one worker's thread: orders, listeners, connections that begin |
//! | `greet` | what comes ahead of that: a PROXY header, a TLS handshake, a TLS server name |
//! | `serve` | one HTTP/1 client connection: requests one after another |
//! | `multiplex` | one HTTP/2 client connection: a task for each request |
//! | `tcp` | one connection of a TCP service |
//! | `exchange` | one request and its response |
//! | `record` | what happened, and the one place that counts it |
//! | `access` | what is noted of a request, and the line of the access log and the spans that it becomes |
//! | `relay` | bytes both ways: TCP services, and tunnels after 101 |
//! | `worker` | one worker's state |
//! | `pool` | which instance, and a connection to it |
//! | `peers` | instances compared with their peers: outliers, panic |
//! | `prober` | active checks of instances |
//! | `tls` | certificates, and who gets which; handshakes at once; TLS to instances |
//! | `coding` | content codings: which a client accepts, and bytes in them |
//! | `passwords` | whether passwords match hashes, on threads of its own |
//! | `http1`, `http2` | HTTP/1 on a client's connection; streams of HTTP/2 |
//! | `net` | connections as bytes |
//! | `fault` | everything that can go wrong |

mod accept;
mod access;
mod coding;
mod exchange;
mod fault;
mod greet;
mod http1;
mod http2;
mod multiplex;
mod net;
mod passwords;
mod peers;
mod pool;
mod prober;
mod record;
mod relay;
mod serve;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod worker;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use access::{AccessLog, LineFormat, Observed, TraceSettings};
pub use exchange::foresee::{Foreseen, Foretold, InstanceNow, foresee};
pub use fault::NAMES as FAULTS;
use pointsman_engine::cert_wishes::CertWishes;
use pointsman_engine::inherited::{Inherited, LendRequests, ListenerRole};
use pointsman_engine::live::Registry;
use pointsman_engine::sockets::{Claim, hint};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_table::Table;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use accept::{Door, Report};
use passwords::Passwords;
use peers::Peers;
#[doc(hidden)]
pub use pool::bench::PickBench;
pub use pool::pick::share_in_effect;
pub use prober::{Probed, probe_once};
pub use tls::{certificate_fault, new_ticket_secret};
use worker::{Common, Limits};
use workers::Workers;

/// How often a port that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the registry forgets services and instances that left the table.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often instances are compared with their peers.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// How long clients wait in the listening queue for the first table before they are answered without one.
const FIRST_TABLE: Duration = Duration::from_secs(2);
/// Descriptors kept for everything that is not a client or an instance.
const RESERVED: u64 = 128;

/// The native engine's settings.
#[derive(Clone, Debug)]
pub struct NativeSettings {
    /// Where HTTP clients connect.
    pub http: Vec<SocketAddr>,
    /// Where HTTP clients connect over TLS.
    pub https: Vec<SocketAddr>,
    /// How many workers, at least 1.
    pub workers: usize,
    /// How many files this process may have open.
    pub open_files: u64,
    /// What is logged and traced of requests.
    pub observed: Observed,
}

/// Open listening sockets from which nothing is accepted yet.
#[derive(Debug)]
pub struct Bound {
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    /// For each worker, a socket on each address, or more where more were given.
    sockets: Vec<Vec<Door>>,
    /// Sockets for the addresses that keys name.
    inherited: Inherited,
    /// Descriptors that connections may take.
    descriptors: u64,
    observed: Observed,
}

impl Bound {
    /// Where HTTP clients connect, with real ports where 0 was asked for.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http
    }

    /// The same for HTTP over TLS.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.https
    }
}

/// Opens the addresses for HTTP and HTTPS, with the sockets that were given for them.
///
/// # Errors
/// An address that cannot be bound, with advice.
pub fn bind(settings: &NativeSettings, inherited: &Inherited) -> anyhow::Result<Bound> {
    let mut sockets: Vec<Vec<Door>> = (0..settings.workers).map(|_| Vec::new()).collect();
    let http = open((ListenerRole::Http, inherited), &settings.http, &mut sockets)?;
    let https = open((ListenerRole::Https, inherited), &settings.https, &mut sockets)?;
    let inherited = inherited.clone();
    let listening = ((http.len() + https.len()) * settings.workers) as u64;
    let descriptors = settings.open_files.saturating_sub(RESERVED + listening);
    Ok(Bound { http, https, sockets, inherited, descriptors, observed: settings.observed.clone() })
}

/// Opens the addresses of a flag for every worker; returns them with real ports.
fn open(
    (role, inherited): (ListenerRole, &Inherited),
    wanted: &[SocketAddr],
    sockets: &mut [Vec<Door>],
) -> anyhow::Result<Vec<SocketAddr>> {
    let is_secure = role == ListenerRole::Https;
    let flag = if is_secure { "--https" } else { "--http" };
    let mut addresses = Vec::new();
    for wanted in wanted {
        let named = |error| {
            let hint = hint(*wanted, &error);
            anyhow::Error::new(error).context(format!("{flag} {wanted}: {hint}"))
        };
        let opened = inherited.open(*wanted, role, sockets.len(), Claim::Alone).map_err(named)?;
        addresses.push(opened[0].local_addr()?);
        let count = sockets.len();
        for (number, listener) in opened.into_iter().enumerate() {
            sockets[number % count].push(Door { listener, is_secure });
        }
    }
    Ok(addresses)
}

/// Serves each new table, with the newest secrets for session tickets, until `phase` changes: on [`Phase::Drain`] it finishes open work, within the configuration's
/// `timeout/drain`; on [`Phase::Halt`] it returns at once. Copies of its listening sockets go to who asks for them, and names that handshakes want certificates for to `wishes`. The table that is there at first is not served: it has the last
/// good forms, from before the start, of what cannot be used now.
///
/// # Errors
/// When the workers cannot be started.
pub async fn run(
    bound: Bound,
    mut tables: watch::Receiver<Arc<Table>>,
    mut tickets: watch::Receiver<TicketSecrets>,
    (applied, wishes): (mpsc::Sender<Applied>, CertWishes),
    mut phase: watch::Receiver<Phase>,
    mut lend: LendRequests,
    registry: Arc<Registry>,
) -> anyhow::Result<()> {
    let Bound { sockets, inherited, descriptors, observed, .. } = bound;
    let is_relieving = inherited.of_program();
    let limits = Limits { descriptors, workers: sockets.len() as u64 };
    let common = Common { limits, observed, passwords: Arc::new(Passwords::new()?), wishes };
    let (mut workers, mut reports) =
        Workers::start((sockets, inherited), common, &registry, Arc::clone(&tables.borrow()))?;
    workers.change_tickets(tickets.borrow_and_update().clone());
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forget = interval(FORGET_EVERY);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut compare, mut peers) = (interval(COMPARE_EVERY), Peers::default());
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let first_table = sleep_until(Instant::now() + FIRST_TABLE);
    tokio::pin!(first_table);
    loop {
        tokio::select! {
            changed = tables.changed() => {
                if changed.is_err() { break }
                let table = Arc::clone(&tables.borrow_and_update());
                workers.apply(table);
            }
            Ok(()) = tickets.changed() => workers.change_tickets(tickets.borrow_and_update().clone()),
            Some((worker, Report::Applied { generation })) = reports.recv() => {
                if let Some(report) = workers.acknowledge(worker, generation) {
                    // The control loop ends only with the program.
                    let _ = applied.send(report).await;
                }
            }
            Some(request) = lend.recv() => workers.lend(request),
            _ = retry.tick(), if workers.has_closed_ports() => workers.retry(),
            _ = forget.tick() => registry.forget(),
            _ = compare.tick() => {
                let table = Arc::clone(&tables.borrow());
                peers.look(&table, &registry);
            }
            () = &mut first_table, if workers.is_waiting() && !is_relieving => workers.accept_http(),
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => break,
        }
    }
    let limit = tables.borrow().config().timeouts.drain;
    finish(workers, limit, phase).await;
    Ok(())
}

/// Lets the workers finish, for `limit` at most, or until told to halt.
async fn finish(workers: Workers, limit: Duration, mut phase: watch::Receiver<Phase>) {
    tokio::select! {
        () = workers.drain() => {}
        () = tokio::time::sleep(limit) => tracing::warn!("some work was not done {} s after draining began", limit.as_secs()),
        _ = phase.wait_for(|phase| *phase == Phase::Halt) => {}
    }
}
