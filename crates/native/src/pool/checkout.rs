//! Leases: an instance with a connection to it, for one request or one TCP connection. Picks, waits for room, reuses or
//! connects, and goes to another instance when one does not take the connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Protocol, Target};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::pool::pick::{Tried, pick};
use crate::view::{InstanceLive, ServiceLive};
use crate::worker::Worker;
use pointsman_engine::live::Room;

/// How many instances a request may try.
const TRIES: u32 = 4;
/// How long an address of a host name is used before it is looked up again, milliseconds.
const NAME_HOLDS: u64 = 5_000;
/// A request that must not be repeated only reuses a connection that was idle for less, milliseconds: one idle for
/// longer may be closing right now, and its loss could not be told from the request's.
const FRESH: u64 = 500;
/// The same for a request that may be repeated: no limit but the pool's own.
const ANY_AGE: u64 = u64::MAX;

/// An instance at work for us, with the connection to it. The instance's numbers are settled on drop.
#[derive(Debug)]
pub(crate) struct Lease {
    hold: Hold,
    pub(crate) stream: Stream,
    /// The connection has answered a request before: it may turn out to be closed.
    pub(crate) reused: bool,
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

impl Lease {
    /// The connection and the instance.
    pub(crate) fn parts(&mut self) -> (&mut Stream, &InstanceLive) {
        (&mut self.stream, &self.hold.instance)
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &InstanceLive {
        &self.hold.instance
    }

    /// Its index in the service.
    pub(crate) fn index(&self) -> usize {
        self.hold.index
    }

    /// Ends the work and keeps the connection for the next request.
    pub(crate) fn keep(self, worker: &Worker, now: u64) {
        let Self { hold, stream, .. } = self;
        hold.instance.keep_idle(&worker.home, stream, now);
    }
}

/// What a lease is wanted for.
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
    /// None: TCP relays, and the second try after a reused connection failed.
    Never,
    /// Only one that was idle for a moment: requests that must not be repeated.
    Fresh,
    /// Any.
    Any,
}

/// Leases an instance of the service.
///
/// # Errors
/// [`Fault::NoInstance`], [`Fault::Full`], or what the last instance tried said.
pub(crate) async fn lease(
    worker: &Worker,
    live: &ServiceLive,
    want: Want,
    tried: &mut Tried,
    deadline: &Deadline,
) -> Result<Lease, Fault> {
    let mut last = Fault::NoInstance;
    while tried.count() < TRIES {
        let Some(hold) = hold(worker, live, want.key, *tried, deadline).await? else { break };
        let index = hold.index;
        match lease_held(worker, live, hold, want.reuse, deadline).await {
            Ok(lease) => return Ok(lease),
            Err(fault) if fault.blames_instance() => {
                tried.add(index);
                last = fault;
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(last)
}

/// A connection to an instance that is held.
async fn lease_held(
    worker: &Worker,
    live: &ServiceLive,
    hold: Hold,
    reuse: Reuse,
    deadline: &Deadline,
) -> Result<Lease, Fault> {
    if let Some(stream) = idle(worker, &hold.instance, reuse, deadline.now()) {
        return Ok(Lease { hold, stream, reused: true });
    }
    let connected = match connect(live, &hold, deadline).await {
        // Idle connections hold descriptors that this request needs more.
        Err(Fault::Exhausted) => {
            worker.home.pools.clear();
            connect(live, &hold, deadline).await
        }
        connected => connected,
    };
    match connected {
        Ok(stream) => {
            worker.connected(live, hold.index);
            Ok(Lease { hold, stream, reused: false })
        }
        Err(fault) => {
            worker.connect_failed(live, hold.index, fault);
            Err(fault)
        }
    }
}

fn idle(worker: &Worker, instance: &InstanceLive, reuse: Reuse, now: u64) -> Option<Stream> {
    match reuse {
        Reuse::Never => None,
        Reuse::Fresh => instance.take_idle(&worker.home, now, FRESH),
        Reuse::Any => instance.take_idle(&worker.home, now, ANY_AGE),
    }
}

/// Picks an instance and counts it as at work, after waiting while all are at their `maxconn`. `None`: there is none.
async fn hold(
    worker: &Worker,
    live: &ServiceLive,
    key: Option<u64>,
    tried: Tried,
    deadline: &Deadline,
) -> Result<Option<Hold>, Fault> {
    let look = || match hold_now(worker, live, key, tried, deadline.now()) {
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

/// What there is to be had without waiting.
enum Held {
    One(Hold),
    Full,
    None,
}

fn hold_now(worker: &Worker, live: &ServiceLive, key: Option<u64>, tried: Tried, now: u64) -> Held {
    let Some(index) = worker.with_rng(|rng| pick(live, key, tried, now, rng)) else { return Held::None };
    let limit = live.service.instances[index].max_connections;
    let instance = Rc::clone(&live.instances[index]);
    if limit.is_some_and(|limit| !instance.shared.slots.take(limit)) {
        return Held::Full;
    }
    instance.counters().active.add(1);
    Held::One(Hold { instance, index, room: limit.map(|_| Arc::clone(live.room())) })
}

async fn connect(live: &ServiceLive, hold: &Hold, deadline: &Deadline) -> Result<Stream, Fault> {
    let limit = live.service.timeouts.connect;
    let target = &live.service.instances[hold.index].target;
    hold.instance.shared.health.approach(deadline.now(), u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let connected = deadline.within(limit, open(&hold.instance, target, limit, deadline.now())).await;
    connected.map_err(|_| Fault::ConnectTimeout)?.map_err(|error| fault_of(target, &error))
}

async fn open(live: &InstanceLive, target: &Target, limit: Duration, now: u64) -> io::Result<Stream> {
    match target {
        Target::Socket(address) => open_tcp(*address).await,
        Target::Name(name, port) => open_named(live, name, *port, limit, now).await,
        Target::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
    }
}

async fn open_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

/// Each address in turn, each with its share of the time; the one that took the connection goes first next time.
async fn open_named(live: &InstanceLive, name: &str, port: u16, limit: Duration, now: u64) -> io::Result<Stream> {
    let addresses = resolve(live, name, port, now).await?;
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (place, address) in addresses.iter().enumerate() {
        match timeout(share, open_tcp(*address)).await {
            Ok(Ok(stream)) => {
                prefer(live, place);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from_raw_os_error(libc::ETIMEDOUT),
        }
    }
    live.resolved.take();
    Err(last)
}

fn prefer(live: &InstanceLive, place: usize) {
    let addresses = &mut live.resolved.borrow_mut().1;
    if place < addresses.len() {
        addresses.swap(0, place);
    }
}

async fn resolve(live: &InstanceLive, name: &str, port: u16, now: u64) -> io::Result<Box<[SocketAddr]>> {
    let (until, known) = live.resolved.borrow().clone();
    if now < until {
        return Ok(known);
    }
    let addresses: Box<[SocketAddr]> = tokio::net::lookup_host((name, port)).await?.collect();
    *live.resolved.borrow_mut() = (now + NAME_HOLDS, addresses.clone());
    Ok(addresses)
}

/// Whose fault a failed connect is: ours when the machine has nothing left to connect with. `EAGAIN` is that for TCP,
/// but for a Unix socket it is the instance's full queue (unix(7)).
fn fault_of(target: &Target, error: &io::Error) -> Fault {
    match (error.raw_os_error(), target) {
        (Some(libc::EAGAIN), Target::Unix(_)) => Fault::ConnectRefused,
        (Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN), _) => {
            Fault::Exhausted
        }
        (Some(libc::ETIMEDOUT), _) => Fault::ConnectTimeout,
        _ => Fault::ConnectRefused,
    }
}

/// What to say of an instance in logs: `http service shop instance web-1 (10.0.0.1:80)`.
pub(crate) fn describe(live: &ServiceLive, index: usize) -> String {
    let instance = &live.service.instances[index];
    let kind = match live.service.protocol {
        Protocol::Http => "service",
        Protocol::Tcp => "tcp service",
    };
    format!("{kind} {} instance {} ({})", live.service.name, instance.name, instance.target)
}
