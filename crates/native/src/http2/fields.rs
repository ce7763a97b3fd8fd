//! Heads between their two forms: fields as the `http` crate keeps them, and heads as `wire` judges and writes them.
//! Judges nothing itself.

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TE};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use pointsman_wire::{
    Answer, BodyLength, Header, HeaderEdits, ResponseHead, Trailers, WEBSOCKET_ACCEPT, WrittenRequest, reason,
};

/// Fields as header lines.
pub(crate) fn lines(fields: &HeaderMap) -> Vec<Header<'_>> {
    fields.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() }).collect()
}

/// The head of a response, with a body of this framing; that of a switch of protocols is the answer to an extended
/// CONNECT (RFC 8441 §5).
pub(crate) fn response(head: &ResponseHead<'_, '_>, body: BodyLength, edits: Option<&HeaderEdits>) -> Response<()> {
    let status = if head.status == 101 { 200 } else { head.status };
    let mut fields = HeaderMap::with_capacity(head.headers.len() + 1);
    for header in head.fields() {
        if head.status != 101 || !header.name.eq_ignore_ascii_case(WEBSOCKET_ACCEPT) {
            append(&mut fields, header.name, header.value);
        }
    }
    if let Some(edits) = edits {
        edit(&mut fields, edits);
    }
    with_length(status, fields, head.length(body))
}

/// Makes the changes that the service asks for.
fn edit(fields: &mut HeaderMap, edits: &HeaderEdits) {
    for name in edits.names() {
        fields.remove(name);
    }
    edits.fields().for_each(|(name, value)| append(fields, name, value));
}

/// The head of a response of our own.
pub(crate) fn local(answer: &Answer<'_>) -> Response<()> {
    let mut fields = HeaderMap::with_capacity(4);
    answer.fields().for_each(|(name, value)| append(&mut fields, name, value.as_bytes()));
    if let Some(edits) = answer.edits {
        edit(&mut fields, edits);
    }
    with_length(answer.status, fields, answer.length())
}

/// Whether these are fields of a call of gRPC.
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A response of our own to a call of gRPC: the status in its terms, and nothing else.
pub(crate) fn grpc(status: u16) -> Response<()> {
    let code = match status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 | 405 => "12",
        413 | 431 => "8",
        429 | 502..=504 => "14",
        _ => "2",
    };
    let mut fields = HeaderMap::with_capacity(3);
    append(&mut fields, "content-type", b"application/grpc");
    append(&mut fields, "grpc-status", code.as_bytes());
    append(&mut fields, "grpc-message", reason(status).as_bytes());
    with_length(200, fields, None)
}

/// The answer to a client's extended CONNECT, from an instance that speaks HTTP/2 too: the stream is a WebSocket.
pub(crate) fn websocket_response(head: &ResponseHead<'_, '_>) -> Response<()> {
    let mut fields = HeaderMap::with_capacity(head.headers.len());
    head.fields().for_each(|header| append(&mut fields, header.name, header.value));
    with_length(200, fields, None)
}

/// The extended CONNECT that asks an instance for a WebSocket (RFC 8441 §5). `None`: as of [`request`].
pub(crate) fn websocket_request(written: &WrittenRequest<'_>, scheme: Scheme) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri(written, scheme)?;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let fields = request.headers_mut();
    written.websocket_fields().for_each(|(name, value)| append(fields, name, value));
    Some(request)
}

/// The head of a request that was written for HTTP/1. `None`: its target or host is one that HTTP/2 cannot carry.
pub(crate) fn request(written: &WrittenRequest<'_>, scheme: Scheme) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(written.method.as_bytes()).ok()?;
    *request.uri_mut() = uri(written, scheme)?;
    let fields = request.headers_mut();
    written.fields().for_each(|(name, value)| append(fields, name, value));
    // They are passed on (RFC 9110 §10.1.4), and gRPC insists on it.
    fields.insert(TE, HeaderValue::from_static("trailers"));
    Some(request)
}

fn uri(written: &WrittenRequest<'_>, scheme: Scheme) -> Option<Uri> {
    let mut uri = Parts::default();
    uri.path_and_query = Some(path(written.target)?);
    // Of HTTP/1.0 there may be none, and HTTP/2 can leave it out.
    if !written.host.is_empty() {
        (uri.scheme, uri.authority) = (Some(scheme), Some(Authority::try_from(written.host).ok()?));
    }
    Uri::from_parts(uri).ok()
}

/// A target. Bytes that no URI has, and that clients send all the same, are encoded (RFC 3986 §2.1).
fn path(target: &str) -> Option<PathAndQuery> {
    PathAndQuery::try_from(target).or_else(|_| PathAndQuery::try_from(encoded(target))).ok()
}

#[cold]
fn encoded(target: &str) -> String {
    let mut text = String::with_capacity(target.len() + 16);
    for char in target.chars() {
        match char {
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => text.push_str(&format!("%{:02X}", u32::from(char))),
            char => text.push(char),
        }
    }
    text
}

/// Trailers that may be passed on. `None`: there are none.
pub(crate) fn trailers(trailers: &Trailers<'_>) -> Option<HeaderMap> {
    // Few messages have any.
    trailers.iter().next()?;
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
