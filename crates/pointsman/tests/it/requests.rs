//! Raw requests, valid and invalid, sent to the program in front of a backend that records every byte.

use crate::harness::{Backend, Pointsman, Site, accepted, engine};
use crate::rows::{Row, requests, responses};

/// The program with one service for all requests, and the number of bytes that the backend receives for a plain
/// request.
struct Scene {
    running: Pointsman,
    backend: Backend,
    probe: usize,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let backend = Backend::naming("one");
        let site = Site::with(&[("services/a/default", "true"), ("services/a/one", &backend.instance())]);
        if engine().differs("half-closed") {
            site.put("services/a/abort", "false");
        }
        let mut scene = Self { running: Pointsman::serving(&site), backend, probe: 0, site };
        scene.probe();
        scene.probe = scene.backend.bytes();
        scene
    }

    /// Sends a plain request; once it is answered, everything before it has arrived.
    fn probe(&self) {
        let response = self.running.connect().request("GET", "probe.test", "/probe").expect("served");
        assert_eq!(response.text(), "one /probe\n");
    }
}

#[test]
fn every_row_gets_what_it_should_and_no_instance_sees_a_bad_one() {
    let (scene, mut rows) = (Scene::new(), requests());
    assert!(rows.len() >= 100, "{} rows", rows.len());
    // It begins a connection of HTTP/2, which other tests use.
    rows.retain(|row| row.name != "h2-preface");
    // First the rows of which nothing may arrive: bytes of a truncated request may arrive at any time.
    rows.sort_by_key(|row| !is_refused(row));
    let failed: Vec<_> = rows.iter().filter_map(|row| check(&scene, row).err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

fn check(scene: &Scene, row: &Row) -> Result<(), String> {
    let (bytes, whole) = (scene.backend.bytes(), scene.backend.whole());
    let outcome = match row.expected.as_str() {
        "ok" => answered(scene, row, 1),
        "ok2" => answered(scene, row, 2),
        "cut" if engine().differs("lenient-chunks") && accepts(row) => harmless(scene, row),
        "cut" | "more" => unanswered(scene, row),
        _ if engine().differs("lenient-heads") && accepts(row) => harmless(scene, row),
        _ if engine().differs("refusal-status") => denied(scene, row),
        status => refused(scene, row, status),
    };
    scene.probe();
    let (bytes, whole) = (scene.backend.bytes() - bytes, scene.backend.whole() - whole - 1);
    let served = outcome.map_err(|what| format!("{}: expected {}, got {what}", row.name, row.expected))?;
    let nothing = is_refused(row) && !accepts(row);
    match (whole == served, nothing && bytes != scene.probe) {
        (false, _) => Err(format!("{}: {whole} whole requests reached the instance", row.name)),
        (true, true) => Err(format!("{}: {} bytes reached the instance", row.name, bytes - scene.probe)),
        (true, false) => Ok(()),
    }
}

/// Whether the engine under test accepts this row, although the native one does not.
fn accepts(row: &Row) -> bool {
    engine().accepts("Requests", &row.name)
}

fn is_refused(row: &Row) -> bool {
    row.expected.parse::<u16>().is_ok()
}

fn method(row: &Row) -> &str {
    let text = row.bytes.trim_ascii_start();
    std::str::from_utf8(text.split(|byte| *byte == b' ').next().unwrap_or_default()).unwrap_or_default()
}

/// Rows that ask for WebSocket without a key.
const KEYLESS: &[&str] = &["upgrade-websocket", "upgrade-list-ignored"];

/// Rows with a query straight after the authority.
const NO_PATH: &[&str] = &["absolute-query-no-path", "absolute-query-slash", "absolute-query-no-path-options"];

/// The number of requests that must have reached the instance, or the fault in the answers.
type Outcome = Result<usize, String>;

fn answered(scene: &Scene, row: &Row, times: usize) -> Outcome {
    if KEYLESS.contains(&&*row.name) && engine().differs("websocket-key") {
        return refused(scene, row, "400");
    }
    if NO_PATH.contains(&&*row.name) && engine().differs("absolute-query") {
        return refused(scene, row, "400");
    }
    let mut connection = scene.running.connect();
    connection.send(&row.bytes).map_err(|error| error.to_string())?;
    for _ in 0..times {
        let response = connection.response(method(row)).map_err(|error| error.to_string())?;
        if !(200..400).contains(&response.status) && response.status != 101 {
            return Err(response.head);
        }
    }
    Ok(times)
}

/// One answer with that status, then the end.
fn refused(scene: &Scene, row: &Row, status: &str) -> Outcome {
    let mut connection = scene.running.connect();
    let _ = connection.send(&row.bytes);
    let response = connection.response(method(row)).map_err(|error| error.to_string())?;
    let rest = connection.read_rest();
    match (response.status.to_string() == status, rest.is_empty()) {
        (true, true) => Ok(0),
        (false, _) => Err(response.head),
        (true, false) => Err(format!("more after it: {}", String::from_utf8_lossy(&rest))),
    }
}

/// One answer that refuses, with any status, then the end.
fn denied(scene: &Scene, row: &Row) -> Outcome {
    let answers = all_answers(scene, row);
    let refusal = answers.starts_with("HTTP/1.1 4") && answers.matches("HTTP/1.").count() == 1;
    if refusal { Ok(0) } else { Err(answers) }
}

/// Nothing that could be taken for a success.
fn unanswered(scene: &Scene, row: &Row) -> Outcome {
    let answer = all_answers(scene, row);
    let harmless = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 502 ");
    if harmless { Ok(0) } else { Err(answer) }
}

/// Read as one request and answered once, or not at all: never twice. A refusal would mean that docs/engines.md names a
/// row too many.
fn harmless(scene: &Scene, row: &Row) -> Outcome {
    let answers = all_answers(scene, row);
    match answers.matches("HTTP/1.1 2").count() {
        served @ (0 | 1) if !answers.starts_with("HTTP/1.1 4") => Ok(served),
        _ => Err(answers),
    }
}

fn all_answers(scene: &Scene, row: &Row) -> String {
    let mut connection = scene.running.connect();
    let _ = connection.send(&row.bytes);
    connection.finish_sending();
    String::from_utf8_lossy(&connection.read_rest()).into_owned()
}

/// docs/engines.md names only rows that there are, and that the native engine refuses.
#[test]
fn rows_that_haproxy_accepts_are_rows_that_native_refuses() {
    for (heading, rows) in [("Requests", requests()), ("Responses", responses())] {
        let mut count = 0;
        for name in accepted(heading) {
            let row = rows.iter().find(|row| row.name == name);
            let refused = row.is_some_and(|row| is_refused(row) || row.expected == "cut");
            assert!(refused, "{heading}: {name}");
            count += 1;
        }
        assert!(count > 10, "{heading}: {count}");
    }
}

#[test]
fn limits_on_heads_are_settings() {
    let scene = Scene::new();
    let ask = |lines: usize, length: usize| {
        let lines: String = (0..lines).map(|n| format!("X-{n}: {}\r\n", "v".repeat(length))).collect();
        let mut connection = scene.running.connect();
        connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
        connection.response("GET").expect("an answer").status
    };
    assert_eq!([ask(20, 10), ask(1, 2000)], [200, 200]);
    scene.site.put("config/limit/headers", "10");
    scene.site.put("config/limit/head_bytes", "1024");
    let refused = if engine().differs("refusal-status") { 400 } else { 431 };
    crate::harness::wait("the limits", || [ask(20, 10), ask(1, 2000)] == [refused; 2]);
    assert_eq!(ask(5, 10), 200);
}
