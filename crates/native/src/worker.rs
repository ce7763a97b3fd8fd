//! One worker: a thread with its own runtime, listeners, view, buffers, timers and counters. Shares nothing that a
//! request writes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_table::{Bind, Table};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::fault::Fault;
use crate::net::buffer::Buffers;
use crate::net::deadline::{TICK, Timers};
use crate::net::stream::Stream;
use crate::pool::checkout::describe;
use crate::pool::idle::Pools;
use crate::view::{Home, ServiceLive, View};
use crate::{http1::client, tcp};
use pointsman_engine::live::{Registry, WorkerStats};

/// How long accepting pauses when the machine has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many clients are told at once that there is no room; beyond, connections are reset.
const TOLD: u64 = 64;
/// How often idle connections to instances are looked at, in ticks.
const SWEEP_EVERY: u32 = 10;

/// What the engine tells a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take this table into use, and these listeners for its TCP services; listeners that it lacks are closed.
    Table { table: Arc<Table>, open: Vec<(Bind, StdListener)> },
    /// Accept HTTP connections here.
    Http(StdListener),
    /// Accept no more, finish what runs.
    Drain,
}

/// What a worker tells the engine.
#[derive(Debug)]
pub(crate) enum Report {
    /// The table of this generation is in use.
    Applied { generation: u64 },
}

/// A worker's state, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) home: Home,
    view: RefCell<Rc<View>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Buffers,
    rng: RefCell<fastrand::Rng>,
    drain_began: Cell<Option<u64>>,
    connections: Cell<usize>,
    idle: Notify,
    limits: Limits,
}

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Descriptors for connections, of all workers.
    pub(crate) descriptors: u64,
    pub(crate) workers: u64,
}

impl Limits {
    /// Most client connections over all workers: each may need one more, to an instance.
    fn most_connections(self) -> u64 {
        (self.descriptors / 2).max(1)
    }

    /// How many idle connections to instances a worker may keep while so many clients are connected to all.
    fn most_idle(self, clients: u64) -> usize {
        let left = self.descriptors.saturating_sub(clients * 2) / self.workers;
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

impl Worker {
    fn new(id: usize, registry: Arc<Registry>, limits: Limits) -> Rc<Self> {
        let pools = Pools::new(limits.most_idle(0));
        Rc::new(Self {
            view: RefCell::new(View::empty()),
            timers: Timers::new(registry.epoch()),
            buffers: Buffers::default(),
            home: Home { id, registry, pools },
            rng: RefCell::default(),
            drain_began: Cell::new(None),
            connections: Cell::new(0),
            idle: Notify::new(),
            limits,
        })
    }

    /// The table in use, and this worker's state for it.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// A service of the view.
    pub(crate) fn service(&self, view: &View, index: u32) -> Option<Rc<ServiceLive>> {
        view.service(index, &self.home).cloned()
    }

    pub(crate) fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }

    pub(crate) fn stats(&self) -> &WorkerStats {
        self.home.registry.worker(self.home.id)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_began.get().is_some()
    }

    /// When draining began, coarse time.
    pub(crate) fn drain_began(&self) -> Option<u64> {
        self.drain_began.get()
    }

    /// An instance took a connection.
    pub(crate) fn connected(&self, live: &ServiceLive, index: usize) {
        if live.instances[index].shared.health.succeeded() {
            info!("{} takes connections again", describe(live, index));
        }
    }

    /// An instance did not take a connection.
    pub(crate) fn connect_failed(&self, live: &ServiceLive, index: usize, fault: Fault) {
        let instance = &live.instances[index];
        instance.counters().connect_failures.add(1);
        if !fault.blames_instance() {
            return;
        }
        if let Some(out) = instance.shared.health.failed(self.timers.now()) {
            warn!("{} is out of rotation for {} s: {fault}", describe(live, index), out.as_secs());
        }
    }

    /// How many client connections there are more than there may be.
    fn excess(&self) -> u64 {
        let configured = self.view.borrow().table.config().max_connections;
        let possible = self.limits.most_connections();
        let most = configured.map_or(possible, |most| u64::from(most.get()).min(possible));
        self.home.registry.open().saturating_sub(most)
    }
}

/// A client connection's place in the count, for as long as it lives.
pub(crate) struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.connections.set(worker.connections.get() + 1);
        worker.stats().accepted.add(1);
        worker.stats().open.add(1);
        Self(Rc::clone(worker))
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.stats().open.sub(1);
        if self.0.connections.get() == 0 {
            self.0.idle.notify_one();
        }
    }
}

/// What a listener's connections are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Http,
    Tcp(Bind),
}

/// Runs a worker until it is drained or its orders end.
pub(crate) async fn run(
    id: usize,
    registry: Arc<Registry>,
    limits: Limits,
    mut orders: mpsc::UnboundedReceiver<Order>,
    reports: mpsc::UnboundedSender<(usize, Report)>,
) {
    let worker = Worker::new(id, registry, limits);
    let mut listeners = Listeners::default();
    let clock = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Table { table, open } => {
                let generation = table.generation();
                take_into_use(&worker, &mut listeners, table, open);
                // The engine is gone only when the program ends.
                let _ = reports.send((id, Report::Applied { generation }));
            }
            Order::Http(listener) => listeners.http.extend(open_listener(&worker, listener, Kind::Http)),
            Order::Drain => break,
        }
    }
    drain(&worker, listeners).await;
    clock.abort();
}

fn take_into_use(worker: &Rc<Worker>, listeners: &mut Listeners, table: Arc<Table>, open: Vec<(Bind, StdListener)>) {
    let drain = u64::try_from(table.config().timeouts.drain.as_millis()).unwrap_or(u64::MAX);
    let expires = worker.timers.now().saturating_add(drain);
    let next = worker.view.borrow().next(table, &worker.home, expires);
    *worker.view.borrow_mut() = Rc::clone(&next);
    listeners.tcp.retain(|bind, accepting| {
        let stays = next.table.tcp().binary_search_by(|(known, _)| known.cmp(bind)).is_ok();
        if !stays {
            accepting.close.notify_one();
        }
        stays
    });
    for (bind, listener) in open {
        if let Some(accepting) = open_listener(worker, listener, Kind::Tcp(bind)) {
            listeners.tcp.insert(bind, accepting);
        }
    }
}

/// Accepts no more, and waits until the last connection is gone.
async fn drain(worker: &Rc<Worker>, listeners: Listeners) {
    worker.drain_began.set(Some(worker.timers.now()));
    for accepting in listeners.http.into_iter().chain(listeners.tcp.into_values()) {
        accepting.close.notify_one();
        // A task that was cancelled or panicked accepts no more either.
        let _ = accepting.task.await;
    }
    worker.timers.wake_all();
    while worker.connections.get() > 0 {
        worker.idle.notified().await;
    }
}

/// The worker's coarse clock.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for count in 0u32.. {
        interval.tick().await;
        worker.timers.sweep(Instant::now());
        if count % SWEEP_EVERY == 0 {
            worker.home.pools.allow(worker.limits.most_idle(worker.home.registry.open()));
            worker.home.pools.sweep(worker.timers.now());
        }
    }
}

/// The worker's listeners, each accepted from by its own task.
#[derive(Debug, Default)]
struct Listeners {
    http: Vec<Accepting>,
    tcp: BTreeMap<Bind, Accepting>,
}

#[derive(Debug)]
struct Accepting {
    close: Rc<Notify>,
    task: JoinHandle<()>,
}

fn open_listener(worker: &Rc<Worker>, listener: StdListener, kind: Kind) -> Option<Accepting> {
    let listener = TcpListener::from_std(listener)
        .inspect_err(|error| warn!("a listening socket cannot be used: {error}"))
        .ok()?;
    let close = Rc::new(Notify::new());
    let task = tokio::task::spawn_local(accept_all(Rc::clone(worker), listener, kind, Rc::clone(&close)));
    Some(Accepting { close, task })
}

/// Accepts until told to close; then takes what already waits, so that no client that was let in is lost.
async fn accept_all(worker: Rc<Worker>, listener: TcpListener, kind: Kind, close: Rc<Notify>) {
    loop {
        tokio::select! {
            biased;
            () = close.notified() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => begin(&worker, stream, peer.ip(), kind),
                Err(error) => accept_failed(&worker, &error).await,
            },
        }
    }
    let waiting =
        listener.into_std().into_iter().flat_map(|listener| std::iter::from_fn(move || listener.accept().ok()));
    for (stream, peer) in waiting {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            begin(&worker, stream, peer.ip(), kind);
        }
    }
}

/// A connection that its client gave up is nothing; one for which there is no descriptor stays in the queue.
async fn accept_failed(worker: &Worker, error: &io::Error) {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) {
        worker.home.pools.clear();
        warn!("cannot accept connections for {} ms: {error}", ACCEPT_PAUSE.as_millis());
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn begin(worker: &Rc<Worker>, stream: TcpStream, address: IpAddr, kind: Kind) {
    let counted = Counted::new(worker);
    let stream = Stream::Tcp(stream);
    let excess = worker.excess();
    if excess > 0 {
        return refuse(worker, stream, address, kind, counted, excess);
    }
    match kind {
        Kind::Http => spawn(client::serve(counted, stream, address)),
        Kind::Tcp(bind) => match tcp_service(worker, bind) {
            Some(live) => spawn(tcp::serve(counted, stream, address, live)),
            None => stream.reset_on_close(),
        },
    }
}

/// The task ends with its connection, or with the worker.
fn spawn(serve: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(serve));
}

/// The service that listens here in the table in use.
fn tcp_service(worker: &Worker, bind: Bind) -> Option<Rc<ServiceLive>> {
    let view = worker.view();
    let index = view.table.tcp().binary_search_by(|(known, _)| known.cmp(&bind)).ok()?;
    worker.service(&view, view.table.tcp()[index].1)
}

/// Tells an HTTP client that there is no room, as long as few are being told; any other sees a reset.
fn refuse(worker: &Rc<Worker>, stream: Stream, address: IpAddr, kind: Kind, counted: Counted, excess: u64) {
    worker.stats().refused.add(1);
    match kind {
        Kind::Http if excess <= TOLD => spawn(client::turn_away(counted, stream, address)),
        Kind::Http | Kind::Tcp(_) => {
            worker.stats().fault(Fault::TooManyConnections.index());
            stream.reset_on_close();
        }
    }
}
