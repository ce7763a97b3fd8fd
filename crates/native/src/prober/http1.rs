//! A check over HTTP/1: its request as bytes, and whether the response passes. Redirects are not followed, and the
//! connection serves nothing else.

use std::mem::MaybeUninit;

use pointsman_table::{CHECKED_BODY, Expect, HttpCheck};
use pointsman_wire::{
    BadResponse, BodyLength, BodyReader, HeadLimits, HeadProgress, HeaderSpace, MAX_HEADERS, Step, parse_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::said::{CheckFailure, CheckWords};
use crate::net::stream::Stream;

/// What instances see in their logs.
pub(super) const AGENT: &str = concat!("pointsman/", env!("CARGO_PKG_VERSION"), " (health check)");
/// Bounds of a response's head.
const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, headers: MAX_HEADERS };
/// Room for a usual response.
const USUAL: usize = 1024;

/// The request.
pub(super) fn request(check: &HttpCheck) -> Box<[u8]> {
    let HttpCheck { method, uri, host, expect: _ } = check;
    let length = if has_body(method) { "Content-Length: 0\r\n" } else { "" };
    let lines = format!(
        "{method} {uri} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n{length}Connection: close\r\n\r\n"
    );
    lines.into_bytes().into()
}

/// Whether requests of this method say how long their body is (RFC 9110 §8.6).
fn has_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// A response's head.
struct Head {
    status: u16,
    len: usize,
    body: BodyLength,
}

/// Sends the request and judges the response. `begun` is called once a part of it is there.
pub(super) async fn ask(
    stream: &mut Stream,
    request: &[u8],
    check: &HttpCheck,
    begun: impl Fn(),
) -> Result<CheckWords, CheckFailure> {
    stream.write_all(request).await?;
    let mut buffer = Vec::with_capacity(USUAL);
    let head = final_head(stream, &mut buffer, *check.method == *"HEAD", begun).await?;
    if !check.expect.takes(head.status) {
        return Err(CheckFailure::of(format!("got {}", head.status)));
    }
    if let Expect::Body(pattern) = &check.expect {
        let body = body(stream, buffer, head.body).await?;
        if !pattern.is_in(&body) {
            return Err(CheckFailure::of(format!("got {} without {pattern} in its body", head.status)));
        }
    }
    Ok(passed(head.status))
}

/// What is said of a response that passes.
pub(super) fn passed(status: u16) -> CheckWords {
    match status {
        200 => "got 200".into(),
        204 => "got 204".into(),
        status => format!("got {status}").into(),
    }
}

/// Reads heads until one is final, and takes them off the buffer.
async fn final_head(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    is_head: bool,
    begun: impl Fn(),
) -> Result<Head, CheckFailure> {
    let mut progress = HeadProgress::default();
    loop {
        if progress.ready(buffer, LIMITS) {
            let bad = |bad| CheckFailure::of(format!("got what is no response: {bad}"));
            if let Some(head) = parse(buffer, is_head).map_err(bad)? {
                buffer.drain(..head.len);
                match head.status {
                    101 => return Err(CheckFailure::of("got 101, which nobody asked for")),
                    200.. => return Ok(head),
                    _ => progress = HeadProgress::default(),
                }
                continue;
            }
        }
        match stream.read_buf(buffer).await? {
            0 if buffer.is_empty() => return Err(CheckFailure::of("got no answer: the connection was closed")),
            0 => return Err(CheckFailure::of("got half an answer: the connection was closed")),
            _ => begun(),
        }
    }
}

fn parse(buffer: &[u8], is_head: bool) -> Result<Option<Head>, BadResponse> {
    let mut space: HeaderSpace<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let head = parse_response(buffer, is_head, LIMITS, &mut space)?;
    Ok(head.map(|head| Head { status: head.status, len: head.len, body: head.body }))
}

/// The beginning of the body, as much as is searched. `buffer` holds what came with the head.
async fn body(stream: &mut Stream, mut buffer: Vec<u8>, length: BodyLength) -> Result<Vec<u8>, CheckFailure> {
    let mut reader = BodyReader::new(length, LIMITS.bytes);
    let mut body = Vec::new();
    loop {
        let used = match reader.step(&buffer).map_err(|bad| CheckFailure::of(format!("got a malformed body: {bad}")))? {
            Step::Data { bytes, used } => {
                body.extend_from_slice(&bytes[..bytes.len().min(CHECKED_BODY - body.len())]);
                used
            }
            Step::More { used } => used,
            Step::End { .. } => return Ok(body),
        };
        let is_read = used == buffer.len();
        buffer.drain(..used);
        if body.len() == CHECKED_BODY || reader.is_done() {
            return Ok(body);
        }
        if (is_read || used == 0) && stream.read_buf(&mut buffer).await? == 0 {
            return match reader.may_close() {
                true => Ok(body),
                false => Err(CheckFailure::of("got half an answer: the connection was closed")),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_server_that_keeps_the_connection_has_answered_with_the_last_byte() {
        for (sent, length) in [("ok", BodyLength::Length(2)), ("2\r\nok\r\n0\r\n\r\n", BodyLength::Chunked)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            server.write_all(sent.as_bytes()).await.unwrap();
            let mut client = Stream::Tcp(client);
            let read = tokio::time::timeout(Duration::from_secs(10), body(&mut client, Vec::new(), length)).await;
            let read = read.unwrap_or_else(|_| panic!("{length:?}: it waits for the end of the connection"));
            assert_eq!(read.unwrap(), b"ok", "{length:?}");
        }
    }
}
