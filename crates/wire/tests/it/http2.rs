//! Heads of HTTP/2, one per row, written for HTTP/1; and requests of HTTP/1 that smuggle, put into fields of HTTP/2.

use pointsman_wire::{BodyLength, HeadLimits, Header, judge_http2_response};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::http2::{outcome, run};
use crate::rows::{self, Row};
use crate::vectors::check_all;

/// What becomes of fields, in the terms of `http2.txt`.
fn judged(fields: &[u8]) -> String {
    match outcome(fields) {
        Err(status) => status.to_string(),
        Ok(head) => {
            let text = String::from_utf8_lossy(&head).replace("\r\n", "|").replace(' ', "_");
            text.replace(
                "X-Forwarded-For:_192.0.2.1|X-Forwarded-Proto:_http|X-Forwarded-Port:_80|CDN-Loop:_pointsman|",
                "{ours}",
            )
        }
    }
}

/// The rows of HTTP/2 heads: `name expected fields`.
pub(crate) fn rows() -> Vec<Row> {
    rows::without_method(include_str!("../../vectors/http2.txt"))
}

#[test]
fn heads() {
    check_all(&rows(), 90, |row| judged(&row.bytes));
}

/// The requests of `requests.txt` as fields: name, and fields as lines. Whatever HTTP/1 made of them, a client may send
/// them so.
pub(crate) fn translated() -> impl Iterator<Item = (String, Vec<u8>)> {
    let short = rows::requests().into_iter().filter(|row| row.bytes.len() < 2048);
    short.flat_map(|Row { name, bytes, .. }| ways(bytes).map(move |fields| (name.clone(), fields)))
}

/// One request in several ways: its lines as fields; its host as `:authority`; with a body or without.
fn ways(text: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    (0..8).map(move |way| {
        let (is_lower, is_authority, has_body) = (way & 1 == 0, way & 2 == 0, way & 4 == 0);
        let mut fields = Vec::new();
        let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        for name in [":method", ":path"] {
            fields.extend([name.as_bytes(), b"=", words.next().unwrap_or_default(), b"\n"].concat());
        }
        for line in lines {
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let name = if is_lower { line[..at].to_ascii_lowercase() } else { line[..at].to_vec() };
            let name = if is_authority && name == b"host" { b":authority".to_vec() } else { name };
            let value = line.get(at + 1..).unwrap_or_default();
            fields.extend([&name, &b"="[..], value.trim_ascii(), b"\n"].concat());
        }
        if has_body {
            fields.extend(b"!\n");
        }
        fields
    })
}

/// [`run`] panics where what is written is not the one request that came.
#[test]
fn requests_that_smuggle_over_http1_smuggle_nothing_over_http2() {
    let mut accepted = 0;
    for (name, fields) in translated() {
        let head = std::panic::catch_unwind(|| outcome(&fields)).unwrap_or_else(|_| panic!("{name}"));
        accepted += usize::from(head.is_ok());
    }
    assert!(accepted > 100, "{accepted} were accepted");
}

const NAMES: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "expect",
    "te",
    "x",
    "cookie",
    "keep-alive",
    "x-forwarded-for",
    "x_forwarded_for",
    "cdn-loop",
    "content_length",
    "trailer",
    "proxy",
    ":authority",
    ":path",
    ":method",
    ":protocol",
    "!",
];

/// One a line.
const VALUES: &str = "a\na:80\n0\n3\n03\n3, 3\nchunked\nclose\nwebsocket\n100-continue\ntrailers\na b\n/\n/x?y\n*\nGET\n\
    POST\nCONNECT\na\tb\n\u{e9}\na, b\n/ HTTP/1.1\n";

fn field() -> impl Strategy<Value = String> {
    let values: Vec<_> = VALUES.split('\n').collect();
    (select(NAMES), select(values)).prop_map(|(name, value)| format!("{name}={value}\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_heads_have_one_reading_in_http1(fields in vec(field(), 0..12)) {
        run(fields.concat().as_bytes());
    }
}

/// Status, fields, whether it answers HEAD, whether it ended the stream, and what its body is; `None`: refused.
type Response<'a> = (u16, &'a [(&'a str, &'a str)], bool, bool, Option<BodyLength>);

const RESPONSES: &[Response<'_>] = &[
    (200, &[], false, true, Some(BodyLength::Length(0))),
    (200, &[], false, false, Some(BodyLength::Chunked)),
    (200, &[("content-length", "5")], false, false, Some(BodyLength::Length(5))),
    (200, &[("content-length", "5")], true, true, Some(BodyLength::None)),
    (204, &[], false, true, Some(BodyLength::None)),
    (304, &[("content-length", "5")], false, true, Some(BodyLength::None)),
    (200, &[("content-length", "5"), ("content-length", "5")], false, false, None),
    (200, &[("content-length", "5, 5")], false, false, None),
    (200, &[("content-length", "+5")], false, false, None),
    (200, &[("content-length", "-0")], false, false, None),
    (200, &[("content-length", "18446744073709551616")], false, false, None),
    (200, &[("a", " b")], false, false, None),
    (200, &[("a", "b\t")], false, false, None),
    (99, &[], false, true, None),
    (600, &[], false, true, None),
    (103, &[("link", "x")], false, false, Some(BodyLength::None)),
];

#[test]
fn responses() {
    let limits = HeadLimits { bytes: 1024, headers: 8 };
    for (status, fields, head_request, is_whole, expected) in RESPONSES {
        let headers: Vec<_> = fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let head = judge_http2_response(*status, &headers, (*head_request, *is_whole), limits);
        assert_eq!(head.ok().map(|head| head.body), *expected, "{status} {fields:?}");
    }
    let many = vec![Header { name: "a", value: b"b" }; 9];
    let long = "x".repeat(1000);
    let long = [Header { name: "a", value: long.as_bytes() }];
    for headers in [&many[..], &long] {
        assert!(judge_http2_response(200, headers, (false, true), limits).is_err());
    }
}
