//! A new connection to an instance, with what comes first on it: a PROXY header, a TLS handshake, the settings of HTTP/2.
//! Tries each address in turn, and logs failures at a limited rate. Picks nothing, resolves nothing, keeps nothing but
//! what requests share.

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
use super::link::Link;
use super::secure::{TlsFailure, secure};
use super::sharing::Opener;
use super::via::{Endpoint, Via};
use super::view::{Connected, Home, InstanceLive, ServiceLive, Way};
use crate::fault::Fault;
use crate::http2::connection::SharedConnection;
use crate::net::deadline::Deadline;
use crate::net::socket::Bare;
use crate::net::stream::Stream;

/// What is missing when the time is over.
const ACCEPT: &str = "not accepted";
const HANDSHAKE: &str = "accepted, but the TLS handshake was not done";
const SETTINGS: &str = "accepted, but the settings of HTTP/2 did not come";

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unconnected {
    pub(crate) fault: Fault,
    /// Another request opened the connection, and has counted the failure.
    pub(crate) is_anothers: bool,
}

impl From<Fault> for Unconnected {
    fn from(fault: Fault) -> Self {
        Self { fault, is_anothers: false }
    }
}

/// A connection on its way.
struct Dial<'a> {
    home: &'a Home,
    deadline: &'a Deadline,
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
    home: &Home,
    live: &ServiceLive,
    index: usize,
    open_for: Option<&OpenFor>,
    deadline: &Deadline,
) -> Result<Connected, Unconnected> {
    let dial = Dial { home, deadline, open_for, missing: Cell::new(ACCEPT) };
    if !live.instances[index].is_shared() {
        return Ok(open_one(&dial, live, index).await?);
    }
    Box::pin(share(&dial, live, index)).await
}

/// A place on a connection that another request opens, or else on a new one.
async fn share(dial: &Dial<'_>, live: &ServiceLive, index: usize) -> Result<Connected, Unconnected> {
    let (instance, end) = (&live.instances[index], dial.deadline.after(live.service.timeouts.connect));
    loop {
        if let Some(connected) = instance.share() {
            return Ok(connected);
        }
        let Some(way) = instance.ways().first().cloned() else { return Err(Fault::ConnectRefused.into()) };
        match way.pool.sharing.opener() {
            Opener::We(opens) => {
                let opened = open_one(dial, live, index).await;
                if let Err(fault) = opened {
                    opens.fail(fault);
                }
                return Ok(opened?);
            }
            Opener::Another(upcoming) => {
                let opened = dial.deadline.until(end, upcoming.wait()).await.unwrap_or(Err(Fault::ConnectTimeout));
                opened.map_err(|fault| Unconnected { fault, is_anothers: true })?;
            }
        }
    }
}

async fn open_one(dial: &Dial<'_>, live: &ServiceLive, index: usize) -> Result<Connected, Fault> {
    let (limit, instance) = (live.service.timeouts.connect, &live.instances[index]);
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} within {limit:?}", dial.missing.get())));
    let connected = dial.deadline.within(limit, any(instance, dial, limit)).await.unwrap_or_else(late);
    connected.map_err(|error| {
        tell(live, instance, &error, dial.deadline.now());
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
        [only] => Ok((open_way(only, dial).await?, Rc::clone(only))),
        ways => in_turn(live, ways, dial, limit).await,
    }
}

/// Tries each address in turn, each with its share of the time; the one that takes the connection goes first next time.
async fn in_turn(live: &InstanceLive, ways: &[Rc<Way>], dial: &Dial<'_>, limit: Duration) -> io::Result<Connected> {
    let share = limit / u32::try_from(ways.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for way in ways {
        match timeout(share, open_way(way, dial)).await {
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

async fn open_way(way: &Way, dial: &Dial<'_>) -> io::Result<Link> {
    let stream = open(&way.pool.via, dial).await?;
    if !way.pool.via.http2 {
        return Ok(Link::Http1(stream));
    }
    dial.missing.set(SETTINGS);
    let connection = SharedConnection::open(stream, dial.deadline.timers()).await?;
    let call = connection.place().ok_or(io::ErrorKind::ConnectionAborted)?;
    dial.home.pools.share(&way.pool, connection);
    Ok(Link::Http2(Box::new(call)))
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
    let host = open_for.and_then(|open_for| open_for.host.as_deref());
    let stream = secure(bare, &via.endpoint, tls, host).await?;
    match &stream {
        Stream::Tls(tls) if via.http2 && !tls.speaks_http2() => Err(TlsFailure::without_http2().into()),
        _ => Ok(stream),
    }
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
