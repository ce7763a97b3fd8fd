//! The admin pages' own listener: few connections, every wait with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Maximum concurrent connections; further ones wait to be accepted.
const MOST: usize = 64;
/// Deadline for a complete request head, and for the idle time between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// Deadline for a connection, so that a client that does not read cannot hold a page longer.
const CONNECTION: Duration = Duration::from_secs(120);
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest request head, in bytes; also the most unread input kept in memory, because no page reads a body.
const HEAD_BYTES: usize = 16 * 1024;

/// Binds the admin address.
///
/// # Errors
/// The address cannot be bound. The error names the setting and the remedy.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let refused = || format!("--admin: cannot listen on {address}; set another address, or off");
    TcpListener::bind(address).await.with_context(refused)
}

/// Serves the pages until dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!("admin: accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("admin: {error}"),
        Err(_) => debug!("admin: connection ended after {CONNECTION:?}"),
    }
}
