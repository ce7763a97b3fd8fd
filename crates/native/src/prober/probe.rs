//! One check: a connection of its own, with the PROXY header and the TLS that requests use, and what is asked over it.
//! Judges nothing but the outcome; schedules nothing.

use std::cell::Cell;
use std::time::Duration;

use pointsman_table::CheckWay;
use pointsman_wire::{ProxyVersion, SendProxy};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::plan::Check;
use super::said::{CheckFailure, CheckWords};
use super::{http1, http2};
use crate::net::socket::Bare;
use crate::net::stream::Stream;
use crate::pool::secure::secure;
use crate::pool::via::{Endpoint, Via};

/// What has not happened yet, in words that a duration follows.
const ACCEPT: &str = "was not accepted";
const HANDSHAKE: &str = "was accepted, but the TLS handshake was not done";
const ANSWER: &str = "got no answer";
const WHOLE: &str = "got no whole answer";

/// Runs a check, within its timeout. A host name's addresses share the time, and one that passes is enough.
pub(super) async fn probe(check: &Check) -> Result<CheckWords, CheckFailure> {
    let (missing, limit) = (Cell::new(ACCEPT), check.asks.timeout);
    let late = |_| Err(CheckFailure::of(format!("{} within {limit:?}", missing.get())));
    match &*check.vias {
        [only] => timeout(limit, ask(check, only, &missing)).await.unwrap_or_else(late),
        vias => in_turn(check, vias, limit, &missing).await,
    }
}

async fn in_turn(
    check: &Check,
    vias: &[Via],
    limit: Duration,
    missing: &Cell<&'static str>,
) -> Result<CheckWords, CheckFailure> {
    let share = limit / u32::try_from(vias.len().max(1)).unwrap_or(u32::MAX);
    let mut last = CheckFailure::of("failed: the name has no address");
    for via in vias {
        missing.set(ACCEPT);
        match timeout(share, ask(check, via, missing)).await {
            Ok(Ok(said)) => return Ok(said),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = CheckFailure::of(format!("{} within {share:?}", missing.get())),
        }
    }
    Err(last)
}

async fn ask(check: &Check, via: &Via, missing: &Cell<&'static str>) -> Result<CheckWords, CheckFailure> {
    let mut stream = open(check, via, missing).await?;
    missing.set(ANSWER);
    let begun = || missing.set(WHOLE);
    match &check.asks.way {
        CheckWay::Tcp => {
            match stream {
                Stream::Tls(_) => stream.take_leave(),
                // Nothing was said on it, and nothing has to be waited for.
                Stream::Tcp(_) | Stream::Unix(_) => stream.reset_on_close(),
            }
            Ok("was accepted".into())
        }
        CheckWay::Http(http) if via.http2 => http2::ask(stream, http, begun).await,
        CheckWay::Http(http) => http1::ask(&mut stream, &check.request, http, begun).await,
        CheckWay::Grpc { service, host } => http2::ask_grpc(stream, service, host, begun).await,
    }
}

async fn open(check: &Check, via: &Via, missing: &Cell<&'static str>) -> Result<Stream, CheckFailure> {
    let mut bare = match &via.endpoint {
        Endpoint::Socket(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Bare::Tcp(stream)
        }
        Endpoint::Unix(path) => Bare::Unix(UnixStream::connect(path).await?),
    };
    if let Some(version) = via.proxied {
        let mut header = Vec::new();
        SendProxy { version, addresses: own(&bare, version), authority: None }.write(&mut header);
        bare.write_all(&header).await?;
    }
    let Some(tls) = &via.tls else { return Ok(bare.into()) };
    missing.set(HANDSHAKE);
    let stream = secure(bare, &via.endpoint, tls, host(&check.asks.way)).await?;
    match &stream {
        Stream::Tls(session) if via.http2 && check.asks.way != CheckWay::Tcp && !session.speaks_http2() => {
            Err(CheckFailure::of("failed: the instance does not agree to HTTP/2 (ALPN)"))
        }
        _ => Ok(stream),
    }
}

/// The host that is asked for, without its port.
fn host(way: &CheckWay) -> Option<&str> {
    let host = match way {
        CheckWay::Tcp => return None,
        CheckWay::Http(http) => &http.host,
        CheckWay::Grpc { host, .. } => host,
    };
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}

/// The connection's own addresses. Only version 1 needs them: it has no better word for a connection of our own.
fn own(bare: &Bare, version: ProxyVersion) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
    match (bare, version) {
        (Bare::Tcp(stream), ProxyVersion::V1) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
        (Bare::Tcp(_) | Bare::Unix(_), _) => None,
    }
}
