//! TLS handshakes, and HTTPS connections behind them. Chooses no certificate and no service.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use pointsman_wire::{Answer, NO_APPLICATION_PROTOCOL};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::on_demand;
use super::opening::{Failure, Opening, Unopened};
use crate::fault::Fault;
use crate::multiplex;
use crate::net::peer::{Ends, Peer};
use crate::net::presented::AskedId;
use crate::net::stream::Stream;
use crate::net::tls::{Greeted, Tls};
use crate::serve;
use crate::tls::{Crowded, HandshakeStage, Keys};
use crate::worker::{Counted, Worker};

/// The first byte of every TLS connection: a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What is wrong if a handshake is not done in time.
pub(super) const LATE: (Fault, &str) = (Fault::TlsTimeout, "TLS connection");
/// Why there is no handshake.
pub(super) const NO_TLS: &str = "the client does not speak TLS";
/// The answer to plain HTTP on a TLS port.
const PLAIN: &str = "This port speaks HTTPS, and the request came as plain HTTP.\n";

/// Does the handshake of a TLS connection and serves HTTP on it.
pub(crate) async fn secure(counted: Counted, stream: TcpStream, ends: Ends) {
    // Its memory is there while it lasts: a connection is small.
    match Box::pin(https(counted.worker(), stream)).await {
        Ok(tls) if tls.speaks_http2() => {
            let stream = Stream::Tls(Box::new(tls));
            let peer = Peer::new(ends, &stream);
            Box::pin(multiplex::serve(counted, stream, peer, Vec::new())).await;
        }
        Ok(tls) => serve::serve(counted, Stream::Tls(Box::new(tls)), ends).await,
        Err(Unopened::Left) => {}
        Err(Unopened::Failed(failure)) => failure.count(counted.worker(), ends.client.ip()),
    }
}

async fn https(worker: &Worker, stream: TcpStream) -> Result<Tls, Unopened> {
    let opening = Opening::new(worker, LATE);
    match opening.run(first_byte(&stream)).await? {
        Some(HANDSHAKE) => {}
        None => return Err(Unopened::Left),
        Some(letter) if letter.is_ascii_uppercase() => {
            // The connection is over, whether or not the client can be told.
            let _ = opening.run(explain(stream)).await;
            let plain = Failure::handshake("the client speaks plain HTTP");
            return Err(Unopened::Failed(Failure { fault: Fault::PlainOnTls, ..plain }));
        }
        Some(_) => return Err(Unopened::Failed(Failure::handshake(NO_TLS))),
    }
    handshake(&opening, stream, Vec::new(), Keys::config).await
}

/// Does the handshake of a connection of which these bytes were read, with what `choose` has for its server name.
pub(super) async fn handshake(
    opening: &Opening<'_>,
    stream: TcpStream,
    read: Vec<u8>,
    choose: Choose,
) -> Result<Tls, Unopened> {
    let worker = opening.worker;
    let greeted = in_turn(opening, HandshakeStage::Hello, Box::pin(Tls::greeted(stream, read))).await?;
    let keys = keys_now(worker)?;
    let tls = match on_demand::is_missing(worker, &keys, &greeted) {
        false => in_turn(opening, HandshakeStage::Answer, Box::pin(answer(greeted, &keys, choose))).await?,
        true => {
            on_demand::wait(worker, greeted.name().unwrap_or_default(), LATE).await?;
            let keys = keys_now(worker)?;
            in_turn(&Opening::new(worker, LATE), HandshakeStage::Answer, Box::pin(answer(greeted, &keys, choose)))
                .await?
        }
    };
    let (is_tls13, is_resumed) = tls.kind();
    worker.stats().handshake(is_tls13, is_resumed);
    if tls.was_challenge() {
        tls.take_leave();
        return Err(Unopened::Left);
    }
    Ok(tls)
}

/// What a handshake needs for a server name, and what it asks of the client.
pub(super) type Choose = fn(&Keys, Option<&str>) -> (Arc<ServerConfig>, Option<AskedId>);

/// The certificates in use.
fn keys_now(worker: &Worker) -> Result<Arc<Keys>, Unopened> {
    // The first table brings them. Before it nothing is served.
    worker.keys().ok_or_else(|| Unopened::Failed(Failure::handshake("there is no table yet")))
}

/// Does the rest of a handshake.
async fn answer(greeted: Greeted, keys: &Keys, choose: Choose) -> io::Result<Tls> {
    let (config, asked) = match greeted.is_challenge() {
        true => match keys.challenge(greeted.name()) {
            Some(config) => (config, None),
            None => return Err(no_challenge(greeted)),
        },
        false => choose(keys, greeted.name()),
    };
    greeted.accept(config, asked).await
}

/// Does a stage of a handshake, among all others.
async fn in_turn<T>(
    opening: &Opening<'_>,
    stage: HandshakeStage,
    work: Pin<Box<impl Future<Output = io::Result<T>>>>,
) -> Result<T, Unopened> {
    match opening.run(opening.worker.handshakes.run(stage, work)).await? {
        Ok(done) => done.map_err(|error| Unopened::Failed(Failure::handshake(error.to_string()))),
        Err(Crowded) => {
            let crowded = Failure::handshake("it was the oldest of too many handshakes");
            Err(Unopened::Failed(Failure { fault: Fault::TlsTimeout, ..crowded }))
        }
    }
}

/// Tells an authority that no challenge is answered for this name; why there is no handshake.
fn no_challenge(greeted: Greeted) -> io::Error {
    let name = greeted.name().unwrap_or("no name").to_owned();
    greeted.refuse(&NO_APPLICATION_PROTOCOL);
    io::Error::other(format!("it asks for the answer to a challenge for {name:?}, and there is none"))
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
    let plain = Answer {
        status: 400,
        body: Some(PLAIN),
        location: None,
        retry_after: None,
        more: &[],
        keep_alive: false,
        head_request: false,
        edits: None,
    };
    plain.write(&mut answer);
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // A close with unread bytes would be a reset, which can destroy the answer (RFC 9112 §9.6).
    let mut request = [0; 4096];
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}
