//! One worker's thread: takes orders, accepts connections and starts a task for each, ends when drained. Reads no byte
//! of a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_engine::inherited::{GivenSocket, ListenerRole};
use pointsman_engine::live::Registry;
use pointsman_table::{Bind, Table};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::fault::Fault;
use crate::net::buffer::{Input, Size};
use crate::net::deadline::TICK;
use crate::net::peer::Ends;
use crate::net::stream::Stream;
use crate::pool::view::ServiceLive;
use crate::tls::{Keys, Outbound};
use crate::worker::{Common, Counted, Worker};
use crate::{greet, record, serve, tcp};

/// How long accepting pauses when the machine has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many failures to accept in a row other workers have to close their idle connections to instances.
const PATIENT_FAILURES: u32 = 2;
/// After how many failures in a row the queue of a listener that closes is given up.
const MOST_FAILURES: u32 = 50;
/// How many clients may be told at the same time that there is no room; further connections are reset.
const TOLD: u64 = 64;
/// How often idle connections to instances are checked, in ticks.
const SWEEP_EVERY: u32 = 10;

/// What the engine tells a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// Use this table, and these listeners for its TCP services; close listeners that it lacks.
    Table { table: Arc<Table>, keys: Option<Arc<Keys>>, outbound: Arc<Outbound>, open: Vec<(Bind, StdListener)> },
    /// Accept HTTP connections here.
    Http(Door),
    /// Send copies of the listening sockets.
    Lend(mpsc::UnboundedSender<io::Result<Vec<GivenSocket>>>),
    /// Accept no more connections, finish open work.
    Drain,
}

/// What a worker tells the engine.
#[derive(Debug)]
pub(crate) enum Report {
    /// The table of this generation is in use.
    Applied { generation: u64 },
}

/// A listening socket for HTTP.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: StdListener,
    /// Its connections are TLS.
    pub(crate) is_secure: bool,
}

/// What a listener's connections carry.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Http,
    Https,
    /// What the table says of this address: a TCP service, or HTTPS.
    Tcp(Bind),
}

/// Runs a worker until it is drained or its orders end.
pub(crate) async fn run(
    id: usize,
    registry: Arc<Registry>,
    common: Common,
    mut orders: mpsc::UnboundedReceiver<Order>,
    reports: mpsc::UnboundedSender<(usize, Report)>,
) {
    let worker = Worker::new(id, registry, common);
    let mut listeners = Listeners::default();
    let clock = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let giving = tokio::task::spawn_local(give_up_idle(Rc::clone(&worker)));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Table { table, keys, outbound, open } => {
                let generation = table.generation();
                worker.home.set_outbound(outbound);
                worker.take(Arc::clone(&table), keys);
                open_and_close(&worker, &mut listeners, &table, open);
                // The engine is gone only when the program ends.
                let _ = reports.send((id, Report::Applied { generation }));
            }
            Order::Http(Door { listener, is_secure }) => {
                let kind = if is_secure { Kind::Https } else { Kind::Http };
                listeners.http.extend(open_listener(&worker, listener, kind));
            }
            Order::Lend(sender) => {
                // Who asked may have given up.
                let _ = sender.send(listeners.copies());
            }
            Order::Drain => break,
        }
    }
    drain(&worker, listeners).await;
    worker.pass_records_on();
    clock.abort();
    giving.abort();
}

/// Opens and closes listeners to match a table.
fn open_and_close(worker: &Rc<Worker>, listeners: &mut Listeners, table: &Table, open: Vec<(Bind, StdListener)>) {
    listeners.tcp.retain(|bind, all| {
        let is_tcp = table.tcp().binary_search_by(|(known, _)| known.cmp(bind)).is_ok();
        let stays = is_tcp || table.https().any(|usual| usual == *bind);
        if !stays {
            all.iter().for_each(|accepting| accepting.close.notify_one());
        }
        stays
    });
    for (bind, listener) in open {
        if let Some(accepting) = open_listener(worker, listener, Kind::Tcp(bind)) {
            listeners.tcp.entry(bind).or_default().push(accepting);
        }
    }
}

/// Accepts no more, and waits until the last connection is closed.
async fn drain(worker: &Worker, listeners: Listeners) {
    worker.begin_drain();
    let all: Vec<_> = listeners.http.into_iter().chain(listeners.tcp.into_values().flatten()).collect();
    all.iter().for_each(|accepting| accepting.close.notify_one());
    for accepting in all {
        // A task that was cancelled or panicked accepts no more either.
        let _ = accepting.task.await;
    }
    worker.drained().await;
}

/// The worker's coarse clock.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for count in 0u32.. {
        interval.tick().await;
        #[expect(clippy::disallowed_methods, reason = "the one clock of a worker")]
        worker.tick(Instant::now());
        if count % SWEEP_EVERY == 0 {
            worker.sweep_idle();
            tell_unaccepted(&worker);
        }
    }
}

/// Closes idle connections whose places other workers need.
async fn give_up_idle(worker: Rc<Worker>) {
    loop {
        for (slots, limit) in worker.home.registry.asked(worker.home.id).next().await {
            worker.home.pools.give_up(&slots, limit);
        }
    }
}

/// The worker's listeners; each has a task that accepts from it.
#[derive(Debug, Default)]
struct Listeners {
    http: Vec<Accepting>,
    /// Several on one address if a program with more workers was taken over.
    tcp: BTreeMap<Bind, Vec<Accepting>>,
}

impl Listeners {
    fn copies(&self) -> io::Result<Vec<GivenSocket>> {
        let all = self.http.iter().chain(self.tcp.values().flatten());
        all.filter_map(Accepting::copy).collect()
    }
}

#[derive(Debug)]
struct Accepting {
    close: Rc<Notify>,
    task: JoinHandle<()>,
    listener: Weak<TcpListener>,
    kind: Kind,
}

impl Accepting {
    /// Another descriptor of its socket; `None`: it is closed.
    fn copy(&self) -> Option<io::Result<GivenSocket>> {
        let role = match self.kind {
            Kind::Http => ListenerRole::Http,
            Kind::Https => ListenerRole::Https,
            Kind::Tcp(_) => ListenerRole::Keys,
        };
        let copy = self.listener.upgrade()?.as_fd().try_clone_to_owned();
        Some(copy.map(|copy| GivenSocket { listener: copy.into(), role: Some(role), stays: false }))
    }
}

fn open_listener(worker: &Rc<Worker>, listener: StdListener, kind: Kind) -> Option<Accepting> {
    let listener = TcpListener::from_std(listener)
        .inspect_err(|error| warn!("a listening socket cannot be used: {error}"))
        .ok()?;
    let (close, listener) = (Rc::new(Notify::new()), Rc::new(listener));
    let weak = Rc::downgrade(&listener);
    let task = tokio::task::spawn_local(accept_all(Rc::clone(worker), listener, kind, Rc::clone(&close)));
    Some(Accepting { close, task, listener: weak, kind })
}

/// Accepts until told to close, then accepts what already waits in the queue, so that no connected client is lost.
async fn accept_all(worker: Rc<Worker>, listener: Rc<TcpListener>, kind: Kind, close: Rc<Notify>) {
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = close.notified() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    begin(&worker, stream, peer, kind);
                }
                Err(error) => {
                    failures += 1;
                    accept_failed(&worker, &error, failures).await;
                }
            },
        }
    }
    // It has one owner; the runtime refuses only when it ends.
    if let Some(Ok(listener)) = Rc::into_inner(listener).map(TcpListener::into_std) {
        empty_queue(&worker, &listener, kind).await;
    }
}

/// Accepts what waits in the queue: connections that their clients gave up, or a lack of descriptors, do not end it.
async fn empty_queue(worker: &Rc<Worker>, listener: &StdListener, kind: Kind) {
    let mut failures = 0;
    while failures < MOST_FAILURES {
        match listener.accept() {
            Ok((stream, peer)) => {
                failures = 0;
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    begin(worker, stream, peer, kind);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                failures += 1;
                accept_failed(worker, &error, failures).await;
            }
        }
    }
}

/// Ignores a connection that its client gave up. If no descriptor is left, frees some and pauses: the connection stays
/// in the queue. Idle connections to instances go first, those of other workers too, and only after `failures` in a row
/// idle clients.
async fn accept_failed(worker: &Worker, error: &io::Error, failures: u32) {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) {
        if worker.home.free_descriptors() == 0 && failures > PATIENT_FAILURES {
            worker.make_room();
        }
        let unaccepted = worker.home.registry.unaccepted();
        if let Some(untold) = unaccepted.happened(worker.timers.now()) {
            warn!(
                "cannot accept connections, trying again every {} ms: {error}; {untold} more failures since the last such line",
                ACCEPT_PAUSE.as_millis()
            );
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Logs the failures since the last line about them, a minute after that line.
fn tell_unaccepted(worker: &Worker) {
    if let Some(untold) = worker.home.registry.unaccepted().rest(worker.timers.now()) {
        warn!("connections could not be accepted {untold} more times since the last such line");
    }
}

fn begin(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, kind: Kind) {
    let counted = Counted::new(worker);
    let excess = worker.excess();
    if excess > 0 && !worker.make_room() {
        return refuse(worker, Stream::Tcp(stream), Ends { client: peer, local: None }, kind, counted, excess);
    }
    let ends = Ends { client: peer, local: stream.local_addr().ok() };
    if worker.view().globals.config.accept_proxy.contain(peer.ip()) {
        return spawn(begin_proxied(counted, stream, ends, kind));
    }
    // Each spawns its own future: one for all kinds would be as large as the largest.
    match kind {
        Kind::Http => spawn(serve::serve(counted, Stream::Tcp(stream), ends)),
        Kind::Https => spawn(greet::secure(counted, stream, ends)),
        Kind::Tcp(bind) => match asked(worker, bind) {
            Asked::Only(live) => {
                spawn(tcp::serve(counted, Stream::Tcp(stream), Input::new(Size::Page), ends, live));
            }
            Asked::ByName => spawn(greet::named(counted, stream, ends, bind)),
            Asked::Https => spawn(greet::secure(counted, stream, ends)),
            Asked::Nobody => Stream::Tcp(stream).reset_on_close(),
        },
    }
}

/// Serves a connection that begins with a PROXY header.
async fn begin_proxied(counted: Counted, mut stream: TcpStream, own: Ends, kind: Kind) {
    // Its memory is there while it lasts.
    let Some(ends) = Box::pin(greet::proxied(counted.worker(), &mut stream, own)).await else {
        return Stream::Tcp(stream).reset_on_close();
    };
    match kind {
        Kind::Http => serve::serve(counted, Stream::Tcp(stream), ends).await,
        Kind::Https => greet::secure(counted, stream, ends).await,
        Kind::Tcp(bind) => match asked(counted.worker(), bind) {
            Asked::Only(live) => {
                tcp::serve(counted, Stream::Tcp(stream), Input::new(Size::Page), ends, live).await;
            }
            Asked::ByName => greet::named(counted, stream, ends, bind).await,
            Asked::Https => greet::secure(counted, stream, ends).await,
            Asked::Nobody => Stream::Tcp(stream).reset_on_close(),
        },
    }
}

/// The task ends with its connection, or with the worker.
fn spawn(serve: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(serve));
}

/// Who takes the connections to an address.
enum Asked {
    /// This one, as they come.
    Only(Rc<ServiceLive>),
    /// A TCP service that the beginning of each names.
    ByName,
    /// HTTP services, over TLS.
    Https,
    /// None does any longer.
    Nobody,
}

/// Who listens here in the table in use.
fn asked(worker: &Worker, bind: Bind) -> Asked {
    let view = worker.view();
    let Ok(at) = view.table.tcp().binary_search_by(|(known, _)| known.cmp(&bind)) else {
        return if view.table.https().any(|usual| usual == bind) { Asked::Https } else { Asked::Nobody };
    };
    let only = Some(view.table.tcp()[at].1).filter(|_| view.table.sni(bind).is_empty());
    match only.and_then(|index| worker.service(&view, index)) {
        Some(live) if !live.service.terminates() => Asked::Only(live),
        Some(_) | None => Asked::ByName,
    }
}

/// Tells an HTTP client that there is no room, while few are being told; resets any other connection.
fn refuse(worker: &Rc<Worker>, stream: Stream, ends: Ends, kind: Kind, counted: Counted, excess: u64) {
    worker.stats().refused.add(1);
    match kind {
        Kind::Http if excess <= TOLD => spawn(serve::turn_away(counted, stream, ends)),
        Kind::Http | Kind::Https | Kind::Tcp(_) => {
            record::connection_refused(worker, Fault::TooManyConnections);
            stream.reset_on_close();
        }
    }
}
