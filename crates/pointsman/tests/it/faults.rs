//! Faults behind us or around us, by cause: refused, silent, gone, full, taken.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{
    Backend, Connection, Launch, Load, Pointsman, Raw, Site, Then, engine, free_address, get, get_ok, holds, wait,
};

fn serving(keys: &[(&str, &str)]) -> (Pointsman, Site) {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    (Pointsman::serving(&site), site)
}

#[test]
fn a_connection_that_is_refused_goes_to_another_instance() {
    let (backend, dead) = (Backend::naming("alive"), free_address().to_string());
    let (running, _site) = serving(&[("services/a/alive", &backend.instance()), ("services/a/dead", &dead)]);
    for method in ["GET", "POST"] {
        for _ in 0..20 {
            let mut connection = running.connect();
            connection.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")).expect("open");
            assert_eq!(connection.response(method).expect("an answer").status, 200, "{method}");
        }
    }
    let failures = running.metric("pointsman_connect_failures_total", &["\"dead\""]);
    assert!((3.0..20.0).contains(&failures), "{failures} tries of 40: three in a row take it out for a while");
    assert_eq!(running.metric("pointsman_instance_up", &["\"dead\""]), 0.0);
    assert_eq!(running.metric("pointsman_instance_up", &["\"alive\""]), 1.0);
}

#[test]
fn an_instance_that_comes_back_is_used_again() {
    let (backend, dead) = (Backend::naming("alive"), free_address());
    let (running, _site) =
        serving(&[("services/a/alive", &backend.instance()), ("services/a/dead", &dead.to_string())]);
    wait("the dead one to be out", || {
        get_ok(running.http, "a.test", "/");
        running.metric("pointsman_instance_up", &["\"dead\""]) == 0.0
    });
    let _risen = Backend::at("risen", dead);
    running.wait_backend("a.test", "/", "risen");
}

#[test]
fn every_cause_has_its_status() {
    let refused = free_address().to_string();
    let cut = Raw::answering("", Then::Close);
    let silent = Raw::answering("", Then::Hang);
    let (running, site) = serving(&[
        ("services/refused/domain", "refused.test"),
        ("services/refused/one", &refused),
        ("services/none/domain", "none.test"),
        ("services/cut/domain", "cut.test"),
        ("services/cut/one", &cut.instance()),
        ("services/silent/domain", "silent.test"),
        ("services/silent/one", &silent.instance()),
        ("services/silent/timeout/server", "300ms"),
        ("services/drained/domain", "drained.test"),
        ("services/drained/one", &format!("{} drain", cut.instance())),
    ]);
    for (host, status) in [
        ("nobody.test", 503),
        ("none.test", 503),
        ("drained.test", 503),
        ("refused.test", 502),
        ("cut.test", 502),
        ("silent.test", 504),
    ] {
        let answered = get(running.http, host, "/").expect("an answer").status;
        // A check may have ejected it before the first request.
        let ejected = host == "refused.test" && answered == 503 && engine().differs("checks");
        assert!(answered == status || ejected, "{host}: {answered}");
    }
    site.put("config/errors/503", "<p>closed for today</p>");
    running.wait_answer("nobody.test", "/", 503, "closed for today");
}

#[test]
fn an_own_error_leaves_the_connection_usable() {
    let backend = Backend::naming("one");
    let (running, _site) = serving(&[("services/a/one", &backend.instance())]);
    let mut connection = running.connect();
    for _ in 0..3 {
        assert_eq!(connection.request("GET", "nobody.test", "/").expect("kept").status, 503);
        assert_eq!(connection.request("GET", "a.test", "/").expect("kept").status, 200);
    }
}

#[test]
fn a_stale_reused_connection_is_replaced_unnoticed() {
    let backend = Backend::naming("one");
    let (running, _site) = serving(&[("services/a/one", &backend.instance())]);
    let mut connection = running.connect();
    for turn in 0..20 {
        assert_eq!(connection.request("GET", "a.test", "/").expect("kept").status, 200, "turn {turn}");
        backend.close_connections();
    }
    assert!(backend.connections() >= 20);
}

#[test]
fn a_request_that_may_have_been_done_is_not_repeated() {
    let raw = Raw::answering("", Then::Close);
    let (running, _site) = serving(&[("services/a/one", &raw.instance())]);
    let mut connection = running.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nok").expect("open");
    assert_eq!(connection.response("POST").expect("an answer").status, 502);
    assert_eq!(raw.heads(), 1);
}

/// A balancer with room for 20 connections, and an instance that never answers behind `hung.test`.
fn with_room_for_twenty(backend: &Backend) -> (Pointsman, Site, Raw) {
    let hung = Raw::answering("", Then::Hang);
    let (running, site) = serving(&[
        ("services/a/one", &backend.instance()),
        ("services/hung/domain", "hung.test"),
        ("services/hung/one", &hung.instance()),
        ("config/limit/connections", "20"),
    ]);
    (running, site, hung)
}

#[test]
fn too_many_connections_are_refused_in_order() {
    let backend = Backend::naming("one");
    let (running, site, hung) = with_room_for_twenty(&backend);
    let mut held: Vec<_> = (0..20).map(|_| running.connect()).collect();
    for connection in &mut held {
        connection.send("GET / HTTP/1.1\r\nHost: hung.test\r\n\r\n").expect("open");
    }
    wait("all to be at work", || hung.heads() == 20);
    if engine().differs("over-limit") {
        let mut waiting = running.connect();
        waiting.stream().set_read_timeout(Some(Duration::from_millis(700))).expect("open");
        assert!(waiting.request("GET", "a.test", "/").is_err(), "it waits in the listening queue");
        held.truncate(19);
        waiting.stream().set_read_timeout(Some(Duration::from_secs(10))).expect("open");
        assert_eq!(waiting.response("GET").expect("now there is room").status, 200);
    } else {
        // One who was turned away and stays makes no room for another.
        let mut told = running.connect();
        assert_eq!(told.request("GET", "a.test", "/").expect("an answer").status, 503);
        for _ in 0..5 {
            let refused = get(running.http, "a.test", "/");
            assert!(refused.as_ref().map_or(true, |answer| answer.status == 503), "{refused:?}");
        }
        wait("refusals to be counted", || running.metric("pointsman_connections_refused_total", &[]) >= 5.0);
    }
    held.truncate(10);
    running.wait_backend("a.test", "/", "one");
    site.put("config/limit/connections", "1000");
    wait("the new limit", || {
        let more: Vec<_> = (0..40).map(|_| Connection::try_open(running.http)).collect();
        more.into_iter()
            .all(|open| open.and_then(|mut c| c.request("GET", "a.test", "/")).is_ok_and(|r| r.status == 200))
    });
}

#[test]
fn idle_connections_shut_nobody_out() {
    if engine().differs("over-limit") {
        return;
    }
    let backend = Backend::naming("one");
    let (running, _site, _hung) = with_room_for_twenty(&backend);
    let mut held: Vec<_> = (0..20).map(|_| running.connect()).collect();
    for connection in &mut held {
        assert_eq!(connection.request("GET", "a.test", "/").expect("within the limit").status, 200);
        // Who was idle for longest is told apart by the coarse clock.
        std::thread::sleep(Duration::from_millis(120));
    }
    for number in 0..5 {
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200, "{number}");
    }
    assert_eq!(running.metric("pointsman_connections_refused_total", &[]), 0.0);
    wait("evictions to be counted", || running.metric("pointsman_connections_evicted_total", &[]) >= 1.0);
    let last = held.last_mut().expect("twenty");
    assert_eq!(last.request("GET", "a.test", "/").expect("the youngest stays").status, 200);
}

#[test]
fn running_out_of_descriptors_is_no_crash() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    let mut running = Pointsman::serving(&site);
    let id = running.process.id().to_string();
    crate::harness::finish(std::process::Command::new("prlimit").args(["--pid", &id, "--nofile=120:120"])).ok();
    let many: Vec<_> = (0..300).filter_map(|_| Connection::try_open(running.http).ok()).collect();
    holds("it runs", Duration::from_millis(500), || running.process.is_running());
    drop(many);
    running.wait_backend("a.test", "/", "one");
    if !engine().differs("over-limit") {
        running.process.wait_log("cannot accept connections");
        let log = running.process.log();
        let lines = log.lines().filter(|line| line.contains("cannot accept connections")).count();
        assert_eq!(lines, 1, "one line a minute:\n{log}");
    }
}

#[test]
fn a_port_in_use_names_port_and_key_and_is_retried() {
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let (running, _site) = serving(&[
        ("tcp-services/db/port", &port),
        ("tcp-services/db/one", &crate::harness::echo_tcp("").to_string()),
        ("services/a/one", &Backend::naming("gone").instance()),
    ]);
    running.wait_problem("listen", &["/tcp-services/db/port", &port]);
    drop(taken);
    wait("the problem to go", || !running.admin_page("/api/problems").contains("/tcp-services/db/port"));
    wait("the port", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
}

#[test]
fn an_http_address_in_use_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let site = Site::new();
    let mut process = Launch::on(&site).args(&["--http", &address]).start_process();
    process.wait_log(&address);
    assert!(process.log().contains("--http"), "{}", process.log());
}

#[test]
fn instances_share_the_work() {
    let backends = ["one", "two", "three"].map(Backend::naming);
    let (running, _site) = serving(&[
        ("services/a/one", &format!("{} weight=1", backends[0].instance())),
        ("services/a/two", &format!("{} weight=3", backends[1].instance())),
        ("services/a/three", &format!("{} weight=0", backends[2].instance())),
    ]);
    let mut connection = running.connect();
    let mut count = [0; 2];
    for _ in 0..200 {
        let response = connection.request("GET", "a.test", "/").expect("kept");
        count[usize::from(response.header("x-backend") == Some("two"))] += 1;
        assert_ne!(response.header("x-backend"), Some("three"));
    }
    assert!((40..=60).contains(&count[0]), "{count:?} for weights 1 and 3");
}

#[test]
fn a_backup_works_only_when_no_other_does() {
    let (first, backup) = (Backend::naming("first"), Backend::naming("backup"));
    let (running, site) =
        serving(&[("services/a/one", &first.instance()), ("services/a/two", &format!("{} backup", backup.instance()))]);
    for _ in 0..10 {
        assert_eq!(get_ok(running.http, "a.test", "/").header("x-backend"), Some("first"));
    }
    site.remove("services/a/one");
    running.wait_backend("a.test", "/", "backup");
}

#[test]
fn load_over_a_dead_instance_fails_no_request() {
    let (alive, dead) = (Backend::naming("alive"), Backend::naming("dead"));
    let (running, _site) = serving(&[("services/a/alive", &alive.instance()), ("services/a/dead", &dead.instance())]);
    let load = Load::new().keep_alive(4, running.http, "a.test");
    wait("the load to run", || load.done() > 50);
    let before = load.done();
    drop(dead);
    wait("the load to go on", || load.done() > before + 500);
    let tally = load.finish();
    // Responses in transit when their instance died are lost; nothing else is.
    assert!(tally.failures.len() <= 4, "{:?}", tally.failures);
}
