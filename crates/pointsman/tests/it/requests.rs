//! Raw requests, good and bad, sent to the program in front of a backend that records every byte.

use crate::harness::{Backend, Pointsman, Site};
use crate::rows::{Row, requests};

/// The program with one service that takes everything, and what a plain request costs the backend in bytes.
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
        let mut scene = Self { running: Pointsman::serving(&site), backend, probe: 0, site };
        scene.probe();
        scene.probe = scene.backend.bytes();
        scene
    }

    /// A plain request, after which whatever was under way before it has arrived.
    fn probe(&self) {
        let response = self.running.connect().request("GET", "probe.test", "/probe").expect("served");
        assert_eq!(response.text(), "one /probe\n");
    }
}

#[test]
fn every_row_gets_what_it_should_and_no_instance_sees_a_bad_one() {
    let (scene, mut rows) = (Scene::new(), requests());
    assert!(rows.len() >= 100, "{} rows", rows.len());
    // Those of which nothing may arrive go first: what is cut off later may arrive at any time.
    rows.sort_by_key(|row| !is_refused(row));
    let failed: Vec<_> = rows.iter().filter_map(|row| check(&scene, row).err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

fn check(scene: &Scene, row: &Row) -> Result<(), String> {
    let (bytes, whole) = (scene.backend.bytes(), scene.backend.whole());
    let outcome = match row.expected.as_str() {
        "ok" => answered(scene, row, 1),
        "ok2" => answered(scene, row, 2),
        "cut" | "more" => unanswered(scene, row),
        status => refused(scene, row, status),
    };
    scene.probe();
    let (bytes, whole) = (scene.backend.bytes() - bytes, scene.backend.whole() - whole - 1);
    let due = match row.expected.as_str() {
        "ok" => 1,
        "ok2" => 2,
        _ => 0,
    };
    outcome.map_err(|what| format!("{}: expected {}, got {what}", row.name, row.expected))?;
    match (whole == due, is_refused(row) && bytes != scene.probe) {
        (false, _) => Err(format!("{}: {whole} whole requests reached the instance", row.name)),
        (true, true) => Err(format!("{}: {} bytes reached the instance", row.name, bytes - scene.probe)),
        (true, false) => Ok(()),
    }
}

fn is_refused(row: &Row) -> bool {
    row.expected.parse::<u16>().is_ok()
}

fn method(row: &Row) -> &str {
    let text = row.bytes.trim_ascii_start();
    std::str::from_utf8(text.split(|byte| *byte == b' ').next().unwrap_or_default()).unwrap_or_default()
}

fn answered(scene: &Scene, row: &Row, times: usize) -> Result<(), String> {
    let mut connection = scene.running.connect();
    connection.send(&row.bytes).map_err(|error| error.to_string())?;
    for _ in 0..times {
        let response = connection.response(method(row)).map_err(|error| error.to_string())?;
        if !(200..400).contains(&response.status) && response.status != 101 {
            return Err(response.head);
        }
    }
    Ok(())
}

/// One answer of that status, and then the end.
fn refused(scene: &Scene, row: &Row, status: &str) -> Result<(), String> {
    let mut connection = scene.running.connect();
    let _ = connection.send(&row.bytes);
    let response = connection.response(method(row)).map_err(|error| error.to_string())?;
    let rest = connection.read_rest();
    match (response.status.to_string() == status, rest.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(response.head),
        (true, false) => Err(format!("more after it: {}", String::from_utf8_lossy(&rest))),
    }
}

/// Nothing that could pass for a success.
fn unanswered(scene: &Scene, row: &Row) -> Result<(), String> {
    let mut connection = scene.running.connect();
    let _ = connection.send(&row.bytes);
    connection.finish_sending();
    let answer = String::from_utf8_lossy(&connection.read_rest()).into_owned();
    let harmless = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 502 ");
    if harmless { Ok(()) } else { Err(answer) }
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
    crate::harness::wait("the limits", || [ask(20, 10), ask(1, 2000)] == [431, 431]);
    assert_eq!(ask(5, 10), 200);
}
