//! What comes ahead of a connection's own protocol, each within `timeout/head`: a PROXY header, a TLS handshake. Serves
//! nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_wire::{Answer, BadProxyHeader, parse_proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::warn;

use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::stream::Stream;
use crate::net::tls::Tls;
use crate::record;
use crate::serve;
use crate::worker::{Counted, Worker};

/// What the first byte of every TLS connection is: a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What somebody is told who speaks HTTP to a TLS port.
const PLAIN: &str = "This port speaks HTTPS, and the request came as plain HTTP.\n";

/// How much of a PROXY header is looked at together, bytes: most are shorter.
const PIECE: usize = 256;
/// How long such a client has to read it.
const EXPLAINED: Duration = Duration::from_secs(5);

/// Takes the PROXY header that a connection begins with, and not a byte behind it. Returns the address of the client that
/// it names, else that of the connection. `None`: there was none in time, or it was refused.
pub(crate) async fn proxied(worker: &Rc<Worker>, stream: &mut TcpStream, address: SocketAddr) -> Option<SocketAddr> {
    let deadline = worker.timers.deadline();
    let limit = worker.view().globals.config.timeouts.head;
    let idle = deadline.idle();
    let at = deadline.after(limit);
    let until = || if idle.is_evicted() { 0 } else { at };
    let (fault, why) = match deadline.watched(until, proxy_header(stream)).await {
        Ok(Ok(source)) => return Some(source.unwrap_or(address)),
        // A load balancer's health check opens a connection and closes it.
        Ok(Err(Refused::Left)) => return None,
        Ok(Err(Refused::Bad(why))) => (Fault::BadProxyHeader, why.to_string()),
        Err(_) => (Fault::ProxyTimeout, format!("it was not complete within {limit:?}")),
    };
    record::connection_refused(worker, fault);
    if let Some(untold) = worker.home.registry.handshakes().happened(worker.timers.now()) {
        let more = untold_failures(untold);
        warn!("{}: no PROXY header from {}: {why}{more}", fault.facts().name, address.ip().to_canonical());
    }
    None
}

/// Why there is no PROXY header.
enum Refused {
    /// The other side left.
    Left,
    Bad(BadProxyHeader),
}

/// Reads a PROXY header. `None`: the addresses of the connection itself hold.
async fn proxy_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Refused> {
    let mut header = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let count = stream.peek(&mut piece).await.map_err(|_| Refused::Left)?;
        if count == 0 {
            return Err(Refused::Left);
        }
        let before = header.len();
        header.extend_from_slice(&piece[..count]);
        let parsed = parse_proxy(&header).map_err(Refused::Bad)?;
        // An incomplete header holds nothing that belongs to the connection.
        let end = parsed.map_or(header.len(), |parsed| parsed.len);
        stream.read_exact(&mut piece[..end - before]).await.map_err(|_| Refused::Left)?;
        if let Some(parsed) = parsed {
            return Ok(parsed.addresses().map(|(source, _)| source));
        }
    }
}

/// Does the handshake of a TLS connection and serves HTTP on it.
pub(crate) async fn secure(counted: Counted, stream: TcpStream, address: IpAddr) {
    // Its memory is there while it lasts: a connection is small.
    let handshake = Box::pin(handshake(counted.worker(), stream)).await;
    match handshake {
        Ok(tls) => serve::serve(counted, Stream::Tls(Box::new(tls)), address).await,
        Err(failure) => failure.count(counted.worker(), address),
    }
}

/// A handshake that failed.
struct Failure {
    fault: Fault,
    why: String,
}

impl Failure {
    fn new(fault: Fault, why: impl Into<String>) -> Self {
        Self { fault, why: why.into() }
    }

    fn of(error: &io::Error) -> Self {
        Self::new(Fault::TlsHandshake, error.to_string())
    }

    /// Counts it, and logs it at a limited rate.
    fn count(self, worker: &Worker, address: IpAddr) {
        let name = self.fault.facts().name;
        record::connection_refused(worker, self.fault);
        if let Some(untold) = worker.home.registry.handshakes().happened(worker.timers.now()) {
            let more = untold_failures(untold);
            warn!("{name}: no TLS connection with {}: {}{more}", address.to_canonical(), self.why);
        }
    }
}

async fn handshake(worker: &Rc<Worker>, stream: TcpStream) -> Result<Tls, Failure> {
    let deadline = worker.timers.deadline();
    let limit = worker.view().globals.config.timeouts.head;
    let idle = deadline.idle();
    let at = deadline.after(limit);
    let until = || if idle.is_evicted() { 0 } else { at };
    let late = || Failure::new(Fault::TlsTimeout, format!("the handshake was not done within {limit:?}"));
    let begun = deadline.watched(until, first_byte(&stream)).await;
    match begun.map_err(|_| late())?.map_err(|error| Failure::of(&error))? {
        HANDSHAKE => {}
        letter if letter.is_ascii_uppercase() => {
            explain(stream, &deadline).await;
            return Err(Failure::new(Fault::PlainOnTls, "the client speaks plain HTTP"));
        }
        _ => return Err(Failure::new(Fault::TlsHandshake, "the client does not speak TLS")),
    }
    let handshake = worker.handshakes.run(Tls::accept(stream, worker.keys().config()));
    match deadline.watched(until, handshake).await {
        Ok(Ok(done)) => done.map_err(|error| Failure::of(&error)),
        Ok(Err(_)) => Err(Failure::new(Fault::TlsTimeout, "there were too many handshakes, and it was the oldest")),
        Err(_) => Err(late()),
    }
}

/// What a connection begins with. It is not taken.
async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    match stream.peek(&mut byte).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left at once")),
        _ => Ok(byte[0]),
    }
}

/// Tells a client that speaks plain HTTP what is wrong.
async fn explain(mut stream: TcpStream, deadline: &Deadline) {
    let mut answer = Vec::new();
    Answer { status: 400, body: Some(PLAIN), location: None, keep_alive: false, head_request: false }
        .write(&mut answer);
    let tell = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // A close with unread bytes would be a reset, which can destroy the answer (RFC 9112 §9.6).
        let mut request = [0; 4096];
        while stream.read(&mut request).await? > 0 {}
        io::Result::Ok(())
    };
    // The connection is over either way.
    let _ = deadline.within(EXPLAINED, tell).await;
}
