//! A new connection to an instance: tries each address in turn, and logs failures at a limited rate. Picks nothing,
//! resolves nothing, keeps nothing but what requests share.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_table::Target;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::link::Link;
use super::sharing::Opener;
use super::via::{Endpoint, Via};
use super::view::{Connected, Home, InstanceLive, ServiceLive, Way};
use crate::fault::Fault;
use crate::http2::connection::SharedConnection;
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;

/// Connects to the instance at this place of the service, within its `timeout/connect`.
///
/// # Errors
/// [`Fault::ConnectRefused`], [`Fault::ConnectTimeout`], [`Fault::Exhausted`].
pub(crate) async fn connect(
    home: &Home,
    live: &ServiceLive,
    index: usize,
    deadline: &Deadline,
) -> Result<Connected, Fault> {
    if !live.instances[index].is_shared() {
        return open_one(home, live, index, deadline).await;
    }
    Box::pin(share(home, live, index, deadline)).await
}

/// A place on a connection that another request opens, or else on a new one.
async fn share(home: &Home, live: &ServiceLive, index: usize, deadline: &Deadline) -> Result<Connected, Fault> {
    let (instance, end) = (&live.instances[index], deadline.after(live.service.timeouts.connect));
    loop {
        if let Some(connected) = instance.share() {
            return Ok(connected);
        }
        let Some(way) = instance.ways().first().cloned() else { return Err(Fault::ConnectRefused) };
        match way.pool.sharing.opener() {
            Opener::We(opens) => {
                let opened = open_one(home, live, index, deadline).await;
                if let Err(fault) = opened {
                    opens.fail(fault);
                }
                return opened;
            }
            Opener::Another(upcoming) => {
                deadline.until(end, upcoming.wait()).await.map_err(|_| Fault::ConnectTimeout)??;
            }
        }
    }
}

async fn open_one(home: &Home, live: &ServiceLive, index: usize, deadline: &Deadline) -> Result<Connected, Fault> {
    let (limit, instance) = (live.service.timeouts.connect, &live.instances[index]);
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("not accepted within {limit:?}")));
    let connected = deadline.within(limit, any(home, instance, limit, deadline)).await.unwrap_or_else(late);
    connected.map_err(|error| {
        tell(live, instance, &error, deadline.now());
        fault_of(&live.service.instances[index].target, &error)
    })
}

/// Logs the reason: the system's message, with the number of the error.
fn tell(live: &ServiceLive, instance: &InstanceLive, error: &io::Error, now: u64) {
    if let Some(untold) = instance.shared.lines.happened(now) {
        let more = untold_failures(untold);
        warn!("cannot connect to {}: {error}{more}", live.describe(instance));
    }
}

async fn any(home: &Home, live: &InstanceLive, limit: Duration, deadline: &Deadline) -> io::Result<Connected> {
    let ways = live.ways();
    match &*ways {
        [only] => Ok((open_way(home, only, deadline).await?, Rc::clone(only))),
        ways => in_turn(home, live, ways, limit, deadline).await,
    }
}

/// Tries each address in turn, each with its share of the time; the one that takes the connection goes first next time.
async fn in_turn(
    home: &Home,
    live: &InstanceLive,
    ways: &[Rc<Way>],
    limit: Duration,
    deadline: &Deadline,
) -> io::Result<Connected> {
    let share = limit / u32::try_from(ways.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for way in ways {
        match timeout(share, open_way(home, way, deadline)).await {
            Ok(Ok(link)) => {
                live.prefer(way);
                return Ok((link, Rc::clone(way)));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from_raw_os_error(libc::ETIMEDOUT),
        }
    }
    Err(last)
}

async fn open_way(home: &Home, way: &Way, deadline: &Deadline) -> io::Result<Link> {
    let stream = open(&way.pool.via).await?;
    if !way.pool.via.http2 {
        return Ok(Link::Http1(stream));
    }
    let connection = SharedConnection::open(stream, deadline.timers()).await?;
    let call = connection.place().ok_or(io::ErrorKind::ConnectionAborted)?;
    home.pools.share(&way.pool, connection);
    Ok(Link::Http2(Box::new(call)))
}

async fn open(via: &Via) -> io::Result<Stream> {
    match &via.endpoint {
        Endpoint::Socket(address) => open_tcp(*address).await,
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
    }
}

async fn open_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

/// Whose fault a failed connect is: ours when the machine has nothing left to connect with. `EAGAIN` is that for TCP,
/// but for a Unix socket it is the instance's full queue (unix(7)).
fn fault_of(target: &Target, error: &io::Error) -> Fault {
    match (error.raw_os_error(), target) {
        (Some(libc::EAGAIN), Target::Unix(_)) => Fault::ConnectRefused,
        (Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN), _) => {
            Fault::Exhausted
        }
        _ if error.kind() == io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ => Fault::ConnectRefused,
    }
}
