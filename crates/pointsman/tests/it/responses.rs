//! Hostile and broken instances: the client gets 502 or a cut connection, never a second answer.

use std::time::Duration;

use crate::harness::{Load, Pointsman, Raw, Response, Site, Then, engine, get, pattern, wait};
use crate::rows::{Row, responses};

#[test]
fn every_row_gets_what_it_should() {
    let rows = responses();
    let site = Site::new();
    let raws: Vec<_> = rows.iter().enumerate().map(|(number, row)| instance(&site, number, row)).collect();
    // For some rows, an engine may expect more bytes.
    site.put("config/timeout/server", "1s");
    let running = Pointsman::serving(&site);
    let check = |(number, row): (usize, &Row)| check(&running, number, row).err();
    let failed: Vec<_> = rows.iter().enumerate().filter_map(check).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), raws.len(), failed.join("\n"));
}

fn instance(site: &Site, number: usize, row: &Row) -> Raw {
    let then = if ["ok", "ok2", "extra"].contains(&row.expected.as_str()) { Then::Again } else { Then::Close };
    let raw = Raw::answering(row.bytes.clone(), then);
    site.put(&format!("services/row-{number}/domain"), format!("row-{number}.test"));
    site.put(&format!("services/row-{number}/one"), raw.instance());
    raw
}

/// Sends two requests on one connection: surplus bytes of an instance must not become the second answer.
fn check(running: &Pointsman, number: usize, row: &Row) -> Result<(), String> {
    let mut connection = running.connect();
    // An instance that never completes its response may delay one row only.
    connection.stream().set_read_timeout(Some(Duration::from_secs(10))).expect("open");
    let request = format!("{} / HTTP/1.1\r\nHost: row-{number}.test\r\nContent-Length: 0\r\n\r\n", row.method);
    for turn in 1..=2 {
        let sent = connection.send(&request);
        match judge(row, sent.and_then(|()| connection.response(&row.method))) {
            Err(what) => return Err(format!("{}, turn {turn}: expected {}, got {what}", row.name, row.expected)),
            // The body ends with the connection.
            Ok(true) if row.expected == "close" && engine().differs("close-delimited") => return Ok(()),
            Ok(true) => {}
            Ok(false) => return Ok(()),
        }
    }
    Ok(())
}

/// Whether the connection stays open, if the answer is as expected.
fn judge(row: &Row, answer: std::io::Result<Response>) -> Result<bool, String> {
    let status = answer.as_ref().map(|response| response.status).ok();
    let right = match row.expected.as_str() {
        "502" | "cut" if engine().differs("lenient-responses") && engine().accepts("Responses", &row.name) => true,
        "502" if engine().differs("lenient-responses") => status.is_none_or(|status| status == 502),
        "502" => status == Some(502),
        "more" if row.name == "interim-only" && engine().differs("interim-then-end") => {
            status.is_none_or(|status| [500, 502].contains(&status))
        }
        "cut" | "more" => status.is_none_or(|status| status == 502),
        _ => status == Some(final_status(&row.bytes)),
    };
    match (right, answer) {
        (true, Ok(response)) => Ok(!response.closes()),
        (true, Err(_)) => Ok(false),
        (false, Ok(response)) => Err(format!("{}{}", response.head, response.text())),
        (false, Err(error)) => Err(error.to_string()),
    }
}

/// The status of the first final response in the bytes.
fn final_status(bytes: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n").filter(|line| line.starts_with("HTTP/1."));
    let statuses = lines.by_ref().filter_map(|line| line.get(9..12)?.parse().ok());
    statuses.into_iter().find(|status| *status == 101 || *status >= 200).expect("a final status")
}

fn behind(bytes: impl Into<Vec<u8>>, then: Then) -> (Pointsman, Raw, Site) {
    let raw = Raw::answering(bytes, then);
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &raw.instance())]);
    site.put("config/timeout/server", "2s");
    (Pointsman::serving(&site), raw, site)
}

#[test]
fn a_head_that_never_ends_is_a_502_in_bounded_memory() {
    let (running, _raw, _site) =
        behind("HTTP/1.1 200 OK\r\nX-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Then::Forever);
    let before = running.process.resident();
    for _ in 0..5 {
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 502);
    }
    assert!(running.process.resident().saturating_sub(before) < 16 << 20);
}

#[test]
fn interim_responses_that_nothing_follows_are_a_504() {
    let (running, _raw, _site) = behind("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), Then::Again);
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 504);
}

#[test]
fn a_reset_in_the_middle_cuts_the_answer() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    for (bytes, then) in [
        ([head.as_bytes(), &pattern(0, 500)].concat(), Then::Reset),
        ([head.as_bytes(), &pattern(0, 500)].concat(), Then::Close),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec(), Then::Close),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel".to_vec(), Then::Reset),
    ] {
        let (running, _raw, _site) = behind(bytes, then);
        let mut connection = running.connect();
        assert!(connection.request("GET", "a.test", "/").is_err(), "{then:?}");
        assert!(connection.is_closed(), "{then:?}");
    }
}

#[test]
fn a_reset_before_the_answer_is_a_502() {
    let (running, _raw, _site) = behind("", Then::Reset);
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 502);
}

#[test]
fn a_hostile_instance_is_nobody_else_s_trouble() {
    let hostile =
        Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Then::Again);
    let good = crate::harness::Backend::naming("good");
    let site = Site::with(&[
        ("services/bad/domain", "bad.test"),
        ("services/bad/one", &hostile.instance()),
        ("services/good/domain", "good.test"),
        ("services/good/one", &good.instance()),
    ]);
    let running = Pointsman::serving(&site);
    let load = Load::new().keep_alive(2, running.http, "good.test");
    let mut connection = running.connect();
    for _ in 0..50 {
        assert_eq!(connection.request("GET", "bad.test", "/").expect("an answer").status, 502);
        assert_eq!(connection.request("GET", "good.test", "/").expect("an answer").status, 200);
    }
    wait("the load beside", || load.done() > 100);
    load.finish().assert_clean(100);
    assert!(hostile.heads() >= 50);
}
