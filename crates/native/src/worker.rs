//! One worker's state: view, pools, buffers, timers and counters, shared by the tasks of its thread. Shares nothing that
//! a request writes with other workers. Accepts nothing and serves nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pointsman_engine::live::{Registry, WorkerStats};
use pointsman_table::Table;
use tokio::sync::Notify;

use crate::net::buffer::Buffers;
use crate::net::deadline::Timers;
use crate::net::watch::HalfClosed;
use crate::pool::connections::Pools;
use crate::pool::view::{Home, ServiceLive, View};

/// A worker's state, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) home: Home,
    view: RefCell<Rc<View>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Buffers,
    /// Clients that give way first.
    pub(crate) half_closed: HalfClosed,
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
    pub(crate) fn new(id: usize, registry: Arc<Registry>, limits: Limits) -> Rc<Self> {
        let pools = Pools::new(limits.most_idle(0));
        Rc::new(Self {
            view: RefCell::new(View::empty()),
            timers: Timers::new(registry.epoch()),
            buffers: Buffers::default(),
            half_closed: HalfClosed::default(),
            home: Home::new(id, registry, pools),
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

    /// Takes a table into use: requests that come from now on see it.
    pub(crate) fn take(&self, table: Arc<Table>) {
        let drain = u64::try_from(table.config().timeouts.drain.as_millis()).unwrap_or(u64::MAX);
        let expires = self.timers.now().saturating_add(drain);
        let next = self.view.borrow().next(table, &self.home, expires);
        *self.view.borrow_mut() = next;
    }

    /// From now on connections close after the response that they owe.
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
    }

    /// Closes connections to instances that were idle too long, or that leave too few descriptors for clients.
    pub(crate) fn sweep_connections(&self) {
        self.home.pools.allow(self.limits.most_idle(self.home.registry.open()));
        self.home.pools.sweep(self.timers.now());
    }

    /// Makes room for a client beyond the limit, if another one gives way.
    pub(crate) fn make_way(&self) -> bool {
        self.half_closed.end_oldest(None)
    }

    /// How many client connections there are beyond the limit.
    pub(crate) fn excess(&self) -> u64 {
        let configured = self.view.borrow().table.config().max_connections;
        let possible = self.limits.most_connections();
        let most = configured.map_or(possible, |most| u64::from(most.get()).min(possible));
        self.home.registry.open().saturating_sub(most)
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
