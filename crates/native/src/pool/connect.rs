//! A new connection to an instance: tries each address in turn, and logs failures at a limited rate. Picks nothing,
//! keeps nothing, resolves nothing.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_table::Target;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::via::{Endpoint, Via};
use super::view::{InstanceLive, ServiceLive, Way};
use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;

/// A new connection, and the way that it took.
pub(crate) type Connected = (Stream, Rc<Way>);

/// Connects to the instance at this place of the service, within its `timeout/connect`.
///
/// # Errors
/// [`Fault::ConnectRefused`], [`Fault::ConnectTimeout`], [`Fault::Exhausted`].
pub(crate) async fn connect(live: &ServiceLive, index: usize, deadline: &Deadline) -> Result<Connected, Fault> {
    let (limit, instance) = (live.service.timeouts.connect, &live.instances[index]);
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("not accepted within {limit:?}")));
    let connected = deadline.within(limit, any(instance, limit)).await.unwrap_or_else(late);
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

async fn any(live: &InstanceLive, limit: Duration) -> io::Result<Connected> {
    let ways = live.ways();
    match &*ways {
        [only] => Ok((open(&only.pool.via).await?, Rc::clone(only))),
        ways => in_turn(live, ways, limit).await,
    }
}

/// Tries each address in turn, each with its share of the time; the one that takes the connection goes first next time.
async fn in_turn(live: &InstanceLive, ways: &[Rc<Way>], limit: Duration) -> io::Result<Connected> {
    let share = limit / u32::try_from(ways.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for way in ways {
        match timeout(share, open(&way.pool.via)).await {
            Ok(Ok(stream)) => {
                live.prefer(way);
                return Ok((stream, Rc::clone(way)));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from_raw_os_error(libc::ETIMEDOUT),
        }
    }
    Err(last)
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
