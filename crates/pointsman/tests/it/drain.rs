//! The end of the program: graceful on TERM, at once on a second INT.

use std::time::{Duration, Instant};

use crate::harness::{Backend, Connection, PATIENCE, Pointsman, Site, get, pattern, wait};

fn scene(more: &[(&str, &str)]) -> (Pointsman, Backend, Site) {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    more.iter().for_each(|(key, value)| site.put(key, value));
    (Pointsman::serving(&site), backend, site)
}

fn downloading(running: &Pointsman, millis: u32) -> Connection {
    let mut connection = running.connect();
    connection.send(format!("GET /drip/{millis} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect("open");
    wait("the download to run", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    connection
}

#[test]
fn term_finishes_what_runs_and_takes_nothing_new() {
    finishes_what_runs("TERM");
}

#[test]
fn usr1_drains_as_term_does() {
    finishes_what_runs("USR1");
}

#[test]
fn a_first_int_drains() {
    finishes_what_runs("INT");
}

fn finishes_what_runs(signal: &str) {
    let (mut running, _backend, _site) = scene(&[]);
    let mut idle = running.connect();
    assert_eq!(idle.request("GET", "a.test", "/").expect("open").status, 200);
    let mut download = downloading(&running, 1500);
    running.process.signal(signal);
    wait("new connections to be refused", || Connection::try_open(running.http).is_err());
    assert!(idle.is_closed(), "an idle connection is closed");
    let response = download.response("GET").expect("the whole download");
    assert!(response.body == pattern(0, response.body.len()) && response.trailer("x-total").is_some());
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn readiness_goes_before_the_listeners_do() {
    let (mut running, _backend, _site) = scene(&[]);
    let _download = downloading(&running, 3000);
    running.process.signal("TERM");
    wait("readiness to go", || get(running.admin, "localhost", "/readyz").map_or(true, |answer| answer.status == 503));
    running.process.wait_exit(PATIENCE);
}

#[test]
fn the_deadline_ends_what_does_not_finish() {
    let (mut running, _backend, _site) = scene(&[("config/timeout/drain", "1s")]);
    let _download = downloading(&running, 600_000);
    let start = Instant::now();
    running.process.signal("TERM");
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    assert!(start.elapsed() > Duration::from_millis(800), "{:?}", start.elapsed());
}

#[test]
fn a_second_int_stops_at_once() {
    let (mut running, _backend, _site) = scene(&[]);
    let _download = downloading(&running, 600_000);
    running.process.signal("INT");
    wait("new connections to be refused", || Connection::try_open(running.http).is_err());
    running.process.signal("INT");
    // Sooner than the time for draining ends, which is a minute.
    running.process.wait_exit(PATIENCE);
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let (mut running, _backend, _site) = scene(&[]);
    let _silent: Vec<_> = (0..10).map(|_| running.connect()).collect();
    running.process.signal("TERM");
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn hup_changes_nothing_that_works() {
    let (running, _backend, _site) = scene(&[]);
    let mut connection = running.connect();
    for _ in 0..3 {
        running.process.signal("HUP");
        assert_eq!(connection.request("GET", "a.test", "/").expect("kept").status, 200);
    }
}

#[test]
fn a_killed_instance_of_the_program_leaves_its_port_free() {
    let (mut running, backend, site) = scene(&[]);
    let address = running.http;
    running.process.kill();
    let again = crate::harness::Launch::on(&site).args(&["--http", &address.to_string()]).start();
    wait("the same port", || get(address, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    drop((again, backend));
}
