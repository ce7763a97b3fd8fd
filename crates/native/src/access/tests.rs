//! Rows of what is noted of a request, and the lines that it becomes.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_table::Protocol;
use pointsman_wire::{HeadLimits, HeaderSpace, MAX_HEADERS, parse_request};

use super::ending::{Passed, letters};
use super::entry::{LogEntry, Open};
use super::line::{LineFormat, LineWriter};
use super::noted::{HeadWords, Noted};
use super::trace::Course;
use crate::fault::Fault;

/// The lines of the last requests.
const IN_MEMORY: &str = "in memory";
const AT: u64 = 1_795_908_222_537;
const HEAD: &str = "GET /cart?x=1 HTTP/1.1\r\nHost: Shop.test:80\r\nUser-Agent: a \"b\"\r\nX-Request-Id: r-7\r\n\r\n";

/// A line of this format, of a request with this head that ended so.
fn line(format: &str, head: &str, change: for<'e> fn(LogEntry<'e>) -> LogEntry<'e>) -> String {
    let mut headers = Vec::new();
    let writer = match format {
        IN_MEMORY => LineWriter::in_memory(&mut headers),
        _ => LineWriter::new(LineFormat::parse(format).unwrap(), &mut headers),
    };
    let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let limits = HeadLimits { bytes: 16_384, headers: 100 };
    let parsed = parse_request(head.as_bytes(), limits, &mut space).ok().flatten();
    let words = parsed.map(|head| HeadWords::new((&head, ""), "HTTP/1.1", &headers));
    let noted = Noted::new(None, words, 7, Course::Passed(None));
    let peer = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 39200);
    let entry = LogEntry {
        at: AT,
        listener: Some("192.0.2.1:80".parse().unwrap()),
        service: Some("shop"),
        instance: Some("web 1"),
        status: Some(200),
        bytes_in: 90,
        bytes_out: 183,
        head: Some(0),
        queue: Some(1),
        connect: Some(2),
        first_byte: Some(6),
        total: 9,
        open: Open { clients: 3, service: 2, instance: 1, queue: 4 },
        ..LogEntry::of(&noted, Protocol::Http, peer, None)
    };
    let mut out = Vec::new();
    writer.write(&change(entry), &mut out);
    String::from_utf8(out).unwrap().strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn lines_of_every_format() {
    for (format, expected) in [
        (
            "httplog",
            "192.0.2.9:39200 [28/Nov/2026:23:23:42.537] http services:shop/web:201 0/1/2/6/9 200 183 - - ---- 3/3/2/1/0 0/4 \
             \"GET /cart?x=1 HTTP/1.1\"",
        ),
        ("clf", "192.0.2.9 - - [28/Nov/2026:23:23:42 +0000] \"GET /cart?x=1 HTTP/1.1\" 200 183"),
        (
            "combined",
            "192.0.2.9 - - [28/Nov/2026:23:23:42 +0000] \"GET /cart?x=1 HTTP/1.1\" 200 183 \"-\" \"a \\\"b\\\"\"",
        ),
        (
            "json",
            "{\"time\":\"2026-11-28T23:23:42.537Z\",\"kind\":\"http\",\"client\":\"192.0.2.9\",\"client_port\":39200,\
             \"listener\":\"192.0.2.1:80\",\"method\":\"GET\",\"host\":\"Shop.test:80\",\"path\":\"/cart\",\"query\":\"x=1\",\
             \"protocol\":\"HTTP/1.1\",\"service\":\"shop\",\"instance\":\"web 1\",\"revision\":7,\"request_id\":\"r-7\",\
             \"status\":200,\"bytes_in\":90,\"bytes_out\":183,\"head_ms\":0,\"queue_ms\":1,\"connect_ms\":2,\
             \"first_byte_ms\":6,\"total_ms\":9,\"retries\":0,\"user_agent\":\"a \\\"b\\\"\"}",
        ),
        (
            "{{{client_ip} {host}{path}{query} {status} {duration} {request_id} {header:Referer} {fault} {service}",
            "{192.0.2.9 shop.test/cart?x=1 200 9 r-7 - - shop",
        ),
    ] {
        assert_eq!(line(format, HEAD, |entry| entry), expected);
    }
}

fn bare(entry: LogEntry<'_>) -> LogEntry<'_> {
    LogEntry {
        service: None,
        instance: None,
        status: Some(400),
        letters: *b"PR",
        head: None,
        queue: None,
        connect: None,
        first_byte: None,
        ..entry
    }
}

fn tcp(entry: LogEntry<'_>) -> LogEntry<'_> {
    LogEntry { kind: Protocol::Tcp, tls: Some("TLSv1.3"), retries: 1, is_redispatched: true, ..entry }
}

#[test]
fn what_is_not_known_is_said() {
    let expected = "192.0.2.9:39200 [28/Nov/2026:23:23:42.537] http http/<NOSRV> -1/-1/-1/-1/9 400 183 - - PR-- 3/3/2/1/0 \
                    0/4 \"<BADREQ>\"";
    assert_eq!(line("httplog", "", bare), expected);
    assert_eq!(line("clf", "", bare), "192.0.2.9 - - [28/Nov/2026:23:23:42 +0000] \"-\" 400 183");
    let expected = "192.0.2.9:39200 [28/Nov/2026:23:23:42.537] tcp:192.0.2.1:80~ tcp-services:shop/web:201 1/2/9 183 -- \
                    3/3/2/1/+1 0/4";
    assert_eq!(line("httplog", "", tcp), expected);
    for bad in ["httplgo", "", "{nobody}", "{status", "a\n{status}", "{1}"] {
        assert!(LineFormat::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn lines_in_memory_are_short() {
    let value = "x".repeat(1_100);
    let head = format!("GET /{value}?{value} HTTP/1.1\r\nHost: a.test\r\nUser-Agent: {value}\r\n\r\n");
    assert_eq!(line(IN_MEMORY, HEAD, |entry| entry), line("json", HEAD, |entry| entry));
    assert_eq!(line("json", &head, |entry| entry).len() - line(IN_MEMORY, &head, |entry| entry).len(), 3 * 76 + 1);
}

#[test]
fn the_id_of_a_request_counts_instead_of_what_its_client_sent() {
    let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let limits = HeadLimits { bytes: 16_384, headers: 100 };
    let head = parse_request(HEAD.as_bytes(), limits, &mut space).unwrap().unwrap();
    for (id, expected) in [("", "r-7"), ("own", "own")] {
        let words = HeadWords::new((&head, id), "HTTP/1.1", &["user-agent".into(), "x-request-id".into()]);
        assert_eq!([words.header(0), words.header(1)], [b"a \"b\"", expected.as_bytes()]);
    }
}

#[test]
fn letters_say_how_far_it_came() {
    for (fault, passed, expected) in [
        (Fault::ClientGone, Passed::Queue, "CQ"),
        (Fault::ClientGone, Passed::Connect, "CC"),
        (Fault::ClientGone, Passed::Answer, "CH"),
        (Fault::ClientGone, Passed::Data, "CD"),
        (Fault::BodyTimeout, Passed::Answer, "cH"),
        (Fault::ServerTimeout, Passed::Answer, "sH"),
        (Fault::ServerTimeout, Passed::Data, "sD"),
        (Fault::ConnectRefused, Passed::Connect, "SC"),
        (Fault::QueueTimeout, Passed::Queue, "sQ"),
        (Fault::Exhausted, Passed::Connect, "RC"),
        (Fault::Removed, Passed::Data, "KD"),
        (Fault::NoRoute, Passed::Asking, "SC"),
    ] {
        assert_eq!(letters(fault, passed).map(char::from), *expected.chars().collect::<Vec<_>>(), "{fault}");
    }
}
