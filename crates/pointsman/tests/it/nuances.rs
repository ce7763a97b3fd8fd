//! Timing and sharing at the edges: which side must send next, which connection is reused, which request waits for
//! room.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Launch, PATIENCE, Pointsman, Raw, Site, Then, echo_tcp, engine, free_port, get, holds, is_timeout, paced,
    wait,
};

fn serving(keys: &[(&str, &str)]) -> (Pointsman, Site) {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    (Pointsman::serving(&site), site)
}

#[test]
fn a_request_that_fills_a_buffer_leaves_the_connection_idle() {
    let backend = Backend::naming("one");
    let (running, _site) = serving(&[("services/a/one", &backend.instance()), ("config/timeout/head", "1s")]);
    let mut connection = running.connect();
    let empty = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Pad: \r\n\r\n".len();
    let pad = "a".repeat(16 * 1024 - empty);
    connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Pad: {pad}\r\n\r\n")).expect("open");
    assert_eq!(connection.response("GET").expect("an answer").status, 200);
    holds("nothing is said to an idle client", Duration::from_secs(2), || {
        connection.stream().set_nonblocking(true).expect("open");
        let read = connection.stream().read(&mut [0]);
        connection.stream().set_nonblocking(false).expect("open");
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert_eq!(connection.request("GET", "a.test", "/").expect("still open").status, 200);
}

#[test]
fn a_client_that_pauses_in_its_body_is_no_fault_of_the_instance() {
    let backend = Backend::naming("one");
    let (running, _site) = serving(&[("services/a/one", &backend.instance()), ("services/a/timeout/server", "1s")]);
    let mut connection = running.connect();
    connection.send("POST /count HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n").expect("open");
    paced(Duration::from_secs(3), 4, |turn| {
        connection.send(["a", "b", "c", "d"][turn as usize]).expect("open");
    });
    assert_eq!(connection.response("POST").expect("an answer").status, 200);
}

/// An instance that reads a head and then sends a response in pieces, this far apart.
fn in_pieces(pieces: &'static [&'static str], apart: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            for piece in pieces {
                std::thread::sleep(apart);
                let _ = stream.write_all(piece.as_bytes());
            }
            // Unread bytes turn its close into a reset, which may overtake the last piece.
            std::thread::sleep(apart);
        }
    });
    address
}

#[test]
fn an_instance_that_says_it_is_at_work_is_not_silent() {
    const WAIT: &str = "HTTP/1.1 102 Processing\r\n\r\n";
    let pieces = &[WAIT, WAIT, WAIT, WAIT, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"];
    let slow = in_pieces(pieces, Duration::from_millis(300)).to_string();
    let (running, _site) = serving(&[("services/a/one", &slow), ("services/a/timeout/server", "1s")]);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    assert_eq!(connection.response("GET").expect("the final answer").text(), "ok");
}

#[test]
fn an_instance_that_answers_without_reading_the_body_is_heard_out() {
    // HAProxy blames the instance, because it accepts no bytes for so long.
    let limit = if engine().differs("deaf-instance") { "10s" } else { "1s" };
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    let pieces = &[HEAD, "1", "2", "3", "4", "5", "6"];
    let deaf = in_pieces(pieces, Duration::from_millis(250)).to_string();
    let (running, _site) = serving(&[("services/a/one", &deaf), ("services/a/timeout/server", limit)]);
    let mut connection = running.connect();
    let size = 50_000_000;
    connection.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n")).expect("open");
    let mut writer = connection.stream().try_clone().expect("open");
    std::thread::spawn(move || writer.write_all(&vec![0; size]));
    assert_eq!(connection.response("POST").expect("the whole answer").text(), "123456");
}

#[test]
fn a_post_does_not_trust_a_connection_that_was_idle_for_long() {
    let backend = Backend::naming("one");
    let (running, _site) = serving(&[("services/a/one", &backend.instance())]);
    let mut connection = running.connect();
    for turn in 1..4 {
        connection.send("POST /count HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n").expect("open");
        connection.send("ok").expect("open");
        assert_eq!(connection.response("POST").expect("an answer").status, 200);
        let connections = if engine().differs("idle-reuse") { 1 } else { turn };
        assert_eq!(backend.connections(), connections, "a new connection, and the old one is closed");
        holds("idle for longer than a POST trusts", Duration::from_millis(900), || true);
    }
}

#[test]
fn who_waits_for_room_takes_the_first_that_is_free() {
    let (quick, slow) = (Backend::naming("quick"), Backend::naming("slow"));
    let (running, _site) = serving(&[
        ("services/a/quick", &format!("{} maxconn=1", quick.instance())),
        ("services/a/slow", &format!("{} maxconn=1", slow.instance())),
        ("services/a/timeout/connect", "30s"),
    ]);
    let mut held = running.connect();
    held.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("one instance at work", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    std::thread::scope(|scope| {
        let http = running.http;
        let rest: Vec<_> = (0..6).map(|_| scope.spawn(move || get(http, "a.test", "/wait/100"))).collect();
        for answer in rest {
            assert_eq!(answer.join().expect("asked").expect("answered").status, 200);
        }
    });
    // All of them by the other one: this one is still at work.
    [&quick, &slow].iter().for_each(|backend| backend.let_go());
    assert!(held.response("GET").expect("the whole answer").trailer("x-total").is_some());
}

#[test]
fn a_port_that_another_balancer_has_is_not_shared_in_silence() {
    let (running, site) = serving(&[]);
    let mut second = Launch::bare()
        .args(&["--store", &site.folder().to_string_lossy(), "--http", &running.http.to_string()])
        .args(&["--admin", "127.0.0.1:0"])
        .start_process();
    let status = second.wait_exit(PATIENCE);
    assert!(!status.success());
    assert!(second.log().contains(&format!("--http {}", running.http)), "{}", second.log());
}

#[test]
fn idle_connections_never_take_the_descriptors_that_requests_need() {
    let backends: Vec<_> = (0..6).map(|_| Backend::naming("one")).collect();
    let site = Site::new();
    for (number, backend) in backends.iter().enumerate() {
        site.put(&format!("services/s{number}/domain"), format!("s{number}.test"));
        site.put(&format!("services/s{number}/one"), backend.instance());
    }
    let running = Pointsman::serving(&site);
    let limit = format!("--nofile={}", 128 + 300);
    let id = running.process.id().to_string();
    assert!(std::process::Command::new("prlimit").args(["--pid", &id, &limit]).status().expect("prlimit").success());
    for round in 0..3 {
        for number in 0..6 {
            let host = format!("s{number}.test");
            let mut held: Vec<_> = (0..60).map(|_| running.connect()).collect();
            for connection in &mut held {
                connection.send(format!("GET /wait/50 HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("open");
            }
            for connection in &mut held {
                assert_eq!(connection.response("GET").expect("an answer").status, 200, "round {round}, {host}");
            }
        }
    }
}

#[test]
fn work_of_a_removed_service_ends_with_its_drain_time() {
    let port = free_port();
    let (_running, site) = serving(&[
        ("tcp-services/t/port", &port.to_string()),
        ("tcp-services/t/one", &echo_tcp("").to_string()),
        ("config/timeout/drain", "1s"),
    ]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the port", || TcpStream::connect(address).is_ok());
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("open");
    stream.write_all(b"a").expect("open");
    stream.read_exact(&mut [0]).expect("relayed");
    let start = Instant::now();
    site.remove("tcp-services/t");
    let ended = stream.read(&mut [0]);
    assert!(!matches!(ended, Ok(1)) && !is_timeout(&ended), "{ended:?}");
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_unix_socket_is_an_instance_too() {
    let site = Site::new();
    let path = site.home().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
        }
    });
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", format!("unix:{}", path.display()));
    let running = Pointsman::serving(&site);
    running.wait_answer("a.test", "/", 200, "unix");
}

#[test]
fn a_name_with_a_dead_address_is_tried_at_its_others() {
    let raw = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Again);
    let port = raw.instance().rsplit_once(':').expect("an address").1.to_owned();
    let (running, _site) = serving(&[("services/a/one", &format!("localhost:{port}"))]);
    // localhost is also ::1, where nothing listens.
    running.wait_answer("a.test", "/", 200, "ok");
}
