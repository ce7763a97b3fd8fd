//! Checks out an instance with a connection to it, for one request or one TCP connection. Picks, waits for room, reuses
//! or connects, and goes to another instance when one does not take the connection.

use std::rc::Rc;
use std::sync::Arc;

use pointsman_engine::live::Room;
use tracing::{info, warn};

use super::connect::{Connected, connect};
use super::pick::{Tried, pick};
use super::view::{Home, InstanceLive, Reached, ServiceLive, Way};
use crate::fault::{Fault, Repeat, Side};
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;

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
    /// The way that the connection took.
    way: Rc<Way>,
    /// The connection has answered a request before: it may turn out to be closed.
    pub(crate) reused: bool,
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
    pub(crate) fn parts(&mut self) -> (&mut Link, Reached<'_>) {
        (&mut self.link, Reached { live: &self.hold.instance, way: &self.way })
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
        let Self { link: Link::Http1(stream), way, .. } = self;
        home.pools.keep(&way.pool, stream, now);
    }
}

/// What a checkout is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// What hashing balances go by.
    pub(crate) key: Option<u64>,
    /// Which connections may be reused.
    pub(crate) reuse: Reuse,
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
    want: Want,
    tried: &mut Tried,
    deadline: &Deadline,
) -> Result<Checkout, Fault> {
    let mut last = Fault::NoInstance;
    while tried.count() < TRIES {
        let Some(hold) = hold(home, live, want.key, *tried, deadline).await? else { break };
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
    if let Some((stream, way)) = pooled(home, &hold.instance, reuse, deadline.now()) {
        return Ok(Checkout { hold, link: Link::Http1(stream), way, reused: true });
    }
    // Boxed, as few requests need one: its memory would be every exchange's.
    let connected = match Box::pin(new_connection(live, &hold, deadline)).await {
        // Idle connections hold descriptors that this request needs more.
        Err(Fault::Exhausted) => {
            home.pools.clear();
            Box::pin(new_connection(live, &hold, deadline)).await
        }
        connected => connected,
    };
    match connected {
        Ok((stream, way)) => {
            connected_to(live, hold.index);
            Ok(Checkout { hold, link: Link::Http1(stream), way, reused: false })
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

async fn new_connection(live: &ServiceLive, hold: &Hold, deadline: &Deadline) -> Result<Connected, Fault> {
    let instance = &live.service.instances[hold.index];
    connect(instance, &hold.instance, live.service.timeouts.connect, deadline).await
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
    key: Option<u64>,
    tried: Tried,
    deadline: &Deadline,
) -> Result<Option<Hold>, Fault> {
    let look = || match hold_now(home, live, key, tried, deadline.now()) {
        Held::Full => None,
        Held::One(hold) => Some(Some(hold)),
        Held::None => Some(None),
    };
    if !live.room().has_queue()
        && let Some(found) = look()
    {
        return Ok(found);
    }
    let waited = deadline.within(live.service.timeouts.connect, live.room().wait(look)).await;
    waited.ok().flatten().ok_or(Fault::Full)
}

/// The outcome of a pick without queueing.
enum Held {
    One(Hold),
    Full,
    None,
}

fn hold_now(home: &Home, live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64) -> Held {
    let Some(index) = home.with_rng(|rng| pick(live, key, tried, now, rng)) else { return Held::None };
    let limit = live.service.instances[index].max_connections;
    let instance = Rc::clone(&live.instances[index]);
    if limit.is_some_and(|limit| !instance.shared.slots.take(limit)) {
        return Held::Full;
    }
    instance.counters().active.add(1);
    Held::One(Hold { instance, index, room: limit.map(|_| Arc::clone(live.room())) })
}
