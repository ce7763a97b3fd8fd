//! The beginning of a request to an instance that speaks HTTP/2: the head that was written for HTTP/1, in its other form,
//! and body bytes that came with it. The rest of the body is `up`'s.

use std::io;

use bytes::Bytes;
use http::HeaderMap;
use http::uri::Scheme;
use pointsman_wire::{BadRequest, Step, WrittenRequest};

use super::context::Cx;
use super::decide::{Plan, head_limits};
use crate::fault::Fault;
use crate::http2::connection::Call;
use crate::http2::fields;

/// Body bytes that are held, without their framing.
#[derive(Debug, Default)]
struct Body {
    chunks: Vec<Bytes>,
    /// The body ends after them, perhaps with trailers.
    end: Option<Option<HeaderMap>>,
}

/// Sends what is held of the request. `whole`: nothing follows.
///
/// # Errors
/// [`Fault::StreamRefused`] if the connection takes no more requests; those of a request that HTTP/2 cannot express;
/// [`Fault::NoWebsocket`].
pub(super) async fn send_held(cx: &Cx<'_>, plan: &Plan, call: &mut Call, whole: bool) -> Result<io::Result<()>, Fault> {
    let (head, body) = plan.parts();
    let scheme = if call.is_secure() { Scheme::HTTPS } else { Scheme::HTTP };
    let head = WrittenRequest::of(head).ok_or(Fault::BadRequest(BadRequest::TargetForm))?;
    if plan.websocket {
        return ask_for_websocket(call, &head, scheme).map(Ok);
    }
    let head = fields::request(&head, scheme).ok_or(Fault::BadRequest(BadRequest::TargetForm))?;
    let body = held(cx, plan, body)?;
    let is_bare = whole && body.chunks.is_empty() && body.end == Some(None);
    call.begin(head, is_bare).map_err(|_| Fault::StreamRefused)?;
    if is_bare {
        return Ok(Ok(()));
    }
    body.chunks.into_iter().for_each(|bytes| call.out.data(bytes));
    if let (true, Some(trailers)) = (whole, body.end) {
        call.out.end(trailers);
    }
    let limit = plan.live.service.timeouts.server;
    Ok(call.out.flush(cx.deadline, (limit, || u64::MAX)).await.1)
}

/// Asks for a WebSocket by an extended CONNECT (RFC 8441 §5), and leaves the stream open.
#[cold]
fn ask_for_websocket(call: &mut Call, head: &WrittenRequest<'_>, scheme: Scheme) -> Result<(), Fault> {
    if !call.takes_websockets() {
        return Err(Fault::NoWebsocket);
    }
    // A client of HTTP/1 waits for an answer to its key.
    head.websocket_key().ok_or(Fault::BadRequest(BadRequest::WebsocketKey))?;
    let head = fields::websocket_request(head, scheme).ok_or(Fault::BadRequest(BadRequest::TargetForm))?;
    call.begin(head, false).map_err(|_| Fault::StreamRefused)
}

fn held(cx: &Cx<'_>, plan: &Plan, mut bytes: &[u8]) -> Result<Body, Fault> {
    let mut reader = plan.writer.reader(head_limits(&cx.globals.config).bytes);
    let mut body = Body::default();
    loop {
        match reader.step(bytes).map_err(Fault::BadRequestBody)? {
            Step::Data { bytes: data, used } => {
                body.chunks.push(Bytes::copy_from_slice(data));
                bytes = &bytes[used..];
            }
            Step::More { .. } => return Ok(body),
            Step::End { trailers, .. } => {
                body.end = Some(fields::trailers(&trailers));
                return Ok(body);
            }
        }
    }
}
