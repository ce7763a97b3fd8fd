//! One worker's state: view, pools, buffers, timers and counters, shared by the tasks of its thread. Shares nothing that
//! a request writes with other workers. Accepts nothing and serves nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pointsman_engine::cert_wishes::CertWishes;
use pointsman_engine::live::{Registry, WorkerStats};
use pointsman_table::Table;
use tokio::sync::Notify;

use crate::access::{Access, Observed};
use crate::net::buffer::Buffers;
use crate::net::deadline::{Evictable, Timers};
use crate::net::watch::HalfClosed;
use crate::passwords::Passwords;
use crate::pool::connections::Pools;
use crate::pool::view::{Home, ServiceLive, View};
use crate::tls::{Awaited, Handshakes, Keys};

/// How many connections must have closed before memory is given back.
const FLOOD_CONNECTIONS: usize = 256;
/// How many bytes of buffers must have been freed before memory is given back.
const FLOOD_BYTES: usize = 1 << 20;
/// The most copies of requests at work at the same time: more would wait for services that do not keep up.
const MOST_COPIES: usize = 256;
/// The most bodies that a worker compresses at the same time: each takes up to 1.2 MiB.
const MOST_COMPRESSED: usize = 256;
/// How long an idle connection may still send something after draining began, milliseconds.
const DRAIN_GRACE: u64 = 1_000;

/// A worker's state, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) home: Home,
    view: RefCell<Rc<View>>,
    /// The certificates in use, where anything is served over TLS.
    keys: RefCell<Option<Arc<Keys>>>,
    pub(crate) handshakes: Handshakes,
    /// Handshakes that wait for a certificate, and where they ask for it.
    pub(crate) awaited: Awaited,
    pub(crate) wishes: CertWishes,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Buffers,
    /// Half-closed clients, which give way to others.
    pub(crate) half_closed: HalfClosed,
    drain_began: Cell<Option<u64>>,
    connections: Cell<usize>,
    /// The most connections since memory was given back.
    most_open: Cell<usize>,
    /// Bytes of buffers that went to the allocator since memory was given back.
    trimmed: Cell<usize>,
    idle: Notify,
    /// Copies of requests at work.
    copies: Cell<usize>,
    /// Bodies that are being compressed.
    compressed: Cell<usize>,
    limits: Limits,
    /// The access log and traces; `None`: there are none.
    pub(crate) access: Option<Box<Access>>,
    /// What computes hashes of passwords.
    pub(crate) passwords: Arc<Passwords>,
}

/// What all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// What is told of requests.
    pub(crate) observed: Observed,
    pub(crate) passwords: Arc<Passwords>,
    /// Where handshakes ask for certificates.
    pub(crate) wishes: CertWishes,
}

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Descriptors for connections, of all workers.
    pub(crate) descriptors: u64,
    pub(crate) workers: u64,
}

impl Limits {
    /// Most client connections over all workers: each may need a second connection, to an instance.
    fn most_connections(self) -> u64 {
        (self.descriptors / 2).max(1)
    }

    /// How many idle connections to instances a worker may keep while this many clients are connected to all workers.
    fn most_idle(self, clients: u64) -> usize {
        let left = self.descriptors.saturating_sub(clients * 2) / self.workers;
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

impl Worker {
    pub(crate) fn new(id: usize, registry: Arc<Registry>, common: Common) -> Rc<Self> {
        let Common { limits, observed, passwords, wishes } = common;
        let pools = Pools::new(limits.most_idle(0));
        Rc::new(Self {
            view: RefCell::new(View::empty()),
            keys: RefCell::default(),
            handshakes: Handshakes::default(),
            awaited: Awaited::default(),
            wishes,
            timers: Timers::new(registry.epoch()),
            buffers: Buffers::default(),
            half_closed: HalfClosed::default(),
            home: Home::new(id, registry, pools),
            drain_began: Cell::new(None),
            connections: Cell::new(0),
            most_open: Cell::new(0),
            trimmed: Cell::new(0),
            idle: Notify::new(),
            copies: Cell::new(0),
            compressed: Cell::new(0),
            limits,
            access: Access::new(observed),
            passwords,
        })
    }

    /// The table in use, and this worker's state for it.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Until when an idle connection is waited for that has until `at`, coarse time: not if it was told to make room, and not
    /// for long while draining.
    pub(crate) fn idle_until(&self, idle: &Evictable<'_>, at: u64) -> u64 {
        match self.drain_began() {
            _ if idle.is_evicted() => 0,
            Some(began) => at.min(began + DRAIN_GRACE),
            None => at,
        }
    }

    /// The certificates in use, where anything is served over TLS.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.borrow().clone()
    }

    /// A service of the view.
    pub(crate) fn service(&self, view: &View, index: u32) -> Option<Rc<ServiceLive>> {
        view.service(index, &self.home).cloned()
    }

    pub(crate) fn stats(&self) -> &WorkerStats {
        self.home.registry.worker(self.home.id)
    }

    /// Whether there is room for one more body that is compressed.
    pub(crate) fn may_compress(&self) -> bool {
        self.compressed.get() < MOST_COMPRESSED
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_began.get().is_some()
    }

    /// When draining began, coarse time.
    pub(crate) fn drain_began(&self) -> Option<u64> {
        self.drain_began.get()
    }

    /// Takes a table into use: requests that come from now on see it.
    pub(crate) fn take(&self, table: Arc<Table>, keys: Option<Arc<Keys>>) {
        *self.keys.borrow_mut() = keys;
        self.awaited.wake();
        let drain = u64::try_from(table.config().timeouts.drain.as_millis()).unwrap_or(u64::MAX);
        let expires = self.timers.now().saturating_add(drain);
        let next = self.view.borrow().next(table, &self.home, expires);
        *self.view.borrow_mut() = next;
    }

    /// From now on connections close after the current response.
    pub(crate) fn begin_drain(&self) {
        self.drain_began.set(Some(self.timers.now()));
    }

    /// Waits until the last client connection is gone.
    pub(crate) async fn drained(&self) {
        self.timers.wake_all();
        while self.connections.get() > 0 {
            self.idle.notified().await;
        }
    }

    /// Moves the clock and wakes every task whose deadline has passed.
    pub(crate) fn tick(&self, now: Instant) {
        self.timers.sweep(now);
        self.pass_records_on();
        self.make_room_for_others();
        if self.stats().take_short() {
            self.home.pools.clear();
        }
    }

    /// Passes on what is not written yet of the access log, and spans.
    pub(crate) fn pass_records_on(&self) {
        if let Some(access) = &self.access {
            access.tick();
        }
    }

    /// Makes room for one more client connection: closes the one that has been idle for longest, here or at another
    /// worker, or else the one that half-closed first. `false`: there is neither.
    pub(crate) fn make_room(&self) -> bool {
        self.evict() || self.home.registry.ask_for_room(self.home.id) || self.half_closed.end_oldest(None)
    }

    /// Closes as many idle client connections as other workers have asked for, or this worker's share of those beyond
    /// the limit if that is more: some that were asked for may be busy again.
    fn make_room_for_others(&self) {
        let asked = self.stats().take_asked();
        let share = self.excess().div_ceil(self.limits.workers);
        for _ in 0..asked.max(share) {
            if !self.evict() {
                return;
            }
        }
    }

    fn evict(&self) -> bool {
        let evicted = self.timers.evict_oldest();
        if evicted {
            self.stats().evicted.add(1);
        }
        evicted
    }

    /// Closes connections to instances that were idle too long, or that leave too few descriptors for clients; gives memory
    /// back that a flood needed.
    pub(crate) fn sweep_idle(&self) {
        self.home.pools.allow(self.left().most_idle(self.home.registry.open()));
        self.home.pools.sweep(self.timers.now());
        self.give_memory_back();
    }

    /// Makes the allocator return freed memory, which it keeps otherwise: when more than half of the connections are
    /// gone, or when [`FLOOD_BYTES`] of buffers were freed. That happens a few times after a flood, and never under a
    /// steady load.
    fn give_memory_back(&self) {
        let open = self.connections.get();
        let trimmed = self.trimmed.get() + self.buffers.trim();
        let most = self.most_open.get().max(open);
        let left = most - open;
        let due = (left > open && left >= FLOOD_CONNECTIONS) || trimmed >= FLOOD_BYTES;
        if due {
            pointsman_engine::sys::give_memory_back();
        }
        self.most_open.set(if due { open } else { most });
        self.trimmed.set(if due { 0 } else { trimmed });
    }

    /// The limits without the listening sockets of TCP services: each worker has one for each address.
    fn left(&self) -> Limits {
        let listening = self.view.borrow().table.tcp().len() as u64 * self.limits.workers;
        Limits { descriptors: self.limits.descriptors.saturating_sub(listening), ..self.limits }
    }

    /// How many client connections there are beyond the limit.
    pub(crate) fn excess(&self) -> u64 {
        let configured = self.view.borrow().table.config().max_connections;
        let possible = self.left().most_connections();
        let most = configured.map_or(possible, |most| u64::from(most.get()).min(possible));
        self.home.registry.open().saturating_sub(most)
    }
}

/// A place among the bodies that are being compressed, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Compressing(Rc<Worker>);

impl Compressing {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        worker.compressed.set(worker.compressed.get() + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Compressing {
    fn drop(&mut self) {
        self.0.compressed.set(self.0.compressed.get() - 1);
    }
}

/// A copy's place among those at work, for as long as it lives.
#[derive(Debug)]
pub(crate) struct CopyAtWork(Rc<Worker>);

impl CopyAtWork {
    /// `None`: so many are at work that this one is dropped.
    pub(crate) fn new(worker: &Rc<Worker>) -> Option<Self> {
        (worker.copies.get() < MOST_COPIES).then(|| {
            worker.copies.set(worker.copies.get() + 1);
            Self(Rc::clone(worker))
        })
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for CopyAtWork {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}

/// A client connection's place in the count, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Rc<Worker>);

impl Counted {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
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
