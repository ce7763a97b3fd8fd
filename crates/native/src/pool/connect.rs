//! A new connection to an instance, with what comes first on it: a PROXY header, a TLS handshake. Tries each address in
//! turn, and logs failures at a limited rate. Picks nothing,
//! keeps nothing, resolves nothing.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_table::Target;
use pointsman_wire::SendProxy;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::announced::OpenFor;
use super::secure::{TlsFailure, secure};
use super::via::{Endpoint, Via};
use super::view::{InstanceLive, ServiceLive, Way};
use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::socket::Bare;
use crate::net::stream::Stream;

/// A new connection, and the way that it took.
pub(crate) type Connected = (Stream, Rc<Way>);

/// What is missing when the time is over.
const ACCEPT: &str = "not accepted";
const HANDSHAKE: &str = "accepted, but the TLS handshake was not done";

/// A connection on its way.
struct Dial<'a> {
    open_for: Option<&'a OpenFor>,
    /// What has not happened yet.
    missing: Cell<&'static str>,
}

/// Connects to the instance at this place of the service, within its `timeout/connect`.
///
/// # Errors
/// [`Fault::ConnectRefused`], [`Fault::ConnectTimeout`], [`Fault::Exhausted`], [`Fault::InstanceTls`],
/// [`Fault::InstanceName`].
pub(crate) async fn connect(
    live: &ServiceLive,
    index: usize,
    open_for: Option<&OpenFor>,
    deadline: &Deadline,
) -> Result<Connected, Fault> {
    let (limit, instance) = (live.service.timeouts.connect, &live.instances[index]);
    let dial = Dial { open_for, missing: Cell::new(ACCEPT) };
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} within {limit:?}", dial.missing.get())));
    let connected = deadline.within(limit, any(instance, &dial, limit)).await.unwrap_or_else(late);
    connected.map_err(|error| {
        tell(live, instance, &error, deadline.now());
        fault_of(&live.service.instances[index].target, &error)
    })
}

/// Logs the reason: the system's message, with the number of the error.
pub(crate) fn tell(live: &ServiceLive, instance: &InstanceLive, error: &io::Error, now: u64) {
    if let Some(untold) = instance.shared.lines.happened(now) {
        let more = untold_failures(untold);
        warn!("cannot connect to {}: {error}{more}", live.describe(instance));
    }
}

async fn any(live: &InstanceLive, dial: &Dial<'_>, limit: Duration) -> io::Result<Connected> {
    let ways = live.ways();
    match &*ways {
        [only] => Ok((open(&only.pool.via, dial).await?, Rc::clone(only))),
        ways => in_turn(live, ways, dial, limit).await,
    }
}

/// Tries each address in turn, each with its share of the time; the one that takes the connection goes first next time.
async fn in_turn(live: &InstanceLive, ways: &[Rc<Way>], dial: &Dial<'_>, limit: Duration) -> io::Result<Connected> {
    let share = limit / u32::try_from(ways.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for way in ways {
        match timeout(share, open(&way.pool.via, dial)).await {
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

async fn open(via: &Via, dial: &Dial<'_>) -> io::Result<Stream> {
    dial.missing.set(ACCEPT);
    let open_for = dial.open_for;
    let mut bare = match &via.endpoint {
        Endpoint::Socket(address) => Bare::Tcp(open_tcp(*address).await?),
        Endpoint::Unix(path) => Bare::Unix(UnixStream::connect(path).await?),
    };
    if let Some(version) = via.proxied {
        let mut header = Vec::new();
        let addresses = open_for.and_then(|open_for| open_for.addresses);
        SendProxy { version, addresses, authority: None }.write(&mut header);
        bare.write_all(&header).await?;
    }
    let Some(tls) = &via.tls else { return Ok(bare.into()) };
    dial.missing.set(HANDSHAKE);
    secure(bare, &via.endpoint, tls, open_for.and_then(|open_for| open_for.host.as_deref())).await
}

async fn open_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whose fault a failed connect is: ours when the machine has nothing left to connect with. `EAGAIN` is that for TCP,
/// but for a Unix socket it is the instance's full queue (unix(7)).
fn fault_of(target: &Target, error: &io::Error) -> Fault {
    if let Some(failure) = error.get_ref().and_then(|error| error.downcast_ref::<TlsFailure>()) {
        return failure.fault;
    }
    match (error.raw_os_error(), target) {
        (Some(libc::EAGAIN), Target::Unix(_)) => Fault::ConnectRefused,
        (Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN), _) => {
            Fault::Exhausted
        }
        _ if error.kind() == io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ => Fault::ConnectRefused,
    }
}
