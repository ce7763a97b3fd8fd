//! Raw messages, one per row, parsed as heads and bodies. Other tests send the same rows through the whole program.

use std::collections::HashSet;
use std::mem::MaybeUninit;

use pointsman_wire::{
    Arrived, BadBody, BodyLength, BodyReader, Forward, HeadLimits, MAX_HEADERS, Step, Trust, parse_request,
    parse_response,
};

use crate::rows::{self, Row};

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, headers: 128 };

/// How a body ended.
enum Body {
    Whole(usize),
    Incomplete,
    UntilClose,
}

fn read_body(length: BodyLength, input: &[u8]) -> Result<Body, BadBody> {
    let mut reader = BodyReader::new(length, LIMITS.bytes);
    let mut taken = 0;
    loop {
        match reader.step(&input[taken..])? {
            Step::Data { used, .. } => taken += used,
            Step::More { .. } if reader.may_close() => return Ok(Body::UntilClose),
            Step::More { .. } => return Ok(Body::Incomplete),
            Step::End { used, .. } => return Ok(Body::Whole(taken + used)),
        }
    }
}

/// The outcome of the requests in `input`, in the terms of `requests.txt`.
fn judge_requests(mut input: &[u8]) -> String {
    for whole in 1.. {
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let head = match parse_request(input, LIMITS, &mut space) {
            Ok(Some(head)) => head,
            Ok(None) => return "more".into(),
            Err(error) => return error.status().to_string(),
        };
        match read_body(head.body, &input[head.len..]) {
            Ok(Body::Whole(len)) => input = &input[head.len + len..],
            Ok(Body::Incomplete | Body::UntilClose) => return "more".into(),
            Err(_) => return "cut".into(),
        }
        match (input, whole) {
            ([], 1) => return "ok".into(),
            ([], _) => return format!("ok{whole}"),
            _ => {}
        }
    }
    unreachable!("the loop has no end")
}

/// The outcome of the responses in `input`, in the terms of `responses.txt`.
fn judge_responses(method: &str, mut input: &[u8]) -> String {
    for heads in 1.. {
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let head = match parse_response(input, method == "HEAD", LIMITS, &mut space) {
            Ok(Some(head)) => head,
            Ok(None) => return "more".into(),
            Err(_) => return "502".into(),
        };
        input = &input[head.len..];
        if (100..200).contains(&head.status) {
            continue;
        }
        return match read_body(head.body, input) {
            Ok(Body::Whole(len)) if len < input.len() => "extra".into(),
            Ok(Body::Whole(_)) if heads > 1 => format!("ok{heads}"),
            Ok(Body::Whole(_)) => "ok".into(),
            Ok(Body::UntilClose) => "close".into(),
            Ok(Body::Incomplete) => "more".into(),
            Err(_) => "cut".into(),
        };
    }
    unreachable!("the loop has no end")
}

/// Fails with every row whose outcome is another than expected.
pub(crate) fn check_all(rows: &[Row], least: usize, judge: impl Fn(&Row) -> String) {
    let wrong: Vec<_> = rows
        .iter()
        .map(|row| (row, judge(row)))
        .filter(|(row, judged)| row.expected != *judged)
        .map(|(row, judged)| format!("{}: expected {}, was {judged}", row.name, row.expected))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let names: HashSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len(), "names are unique");
    assert!(rows.len() >= least, "{} rows", rows.len());
}

#[test]
fn requests() {
    check_all(&rows::requests(), 250, |row| judge_requests(&row.bytes));
}

#[test]
fn responses() {
    check_all(&rows::responses(), 80, |row| judge_responses(&row.method, &row.bytes));
}

/// A head cut off at any byte is incomplete or refused, and never refused if it is valid.
#[test]
fn no_beginning_of_a_request_is_judged_otherwise() {
    for row in rows::requests() {
        let whole = judge_requests(&row.bytes);
        for cut in 0..row.bytes.len().min(500) {
            let judged = judge_requests(&row.bytes[..cut]);
            let fine = judged == "more" || judged == "ok" || judged == whole || judged_early(&whole, &judged);
            assert!(fine, "{} cut at {cut}: {judged}, whole: {whole}", row.name);
        }
    }
}

/// A cut message may show another fault than the whole one.
fn judged_early(whole: &str, judged: &str) -> bool {
    let refused = |text: &str| text.parse::<u16>().is_ok();
    refused(whole) && refused(judged) || whole == "cut" && judged == "cut"
}

/// Input and output; `{ours}` stands for the forwarding headers.
const WRITTEN: [(&str, &str); 10] = [
    ("GET / HTTP/1.1\r\nhost:a\r\nX:  y \r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n{ours}\r\n"),
    ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n{ours}\r\n"),
    ("GET http://A:80/b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b HTTP/1.1\r\nHost: A:80\r\n{ours}\r\n"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 07\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n{ours}Content-Length: 7\r\n\r\n",
    ),
    (
        "POST / HTTP/1.1\r\nExpect: 100-CONTINUE\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n{ours}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
             Proxy: b\r\nProxy-Connection: close\r\nProxy-Authorization: c\r\nUpgrade: websocket\r\nTrailer: X\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n{ours}\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, cookie, X-Request-Id\r\nCookie: b\r\n\
             X-Request-Id: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: b\r\nX-Request-Id: c\r\n{ours}\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n{ours}Connection: upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For:\r\n\
             X_FORWARDED_FOR: evil\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nCDN-Loop: pointsman\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: CDN-Loop\r\ncdn-loop: other; v=1, pointsman\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\ncdn-loop: other; v=1, pointsman\r\n{ours}\r\n",
    ),
];

/// The exact text of written heads.
#[test]
fn heads_are_written_anew() {
    let forward = Forward {
        strip: 0,
        client: "192.0.2.1",
        arrived: &Arrived::new("http", 80),
        trust: Trust::Nothing,
        websocket_key: String::new,
        cookie: None,
    };
    let ours =
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nCDN-Loop: pointsman\r\n";
    for (input, expected) in WRITTEN {
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let head = parse_request(input.as_bytes(), LIMITS, &mut space).unwrap().unwrap();
        let mut out = Vec::new();
        head.write(&forward, &mut out);
        assert_eq!(str::from_utf8(&out).unwrap(), expected.replace("{ours}", ours), "{input}");
    }
}

/// What a client tells of its way, and what becomes of it: lines after `Host`.
const TOLD: [(Trust, &str, &str); 15] = [
    (
        Trust::Nothing,
        "X-Forwarded-Proto: https|X-Forwarded-Host: b|X-Forwarded-Port: 1|X-Forwarded-Ssl: on|",
        "{for}|{proto}|",
    ),
    (Trust::Nothing, "X-Real-IP: 192.0.2.9|Forwarded: for=192.0.2.9|A: b|", "A: b|{for}|{proto}|"),
    (
        Trust::Passing,
        "X-Forwarded-Proto: https|X-Forwarded-Host: b|",
        "X-Forwarded-Proto: https|X-Forwarded-Host: b|{for}|",
    ),
    (Trust::Passing, "X-Forwarded-Port: 8443|", "X-Forwarded-Port: 8443|{for}|{own}|"),
    (Trust::Passing, "X-Forwarded-Port:|", "{for}|{proto}|"),
    (
        Trust::Full,
        "X-Forwarded-Port: 443|X-Forwarded-Proto: https|",
        "X-Forwarded-Port: 443|X-Forwarded-Proto: https|{for}|",
    ),
    (Trust::Passing, "X-Forwarded-Host: b|", "X-Forwarded-Host: b|{for}|{proto}|"),
    (Trust::Passing, "X-Forwarded-Proto:|", "{for}|{proto}|"),
    (Trust::Passing, "X-Real-IP: 192.0.2.9|Forwarded: for=192.0.2.9|", "{for}|{proto}|"),
    (
        Trust::Full,
        "X-Forwarded-Proto: https|X-Real-IP: 192.0.2.9|",
        "X-Forwarded-Proto: https|X-Real-IP: 192.0.2.9|{for}|",
    ),
    (Trust::Full, "Forwarded: for=192.0.2.9|", "{for}|{proto}|Forwarded: for=192.0.2.9, for=192.0.2.1|"),
    (Trust::Full, "Forwarded: a=b|forwarded: c=d|", "{for}|{proto}|Forwarded: a=b, c=d, for=192.0.2.1|"),
    (Trust::Full, "X_Forwarded_Proto: https|X_REAL_IP: 192.0.2.9|X_Forwarded-Host: b|", "{for}|{proto}|"),
    (Trust::Passing, "X-Forwarded_Proto: https|X_Forwarded_For: 192.0.2.9|", "{for}|{proto}|"),
    (Trust::Full, "X-Forwarded: kept|X-Real: kept|", "X-Forwarded: kept|X-Real: kept|{for}|{proto}|"),
];

#[test]
fn a_client_is_believed_as_far_as_it_is_trusted() {
    for (trust, lines, expected) in TOLD {
        let input = format!("GET / HTTP/1.1|Host: a|{lines}|").replace('|', "\r\n");
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let head = parse_request(input.as_bytes(), LIMITS, &mut space).unwrap().unwrap();
        let mut out = Vec::new();
        head.write(
            &Forward {
                strip: 0,
                client: "192.0.2.1",
                arrived: &Arrived::new("http", 80),
                trust,
                websocket_key: String::new,
                cookie: None,
            },
            &mut out,
        );
        let expected = expected
            .replace("{for}", "X-Forwarded-For: 192.0.2.1")
            .replace("{proto}", "{own}|X-Forwarded-Port: 80")
            .replace("{own}", "X-Forwarded-Proto: http");
        let expected = format!("GET / HTTP/1.1|Host: a|{expected}CDN-Loop: pointsman||").replace('|', "\r\n");
        assert_eq!(str::from_utf8(&out).unwrap(), expected, "{trust:?} {lines}");
    }
}

#[test]
fn hops_are_counted_over_all_lines() {
    for (lines, expected) in [
        ("", 0),
        ("CDN-Loop: pointsman\r\n", 1),
        ("cdn-loop: a; x=1, pointsman,,pointsman\r\nCDN-Loop: \r\nCDN-LOOP: b.test:80\r\n", 4),
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        assert_eq!(parse_request(input.as_bytes(), LIMITS, &mut space).unwrap().unwrap().hops, expected, "{lines}");
    }
}

#[test]
fn targets_are_stripped() {
    let rows = [
        ("/api/x?y", 4, "/x?y"),
        ("/api", 4, "/"),
        ("/apix", 4, "/x"),
        ("/api?x", 4, "/?x"),
        ("/api", 9, "/"),
        ("*", 0, "*"),
    ];
    for (target, strip, expected) in rows {
        let input = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let head = parse_request(input.as_bytes(), LIMITS, &mut space).unwrap().unwrap();
        let mut out = Vec::new();
        head.write(
            &Forward {
                strip,
                client: "::1",
                arrived: &Arrived::new("http", 80),
                trust: Trust::Nothing,
                websocket_key: String::new,
                cookie: None,
            },
            &mut out,
        );
        assert!(out.starts_with(format!("OPTIONS {expected} HTTP/1.1\r\n").as_bytes()), "{target} -{strip}");
    }
}
