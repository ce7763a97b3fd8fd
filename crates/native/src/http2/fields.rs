//! Heads between their two forms: fields as the `http` crate keeps them, and heads as `wire` judges and writes them.
//! Judges nothing itself.

use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use pointsman_wire::{Answer, BodyLength, Header, ResponseHead, Trailers};

/// Part of the handshake of a WebSocket over HTTP/1 that HTTP/2 has no use for (RFC 8441 §5).
const WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";

/// Fields as header lines.
pub(crate) fn lines(fields: &HeaderMap) -> Vec<Header<'_>> {
    fields.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() }).collect()
}

/// The head of a response, with a body of this framing; that of a switch of protocols is the answer to an extended
/// CONNECT (RFC 8441 §5).
pub(crate) fn response(head: &ResponseHead<'_, '_>, body: BodyLength) -> Response<()> {
    let status = if head.status == 101 { 200 } else { head.status };
    let mut fields = HeaderMap::with_capacity(head.headers.len() + 1);
    for header in head.fields() {
        if head.status != 101 || !header.name.eq_ignore_ascii_case(WEBSOCKET_ACCEPT) {
            append(&mut fields, header.name, header.value);
        }
    }
    with_length(status, fields, head.length(body))
}

/// The head of a response of our own.
pub(crate) fn local(answer: &Answer<'_>) -> Response<()> {
    let mut fields = HeaderMap::with_capacity(4);
    answer.fields().for_each(|(name, value)| append(&mut fields, name, value));
    with_length(answer.status, fields, Some(answer.length()))
}

/// Trailers that may be passed on. `None`: there are none.
pub(crate) fn trailers(trailers: &Trailers<'_>) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    trailers.iter().for_each(|(name, value)| append(&mut fields, name, value));
    (!fields.is_empty()).then_some(fields)
}

/// Appends a field that `wire` accepted. One that only HTTP/1 can express is left out.
fn append(fields: &mut HeaderMap, name: &str, value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}

fn with_length(status: u16, mut fields: HeaderMap, length: Option<u64>) -> Response<()> {
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    let mut response = Response::new(());
    // `wire` accepts 100 to 599 only, as `http` does.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = fields;
    response
}
