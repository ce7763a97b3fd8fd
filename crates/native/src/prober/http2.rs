//! A check over HTTP/2: a request, or gRPC's `grpc.health.v1.Health/Check`. One stream on a connection of its own.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request, Response, Uri, Version};
use pointsman_table::{CHECKED_BODY, Expect, HttpCheck};

use super::http1::{AGENT, passed};
use super::said::{CheckFailure, CheckWords};
use crate::net::stream::Stream;

/// The largest head, names and values and 32 bytes a field, bytes.
const HEAD: u32 = 32 * 1024;
/// The method of gRPC's health checking protocol.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// What comes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A response with the beginning of its body.
struct CheckAnswer {
    head: Response<()>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Sends the request and judges the response. `begun` is called once a part of it is there.
pub(super) async fn ask(stream: Stream, check: &HttpCheck, begun: impl Fn()) -> Result<CheckWords, CheckFailure> {
    let HttpCheck { method, uri, host, expect } = check;
    let request = head(&stream, method, host, uri, |request| request.header("accept", "*/*"))?;
    let wants_body = matches!(expect, Expect::Body(_));
    let answer = exchange(stream, request, None, wants_body, begun).await?;
    let status = answer.head.status().as_u16();
    match expect {
        _ if !expect.takes(status) => Err(CheckFailure::of(format!("got {status}"))),
        Expect::Body(pattern) if !pattern.is_in(&answer.body) => {
            Err(CheckFailure::of(format!("got {status} without {pattern} in its body")))
        }
        Expect::Body(_) | Expect::Statuses(_) => Ok(passed(status)),
    }
}

/// Asks gRPC's health checking protocol.
pub(super) async fn ask_grpc(
    stream: Stream,
    service: &str,
    host: &str,
    begun: impl Fn(),
) -> Result<CheckWords, CheckFailure> {
    let request = head(&stream, "POST", host, CHECK, |request| {
        request.header("content-type", "application/grpc").header("te", "trailers")
    })?;
    let answer = exchange(stream, request, Some(message(service)), true, begun).await?;
    if answer.head.status() != 200 {
        return Err(CheckFailure::of(format!("got {}", answer.head.status().as_u16())));
    }
    // An error comes in the only head, and then has no message.
    let fields = answer.trailers.as_ref().unwrap_or(answer.head.headers());
    match fields.get("grpc-status").map(|status| String::from_utf8_lossy(status.as_bytes())) {
        Some(status) if status == "0" => serving(&answer.body),
        Some(status) => {
            Err(CheckFailure::of(format!("got gRPC status {}", status.chars().take(8).collect::<String>())))
        }
        None => Err(CheckFailure::of("got no gRPC status")),
    }
}

fn head(
    stream: &Stream,
    method: &str,
    host: &str,
    path: &str,
    more: impl Fn(http::request::Builder) -> http::request::Builder,
) -> Result<Request<()>, CheckFailure> {
    let scheme = if matches!(stream, Stream::Tls(_)) { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
    let uri = uri.map_err(|error| CheckFailure::of(format!("cannot be asked: {error}")))?;
    let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2).header("user-agent", AGENT);
    more(request).body(()).map_err(|error| CheckFailure::of(format!("cannot be asked: {error}")))
}

async fn exchange(
    stream: Stream,
    request: Request<()>,
    body: Option<Bytes>,
    wants_body: bool,
    begun: impl Fn(),
) -> Result<CheckAnswer, CheckFailure> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEAD);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let exchange = async {
        let (response, mut sent) = sender.ready().await?.send_request(request, body.is_none())?;
        if let Some(body) = body {
            sent.send_data(body, true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        begun();
        let (body, trailers) = if wants_body { read(&mut body).await? } else { (Vec::new(), None) };
        Ok(CheckAnswer { head: Response::from_parts(head, ()), body, trailers })
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        ended = connection => {
            ended?;
            Err(CheckFailure::of("got no answer: the connection was closed"))
        }
    }
}

/// The beginning of a body, and the trailers if it was whole.
async fn read(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), CheckFailure> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data[..data.len().min(CHECKED_BODY - body.len())]);
        if body.len() == CHECKED_BODY {
            return Ok((body, None));
        }
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok((body, stream.trailers().await?))
}

/// `HealthCheckRequest { string service = 1; }` with its prefix.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// What `HealthCheckResponse { ServingStatus status = 1; }` says.
fn serving(body: &[u8]) -> Result<CheckWords, CheckFailure> {
    match status(body) {
        Some(1) => Ok("got SERVING".into()),
        Some(0) => Err(CheckFailure::of("got UNKNOWN")),
        Some(2) => Err(CheckFailure::of("got NOT_SERVING")),
        Some(3) => Err(CheckFailure::of("got SERVICE_UNKNOWN")),
        _ => Err(CheckFailure::of("got what is no health status")),
    }
}

/// The status; one that is left out is 0. `None`: this is no such message. Fields that are not known are none of ours:
/// the message has had one field since it exists.
fn status(body: &[u8]) -> Option<u8> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?) as usize;
    match (prefix[0], message) {
        (0, []) => Some(0),
        (0, [8, status @ 0..=0x7f]) if length == 2 => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_grpc() {
        assert_eq!(&*message(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*message("a.B"), [0, 0, 0, 0, 5, 10, 3, b'a', b'.', b'B']);
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 10, 0xac, 2]);
        for (body, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], "Ok(\"got SERVING\")"),
            (&[0, 0, 0, 0, 2, 8, 2], "NOT_SERVING"),
            (&[0, 0, 0, 0, 2, 8, 3], "SERVICE_UNKNOWN"),
            (&[0, 0, 0, 0, 0], "got UNKNOWN"),
            (&[1, 0, 0, 0, 2, 8, 1], "no health status"),
            (&[0, 0, 0, 0, 2, 8], "no health status"),
            (&[0, 0, 0, 0], "no health status"),
            (&[], "no health status"),
            (&[0, 0, 0, 0, 9, 8, 1], "no health status"),
        ] {
            let said = format!("{:?}", serving(body));
            assert!(said.contains(expected), "{body:?}: {said}");
        }
    }
}
