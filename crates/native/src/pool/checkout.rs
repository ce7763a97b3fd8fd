//! Checks out an instance with a connection to it, for one request or one TCP connection. Picks, waits for room, reuses
//! or connects, and goes to another instance when one does not take the connection.

use std::rc::Rc;
use std::sync::Arc;

use pointsman_engine::live::Room;
use tracing::{info, warn};

use super::connect::{Connected, connect};
use super::connections::Pool;
use super::pick::{Tried, pick};
use super::view::{Home, InstanceLive, ServiceLive};
use crate::fault::{Fault, Repeat, Side};
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::net::watch::Guard;

/// How many instances a request may try.
const TRIES: u32 = 4;
/// A request that must not be repeated only reuses a connection that was idle for less, milliseconds: one idle for
/// longer may be closing right now, and its loss could not be told from the request's.
const FRESH: u64 = 500;
/// The same for a request that may be repeated: no limit but the pool's own.
const ANY_AGE: u64 = u64::MAX;

/// An instance at work for us, with the connection to it. The instance's numbers are settled on drop.
#[derive(Debug)]
pub(crate) struct Checkout {
    hold: Hold,
    pub(crate) link: Link,
    /// Where the connection may be kept.
    pool: Rc<Pool>,
    /// The connection has answered a request before: it may turn out to be closed.
    pub(crate) reused: bool,
    /// It is logged in for this client.
    pub(crate) private: bool,
}

/// A connection to an instance.
#[derive(Debug)]
pub(crate) enum Link {
    /// All of it is ours: HTTP/1, or the bytes of a TCP service.
    Http1(Stream),
}

/// An instance counted as at work.
#[derive(Debug)]
struct Hold {
    instance: Rc<InstanceLive>,
    index: usize,
    /// Where to say that its slot is free again, where it has a `maxconn`.
    room: Option<Arc<Room>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.instance.counters().active.sub(1);
        if let Some(room) = &self.room {
            self.instance.shared.slots.give();
            room.call_next();
        }
    }
}

impl Checkout {
    /// The connection and the instance.
    pub(crate) fn parts(&mut self) -> (&mut Link, &InstanceLive) {
        (&mut self.link, &self.hold.instance)
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Rc<InstanceLive> {
        &self.hold.instance
    }

    /// Its index in the service.
    pub(crate) fn index(&self) -> usize {
        self.hold.index
    }

    /// Ends the work and keeps the connection for the next request.
    pub(crate) fn keep(self, home: &Home, now: u64) {
        let Self { link: Link::Http1(stream), pool, .. } = self;
        home.pools.keep(&pool, stream, now);
    }
}

/// What a checkout is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'g> {
    /// What hashing balances go by.
    pub(crate) key: Option<u64>,
    /// Which connections may be reused.
    pub(crate) reuse: Reuse,
    /// Looks after the client: one that sends no more goes behind the others in the queue.
    pub(crate) guard: &'g Guard<'g>,
}

/// Which idle connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// None: TCP services, and the second try after a reused connection failed.
    Never,
    /// Only one that was idle for a moment: requests that must not be repeated.
    Fresh,
    /// Any.
    Any,
}

/// Checks out an instance of the service.
///
/// # Errors
/// [`Fault::NoInstance`], [`Fault::Full`], or the fault of the last instance tried.
pub(crate) async fn checkout(
    home: &Home,
    live: &ServiceLive,
    want: Want<'_>,
    tried: &mut Tried,
    deadline: &Deadline,
) -> Result<Checkout, Fault> {
    let mut last = Fault::NoInstance;
    while tried.count() < TRIES {
        let Some(hold) = hold(home, live, want, *tried, deadline).await? else { break };
        let index = hold.index;
        match with_connection(home, live, hold, want.reuse, deadline).await {
            Ok(checkout) => return Ok(checkout),
            Err(fault) if fault.facts().repeat == Repeat::Elsewhere => {
                tried.add(index);
                last = fault;
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(last)
}

/// A pooled or new connection to an instance that is held.
async fn with_connection(
    home: &Home,
    live: &ServiceLive,
    hold: Hold,
    reuse: Reuse,
    deadline: &Deadline,
) -> Result<Checkout, Fault> {
    if let Some((stream, pool)) = pooled(home, &hold.instance, reuse, deadline.now()) {
        return Ok(Checkout { hold, link: Link::Http1(stream), pool, reused: true, private: false });
    }
    let connected = match new_connection(home, live, &hold, deadline).await {
        // Idle connections hold descriptors that this request needs more.
        Err(Fault::Exhausted) => {
            home.pools.clear();
            new_connection(home, live, &hold, deadline).await
        }
        connected => connected,
    };
    match connected {
        Ok((stream, pool)) => {
            connected_to(live, hold.index);
            Ok(Checkout { hold, link: Link::Http1(stream), pool, reused: false, private: false })
        }
        Err(fault) => {
            connect_failed(live, hold.index, fault, deadline.now());
            Err(fault)
        }
    }
}

fn pooled(home: &Home, instance: &InstanceLive, reuse: Reuse, now: u64) -> Option<Connected> {
    match reuse {
        Reuse::Never => None,
        Reuse::Fresh => instance.take_idle(home, now, FRESH),
        Reuse::Any => instance.take_idle(home, now, ANY_AGE),
    }
}

async fn new_connection(home: &Home, live: &ServiceLive, hold: &Hold, deadline: &Deadline) -> Result<Connected, Fault> {
    let instance = &live.service.instances[hold.index];
    connect(home, instance, &hold.instance, live.service.timeouts.connect, deadline).await
}

/// An instance took a connection.
fn connected_to(live: &ServiceLive, index: usize) {
    if live.instances[index].shared.health.succeeded() {
        info!("{} takes connections again", live.describe(index));
    }
}

/// An instance did not take a connection.
fn connect_failed(live: &ServiceLive, index: usize, fault: Fault, now: u64) {
    let instance = &live.instances[index];
    instance.counters().connect_failures.add(1);
    if fault.facts().side != Side::Instance {
        return;
    }
    if let Some(out) = instance.shared.health.failed(now) {
        warn!("{} is ejected for {} s: {fault}", live.describe(index), out.as_secs());
    }
}

/// Picks an instance and counts it as at work, after waiting while all are at their `maxconn`. `None`: there is none.
async fn hold(
    home: &Home,
    live: &ServiceLive,
    want: Want<'_>,
    tried: Tried,
    deadline: &Deadline,
) -> Result<Option<Hold>, Fault> {
    in_turn(live, want.guard, deadline, || match hold_now(home, live, want.key, tried, deadline.now()) {
        Held::Full => None,
        Held::One(hold) => Some(Some(hold)),
        Held::None => Some(None),
    })
    .await
}

/// Looks at once if nobody waits, or else when it is its turn.
async fn in_turn<T>(
    live: &ServiceLive,
    guard: &Guard<'_>,
    deadline: &Deadline,
    look: impl Fn() -> Option<T>,
) -> Result<T, Fault> {
    if !live.room().has_queue()
        && let Some(found) = look()
    {
        return Ok(found);
    }
    let end = deadline.after(live.service.timeouts.connect);
    loop {
        let turn = guard.until_half_closed(live.room().wait(&look));
        match deadline.until(end, turn).await {
            Ok(Some(found)) => return found.ok_or(Fault::Full),
            // Its client sends no more: it waits again, behind those who are here now.
            Ok(None) => {}
            Err(_) => return Err(Fault::Full),
        }
    }
}

/// The outcome of a pick without queueing.
enum Held {
    One(Hold),
    Full,
    None,
}

fn hold_now(home: &Home, live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64) -> Held {
    let Some(index) = home.with_rng(|rng| pick(live, key, tried, now, rng)) else { return Held::None };
    take(live, index).map_or(Held::Full, Held::One)
}

/// Counts an instance as at work. `None`: it is at its `maxconn`.
fn take(live: &ServiceLive, index: usize) -> Option<Hold> {
    let limit = live.service.instances[index].max_connections;
    let instance = Rc::clone(&live.instances[index]);
    if limit.is_some_and(|limit| !instance.shared.slots.take(limit)) {
        return None;
    }
    instance.counters().active.add(1);
    Some(Hold { instance, index, room: limit.map(|_| Arc::clone(live.room())) })
}

/// A connection that is logged in for one client and serves no other. Idle: its instance does not count as at work.
#[derive(Debug)]
pub(crate) struct Private {
    instance: Rc<InstanceLive>,
    stream: Stream,
    pool: Rc<Pool>,
}

impl Checkout {
    /// Ends the work and keeps the connection for the next request of the same client.
    pub(crate) fn keep_private(self) -> Private {
        let Self { hold, link: Link::Http1(stream), pool, .. } = self;
        Private { instance: Rc::clone(&hold.instance), stream, pool }
    }
}

impl Private {
    /// Its instance's place in a service. `None`: it is not of this service, or left the table.
    pub(crate) fn index(&self, live: &ServiceLive) -> Option<usize> {
        live.instances.iter().position(|instance| Rc::ptr_eq(instance, &self.instance))
    }

    /// Whether it is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Checks its instance out again, after waiting while that is at its `maxconn`.
    ///
    /// # Errors
    /// [`Fault::Full`].
    pub(crate) async fn checkout(
        self,
        live: &ServiceLive,
        index: usize,
        guard: &Guard<'_>,
        deadline: &Deadline,
    ) -> Result<Checkout, Fault> {
        let hold = in_turn(live, guard, deadline, || take(live, index)).await?;
        Ok(Checkout { hold, link: Link::Http1(self.stream), pool: self.pool, reused: true, private: true })
    }
}
