//! Slow clients and instances, intended or not: they cost limited memory, and never other clients' time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Load, PATIENCE, Pointsman, Site, engine, get, is_timeout, paced, pattern, serving, wait, websocket,
};

#[test]
fn heads_that_come_byte_by_byte_run_into_their_deadline() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("config/timeout/head", "1s")]);
    let before = running.process.resident();
    let mut slow: Vec<_> = (0..300).map(|_| TcpStream::connect(running.http).expect("room")).collect();
    let load = Load::new().keep_alive(2, running.http, "a.test");
    let head = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    paced(Duration::from_secs(2), 20, |turn| {
        for stream in &mut slow {
            let _ = stream.write_all(&head[turn as usize..][..1]);
        }
    });
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for 300 slow clients");
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).expect("open");
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(!is_timeout(&end), "it is still open");
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(backend.connections(), backend.received().iter().filter(|bytes| !bytes.is_empty()).count());
    load.finish().assert_clean(100);
}

#[test]
fn a_silent_client_is_closed_in_time() {
    let backend = Backend::naming("one");
    let mut keys =
        vec![("config/timeout/head", "1s"), ("config/timeout/keep_alive", "1s"), ("config/timeout/client", "1s")];
    if engine().differs("stalled-body") {
        keys.push(("config/timeout/server", "1s"));
    }
    let (_site, running) = serving(&backend.instance(), &keys);
    for (case, bytes) in [
        ("nothing at all", ""),
        ("half a head", "GET / HTTP/1.1\r\nHost:"),
        ("a head and half a body", "POST /count HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf"),
        ("a request, then nothing", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ] {
        let start = Instant::now();
        let mut connection = running.connect();
        connection.send(bytes).expect("open");
        connection.read_rest();
        let took = start.elapsed();
        assert!(took > Duration::from_millis(500), "{case}: {took:?}");
    }
}

#[test]
fn a_head_request_that_comes_too_slowly_is_refused_without_a_body() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("config/timeout/head", "1s")]);
    let mut connection = running.connect();
    connection.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n").expect("open");
    let response = connection.response("HEAD").expect("an answer");
    assert_eq!(response.status, 408, "{}", response.head);
    let body = connection.read_rest();
    assert!(body.is_empty() || engine().differs("head-refusal"), "{}", String::from_utf8_lossy(&body));
}

#[test]
fn a_reader_that_stops_costs_bounded_memory() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[]);
    let before = running.process.resident();
    let mut readers: Vec<_> = (0..8).map(|_| running.connect()).collect();
    for reader in &mut readers {
        reader.send("GET /bytes/50000000 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    }
    let load = Load::new().keep_alive(2, running.http, "a.test");
    wait("some traffic beside", || load.done() > 200);
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for 8 readers that stand still");
    load.finish().assert_clean(200);
    let whole = pattern(0, 50_000_000);
    for mut reader in readers.drain(..2) {
        assert!(reader.response("GET").expect("the whole body").body == whole, "another body");
    }
}

#[test]
fn a_backend_that_does_not_read_costs_bounded_memory() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let instance = listener.local_addr().expect("bound").to_string();
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &instance)]);
    let running = Pointsman::serving(&site);
    let before = running.process.resident();
    let mut writer = TcpStream::connect(running.http).expect("room");
    writer.write_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 500000000\r\n\r\n").expect("open");
    writer.set_write_timeout(Some(Duration::from_millis(700))).expect("open");
    let piece = vec![b'x'; 1 << 20];
    let taken = (0..500).take_while(|_| writer.write_all(&piece).is_ok()).count();
    assert!(taken < 100, "{taken} MiB were taken and nobody read them");
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for one body that nobody reads");
    drop(listener);
}

#[test]
fn big_bodies_both_ways_arrive_whole() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[]);
    let size = 30_000_000;
    let mut upload = format!("POST /count HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    upload.extend(pattern(0, size));
    // Its time for a head has begun when it is connected.
    let mut connection = running.connect();
    connection.send(upload).expect("taken");
    assert_eq!(connection.response("POST").expect("answered").text(), format!("{size} true\n"));
    for target in [format!("/bytes/{size}"), format!("/chunks/{size}")] {
        let response = connection.request("GET", "a.test", &target).expect("answered");
        assert!(response.body == pattern(0, size), "{target}: another body, of {} bytes", response.body.len());
    }
}

#[test]
fn an_instance_that_takes_too_long_is_a_504() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("services/a/timeout/server", "300ms")]);
    // It would answer, in its own time.
    let response = get(running.http, "a.test", "/wait/15000").expect("an answer");
    assert_eq!(response.status, 504);
    running.wait_backend("a.test", "/", "one");
}

#[test]
fn an_idle_tunnel_is_closed_in_time() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("services/a/timeout/tunnel", "500ms")]);
    let start = Instant::now();
    let mut connection = running.connect();
    connection.send(websocket("/", "a.test")).expect("open");
    assert!(connection.read_head().expect("a head").starts_with("HTTP/1.1 101 "));
    wait("the end of the tunnel", || connection.is_closed());
    assert!(start.elapsed() > Duration::from_millis(250));
}
