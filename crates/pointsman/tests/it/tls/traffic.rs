//! What goes over a TLS connection, and how it ends: complete with an alert, cut short without.

use std::net::TcpStream;

use super::{CERTS, Scene, scene};
use crate::harness::{PATIENCE, Raw, Then, engine, python_tls_running, wait};

#[test]
fn a_connection_carries_bodies_both_ways_and_pipelined_requests() {
    let said = scene(CERTS, &[]).python(
        r"
c, big = Client(), 30_000_000
status, _, body = c.ask(f'/bytes/{big}')
say('down', status, body == pattern(big))
status, _, told = c.ask('/count', 'POST', f'Content-Length: {big}\r\n', pattern(big))
say('up', status, told.decode().strip())
status, head, _ = c.ask('/bytes/7', 'HEAD')
say('head', status, head['content-length'])
one = 'GET /bytes/{} HTTP/1.1\r\nHost: a.test\r\n\r\n'
c.socket.sendall(''.join(one.format(count) for count in (3, 30000, 0)).encode())
say('pipelined', [len(c.answer()[2]) for _ in range(3)])
",
    );
    assert_eq!(said, "down 200 True\nup 200 30000000 true\nhead 200 7\npipelined [3, 30000, 0]\n");
}

#[test]
fn a_proxy_header_comes_ahead_of_the_handshake() {
    let scene = scene(CERTS, &[]);
    scene.site.put("config/accept_proxy", "loopback");
    wait("https", || scene.curl("--haproxy-protocol").code == Some(0));
    let head = scene.curl("--haproxy-protocol").ok().to_ascii_lowercase();
    assert!(head.contains("x-forwarded-for: 127.0.0.1") && head.contains("x-forwarded-proto: https"), "{head}");
    assert_ne!(scene.curl("").code, Some(0), "it is expected");
}

#[test]
fn a_tunnel_runs_over_tls() {
    let said = scene(CERTS, &[]).python(
        r"
c, piece = Client(), pattern(50_000)
c.send('/', more='Connection: Upgrade\r\nUpgrade: echo\r\n')
say(c.head()[0])
echoed = 0
for _ in range(20):
    c.socket.sendall(piece)
    echoed += c.file.read(len(piece)) == piece
say(echoed)
c.socket.unwrap()
say('closed by both')
",
    );
    assert_eq!(said, "101\n20\nclosed by both\n");
}

/// The end of a connection that asked for this, with the instance answering these bytes.
fn ending(scene: &Scene, request: &str, answer: &str, then: Then) -> String {
    let raw = Raw::answering(answer, then);
    scene.site.put("services/a/one", raw.instance());
    wait("the instance", || {
        let _ = scene.python(r"c = Client(); c.send('/', more='Connection: close\r\n'); say(c.end())");
        raw.heads() > 0
    });
    scene.python(&format!(
        "c = Client(); c.socket.sendall({request:?}.encode()); status, head = c.head(); say(status); say(c.end())"
    ))
}

#[test]
fn an_answer_cut_short_is_seen_to_be() {
    if engine().differs("tls-end") {
        return;
    }
    let scene = scene(CERTS, &[]);
    let close = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let old = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
    let rows = [
        (close, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Then::Close),
        (close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", Then::Close),
        (close, "HTTP/1.1 200 OK\r\n\r\nshort", Then::Reset),
        (old, "HTTP/1.1 200 OK\r\n\r\nshort", Then::Reset),
    ];
    for (request, answer, then) in rows {
        let said = ending(&scene, request, answer, then);
        assert!(said.ends_with("200\ncut\n"), "{request:?} {answer:?}: {said}");
    }
}

#[test]
fn a_whole_answer_ends_with_an_alert() {
    let scene = scene(CERTS, &[]);
    let close = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let sized = ending(&scene, close, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole", Then::Close);
    assert_eq!(sized, "200\n5 bytes, then close_notify\n");
    let old = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
    assert_eq!(ending(&scene, old, "HTTP/1.1 200 OK\r\n\r\nwhole", Then::Close), "200\n5 bytes, then close_notify\n");
}

#[test]
fn term_finishes_what_runs_over_tls() {
    let mut scene = scene(CERTS, &[("config/timeout/keep_alive", "2s")]);
    let script = "c = Client(); c.send('/hold'); c.head(); say('running'); say(c.end()); say('over')";
    let mut download = python_tls_running(&scene.site, scene.https, script);
    download.wait_log("running");
    scene.running.process.signal("TERM");
    wait("new connections to be refused", || TcpStream::connect(scene.https).is_err());
    scene.backend.let_go();
    download.wait_log("over");
    let log = download.log();
    assert!(engine().differs("tls-end") || log.contains(" bytes, then close_notify"), "{log}");
    assert_eq!(scene.running.process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn what_is_idle_does_not_hold_up_the_end() {
    let mut scene = scene(CERTS, &[("config/timeout/head", "1h"), ("config/timeout/drain", "1h")]);
    // It stays: a client that ended would take its silent connections along.
    let script =
        "silent = [plain() for _ in range(10)]; c = Client(); c.ask('/x'); say('idle'); say(c.end()); time.sleep(600)";
    let mut idle = python_tls_running(&scene.site, scene.https, script);
    idle.wait_log("idle");
    scene.running.process.signal("TERM");
    assert_eq!(scene.running.process.wait_exit(PATIENCE).code(), Some(0));
    if !engine().differs("tls-end") {
        idle.wait_log("0 bytes, then close_notify");
    }
}
