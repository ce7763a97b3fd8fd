//! An accepted head of HTTP/2, written for HTTP/1, is one request, and the same.

use std::mem::MaybeUninit;

use pointsman_wire::{
    Arrived, Forward, HeadLimits, Header, Http2Request, MAX_HEADERS, RequestHead, Trust, Version, judge_http2_request,
    parse_request,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 8 * 1024, headers: 64 };
const ROOMY: HeadLimits = HeadLimits { bytes: 64 * 1024, headers: MAX_HEADERS };

/// Any bytes as a head: pseudo-header fields and fields, one a line, `name=value`. `!` alone: a body follows.
pub(crate) fn run(input: &[u8]) {
    let _ = outcome(input);
}

/// What becomes of a head: the HTTP/1 head that is written for it, or the status that answers it.
pub(crate) fn outcome(input: &[u8]) -> Result<Vec<u8>, u16> {
    let lines: Vec<_> = input.split(|byte| *byte == b'\n').collect();
    let mut request = Http2Request { method: "GET", authority: None, path: "/", protocol: None, is_whole: true };
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = halves(line);
        match (name, str::from_utf8(value)) {
            (b"!", _) => request.is_whole = false,
            (b":method", Ok(method)) => request.method = method,
            (b":path", Ok(path)) => request.path = path,
            (b":authority", Ok(authority)) => request.authority = Some(authority),
            (b":protocol", Ok(protocol)) => request.protocol = Some(protocol),
            (b"", _) => {}
            _ => fields.push(decoded(name, value)?),
        }
    }
    let head = judge_http2_request(request, &fields, LIMITS).map_err(|bad| bad.status())?;
    Ok(written(&head))
}

fn halves(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}

/// A field that a decoder lets through (RFC 9113 §8.2.1).
fn decoded<'b>(name: &'b [u8], value: &'b [u8]) -> Result<Header<'b>, u16> {
    let is_name = name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase());
    let is_value = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    match str::from_utf8(name) {
        Ok(name) if is_name && is_value => Ok(Header { name, value }),
        _ => Err(400),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes a head, and checks that a strict reader finds the same request in it, and nothing more.
fn written(head: &RequestHead<'_, '_>) -> Vec<u8> {
    let websocket_key = || "bm9uY2U=".to_owned();
    let arrived = Arrived::new("http", 80);
    let forward = Forward {
        strip: 0,
        client: "192.0.2.1",
        arrived: &arrived,
        trust: Trust::Nothing,
        websocket_key,
        cookie: None,
    };
    let mut out = Vec::new();
    head.write(&forward, &mut out);
    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let again = parse_request(&out, ROOMY, &mut space).expect("what is written is accepted").expect("and whole");
    assert_eq!((again.len, again.version, again.keep_alive), (out.len(), Version::Http11, true));
    assert_eq!((head.method, &head.target, head.host), (again.method, &again.target, again.host));
    assert_eq!((head.body, head.upgrade), (again.body, again.upgrade));
    for Header { name, value } in again.headers {
        let lower = name.to_ascii_lowercase();
        let is_ours = OURS.contains(&&*lower);
        let came = |header: &&Header<'_>| header.name == lower && header.value == *value;
        assert!(is_ours || head.headers.iter().any(|header| came(&header)), "{name} came from nowhere");
    }
    out
}

/// What we write ourselves, or anew.
const OURS: [&str; 12] = [
    "host",
    "cookie",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "cdn-loop",
    "expect",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "sec-websocket-key",
];
