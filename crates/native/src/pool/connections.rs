//! Idle connections to instances, pooled by [`Via`]: services whose connections are interchangeable share them. Opens
//! none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use pointsman_engine::live::{IdlePlace, Slots};

use super::sharing::Sharing;
use super::via::Via;
use crate::http2::connection::SharedConnection;
use crate::net::stream::Stream;

/// How long an idle connection is kept, milliseconds.
const IDLE_FOR: u64 = 30_000;
/// How many idle connections a pool keeps in which each serves one host.
const MOST_OF_HOSTS: usize = 64;

/// A worker's idle connections.
#[derive(Debug)]
pub(crate) struct Pools {
    by_via: RefCell<HashMap<Via, Rc<Pool>, foldhash::fast::RandomState>>,
    kept: Cell<usize>,
    /// How many may be kept, by the descriptors that are left.
    allowed: Cell<usize>,
    /// Pools whose connections hold places of a `maxconn`, by the address of its slots.
    limited: RefCell<HashMap<*const Slots, Vec<Rc<Pool>>, foldhash::fast::RandomState>>,
}

/// Interchangeable connections: idle ones, and those that requests share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) via: Via,
    idle: RefCell<Vec<Idle>>,
    pub(crate) sharing: Sharing,
    /// How many instances of the table are reached this way.
    users: Cell<usize>,
}

impl Pool {
    /// Since when the connection that was used last is idle, coarse time. `None`: there is no idle connection.
    pub(crate) fn youngest(&self) -> Option<u64> {
        self.idle.borrow().last().map(|idle| idle.since)
    }

    /// How many instances of the table are reached this way.
    #[cfg(test)]
    pub(crate) fn users(&self) -> usize {
        self.users.get()
    }

    /// Takes out the youngest that serves this host.
    fn pop(&self, host: Option<&str>) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        if !self.via.is_of_host() {
            return idle.pop();
        }
        let place = idle.iter().rposition(|idle| idle.stream.is_for(host))?;
        Some(idle.remove(place))
    }

    /// Makes room for one more: clients choose for how many hosts there are connections.
    fn make_room(&self) -> Option<Idle> {
        if !self.via.is_of_host() {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        (idle.len() >= MOST_OF_HOSTS).then(|| idle.remove(0))
    }

    fn unused(via: Via) -> Rc<Self> {
        Rc::new(Self { via, idle: RefCell::default(), sharing: Sharing::default(), users: Cell::new(0) })
    }
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: u64,
    /// Its place in the `maxconn` of the instance that it was last used for.
    place: Option<IdlePlace>,
}

impl Pools {
    pub(crate) fn new(allowed: usize) -> Self {
        Self {
            by_via: RefCell::default(),
            kept: Cell::new(0),
            allowed: Cell::new(allowed),
            limited: RefCell::default(),
        }
    }

    /// Sets how many connections may be kept from now on.
    pub(crate) fn allow(&self, count: usize) {
        self.allowed.set(count);
    }

    /// The pool of connections of this kind, for one more instance.
    pub(crate) fn join(&self, via: Via) -> Rc<Pool> {
        let mut pools = self.by_via.borrow_mut();
        let pool = Rc::clone(pools.entry(via).or_insert_with_key(|via| Pool::unused(via.clone())));
        pool.users.set(pool.users.get() + 1);
        pool
    }

    /// An instance left the table or resolved to other addresses: when the last one leaves, the connections are closed.
    pub(crate) fn leave(&self, pool: &Pool) {
        pool.users.set(pool.users.get() - 1);
        if pool.users.get() == 0 {
            self.close(pool);
        }
    }

    /// Shares a new connection, if an instance is still reached this way.
    pub(crate) fn share(&self, pool: &Pool, connection: Rc<SharedConnection>) {
        if pool.users.get() > 0 {
            pool.sharing.add(connection);
        }
    }

    /// The connection that was idle for the shortest time, if that is at most `limit` milliseconds. An older one is
    /// closed, as a new one replaces it: there are never more than were in use at the same time. `host`: the request's, where
    /// connections serve requests for one host only.
    pub(crate) fn take(&self, pool: &Pool, now: u64, limit: u64, host: Option<&str>) -> Option<Stream> {
        loop {
            let Idle { stream, since, place: _ } = pool.pop(host)?;
            self.kept.set(self.kept.get() - 1);
            if now.saturating_sub(since) > limit {
                stream.take_leave();
                return None;
            }
            if stream.is_quiet() {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection for the next request, if there is room and an instance is still reached this way. `limited`:
    /// the slots of an instance that has a `maxconn`, and this worker's number.
    pub(crate) fn keep(&self, pool: &Rc<Pool>, stream: Stream, now: u64, limited: Option<(&Arc<Slots>, usize)>) {
        // Another request needs the place at once.
        let wanted = limited.is_some_and(|(slots, _)| slots.is_sought());
        if pool.users.get() > 0 && self.kept.get() < self.allowed.get() && !wanted {
            if let Some(oldest) = pool.make_room() {
                self.kept.set(self.kept.get() - 1);
                oldest.stream.take_leave();
            }
            self.kept.set(self.kept.get() + 1);
            let place = limited.map(|(slots, worker)| self.place(pool, slots, worker));
            pool.idle.borrow_mut().push(Idle { stream, since: now, place });
        }
    }

    fn place(&self, pool: &Rc<Pool>, slots: &Arc<Slots>, worker: usize) -> IdlePlace {
        let mut limited = self.limited.borrow_mut();
        let pools = limited.entry(Arc::as_ptr(slots)).or_default();
        if !pools.iter().any(|known| Rc::ptr_eq(known, pool)) {
            pools.push(Rc::clone(pool));
        }
        slots.keep(worker)
    }

    /// Closes idle connections to an instance, the oldest first, while they and its work exceed its `maxconn`.
    pub(crate) fn give_up(&self, slots: &Arc<Slots>, limit: NonZeroU32) {
        let limited = self.limited.borrow();
        for pool in limited.get(&Arc::as_ptr(slots)).into_iter().flatten() {
            self.retain(pool, |idle| {
                !idle.place.as_ref().is_some_and(|place| place.is_of(slots)) || !slots.is_over(limit)
            });
        }
    }

    /// Closes the idle connections of a pool. Those that are shared end with their last request.
    pub(crate) fn close(&self, pool: &Pool) {
        self.retain(pool, |_| false);
        pool.sharing.retain(|_| false);
    }

    /// Closes connections that were idle too long or that the instance has closed.
    pub(crate) fn sweep(&self, now: u64) {
        let mut pools = self.by_via.borrow_mut();
        for pool in pools.values() {
            self.retain(pool, |idle| now.saturating_sub(idle.since) < IDLE_FOR && idle.stream.is_quiet());
            pool.sharing.retain(|shared| shared.idle_for(now) < IDLE_FOR);
        }
        pools.retain(|_, pool| pool.users.get() > 0);
        let holds = |pool: &Rc<Pool>| pool.idle.borrow().iter().any(|idle| idle.place.is_some());
        self.limited.borrow_mut().retain(|_, pools| pools.iter().any(holds));
    }

    /// Closes all of them, and says how many: the machine has no descriptors left.
    pub(crate) fn clear(&self) -> usize {
        let before = self.kept.get();
        let mut unused = 0;
        for pool in self.by_via.borrow().values() {
            self.retain(pool, |_| false);
            unused += pool.sharing.idle();
            pool.sharing.retain(SharedConnection::is_busy);
        }
        unused + before - self.kept.get()
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.kept.get()
    }

    fn retain(&self, pool: &Pool, stays: impl Fn(&Idle) -> bool) {
        let mut idle = pool.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|idle| {
            let stays = stays(idle);
            if !stays {
                idle.stream.take_leave();
            }
            stays
        });
        self.kept.set(self.kept.get() - (before - idle.len()));
    }
}

#[cfg(test)]
mod tests {
    use pointsman_wire::ProxyVersion;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    use super::*;
    use crate::pool::via::{Endpoint, TlsId, TlsName};

    fn via(tls: Option<TlsId>) -> Via {
        Via { endpoint: Endpoint::Socket(([127, 0, 0, 1], 1).into()), tls, proxied: None, http2: false }
    }

    /// TLS to an instance of this name, with settings of its own.
    fn tls(name: &'static str) -> TlsId {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        TlsId { config: Some(Arc::new(config)), name: TlsName::Fixed(name.try_into().unwrap()) }
    }

    /// A connection, and the other end that keeps it open.
    fn stream() -> (Stream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Stream::Unix(near), far)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_youngest_is_reused_and_the_old_are_replaced() {
        let pools = Pools::new(10);
        let pool = pools.join(via(None));
        let (one, _far) = stream();
        pools.keep(&pool, one, 0, None);
        let taken = pools.take(&pool, 400, 500, None).unwrap();
        pools.keep(&pool, taken, 400, None);
        assert!(pools.take(&pool, 1_000, 500, None).is_none(), "too old for a request that must not be repeated");
        assert_eq!(pools.kept.get(), 0, "and closed");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn closed_with_the_last_instance_of_the_address() {
        let pools = Pools::new(10);
        let (pool, same) = (pools.join(via(None)), pools.join(via(None)));
        assert!(Rc::ptr_eq(&pool, &same));
        let (one, _far) = stream();
        pools.keep(&pool, one, 0, None);
        pools.leave(&pool);
        assert_eq!(pools.kept.get(), 1);
        pools.leave(&pool);
        assert_eq!(pools.kept.get(), 0);
        let (late, _far) = stream();
        pools.keep(&pool, late, 0, None);
        assert_eq!(pools.kept.get(), 0, "nobody would use it");
        pools.sweep(0);
        assert!(pools.by_via.borrow().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connections_that_are_set_up_differently_are_never_mixed() {
        let pools = Pools::new(10);
        let one = tls("a.test");
        let renamed = TlsId { name: TlsName::OfRequest, ..one.clone() };
        let other = [via(Some(one.clone())), via(Some(renamed)), via(Some(tls("a.test")))];
        let proxied = Via { proxied: Some(ProxyVersion::V2), ..via(None) };
        let plain = pools.join(via(None));
        let (kept, _far) = stream();
        pools.keep(&plain, kept, 0, None);
        let others: Vec<_> = other.into_iter().chain([proxied]).map(|via| pools.join(via)).collect();
        for (at, pool) in others.iter().enumerate() {
            assert!(pools.take(pool, 0, 500, None).is_none());
            assert!(others[..at].iter().all(|before| !Rc::ptr_eq(before, pool)));
        }
        assert!(Rc::ptr_eq(&pools.join(via(Some(one))), &others[0]), "the same settings share");
        assert!(pools.take(&plain, 0, 500, None).is_some());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_more_than_allowed() {
        let pools = Pools::new(1);
        let pool = pools.join(via(None));
        let ends: Vec<_> = (0..3).map(|_| stream()).collect();
        let (streams, _far): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        streams.into_iter().for_each(|stream| pools.keep(&pool, stream, 0, None));
        assert_eq!(pools.kept.get(), 1);
        assert_eq!((pools.clear(), pools.kept.get()), (1, 0));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn clients_do_not_choose_how_many_are_kept() {
        let pools = Pools::new(1_000);
        let pool = pools.join(via(Some(TlsId { name: TlsName::OfRequest, ..tls("a.test") })));
        let ends: Vec<_> = (0..MOST_OF_HOSTS + 5).map(|_| stream()).collect();
        let (streams, _far): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        streams.into_iter().for_each(|stream| pools.keep(&pool, stream, 0, None));
        assert_eq!(pools.kept.get(), MOST_OF_HOSTS);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_the_instance_closed_is_not_reused() {
        let pools = Pools::new(1);
        let pool = pools.join(via(None));
        let (mut one, far) = stream();
        drop(far);
        assert_eq!(one.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        pools.keep(&pool, one, 0, None);
        assert!(pools.take(&pool, 0, 500, None).is_none());
    }
}
