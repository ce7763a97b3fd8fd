//! What comes ahead of a connection's own protocol, each within `timeout/head`: a PROXY header, a TLS handshake. Serves
//! nothing.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_wire::{Answer, BadProxyHeader, parse_proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::warn;

use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::peer::Ends;
use crate::net::stream::Stream;
use crate::net::tls::Tls;
use crate::record;
use crate::serve;
use crate::tls::Crowded;
use crate::worker::{Counted, Worker};

/// The first byte of every TLS connection: a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The answer to plain HTTP on a TLS port.
const PLAIN: &str = "This port speaks HTTPS, and the request came as plain HTTP.\n";
/// How much of a PROXY header is looked at together, bytes: most are shorter.
const PIECE: usize = 256;

/// Why a connection is not served.
struct Failure {
    fault: Fault,
    /// What there is not.
    what: &'static str,
    why: String,
}

impl Failure {
    fn handshake(why: impl Into<String>) -> Self {
        Self { fault: Fault::TlsHandshake, what: "TLS connection", why: why.into() }
    }

    fn header(bad: BadProxyHeader) -> Self {
        Self { fault: Fault::BadProxyHeader, what: "PROXY header", why: bad.to_string() }
    }

    /// Counts it, and logs it at a limited rate.
    fn count(self, worker: &Worker, address: IpAddr) {
        let Self { fault, what, why } = self;
        record::connection_refused(worker, fault);
        if let Some(untold) = worker.home.registry.ungreeted().happened(worker.timers.now()) {
            let (name, address, more) = (fault.facts().name, address.to_canonical(), untold_failures(untold));
            warn!("{name}: no {what} with {address}: {why}{more}");
        }
    }
}

/// Why there is nothing to serve.
enum Unopened {
    /// The other side left, as the health check of a load balancer does, or gave way to others: nobody's fault.
    Left,
    Failed(Failure),
}

/// The time that a connection has for what comes first. Meanwhile it gives way like an idle one.
struct Opening<'w> {
    worker: &'w Worker,
    deadline: Deadline,
    limit: Duration,
    at: u64,
    /// What is wrong when the time is over.
    late: (Fault, &'static str),
}

impl<'w> Opening<'w> {
    fn new(worker: &'w Worker, late: (Fault, &'static str)) -> Self {
        let deadline = worker.timers.deadline();
        let limit = worker.view().globals.config.timeouts.head;
        let at = deadline.after(limit);
        Self { worker, deadline, limit, at, late }
    }

    /// Does a part of it.
    async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Unopened> {
        let idle = self.deadline.idle();
        let until = || self.worker.idle_until(&idle, self.at);
        self.worker.stats().idle.add(1);
        let done = self.deadline.watched(until, work).await;
        self.worker.stats().idle.sub(1);
        let (fault, what) = self.late;
        done.map_err(|_| match self.deadline.now() < self.at {
            true => Unopened::Left,
            false => Unopened::Failed(Failure { fault, what, why: format!("it was not done within {:?}", self.limit) }),
        })
    }
}

/// Takes the PROXY header that a connection begins with, and not a byte behind it. Returns the ends that it names,
/// else those of the connection. `None`: there is none, and the connection is over.
pub(crate) async fn proxied(worker: &Worker, stream: &mut TcpStream, own: Ends) -> Option<Ends> {
    let opening = Opening::new(worker, (Fault::ProxyTimeout, "PROXY header"));
    match opening.run(proxy_header(stream)).await.and_then(|read| read) {
        Ok(named) => Some(named.unwrap_or(own)),
        Err(Unopened::Left) => None,
        Err(Unopened::Failed(failure)) => {
            failure.count(worker, own.client.ip());
            None
        }
    }
}

/// Reads a PROXY header. `None`: the addresses of the connection itself hold.
async fn proxy_header(stream: &mut TcpStream) -> Result<Option<Ends>, Unopened> {
    let mut header = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let count = stream.peek(&mut piece).await.unwrap_or_default();
        if count == 0 {
            return Err(Unopened::Left);
        }
        let before = header.len();
        header.extend_from_slice(&piece[..count]);
        let parsed = parse_proxy(&header).map_err(|bad| Unopened::Failed(Failure::header(bad)))?;
        // An incomplete header holds nothing that belongs to the connection.
        let end = parsed.map_or(header.len(), |parsed| parsed.len);
        stream.read_exact(&mut piece[..end - before]).await.map_err(|_| Unopened::Left)?;
        if let Some(parsed) = parsed {
            return Ok(parsed.addresses().map(|(client, local)| Ends { client, local: Some(local) }));
        }
    }
}

/// Does the handshake of a TLS connection and serves HTTP on it.
pub(crate) async fn secure(counted: Counted, stream: TcpStream, ends: Ends) {
    // Its memory is there while it lasts: a connection is small.
    match Box::pin(handshake(counted.worker(), stream)).await {
        Ok(tls) => serve::serve(counted, Stream::Tls(Box::new(tls)), ends).await,
        Err(Unopened::Left) => {}
        Err(Unopened::Failed(failure)) => failure.count(counted.worker(), ends.client.ip()),
    }
}

async fn handshake(worker: &Worker, stream: TcpStream) -> Result<Tls, Unopened> {
    let failed = |why: String| Unopened::Failed(Failure::handshake(why));
    let opening = Opening::new(worker, (Fault::TlsTimeout, "TLS connection"));
    match opening.run(first_byte(&stream)).await? {
        Some(HANDSHAKE) => {}
        None => return Err(Unopened::Left),
        Some(letter) if letter.is_ascii_uppercase() => {
            // The connection is over, whether or not the client can be told.
            let _ = opening.run(explain(stream)).await;
            let plain = Failure::handshake("the client speaks plain HTTP");
            return Err(Unopened::Failed(Failure { fault: Fault::PlainOnTls, ..plain }));
        }
        Some(_) => return Err(failed("the client does not speak TLS".into())),
    }
    // The first table brings them. Before it nothing is served.
    let Some(keys) = worker.keys() else { return Err(failed("there is no table yet".into())) };
    let accept = Box::pin(Tls::accept(stream, |name| keys.config(name)));
    match opening.run(worker.handshakes.run(accept)).await? {
        Ok(Ok(tls)) => {
            let (is_tls13, is_resumed) = tls.kind();
            worker.stats().handshake(is_tls13, is_resumed);
            Ok(tls)
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(Crowded) => {
            let crowded = Failure::handshake("it was the oldest of too many handshakes");
            Err(Unopened::Failed(Failure { fault: Fault::TlsTimeout, ..crowded }))
        }
    }
}

/// What a connection begins with; it is not taken. `None`: the client left.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    match stream.peek(&mut byte).await {
        Ok(1..) => Some(byte[0]),
        Ok(0) | Err(_) => None,
    }
}

/// Tells a client that speaks plain HTTP what is wrong.
async fn explain(mut stream: TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    Answer { status: 400, body: Some(PLAIN), location: None, keep_alive: false, head_request: false }
        .write(&mut answer);
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // A close with unread bytes would be a reset, which can destroy the answer (RFC 9112 §9.6).
    let mut request = [0; 4096];
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}
