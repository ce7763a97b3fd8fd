//! A table as one worker sees it: the table and, beside each service that has had work, this worker's state for it.
//! State is carried from view to view; nothing here decides anything.

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU32;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use pointsman_table::{Config, Instance, Policy, Protocol, Service, Table, Target};
use pointsman_wire::HeaderEdits;

use super::candidates::Candidates;
use super::connections::{Pool, Pools};
use super::link::Link;
use super::values::CookieValues;
use super::via::{Setup, Via};
use crate::tls::Outbound;
use pointsman_engine::live::{
    Bounded, Compressed, Counter, Counters, InstanceShared, Latency, Places, Registry, Room, ServiceShared, Turns,
};
use pointsman_engine::seldom::Seldom;
use std::time::Duration;

/// What browsers are told (RFC 6797 §6.1).
const HSTS: &str = "Strict-Transport-Security";

/// The part of a worker's state that stays the same from view to view.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) id: usize,
    pub(crate) registry: Arc<Registry>,
    pub(crate) pools: Pools,
    rng: RefCell<fastrand::Rng>,
    /// Instances seen so far.
    instances: Cell<u32>,
    /// What TLS to the instances of the newest table is set up with.
    outbound: RefCell<Arc<Outbound>>,
}

impl Home {
    pub(crate) fn new(id: usize, registry: Arc<Registry>, pools: Pools) -> Self {
        Self { id, registry, pools, rng: RefCell::default(), instances: Cell::new(0), outbound: RefCell::default() }
    }

    /// Closes idle connections to instances, here and, at their next tick, at all other workers: no descriptor is left. Says
    /// how many were closed here.
    pub(crate) fn free_descriptors(&self) -> usize {
        self.registry.ask_for_descriptors(self.id);
        self.pools.clear()
    }

    /// Sets what TLS to the instances of the coming table is set up with.
    pub(crate) fn set_outbound(&self, outbound: Arc<Outbound>) {
        *self.outbound.borrow_mut() = outbound;
    }

    pub(crate) fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }

    /// A number for an instance. Numbers repeat after four billion.
    fn number(&self) -> u32 {
        self.instances.set(self.instances.get().wrapping_add(1));
        self.instances.get()
    }
}

/// What a request keeps of its table from beginning to end: never the whole table, which a long tunnel would keep in
/// memory.
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

/// A worker's state for a service.
#[derive(Debug)]
pub(crate) struct ServiceLive {
    worker: usize,
    pub(crate) service: Arc<Service>,
    pub(crate) instances: Box<[Rc<InstanceLive>]>,
    shared: Arc<ServiceShared>,
    /// The values of its `cookie`; most have none.
    pub(crate) cookies: Option<Box<CookieValues>>,
    /// What the service changes in the headers of answers over HTTPS; most change nothing.
    pub(crate) https_edits: Option<Rc<HeaderEdits>>,
    /// Its policy, if that has something to do before the instance of a request is chosen.
    pub(crate) admitting: Option<Arc<Policy>>,
    /// Its policy asks for the ids of requests.
    pub(crate) asks_for_id: bool,
    /// The instances to pick from.
    pub(crate) candidates: RefCell<Candidates>,
    /// A later table has the service in another form: only requests that came before it still see this one.
    superseded: Cell<bool>,
    /// Some connections serve requests for one host only.
    pub(crate) is_of_hosts: bool,
    /// The newest form, shared by all forms.
    newest: Rc<RefCell<Weak<ServiceLive>>>,
}

/// A worker's state for an instance.
#[derive(Debug)]
pub(crate) struct InstanceLive {
    worker: usize,
    /// Its number, the same from table to table for as long as it is reached the same way.
    pub(crate) id: u32,
    pub(crate) shared: Arc<InstanceShared>,
    /// The ways to it: one, or one for each address of its host name. The one that took the last connection goes first.
    ways: RefCell<Rc<[Rc<Way>]>>,
    /// The newest table gives it no new work.
    idle: Cell<bool>,
    /// The newest table gives it a `maxconn`.
    pub(crate) limited: Cell<bool>,
    /// How many requests it has answered, as this worker knows.
    pub(crate) answers: Cell<u32>,
}

/// A way to an instance.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) pool: Rc<Pool>,
    /// When work that goes this way must end, coarse time: `u64::MAX` while the table leads there.
    expires: Cell<u64>,
}

/// A connection, and the way that it took.
pub(crate) type Connected = (Link, Rc<Way>);

/// An instance at work, and the way that its connection took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached<'a> {
    pub(crate) live: &'a InstanceLive,
    pub(crate) way: &'a Way,
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
            services.push(carried(before.and_then(|old| known(old, service, home)), service, home, expires));
        }
        old.for_each(|(_, gone)| retire(gone, home, expires));
        Rc::new(Self { services: services.into(), globals: Globals::of(&table), table })
    }

    /// A service and this worker's state for it, created for its first work.
    pub(crate) fn service(&self, index: u32, home: &Home) -> Option<&Rc<ServiceLive>> {
        let index = index as usize;
        let service = self.table.services().get(index)?;
        Some(self.services.get(index)?.get_or_init(|| ServiceLive::new(service, home, None, u64::MAX)))
    }
}

impl Globals {
    fn of(table: &Table) -> Rc<Self> {
        Rc::new(Self { config: Arc::clone(table.config()) })
    }
}

/// The state of a service in the old table. With `slow_start` also one without work so far: it shows which instances of
/// the new table it did not have.
fn known<'a>(
    (before, live): (&Arc<Service>, &'a OnceCell<Rc<ServiceLive>>),
    service: &Arc<Service>,
    home: &Home,
) -> Option<&'a Rc<ServiceLive>> {
    if service.timeouts.slow_start.is_some() && !Arc::ptr_eq(before, service) {
        return Some(live.get_or_init(|| ServiceLive::new(before, home, None, u64::MAX)));
    }
    live.get()
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
    /// Work on addresses that an instance of `before` no longer has must end by `expires`.
    fn new(service: &Arc<Service>, home: &Home, before: Option<&Self>, expires: u64) -> Rc<Self> {
        let setup = Setup::new(service, &home.outbound.borrow());
        let counts = service.counts_work();
        let live = |instance: &Instance| {
            let live = before.and_then(|before| before.find(instance));
            let live = live.unwrap_or_else(|| {
                let new = InstanceLive::new(&setup, instance, home);
                if before.is_some() {
                    new.shared.health.appeared(home.registry.clock());
                }
                Rc::new(new)
            });
            live.relocate(&setup, instance, home, expires);
            live.shared.add_up(home.id, counts);
            live.idle.set(!instance.takes_work());
            live.limited.set(instance.max_connections.is_some());
            if service.eject.is_none() {
                live.shared.health.pardon();
            }
            live
        };
        let new = Rc::new(Self {
            worker: home.id,
            service: Arc::clone(service),
            instances: service.instances.iter().map(live).collect(),
            shared: home.registry.service(service),
            cookies: CookieValues::of(service),
            admitting: service.policy.as_ref().filter(|policy| policy.judges()).map(Arc::clone),
            asks_for_id: service.policy.as_deref().is_some_and(Policy::asks_for_id),
            https_edits: service.hsts().map(|hsts| HeaderEdits::default().set(HSTS, hsts.header()).into()),
            candidates: RefCell::default(),
            superseded: Cell::new(false),
            is_of_hosts: service.instances.iter().any(|instance| setup.is_of_host(instance)),
            newest: before.map_or_else(Rc::default, |before| Rc::clone(&before.newest)),
        });
        new.newest.replace(Rc::downgrade(&new));
        new.turns().begin(home.with_rng(|rng| rng.u64(..)));
        new
    }

    /// Whose turn it is, and the open work of the service, for all workers.
    pub(crate) fn turns(&self) -> &Turns {
        &self.shared.turns
    }

    /// The form that the newest table gives the service, if that is another one and the service is still there.
    pub(crate) fn newest(&self) -> Option<Rc<Self>> {
        if self.superseded.get() { self.newest.borrow().upgrade() } else { None }
    }

    /// Whether a later table has the service in another form.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.get()
    }

    /// How often its instances were ejected, tried again or restored, by all workers.
    pub(crate) fn flips(&self) -> u64 {
        self.shared.flips.get()
    }

    /// Whether the newest table still gives this instance work, as far as this form can know.
    pub(crate) fn is_current(&self, index: usize) -> bool {
        !self.superseded.get() || !self.instances[index].idle.get()
    }

    fn carry(self: &Rc<Self>, service: &Arc<Service>, home: &Home, expires: u64) -> Rc<Self> {
        if Arc::ptr_eq(&self.service, service) {
            return Rc::clone(self);
        }
        let next = Self::new(service, home, Some(self), expires);
        self.superseded.set(true);
        for (instance, live) in self.service.instances.iter().zip(&self.instances) {
            match next.find(instance) {
                None => live.retire(home, expires),
                Some(_) if instance.max_connections.is_none() && next.limit(instance).is_some() => {
                    live.close_idle(home)
                }
                Some(_) => {}
            }
        }
        // Requests that wait may find room at the new instances.
        next.room().call();
        next.shared.bounded.get().iter().for_each(|bounded| bounded.queue.call());
        next
    }

    /// The `maxconn` of the instance of the same name.
    fn limit(&self, wanted: &Instance) -> Option<NonZeroU32> {
        self.service.instances[self.index(wanted)?].max_connections
    }

    fn index(&self, wanted: &Instance) -> Option<usize> {
        self.service.instances.binary_search_by(|instance| instance.name.cmp(&wanted.name)).ok()
    }

    /// The state of an instance of the same name that is reached the same way.
    fn find(&self, wanted: &Instance) -> Option<Rc<InstanceLive>> {
        let index = self.index(wanted)?;
        let before = &self.service.instances[index];
        let same = (&before.target, before.tls) == (&wanted.target, wanted.tls);
        same.then(|| Rc::clone(&self.instances[index]))
    }

    /// The index of an instance that is known by its number.
    pub(crate) fn place(&self, id: u32) -> Option<usize> {
        self.instances.iter().position(|instance| instance.id == id)
    }

    /// The name of an instance that is known by its number, as far as this form or the newest knows it.
    #[cold]
    pub(crate) fn name_of(&self, id: u32) -> Option<String> {
        let own = self.place(id).map(|index| self.service.instances[index].name.to_string());
        own.or_else(|| self.newest()?.name_of(id))
    }

    /// The name of an instance, its target, and whether it is reached over TLS, as far as this form or the newest knows it.
    #[cold]
    pub(crate) fn located(&self, live: &InstanceLive) -> Option<(String, Target, bool)> {
        let own = self.place(live.id).map(|index| &self.service.instances[index]);
        let own = own.map(|instance| (instance.name.to_string(), instance.target.clone(), instance.tls));
        own.or_else(|| self.newest()?.located(live))
    }

    /// Open work at its instances, over all workers.
    pub(crate) fn active(&self) -> u64 {
        self.instances.iter().map(|instance| instance.shared.active()).sum()
    }

    /// How logs name an instance: `service shop instance web-1 (10.0.0.1:80)`.
    pub(crate) fn describe(&self, live: &InstanceLive) -> String {
        let Some(instance) = self.place(live.id).map(|index| &self.service.instances[index]) else {
            let newest = self.newest().map(|newest| newest.describe(live));
            return newest.unwrap_or_else(|| format!("an instance of service {}", self.service.name));
        };
        let kind = if self.service.protocol == Protocol::Http { "service" } else { "tcp service" };
        format!("{kind} {} instance {} ({})", self.service.name, instance.name, instance.target)
    }

    /// This worker's latency histogram of the service.
    pub(crate) fn latency(&self) -> &Latency {
        &self.shared.latency[self.worker]
    }

    /// This worker's counters for requests that reached no instance.
    pub(crate) fn unserved(&self) -> &Counters {
        &self.shared.unserved[self.worker]
    }

    /// This worker's count of requests that were refused for want of a place.
    pub(crate) fn shed(&self) -> &Counter {
        &self.shared.shed[self.worker]
    }

    /// This worker's counters of bodies that are compressed.
    pub(crate) fn compressed(&self) -> &Compressed {
        self.shared.compressed(self.worker)
    }

    /// This worker's count of requests beyond its rate.
    pub(crate) fn limited(&self) -> &Counter {
        &self.shared.limited[self.worker]
    }

    /// The rate limit of log lines about its requests.
    pub(crate) fn lines(&self) -> &Seldom {
        &self.shared.lines
    }

    /// The service's room as a number, to tell it from others.
    pub(crate) fn room_id(&self) -> usize {
        Arc::as_ptr(&self.shared.room).addr()
    }

    /// The worker that this is the state of.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// What the workers share of a service with `retries` or `limit/requests`.
    pub(crate) fn bounded(&self) -> &Bounded {
        self.shared.bounded()
    }

    /// How many requests may be at work at once.
    pub(crate) fn most_requests(&self) -> Option<NonZeroU32> {
        self.service.bounds.as_ref()?.requests
    }

    /// How many requests may queue.
    pub(crate) fn longest_queue(&self) -> u32 {
        self.service.bounds.as_ref().and_then(|bounds| bounds.queue).unwrap_or(Room::MOST)
    }

    /// How long each of them may wait.
    pub(crate) fn patience(&self) -> Duration {
        let own = self.service.bounds.as_ref().and_then(|bounds| bounds.queue_wait);
        own.unwrap_or(self.service.timeouts.connect)
    }

    /// The places for instances that are ejected for their answers.
    pub(crate) fn places(&self) -> &Places {
        &self.shared.places
    }

    /// The queue of requests while all instances are at their `maxconn`.
    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }
}

impl InstanceLive {
    fn new(setup: &Setup<'_>, instance: &Instance, home: &Home) -> Self {
        let ways = Via::all(instance, setup).into_iter().map(|via| Way::new(via, home)).collect();
        Self {
            worker: home.id,
            id: home.number(),
            shared: home.registry.instance(setup.service, instance),
            ways: RefCell::new(ways),
            idle: Cell::new(false),
            limited: Cell::new(false),
            answers: Cell::new(0),
        }
    }

    fn retire(&self, home: &Home, expires: u64) {
        self.idle.set(true);
        self.shared.health.left();
        self.ways.borrow().iter().for_each(|way| way.retire(home, expires));
    }

    /// Closes its idle connections: they hold no places in the `maxconn` that it has from now on.
    fn close_idle(&self, home: &Home) {
        self.ways.borrow().iter().for_each(|way| home.pools.close(&way.pool));
    }

    /// Takes over the addresses that its host name has now, and how connections are set up. Connections to those that stay are kept; work on others
    /// must end by `expires`.
    fn relocate(&self, setup: &Setup<'_>, instance: &Instance, home: &Home, expires: u64) {
        let (vias, old) = (Via::all(instance, setup), self.ways());
        let (stay, go): (Vec<_>, Vec<_>) = old.iter().cloned().partition(|way| vias.contains(&way.pool.via));
        if go.is_empty() && stay.len() == vias.len() {
            return;
        }
        if stay.is_empty() {
            // Failures of the old addresses say nothing about the new ones.
            self.shared.health.succeeded(home.registry.clock());
            self.shared.health.pardon();
        }
        go.iter().for_each(|way| way.retire(home, expires));
        let is_new = |via: &Via| old.iter().all(|way| way.pool.via != *via);
        let new: Vec<_> = vias.into_iter().filter(is_new).map(|via| Way::new(via, home)).collect();
        *self.ways.borrow_mut() = stay.into_iter().chain(new).collect();
    }

    /// The ways to it; the first is tried first.
    pub(crate) fn ways(&self) -> Rc<[Rc<Way>]> {
        Rc::clone(&self.ways.borrow())
    }

    /// Puts the way that took a connection first, if it is still one of them.
    pub(crate) fn prefer(&self, way: &Rc<Way>) {
        let mut ways = self.ways.borrow_mut();
        let place = ways.iter().position(|known| Rc::ptr_eq(known, way));
        if let Some(place @ 1..) = place {
            let mut reordered = ways.to_vec();
            reordered.swap(0, place);
            *ways = reordered.into();
        }
    }

    /// Counts one more open request or connection.
    pub(crate) fn begin(&self) {
        self.shared.begin(self.worker);
    }

    /// Counts one less.
    pub(crate) fn end(&self) {
        self.shared.end(self.worker);
    }

    /// This worker's counters for the instance.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.workers[self.worker]
    }

    /// A place on a shared connection, if it has such, and the way that it took.
    pub(crate) fn share(&self) -> Option<Connected> {
        let ways = self.ways.borrow();
        ways.iter().find_map(|way| Some((Link::Http2(Box::new(way.pool.sharing.place()?)), Rc::clone(way))))
    }

    /// Whether requests share connections to it.
    pub(crate) fn is_shared(&self) -> bool {
        self.ways.borrow().first().is_some_and(|way| way.pool.via.http2)
    }

    /// The connection that was idle for the shortest time, if for at most `limit` milliseconds, and the way that it
    /// took. `host`: the request's, where connections serve requests for one host only.
    pub(crate) fn take_idle(&self, home: &Home, now: u64, limit: u64, host: Option<&str>) -> Option<Connected> {
        let ways = self.ways.borrow();
        let way = match &**ways {
            [only] => only,
            ways => ways.iter().filter(|way| way.pool.youngest().is_some()).max_by_key(|way| way.pool.youngest())?,
        };
        Some((Link::Http1(home.pools.take(&way.pool, now, limit, host)?), Rc::clone(way)))
    }
}

impl Way {
    fn new(via: Via, home: &Home) -> Rc<Self> {
        Rc::new(Self { pool: home.pools.join(via), expires: Cell::new(u64::MAX) })
    }

    /// Whether the table still leads there.
    pub(crate) fn is_current(&self) -> bool {
        self.expires.get() == u64::MAX
    }

    fn retire(&self, home: &Home, expires: u64) {
        self.expires.set(expires);
        home.pools.leave(&self.pool);
    }
}

impl Reached<'_> {
    /// When its work must end, coarse time.
    pub(crate) fn expires(self) -> u64 {
        self.way.expires.get()
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, Names, Resolved, compile};

    use super::*;

    /// A service with one instance. The name `web.test` has these addresses.
    fn table(instance: &str, addresses: &[[u8; 4]]) -> Arc<Table> {
        let mut keys = KeySet::default();
        let entries = [("services/s/default", "true"), ("services/s/a", instance)];
        keys.reset(1, entries.map(|(key, value)| (key.into(), value.as_bytes().into())));
        let resolved = Resolved {
            addresses: addresses.iter().map(|address| (*address).into()).collect(),
            records: Box::default(),
            failure: None,
        };
        let names = Names::from([("web.test".into(), resolved)]);
        compile(&keys, None, &Limits { names: Some(Arc::new(names)), ..Limits::default() }).table
    }

    /// How many instances use each way, in order, and when its work must end.
    fn state(ways: &[Rc<Way>]) -> Vec<(usize, u64)> {
        ways.iter().map(|way| (way.pool.users(), way.expires.get())).collect()
    }

    #[test]
    fn work_on_an_address_that_a_name_no_longer_has_ends_in_time() {
        let home = Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(9));
        let (one, two, three) = ([10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]);
        let view = View::empty().next(table("web.test:80", &[one, two]), &home, 0);
        let named = Rc::clone(&view.service(0, &home).unwrap().instances[0]);
        let first = named.ways();
        named.prefer(&first[1]);
        assert!(Rc::ptr_eq(&named.ways()[0], &first[1]));
        let view = view.next(table("web.test:80", &[two, three]), &home, 50);
        assert!(
            Rc::ptr_eq(&named, &view.service(0, &home).unwrap().instances[0]),
            "requests before and after share it"
        );
        let second = named.ways();
        assert!(Rc::ptr_eq(&second[0], &first[1]), "what stays is not disturbed, and still goes first");
        assert_eq!(state(&first), [(0, 50), (1, u64::MAX)]);
        assert_eq!(state(&second), [(1, u64::MAX), (1, u64::MAX)]);
        view.next(table("10.0.0.9:80", &[]), &home, 100);
        assert_eq!(state(&second), [(0, 100), (0, 100)], "it left the table");
    }

    #[test]
    fn a_name_that_moves_leaves_its_failures_behind() {
        let home = Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(9));
        let view = View::empty().next(table("web.test:80", &[[10, 0, 0, 1]]), &home, 0);
        let named = Rc::clone(&view.service(0, &home).unwrap().instances[0]);
        while named.shared.health.is_up(0) {
            named.shared.health.failed(0);
        }
        view.next(table("web.test:80", &[[10, 0, 0, 2]]), &home, 0);
        assert!(named.shared.health.is_up(0));
    }
}
