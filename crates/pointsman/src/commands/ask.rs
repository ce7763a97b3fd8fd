//! Asks a running balancer's admin pages. Does not interpret them.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pointsman_table::shown;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::admin::source::SourceView;
use crate::settings::Settings;

/// Time limit to connect: the address is on this machine or near.
const CONNECT: Duration = Duration::from_secs(1);
/// Time limit for the whole answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer, bytes: some 100,000 services.
const LONGEST: usize = 256 * 1024 * 1024;

/// The result of asking.
pub(super) enum Answer<T> {
    /// The balancer's answer.
    Running(T),
    /// Nothing listens there: ask the store.
    Nobody,
}

/// Asks for a JSON page.
///
/// # Errors
/// Something answers, but not with such a page.
pub(super) async fn ask<T: DeserializeOwned>(admin: Option<SocketAddr>, path: &str) -> anyhow::Result<Answer<T>> {
    let (status, body) = match page(admin, path).await? {
        Answer::Running(answer) => answer,
        Answer::Nobody => return Ok(Answer::Nobody),
    };
    let at = admin.map(|admin| admin.to_string()).unwrap_or_default();
    if status != StatusCode::OK {
        bail!("--admin: asked the balancer on {at}: {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    let read = serde_json::from_slice(&body);
    let page = read.with_context(|| format!("--admin: the server on {at} is not a balancer of this version"))?;
    Ok(Answer::Running(page))
}

/// The running balancer's answer, unless there is none, or the operator named other keys than that balancer follows: then a
/// line on `note` says so, and the answer is in the store. `source`: the keys that an answer comes from.
///
/// # Errors
/// `note` is closed.
pub(super) fn of_these_keys<T>(
    answer: Answer<T>,
    source: impl Fn(&T) -> Option<SourceView>,
    (settings, named): (&Settings, bool),
    note: &mut dyn Write,
) -> anyhow::Result<Option<T>> {
    let Answer::Running(view) = answer else {
        writeln!(note, "no balancer answers on --admin; this comes from the keys in the store")?;
        return Ok(None);
    };
    let asked = SourceView::new(&settings.store);
    let other = source(&view).filter(|source| named && !source.is_same(&asked));
    let (Some(other), Some(admin)) = (other, settings.admin) else { return Ok(Some(view)) };
    writeln!(
        note,
        "warning: the balancer on {admin} serves {}; this comes from {}",
        shown(&other.to_string()),
        shown(&asked.to_string())
    )?;
    Ok(None)
}

/// Asks for a page of any kind and status.
///
/// # Errors
/// Something accepts the connection, but does not answer with HTTP in time.
pub(super) async fn page(admin: Option<SocketAddr>, path: &str) -> anyhow::Result<Answer<(StatusCode, Bytes)>> {
    let Some(admin) = admin else {
        return Ok(Answer::Nobody);
    };
    let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(reachable(admin))).await else {
        return Ok(Answer::Nobody);
    };
    let answer = timeout(ANSWER, fetch(stream, path)).await.map_err(anyhow::Error::from).and_then(|answer| answer);
    Ok(Answer::Running(answer.with_context(|| format!("--admin: asked the balancer on {admin}"))?))
}

/// The address for a client: loopback for a listener on every address.
pub(super) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

async fn fetch(stream: TcpStream, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    connection.abort();
    Ok((status, body.to_bytes()))
}

/// Percent-encodes a text for a query (RFC 3986 §2.3: all but unreserved characters).
pub(super) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("http://a.b/c?d=e&f+é"), "http%3A%2F%2Fa.b%2Fc%3Fd%3De%26f%2B%C3%A9");
    }

    #[test]
    fn listeners_on_every_address_are_reached_by_loopback() {
        for (listening, expected) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), expected);
        }
    }
}
