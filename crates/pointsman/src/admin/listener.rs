//! The admin pages' own listener: few connections, every wait with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::seats::{Seat, Seats};
use crate::tenure::Tenure;
use pointsman_engine::inherited::{Inherited, ListenerRole};
use pointsman_engine::seldom::Seldom;
use pointsman_engine::sockets::{Claim, hint};

/// Maximum concurrent connections; a further one replaces the one that has been silent longest.
const MOST: usize = 64;
/// Connections accepted in a row before other tasks run: a new one must not wait for the page of each one before it.
const IN_A_ROW: usize = MOST / 4;
/// Deadline for a complete request head, and for the idle time between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// Deadline for a connection, so that a client that does not read cannot hold a page longer.
const CONNECTION: Duration = Duration::from_secs(120);
/// Minimum time between two log lines about connections that cannot be accepted, in milliseconds.
const UNACCEPTED: u64 = 60_000;
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
/// How much of an answer the system keeps for a client that does not read, in bytes: one with an open page is noticed then.
const UNREAD: usize = 256 * 1024;
/// Longest request head, in bytes; also the most unread input kept in memory, because no page reads a body.
const HEAD_BYTES: usize = 16 * 1024;

/// Binds the admin address. Its listening queue is as long as those of the services: when a short one is full, clients
/// try again only after 1, 3, 7, 15 s.
///
/// # Errors
/// The address cannot be bound. The error names the setting and the remedy.
pub fn bind(address: SocketAddr, inherited: &Inherited) -> anyhow::Result<TcpListener> {
    let refused = |error: std::io::Error| {
        let advice = format!("--admin {address}: {}. --admin off serves without the pages", hint(address, &error));
        anyhow::Error::new(error).context(advice)
    };
    let opened = inherited.open(address, ListenerRole::Admin, 1, Claim::Alone).map_err(refused)?;
    // More come only from a program that had more, and none has.
    let socket = opened.into_iter().next().expect("one was asked for");
    TcpListener::from_std(socket).map_err(refused)
}

/// Serves the pages in this program's turn, until dropped. At the turn's end connections are ended, each after its answer,
/// so that clients go to the next program.
pub async fn serve(listener: TcpListener, router: Router, mut tenure: Tenure) {
    tenure.begins().await;
    let heir = tenure.clone();
    tokio::select! {
        () = accept_all(listener, router, heir) => {}
        _ = tenure.ends() => {}
    }
}

async fn accept_all(listener: TcpListener, router: Router, tenure: Tenure) {
    let seats = Seats::new(MOST);
    let (unaccepted, start) = (Seldom::new(UNACCEPTED), Instant::now());
    for turn in (1..=IN_A_ROW).cycle() {
        match listener.accept().await {
            Ok((stream, _)) => {
                // It works with any other size, too.
                let _ = SockRef::from(&stream).set_send_buffer_size(UNREAD);
                tokio::spawn(converse(stream, router.clone(), seats.take(), tenure.clone()));
                if turn == IN_A_ROW {
                    // A client that has sent a request is answered before a flood of connections can take its place.
                    yield_now().await;
                }
            }
            Err(error) => {
                let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Some(untold) = unaccepted.happened(now) {
                    warn!("admin: cannot accept: {error}; {untold} more failures since the last such line");
                }
                // The process may be out of descriptors.
                seats.dismiss();
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for a connection's deadline. One with the messages of an open page has none: it ends when its client does not
/// read them.
async fn overdue(seat: &Seat) {
    sleep(CONNECTION).await;
    while seat.is_streaming() {
        sleep(CONNECTION).await;
    }
}

async fn converse(stream: TcpStream, router: Router, seat: Seat, mut tenure: Tenure) {
    let (seat, pages) = (Arc::new(seat), TowerToHyperService::new(router));
    let answering = Arc::clone(&seat);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&answering));
        let (seat, answer) = (Arc::clone(&answering), pages.call(request));
        let in_turn = async {
            // A client with many requests gets one answer at a time, like the others.
            yield_now().await;
            answer.await
        };
        async move { seat.answer(in_turn).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = tenure.ends() => connection.as_mut().graceful_shutdown(),
        }
        // Its messages have no end.
        if seat.is_streaming() { Ok(()) } else { connection.await }
    };
    tokio::select! {
        ended = conversation => match ended {
            Ok(()) => {}
            Err(error) => debug!("admin: {error}"),
        },
        () = overdue(&seat) => debug!("admin: connection ended after {CONNECTION:?}"),
        () = seat.dismissed() => debug!("admin: connection ended: another one needs its place"),
    }
}
