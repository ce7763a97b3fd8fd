//! A table as one worker sees it: the table and, beside each service that has had work, this worker's state for it.
//! State is carried from view to view; nothing here decides anything.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use pointsman_table::{Config, Instance, Protocol, Service, Table};

use super::candidates::Candidates;
use super::connections::{Pool, Pools};
use super::via::Via;
use crate::net::stream::Stream;
use pointsman_engine::live::{Counters, InstanceShared, Latency, Registry, Room, ServiceShared};

/// What a worker's state hangs on, the same from view to view.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) id: usize,
    pub(crate) registry: Arc<Registry>,
    pub(crate) pools: Pools,
    rng: RefCell<fastrand::Rng>,
}

impl Home {
    pub(crate) fn new(id: usize, registry: Arc<Registry>, pools: Pools) -> Self {
        Self { id, registry, pools, rng: RefCell::default() }
    }

    pub(crate) fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }
}

/// What a request keeps of its table from beginning to end: never the whole table, which a tunnel of an hour would keep
/// alive.
#[derive(Debug)]
pub(crate) struct Globals {
    pub(crate) config: Arc<Config>,
}

/// One table, and this worker's state for its services.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    pub(crate) globals: Rc<Globals>,
    services: Box<[OnceCell<Rc<ServiceLive>>]>,
}

/// What a worker knows of a service.
#[derive(Debug)]
pub(crate) struct ServiceLive {
    worker: usize,
    pub(crate) service: Arc<Service>,
    pub(crate) instances: Box<[Rc<InstanceLive>]>,
    shared: Arc<ServiceShared>,
    /// Whose turn it is next, for `roundrobin` and for ties.
    pub(crate) turn: Cell<usize>,
    /// Smooth weighted turns: what each instance has saved up.
    pub(crate) credit: RefCell<Box<[i64]>>,
    /// The instances to pick from.
    pub(crate) candidates: RefCell<Candidates>,
    /// A later table has the service in another form: only requests that came before it still see this one.
    superseded: Cell<bool>,
}

/// What a worker knows of an instance.
#[derive(Debug)]
pub(crate) struct InstanceLive {
    worker: usize,
    pub(crate) shared: Arc<InstanceShared>,
    /// The ways to it.
    ways: RefCell<Ways>,
    /// When its work must end, coarse time: `u64::MAX` while it is in the table.
    expires: Cell<u64>,
    /// The newest table gives it no new work.
    idle: Cell<bool>,
}

/// The ways to an instance: one for a fixed address, one for each address of a host name. The one that took the last
/// connection goes first.
#[derive(Debug, Default)]
struct Ways {
    pools: Rc<[Rc<Pool>]>,
    /// Until when they hold, coarse time.
    until: u64,
}

impl View {
    /// The first view, of an empty table.
    pub(crate) fn empty() -> Rc<Self> {
        let table = Table::empty();
        Rc::new(Self { globals: Globals::of(&table), table, services: Box::default() })
    }

    /// The view of the next table. State of services and instances that stay is carried over; work of those that do
    /// not must end by `expires`, coarse time.
    pub(crate) fn next(&self, table: Arc<Table>, home: &Home, expires: u64) -> Rc<Self> {
        let mut old = self.table.services().iter().zip(&self.services).peekable();
        let mut services = Vec::with_capacity(table.services().len());
        for service in table.services() {
            let key = (service.protocol, &service.name);
            while let Some((_, gone)) = old.next_if(|(before, _)| (before.protocol, &before.name) < key) {
                retire(gone, home, expires);
            }
            let before = old.next_if(|(before, _)| (before.protocol, &before.name) == key);
            services.push(carried(before.and_then(|(_, live)| live.get()), service, home, expires));
        }
        old.for_each(|(_, gone)| retire(gone, home, expires));
        Rc::new(Self { services: services.into(), globals: Globals::of(&table), table })
    }

    /// A service and this worker's state for it, made at its first work.
    pub(crate) fn service(&self, index: u32, home: &Home) -> Option<&Rc<ServiceLive>> {
        let index = index as usize;
        let service = self.table.services().get(index)?;
        Some(self.services.get(index)?.get_or_init(|| Rc::new(ServiceLive::new(service, home, None))))
    }
}

impl Globals {
    fn of(table: &Table) -> Rc<Self> {
        Rc::new(Self { config: Arc::clone(table.config()) })
    }
}

fn carried(
    before: Option<&Rc<ServiceLive>>,
    service: &Arc<Service>,
    home: &Home,
    expires: u64,
) -> OnceCell<Rc<ServiceLive>> {
    before.map_or_else(OnceCell::new, |before| before.carry(service, home, expires).into())
}

fn retire(gone: &OnceCell<Rc<ServiceLive>>, home: &Home, expires: u64) {
    let instances = gone.get().into_iter().flat_map(|live| &live.instances);
    instances.for_each(|instance| instance.retire(home, expires));
}

impl ServiceLive {
    fn new(service: &Arc<Service>, home: &Home, before: Option<&Self>) -> Self {
        let live = |instance: &Instance| {
            let live = before.and_then(|before| before.find(instance));
            let live = live.unwrap_or_else(|| Rc::new(InstanceLive::new(service, instance, home)));
            live.idle.set(!instance.takes_work());
            live
        };
        Self {
            worker: home.id,
            service: Arc::clone(service),
            instances: service.instances.iter().map(live).collect(),
            shared: home.registry.service(service),
            turn: Cell::new(
                before.map_or_else(|| home.with_rng(|rng| rng.usize(..1 << 20)), |before| before.turn.get()),
            ),
            credit: RefCell::new(vec![0; service.instances.len()].into()),
            candidates: RefCell::default(),
            superseded: Cell::new(false),
        }
    }

    /// Whether a later table has the service in another form.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.get()
    }

    /// How often its instances were ejected, tried again or restored, by all workers.
    pub(crate) fn flips(&self) -> u64 {
        self.shared.flips.get()
    }

    /// Whether this instance still gets work by the newest table too, as far as this one can know.
    pub(crate) fn is_current(&self, index: usize) -> bool {
        !self.superseded.get() || !self.instances[index].idle.get()
    }

    fn carry(self: &Rc<Self>, service: &Arc<Service>, home: &Home, expires: u64) -> Rc<Self> {
        if Arc::ptr_eq(&self.service, service) {
            return Rc::clone(self);
        }
        let next = Self::new(service, home, Some(self));
        self.superseded.set(true);
        for (instance, live) in self.service.instances.iter().zip(&self.instances) {
            if next.find(instance).is_none() {
                live.retire(home, expires);
            }
        }
        Rc::new(next)
    }

    /// The state of an instance of the same name that is reached the same way.
    fn find(&self, wanted: &Instance) -> Option<Rc<InstanceLive>> {
        let index = self.service.instances.binary_search_by(|instance| instance.name.cmp(&wanted.name)).ok()?;
        let before = &self.service.instances[index];
        let same = (&before.target, before.tls) == (&wanted.target, wanted.tls);
        same.then(|| Rc::clone(&self.instances[index]))
    }

    /// How logs name an instance: `service shop instance web-1 (10.0.0.1:80)`.
    pub(crate) fn describe(&self, index: usize) -> String {
        let instance = &self.service.instances[index];
        let kind = match self.service.protocol {
            Protocol::Http => "service",
            Protocol::Tcp => "tcp service",
        };
        format!("{kind} {} instance {} ({})", self.service.name, instance.name, instance.target)
    }

    /// This worker's latency histogram of the service.
    pub(crate) fn latency(&self) -> &Latency {
        &self.shared.latency[self.worker]
    }

    /// This worker's numbers of requests that no instance saw.
    pub(crate) fn unserved(&self) -> &Counters {
        &self.shared.unserved[self.worker]
    }

    /// The service's room as a number, to tell it from others.
    pub(crate) fn room_id(&self) -> usize {
        Arc::as_ptr(&self.shared.room).addr()
    }

    /// Where requests wait while all instances are at their `maxconn`.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.shared.room
    }
}

impl InstanceLive {
    fn new(service: &Service, instance: &Instance, home: &Home) -> Self {
        Self {
            worker: home.id,
            shared: home.registry.instance(service, instance),
            ways: RefCell::new(Ways::fixed(instance, home)),
            expires: Cell::new(u64::MAX),
            idle: Cell::new(false),
        }
    }

    fn retire(&self, home: &Home, expires: u64) {
        self.expires.set(expires);
        self.idle.set(true);
        self.ways.borrow().pools.iter().for_each(|pool| home.pools.leave(pool));
    }

    /// The ways to it that are known and still hold. `None`: its name is to be resolved.
    pub(crate) fn ways(&self, now: u64) -> Option<Rc<[Rc<Pool>]>> {
        let ways = self.ways.borrow();
        (now < ways.until).then(|| Rc::clone(&ways.pools))
    }

    /// The way to try first.
    pub(crate) fn first_way(&self) -> Option<Rc<Pool>> {
        self.ways.borrow().pools.first().cloned()
    }

    /// Takes the addresses that its name resolved to, to hold until then, coarse time.
    pub(crate) fn resolved(&self, home: &Home, vias: impl Iterator<Item = Via>, until: u64) -> Rc<[Rc<Pool>]> {
        let gone = self.expires.get() < u64::MAX;
        let pools: Rc<[_]> = vias.map(|via| if gone { Pool::unused(via) } else { home.pools.join(via) }).collect();
        let old = self.ways.replace(Ways { pools: Rc::clone(&pools), until });
        if !gone {
            old.pools.iter().for_each(|pool| home.pools.leave(pool));
        }
        pools
    }

    /// This way took a connection: it goes first from now on, if it is still one.
    pub(crate) fn prefer(&self, way: &Rc<Pool>) {
        let mut ways = self.ways.borrow_mut();
        let place = ways.pools.iter().position(|pool| Rc::ptr_eq(pool, way));
        if let Some(place @ 1..) = place {
            let mut pools = ways.pools.to_vec();
            pools.swap(0, place);
            ways.pools = pools.into();
        }
    }

    /// No address of its name took a connection: it is resolved anew next time.
    pub(crate) fn unresolve(&self) {
        self.ways.borrow_mut().until = 0;
    }

    /// When its work must end, coarse time.
    pub(crate) fn expires(&self) -> u64 {
        self.expires.get()
    }

    /// This worker's numbers of the instance.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.workers[self.worker]
    }

    /// A connection that was idle for at most `limit` milliseconds, and the pool that it came from: the connection that
    /// was idle for the shortest time of all.
    pub(crate) fn take_idle(&self, home: &Home, now: u64, limit: u64) -> Option<(Stream, Rc<Pool>)> {
        let ways = self.ways.borrow();
        let pool = match &*ways.pools {
            [only] => only,
            pools => pools.iter().filter(|pool| pool.youngest().is_some()).max_by_key(|pool| pool.youngest())?,
        };
        Some((home.pools.take(pool, now, limit)?, Rc::clone(pool)))
    }
}

impl Ways {
    fn fixed(instance: &Instance, home: &Home) -> Self {
        match Via::fixed(instance) {
            Some(via) => Self { pools: [home.pools.join(via)].into(), until: u64::MAX },
            None => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    fn table(instance: &str) -> Arc<Table> {
        let mut keys = KeySet::default();
        let entries = [("services/s/default", "true"), ("services/s/a", instance)];
        keys.reset(1, entries.map(|(key, value)| (key.into(), value.as_bytes().into())));
        compile(&keys, None, &Limits::default()).table
    }

    fn vias<'i>(instance: &'i Instance, ports: &'i [u16]) -> impl Iterator<Item = Via> + 'i {
        ports.iter().map(|port| Via::resolved(instance, ([127, 0, 0, 1], *port).into()))
    }

    /// How many instances use each way, in order.
    fn users(ways: &[Rc<Pool>]) -> Vec<usize> {
        ways.iter().map(|way| way.users()).collect()
    }

    #[test]
    fn a_name_leaves_the_addresses_that_it_no_longer_has() {
        let home = Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(9));
        let view = View::empty().next(table("web.test:80"), &home, 0);
        let live = Rc::clone(view.service(0, &home).unwrap());
        let (instance, named) = (&live.service.instances[0], &live.instances[0]);
        assert!(named.ways(0).is_none(), "not resolved yet");
        let first = named.resolved(&home, vias(instance, &[1, 2]), 5);
        assert_eq!(users(&first), [1, 1]);
        named.prefer(&first[1]);
        assert_eq!(named.first_way().map(|way| way.via.clone()), Some(first[1].via.clone()));
        assert!(named.ways(5).is_none(), "to be resolved again");
        let second = named.resolved(&home, vias(instance, &[2, 3]), 10);
        assert_eq!((users(&first), users(&second)), (vec![0, 1], vec![1, 1]));
        view.next(table("other.test:80"), &home, 100);
        assert_eq!(users(&second), [0, 0], "it left the table");
        let late = named.resolved(&home, vias(instance, &[3]), 20);
        assert_eq!((users(&second), users(&late)), (vec![0, 0], vec![0]), "a late answer keeps nothing");
    }
}
