//! Heads of HTTP/2 messages, judged like those of HTTP/1 (RFC 9113 §8): the outcome is the same head, so that all that
//! follows knows one kind. Reads no frame: whoever calls has decoded them.

use std::borrow::Cow;

use crate::extension::is_token;
use crate::fields::{Field, Fields, MAX_OPTIONS, Positions, Seen, classify};
use crate::framing::{BadFraming, content_length};
use crate::head::{BadLine, BodyLength, HeadLimits, Header, Version};
use crate::refusal::BadRequest;
use crate::request::{RequestHead, check_fields, judge_expectation, judge_host, judge_method};
use crate::response::{BadResponse, ResponseHead, body_length, judge_status};
use crate::target::{Authority, Target};

/// The pseudo-header fields of a request (RFC 9113 §8.3.1), and whether a body follows.
#[derive(Clone, Copy, Debug)]
pub struct Http2Request<'b> {
    /// `:method`.
    pub method: &'b str,
    /// `:authority`.
    pub authority: Option<&'b str>,
    /// `:path`.
    pub path: &'b str,
    /// `:protocol` of an extended CONNECT (RFC 8441 §4).
    pub protocol: Option<&'b str>,
    /// The head ended the stream: there is no body.
    pub is_whole: bool,
}

/// What a field counts beyond its name and value (RFC 9113 §6.5.2), bytes.
const FIELD_OVERHEAD: usize = 32;

/// Judges a request's head. Names are in lower case, and values without CR, LF and NUL, as every decoder ensures.
///
/// An extended CONNECT for WebSocket (RFC 8441) becomes the `GET` that asks HTTP/1 for the same.
///
/// # Errors
/// [`BadRequest`] if the head is malformed, exceeds a limit, or is ambiguous.
pub fn judge_http2_request<'h, 'b>(
    request: Http2Request<'b>,
    headers: &'h [Header<'b>],
    limits: HeadLimits,
) -> Result<RequestHead<'h, 'b>, BadRequest> {
    check_size(request.path.len(), headers, limits)?;
    check_line(&request)?;
    let (method, upgrade) = match (request.method, request.protocol) {
        ("CONNECT", Some(protocol)) if protocol.eq_ignore_ascii_case("websocket") => ("GET", Some("websocket")),
        (method, None) => (method, None),
        (_, Some(_)) => return Err(BadRequest::Connect),
    };
    judge_method(method)?;
    let target = target(method, &request)?;
    let fields = Fields::sort(headers);
    check_hop_fields(headers)?;
    check_fields(&fields)?;
    let body = request_body(&fields, &request, upgrade)?;
    Ok(RequestHead {
        len: headers.iter().map(size).sum::<usize>() + request.path.len(),
        method,
        host: host(&fields, &target)?,
        target: target.path,
        version: Version::Http11,
        headers,
        body,
        keep_alive: true,
        expect_continue: judge_expectation(fields.expect, Version::Http11, body)?,
        upgrade,
        hops: fields.hops,
        logs_connection_in: fields.login,
        lacks_websocket_key: upgrade.is_some(),
        has_crumbs: headers.iter().filter(|header| header.name == "cookie").count() > 1,
        left_out: fields.hop.union(fields.ours).union(of_handshake(headers, upgrade)),
        forwarded_for: fields.forwarded_for,
        told: fields.told,
    })
}

/// The bytes of a request line, whatever a decoder let through.
fn check_line(request: &Http2Request<'_>) -> Result<(), BadRequest> {
    match () {
        () if !request.method.bytes().all(is_token) || request.method.is_empty() => Err(BadRequest::RequestLine),
        () if !request.path.bytes().all(|byte| byte.is_ascii_graphic()) => Err(BadRequest::TargetByte),
        () => Ok(()),
    }
}

fn target<'b>(method: &str, request: &Http2Request<'b>) -> Result<Target<'b>, BadRequest> {
    let Target { path, authority: None } = Target::parse(method, request.path)? else {
        return Err(BadRequest::TargetForm);
    };
    if matches!(&path, Cow::Owned(_)) {
        return Err(BadRequest::TargetForm);
    }
    let authority = match request.authority {
        None => None,
        // Its scheme is that of the connection, whose default port clients leave out.
        Some(text) => Some((Authority::parse(text.as_bytes()).ok_or(BadRequest::Host)?, NO_PORT)),
    };
    Ok(Target { path, authority })
}

/// RFC 9113 §8.3.1: `:authority`, which `Host` must agree with, or else `Host` alone.
fn host<'b>(fields: &Fields<'b>, target: &Target<'b>) -> Result<&'b str, BadRequest> {
    match (&target.authority, fields.host) {
        (Some((authority, _)), Seen::Never) => Ok(authority.text),
        _ => judge_host(fields, target, Version::Http11),
    }
}

/// Stands for a port that neither `:authority` nor `Host` names: they must name the same, or none.
const NO_PORT: u16 = 0;

/// The fields of a WebSocket's handshake over HTTP/1, which means nothing here (RFC 8441 §5): the instance gets ours, once
/// (RFC 6455 §11.3.1).
fn of_handshake(headers: &[Header<'_>], upgrade: Option<&str>) -> Positions {
    let mut found = Positions::default();
    let is_one = |name: &str| matches!(name, "sec-websocket-key" | "sec-websocket-accept");
    let positions = headers.iter().enumerate().filter(|(_, header)| upgrade.is_some() && is_one(header.name));
    positions.for_each(|(position, _)| found.insert(position));
    found
}

fn check_size(path: usize, headers: &[Header<'_>], limits: HeadLimits) -> Result<(), BadRequest> {
    let bytes: usize = headers.iter().map(size).sum();
    match () {
        () if headers.len() > limits.headers => Err(BadRequest::TooManyHeaders),
        () if path > limits.bytes => Err(BadRequest::TargetTooLong),
        () if bytes + path > limits.bytes => Err(BadRequest::HeadTooLong),
        () => Ok(()),
    }
}

fn size(header: &Header<'_>) -> usize {
    header.name.len() + header.value.len() + FIELD_OVERHEAD
}

/// RFC 9113 §8.2.1, §8.2.2: no field that belongs to a connection, and no white space around a value, which a reader of
/// HTTP/1 would strip.
fn check_hop_fields(headers: &[Header<'_>]) -> Result<(), BadRequest> {
    for header in headers {
        check_value(header)?;
        let fits = match classify(header.name) {
            Field::Connection | Field::TransferEncoding | Field::Upgrade => false,
            Field::HopByHop => match header.name {
                "te" => header.value.eq_ignore_ascii_case(b"trailers"),
                name => !matches!(name, "keep-alive" | "proxy-connection"),
            },
            _ => true,
        };
        if !fits {
            return Err(BadRequest::ConnectionField);
        }
    }
    Ok(())
}

fn check_value(header: &Header<'_>) -> Result<(), BadLine> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(header.value.first()) || is_blank(header.value.last()) { Err(BadLine::Blank) } else { Ok(()) }
}

/// A stream ends its body itself; a length must agree with that, which the reader of its frames counts.
fn request_body(
    fields: &Fields<'_>,
    request: &Http2Request<'_>,
    upgrade: Option<&str>,
) -> Result<BodyLength, BadFraming> {
    let length = declared_length(fields)?;
    Ok(match (upgrade, length, request.is_whole) {
        // What follows belongs to the WebSocket.
        (Some(_), None | Some(0), _) => BodyLength::None,
        (Some(_), Some(_), _) => return Err(BadFraming::ContentLength),
        (None, Some(0), _) => BodyLength::Length(0),
        (None, Some(_), true) => return Err(BadFraming::ContentLength),
        (None, Some(length), false) => BodyLength::Length(length),
        (None, None, true) => BodyLength::None,
        (None, None, false) => BodyLength::Chunked,
    })
}

fn declared_length(fields: &Fields<'_>) -> Result<Option<u64>, BadFraming> {
    match fields.length {
        Seen::Never => Ok(None),
        Seen::Once(value) => content_length(value).map(Some),
        Seen::Often => Err(BadFraming::SeveralContentLengths),
    }
}

/// Judges a response's head. `is_whole`: it ended the stream. `head_request`: it answers a HEAD request.
///
/// # Errors
/// [`BadResponse`] if the head is malformed, exceeds a limit, or is ambiguous.
pub fn judge_http2_response<'h, 'b>(
    status: u16,
    headers: &'h [Header<'b>],
    (head_request, is_whole): (bool, bool),
    limits: HeadLimits,
) -> Result<ResponseHead<'h, 'b>, BadResponse> {
    if headers.len() > limits.headers {
        return Err(BadResponse::TooManyHeaders);
    }
    if headers.iter().map(size).sum::<usize>() > limits.bytes {
        return Err(BadResponse::HeadTooLong);
    }
    judge_status(status)?;
    for header in headers {
        check_value(header)?;
    }
    let fields = Fields::sort(headers);
    if fields.options.count > MAX_OPTIONS {
        return Err(BadResponse::TooManyOptions);
    }
    let declared = declared_length(&fields)?.map_or(BodyLength::None, BodyLength::Length);
    let body = match body_length(status, head_request, declared) {
        BodyLength::UntilClose if is_whole => BodyLength::Length(0),
        BodyLength::UntilClose => BodyLength::Chunked,
        body => body,
    };
    Ok(ResponseHead {
        len: headers.iter().map(size).sum(),
        status,
        reason: "",
        version: Version::Http11,
        headers,
        body,
        keep_alive: true,
        upgrade: None,
        asks_for_connection_login: fields.login,
        declared,
        left_out: fields.hop,
    })
}
