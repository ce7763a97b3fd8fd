//! The worker threads, and the ports that they listen on together. Serves nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use pointsman_engine::Applied;
use pointsman_engine::inherited::{Inherited, LendRequest, ListenerRole};
use pointsman_engine::live::Registry;
use pointsman_engine::sockets::{Claim, unserved_https};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_table::{Bind, Problem, Table};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::accept::{self, Door, Order, Report};
use crate::prober::Prober;
use crate::tls::{Keys, Outbound};
use crate::worker::Common;

/// How long a port that left the table may still be closing.
const CLOSING: Duration = Duration::from_secs(5);

/// The workers, and the ports that they listen on together.
#[derive(Debug)]
pub(crate) struct Workers {
    workers: Vec<Member>,
    /// HTTP sockets not yet given to the workers.
    waiting: Vec<Vec<Door>>,
    /// Sockets that were given and are not in use.
    inherited: Inherited,
    table: Arc<Table>,
    /// The certificates, if anything is served over TLS.
    /// What sessions are resumed with.
    tickets: TicketSecrets,
    keys: Option<Arc<Keys>>,
    /// What TLS to instances is set up with.
    outbound: Arc<Outbound>,
    prober: Prober,
    open: BTreeSet<Bind>,
    /// Ports that left the table a moment ago.
    closing: BTreeMap<Bind, Instant>,
    /// Ports that could not be opened, and why.
    closed: BTreeMap<Bind, String>,
    /// The last acknowledgement to the control loop.
    reported: Option<Applied>,
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
pub(crate) type Reports = mpsc::UnboundedReceiver<(usize, Report)>;

impl Workers {
    /// Starts a worker for each set of sockets. `before`: not served; it has the last good forms from before the start.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        (sockets, inherited): (Vec<Vec<Door>>, Inherited),
        common: Common,
        registry: &Arc<Registry>,
        before: Arc<Table>,
    ) -> anyhow::Result<(Self, Reports)> {
        let (report, reports) = mpsc::unbounded_channel();
        let count = sockets.len();
        let workers =
            (0..count).map(|id| Member::start(id, registry, common.clone(), report.clone())).collect::<io::Result<_>>();
        let started = Self {
            workers: workers.context("cannot start a worker thread")?,
            keys: sockets.iter().flatten().any(|door| door.is_secure).then(|| Keys::none().next(&before)),
            tickets: TicketSecrets::default(),
            outbound: Outbound::recall(&before),
            prober: Prober::new(registry, common.limits.descriptors),
            waiting: sockets,
            inherited,
            table: before,
            open: BTreeSet::new(),
            closing: BTreeMap::new(),
            closed: BTreeMap::new(),
            reported: None,
        };
        Ok((started, reports))
    }

    /// Whether HTTP clients still wait for the first table.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn accept_http(&mut self) {
        for (member, sockets) in self.workers.iter().zip(self.waiting.drain(..)) {
            sockets.into_iter().for_each(|socket| member.order(Order::Http(socket)));
        }
    }

    pub(crate) fn apply(&mut self, table: Arc<Table>) {
        let now = Instant::now();
        let (stay, go) = std::mem::take(&mut self.open).into_iter().partition(|bind| is_wanted(&table, bind));
        self.open = stay;
        self.closing.extend(go.into_iter().map(|bind: Bind| (bind, now)));
        self.closing.retain(|_, since| now.duration_since(*since) < CLOSING);
        self.closed.retain(|bind, _| is_wanted(&table, bind));
        self.outbound = self.outbound.next(&table);
        self.prober.apply(&table, &self.outbound);
        self.table = table;
        let wanted = self.table.tcp().iter().map(|(bind, _)| *bind).chain(self.table.https());
        let to_open = wanted.filter(|bind| !self.open.contains(bind) && !self.is_left_alone(*bind)).collect();
        let opened = self.open_ports(to_open);
        for address in self.inherited.close_unused() {
            info!("closed {address}, which was taken over: no setting and no key names it");
        }
        self.take_keys();
        self.hand_out(opened);
        self.accept_http();
    }

    /// Has every worker send copies of its listening sockets. Before the first table there are none.
    pub(crate) fn lend(&self, request: LendRequest) {
        let (sender, mut lent) = mpsc::unbounded_channel();
        self.workers.iter().for_each(|member| member.order(Order::Lend(sender.clone())));
        drop(sender);
        tokio::spawn(async move {
            let mut all = Ok(Vec::new());
            while let Some(some) = lent.recv().await {
                all = all.and_then(|mut all: Vec<_>| some.map(|some| all.extend(some)).map(|()| all));
            }
            // Who asked may have given up.
            let _ = request.send(all);
        });
    }

    /// From now on sessions are resumed with these secrets.
    pub(crate) fn change_tickets(&mut self, tickets: TicketSecrets) {
        self.tickets = tickets;
        let Some(keys) = &self.keys else { return };
        self.keys = Some(keys.with_tickets(self.tickets.clone()));
        // The first table brings them.
        if self.table.generation() > 0 {
            self.hand_out(self.workers.iter().map(|_| Opened::new()).collect());
        }
    }

    /// Takes the certificates of the table, where anything is served over TLS.
    fn take_keys(&mut self) {
        let table = &self.table;
        let ends_tls = || {
            table.services().iter().any(|service| service.terminates())
                || table.https().any(|bind| self.open.contains(&bind))
        };
        if self.keys.is_some() || ends_tls() {
            let keys = self.keys.take().unwrap_or_else(|| Keys::none().with_tickets(self.tickets.clone()));
            self.keys = Some(keys.next(table));
        }
    }

    pub(crate) fn has_closed_ports(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Tries again to open the ports that could not be opened, except those that are left alone.
    pub(crate) fn retry(&mut self) {
        let closed = self.closed.keys().copied().filter(|bind| !self.is_left_alone(*bind)).collect();
        let opened = self.open_ports(closed);
        if opened.iter().any(|sockets| !sockets.is_empty()) {
            self.take_keys();
            self.hand_out(opened);
        }
    }

    /// Whether to leave the port to an instance that listened there when we tried to: it may only be gone for a moment.
    fn is_left_alone(&self, bind: Bind) -> bool {
        self.closed.contains_key(&bind) && self.table.leads_to(bind)
    }

    /// Opens ports; returns the sockets of each worker.
    fn open_ports(&mut self, wanted: Vec<Bind>) -> Vec<Opened> {
        let count = self.workers.len();
        let mut opened: Vec<Opened> = (0..count).map(|_| Vec::new()).collect();
        for bind in wanted {
            let is_closing = self.closing.get(&bind).is_some_and(|since| since.elapsed() < CLOSING);
            let claim = if is_closing { Claim::BesideOurs } else { Claim::Alone };
            let address = SocketAddr::new(bind.address, bind.port);
            match self.inherited.open(address, ListenerRole::Keys, count, claim) {
                Ok(sockets) => {
                    if self.is_https(bind) {
                        info!("listening for HTTPS on {bind}");
                    }
                    self.closed.remove(&bind);
                    self.open.insert(bind);
                    for (number, socket) in sockets.into_iter().enumerate() {
                        opened[number % count].push((bind, socket));
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.is_https(bind) && self.closed.get(&bind) != Some(&why) {
                        warn!("{}", unserved_https(bind, &why));
                    }
                    self.closed.insert(bind, why);
                }
            }
        }
        opened
    }

    /// Whether HTTPS is served there though no setting says so.
    fn is_https(&self, bind: Bind) -> bool {
        self.table.https().any(|usual| usual == bind)
    }

    /// Gives every worker the table and its new sockets.
    fn hand_out(&self, opened: Vec<Opened>) {
        for (member, open) in self.workers.iter().zip(opened) {
            let (table, keys, outbound) = (Arc::clone(&self.table), self.keys.clone(), Arc::clone(&self.outbound));
            member.order(Order::Table { table, keys, outbound, open });
        }
    }

    /// Notes that a worker uses a table. `Some`: all workers do, and this is new to the control loop.
    pub(crate) fn acknowledge(&mut self, worker: usize, generation: u64) -> Option<Applied> {
        self.workers.get_mut(worker)?.applied = Some(generation);
        let current = self.table.generation();
        if self.workers.iter().any(|member| member.applied != Some(current)) {
            return None;
        }
        let news = Applied::new(&self.table, self.problems(), self.open.clone());
        if self.reported.as_ref() == Some(&news) {
            return None;
        }
        self.reported = Some(news.clone());
        Some(news)
    }

    fn problems(&self) -> Vec<Problem> {
        let closed = self.closed.iter().filter_map(|(bind, error)| self.table.listen_problem(*bind, error));
        let certs = match &self.keys {
            Some(keys) => keys.problems(&self.table),
            None => self.table.unused_certs(),
        };
        closed.chain(certs).chain(self.outbound.problems(&self.table)).collect()
    }

    /// Waits until every worker has finished.
    pub(crate) async fn drain(self) {
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
        common: Common,
        reports: mpsc::UnboundedSender<(usize, Report)>,
    ) -> io::Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let registry = Arc::clone(registry);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let thread = std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(accept::run(id, registry, common, inbox, reports)),
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

/// Whether a TCP service listens there, or HTTPS is served there though no setting says so.
fn is_wanted(table: &Table, bind: &Bind) -> bool {
    table.tcp().binary_search_by(|(known, _)| known.cmp(bind)).is_ok() || table.https().any(|usual| usual == *bind)
}
