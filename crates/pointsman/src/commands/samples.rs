//! Sample HTTP servers for the demo: each answers with its name and the request as it arrived. Knows no balancer.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::net::TcpListener;

/// Starts a sample on a free loopback port. It runs as long as the runtime.
///
/// # Errors
/// No port is free.
pub(super) async fn start(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let hello =
        move |method: Method, uri: Uri, headers: HeaderMap| async move { greeting(name, &method, &uri, &headers) };
    let server = axum::serve(listener, Router::new().fallback(hello));
    tokio::spawn(server.into_future());
    Ok(address)
}

fn greeting(name: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> String {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
    };
    let headers: String = headers.iter().map(line).collect();
    format!("Hello from {name}\n\n  {method} {uri}\n{headers}")
}
