//! The native engine: one thread per core, HTTP/1 and TCP, in this process. Takes tables, gives back what it could do
//! with them; knows no store and no settings file.
//!
//! ```text
//! accept -> client -> plan (head judged, service found) -> exchange -> upstream (instance picked, connection leased)
//!                                                       -> upload / response -> client
//!        -> tcp    -> upstream -> relay
//! ```

mod exchange;
mod fault;
mod http1;
mod net;
mod pool;
mod tcp;
mod view;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use pointsman_table::{Bind, Problem, Table};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

pub use fault::NAMES as FAULTS;
use pointsman_engine::live::Registry;
use pointsman_engine::sockets::{Claim, hint, listen};
use pointsman_engine::{Applied, Phase};
use worker::{Limits, Order, Report};

/// How often a port that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often counters of what left the table are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// For how long a port that was closed may still be closing.
const CLOSING: Duration = Duration::from_secs(5);
/// How long clients wait in the listening queue for the first table before they are answered without one.
const FIRST_TABLE: Duration = Duration::from_secs(2);
/// Descriptors kept for everything that is not a client or an instance.
const RESERVED: u64 = 128;

/// What the native engine is told at start.
#[derive(Clone, Debug)]
pub struct NativeSettings {
    /// Where HTTP clients connect.
    pub http: Vec<SocketAddr>,
    /// How many workers, at least 1.
    pub workers: usize,
    /// How many files this process may have open.
    pub open_files: u64,
}

/// Sockets that are open and not yet accepted from.
#[derive(Debug)]
pub struct Bound {
    addresses: Vec<SocketAddr>,
    /// For each worker, a socket on each address.
    sockets: Vec<Vec<TcpListener>>,
    /// Descriptors that connections may take.
    descriptors: u64,
}

impl Bound {
    /// Where HTTP clients connect, with real ports where 0 was asked for.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Opens the HTTP addresses.
///
/// # Errors
/// An address that cannot be listened on, with what would help.
pub fn bind(settings: &NativeSettings) -> anyhow::Result<Bound> {
    let mut sockets: Vec<Vec<TcpListener>> = (0..settings.workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for wanted in &settings.http {
        let opened = listen(*wanted, settings.workers, Claim::Alone)
            .with_context(|| format!("--http {wanted}: {}", hint(*wanted)))?;
        addresses.push(opened[0].local_addr()?);
        for (worker, socket) in sockets.iter_mut().zip(opened) {
            worker.push(socket);
        }
    }
    Ok(Bound { addresses, sockets, descriptors: settings.open_files.saturating_sub(RESERVED) })
}

/// Serves the tables that come until `phase` says otherwise: on [`Phase::Drain`] it finishes what runs, within the
/// configuration's `timeout/drain`; on [`Phase::Halt`] it returns at once.
///
/// # Errors
/// When the workers cannot be started.
pub async fn run(
    bound: Bound,
    mut tables: watch::Receiver<Arc<Table>>,
    applied: mpsc::Sender<Applied>,
    mut phase: watch::Receiver<Phase>,
    registry: Arc<Registry>,
) -> anyhow::Result<()> {
    let (mut fleet, mut reports) = Fleet::start(bound, &registry)?;
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forget = interval(FORGET_EVERY);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let first_table = sleep_until(Instant::now() + FIRST_TABLE);
    tokio::pin!(first_table);
    loop {
        tokio::select! {
            changed = tables.changed() => {
                if changed.is_err() { break }
                let table = Arc::clone(&tables.borrow_and_update());
                fleet.apply(table);
            }
            Some((worker, Report::Applied { generation })) = reports.recv() => {
                if let Some(report) = fleet.acknowledge(worker, generation) {
                    // The control loop ends only with the program.
                    let _ = applied.send(report).await;
                }
            }
            _ = retry.tick(), if fleet.has_closed_ports() => fleet.retry(),
            _ = forget.tick() => registry.forget(),
            () = &mut first_table, if fleet.is_waiting() => fleet.accept_http(),
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => break,
        }
    }
    let limit = tables.borrow().config().timeouts.drain;
    finish(fleet, limit, phase).await;
    Ok(())
}

/// Lets the workers finish, for so long at most, or until told to halt.
async fn finish(fleet: Fleet, limit: Duration, mut phase: watch::Receiver<Phase>) {
    tokio::select! {
        () = fleet.drain() => {}
        () = tokio::time::sleep(limit) => tracing::warn!("some work was not done {} s after draining began", limit.as_secs()),
        _ = phase.wait_for(|phase| *phase == Phase::Halt) => {}
    }
}

/// The workers, and the ports that they listen on together.
#[derive(Debug)]
struct Fleet {
    workers: Vec<Member>,
    /// HTTP sockets not yet given to the workers.
    waiting: Vec<Vec<TcpListener>>,
    table: Arc<Table>,
    open: BTreeSet<Bind>,
    /// Ports that left the table a moment ago.
    closing: BTreeMap<Bind, Instant>,
    /// Ports that could not be opened, and why.
    closed: BTreeMap<Bind, String>,
    /// What was last told to the control loop: the table's generation, and problems.
    reported: Option<(u64, Vec<Problem>)>,
}

#[derive(Debug)]
struct Member {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<()>,
    /// The generation of the table that it uses.
    applied: Option<u64>,
}

/// New sockets of one worker.
type Opened = Vec<(Bind, TcpListener)>;
type Reports = mpsc::UnboundedReceiver<(usize, Report)>;

impl Fleet {
    fn start(bound: Bound, registry: &Arc<Registry>) -> anyhow::Result<(Self, Reports)> {
        let (report, reports) = mpsc::unbounded_channel();
        let count = bound.sockets.len();
        let limits = Limits { descriptors: bound.descriptors, workers: count as u64 };
        let workers =
            (0..count).map(|id| Member::start(id, registry, limits, report.clone())).collect::<io::Result<_>>();
        let fleet = Self {
            workers: workers.context("cannot start a worker thread")?,
            waiting: bound.sockets,
            table: Table::empty(),
            open: BTreeSet::new(),
            closing: BTreeMap::new(),
            closed: BTreeMap::new(),
            reported: None,
        };
        Ok((fleet, reports))
    }

    /// Whether HTTP clients still wait for the first table.
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn accept_http(&mut self) {
        for (member, sockets) in self.workers.iter().zip(self.waiting.drain(..)) {
            sockets.into_iter().for_each(|socket| member.order(Order::Http(socket)));
        }
    }

    fn apply(&mut self, table: Arc<Table>) {
        let now = Instant::now();
        let (stay, go) = std::mem::take(&mut self.open).into_iter().partition(|bind| is_wanted(&table, bind));
        self.open = stay;
        self.closing.extend(go.into_iter().map(|bind: Bind| (bind, now)));
        self.closing.retain(|_, since| now.duration_since(*since) < CLOSING);
        self.closed.retain(|bind, _| is_wanted(&table, bind));
        self.table = table;
        let new = self.table.tcp().iter().map(|(bind, _)| *bind).filter(|bind| !self.open.contains(bind)).collect();
        let opened = self.open_ports(new);
        self.hand_out(opened);
        self.accept_http();
    }

    fn has_closed_ports(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Tries the ports again that could not be opened.
    fn retry(&mut self) {
        let closed = self.closed.keys().copied().collect();
        let opened = self.open_ports(closed);
        if opened.iter().any(|sockets| !sockets.is_empty()) {
            self.hand_out(opened);
        }
    }

    /// Opens ports: for each worker, its sockets.
    fn open_ports(&mut self, wanted: Vec<Bind>) -> Vec<Opened> {
        let count = self.workers.len();
        let mut opened: Vec<Opened> = (0..count).map(|_| Vec::new()).collect();
        for bind in wanted {
            let claim = if self.closing.contains_key(&bind) { Claim::BesideOurs } else { Claim::Alone };
            match listen(SocketAddr::new(bind.address, bind.port), count, claim) {
                Ok(sockets) => {
                    self.closed.remove(&bind);
                    self.open.insert(bind);
                    opened.iter_mut().zip(sockets).for_each(|(worker, socket)| worker.push((bind, socket)));
                }
                Err(error) => drop(self.closed.insert(bind, error.to_string())),
            }
        }
        opened
    }

    /// Gives every worker the table and its new sockets.
    fn hand_out(&self, opened: Vec<Opened>) {
        for (member, open) in self.workers.iter().zip(opened) {
            member.order(Order::Table { table: Arc::clone(&self.table), open });
        }
    }

    /// Notes that a worker uses a table; says so to the control loop once all do and there is something new to say.
    fn acknowledge(&mut self, worker: usize, generation: u64) -> Option<Applied> {
        self.workers.get_mut(worker)?.applied = Some(generation);
        let current = self.table.generation();
        if self.workers.iter().any(|member| member.applied != Some(current)) {
            return None;
        }
        let news = (current, self.problems());
        if self.reported.as_ref() == Some(&news) {
            return None;
        }
        self.reported = Some(news.clone());
        Some(Applied::new(&self.table, news.1))
    }

    fn problems(&self) -> Vec<Problem> {
        self.closed.iter().filter_map(|(bind, error)| self.table.listen_problem(*bind, error)).collect()
    }

    /// Waits until every worker has finished.
    async fn drain(self) {
        for member in &self.workers {
            member.order(Order::Drain);
        }
        for member in self.workers {
            let joined = tokio::task::spawn_blocking(|| member.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a worker did not end in order");
            }
        }
    }
}

impl Member {
    fn start(
        id: usize,
        registry: &Arc<Registry>,
        limits: Limits,
        reports: mpsc::UnboundedSender<(usize, Report)>,
    ) -> io::Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let registry = Arc::clone(registry);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let thread = std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(worker::run(id, registry, limits, inbox, reports)),
            Err(error) => tracing::error!("worker {id} cannot start its runtime: {error}"),
        })?;
        Ok(Self { orders, thread, applied: None })
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("a worker ended and takes no orders");
        }
    }
}

fn is_wanted(table: &Table, bind: &Bind) -> bool {
    table.tcp().binary_search_by(|(known, _)| known.cmp(bind)).is_ok()
}
