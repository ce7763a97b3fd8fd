//! Clients that flood an HTTP/2 connection, or do not read it: they are cut off, and others notice nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::scene;
use crate::harness::{Http2Instance, PATIENCE, engine, get, python_http2_running, wait};

/// The client's preface, no settings, and an acknowledgement of ours.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
/// `GET /` of a.test, on stream 1; and a POST.
const GET: &[u8] = b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x84\x86\x41\x06a.test";
const POST: &[u8] = b"\0\0\x0b\x01\x04\0\0\0\x01\x83\x84\x86\x41\x06a.test";

/// What a flood is, how it begins, and the frame that it repeats.
const FLOODS: [(&str, &[u8], &[u8]); 9] = [
    ("pings", b"", b"\0\0\x08\x06\0\0\0\0\x00flooding"),
    ("settings", b"", b"\0\0\0\x04\0\0\0\0\0"),
    ("priorities", b"", b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x07"),
    ("windows", b"", b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"),
    ("windows of a stream", GET, b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01"),
    ("empty frames", POST, b"\0\0\0\0\0\0\0\0\x01"),
    ("padding", POST, b"\0\0\x05\0\x08\0\0\0\x01\x04\0\0\0\0"),
    ("frames of an unknown type", b"", b"\0\0\0\xbb\0\0\0\0\0"),
    ("header blocks", b"\0\0\x01\x01\x01\0\0\0\x01\x82", b"\0\0\0\x09\0\0\0\0\x01"),
];

/// Sends for as long as the other side takes it, and reads; returns whether the other side ended the connection.
fn flood(address: SocketAddr, first: &[u8], mut unit: impl FnMut(u32) -> Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(&[PREFACE, first].concat()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    for turn in 0..2_000 {
        let batch: Vec<u8> = (0..200).flat_map(|place| unit(turn * 200 + place)).collect();
        let ended = |error: &std::io::Error| matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        if stream.write_all(&batch).is_err_and(|error| ended(&error)) {
            return true;
        }
        match stream.read(&mut [0; 65536]) {
            Ok(0) => return true,
            Err(error) if ended(&error) => return true,
            Ok(_) | Err(_) => {}
        }
    }
    false
}

#[test]
fn who_floods_is_cut_off() {
    if engine().differs("http2-floods") {
        return;
    }
    let scene = scene(&[]);
    let fault = || scene.running.metric("pointsman_faults_total", &["\"http2\""]);
    for (name, first, unit) in FLOODS {
        let before = fault();
        assert!(flood(scene.running.http, first, |_| unit.to_vec()), "{name}");
        wait(name, || fault() > before);
        assert_eq!(get(scene.running.http, "a.test", "/").map(|answer| answer.status).ok(), Some(200), "after {name}");
    }
    assert!(scene.running.metric("pointsman_http2_glitches_total", &[]) > 5_000.0);
}

#[test]
fn who_resets_one_request_after_another_is_cut_off() {
    if engine().differs("http2-floods") {
        return;
    }
    let scene = scene(&[]);
    let reset = |place: u32| {
        let stream = (2 * place + 1).to_be_bytes();
        let (head, fields) = GET.split_at(5);
        [head, &stream, &fields[4..], b"\0\0\x04\x03\0", &stream, b"\0\0\0\x08"].concat()
    };
    assert!(flood(scene.running.http, b"", reset));
    wait("the fault", || scene.running.metric("pointsman_faults_total", &["\"http2\""]) == 1.0);
    wait("no work to be left", || scene.running.metric("pointsman_active", &[]) == 0.0);
    assert_eq!(get(scene.running.http, "a.test", "/").map(|answer| answer.status).ok(), Some(200));
}

/// An instance that takes connections, and reads nothing of them.
const DEAF: &str = "
const sockets = []
const server = require('net').createServer({ pauseOnConnect: true }, socket => { sockets.push(socket); socket.on('error', () => {}) })
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port))
";

#[test]
fn uploads_that_nobody_takes_have_bounded_time_and_memory() {
    if engine().differs("deaf-instance") {
        return;
    }
    let scene = scene(&[]);
    let deaf = Http2Instance::node_program(DEAF);
    for (key, value) in [("domain", "deaf.test"), ("timeout/server", "1s"), ("one", &*deaf.instance)] {
        scene.site.put(&format!("services/deaf/{key}"), value);
    }
    wait("the service", || scene.running.admin_page("/api/table").contains("deaf.test"));
    let said = scene.secure("say(Client().ask('/bytes/1000')[0])");
    assert_eq!(said, "200\n");
    let before = scene.running.process.resident();
    let script = r"
clients, streams = [Client() for _ in range(10)], []
for c in clients:
    for _ in range(10):
        streams.append((c, c.begin('/', 'POST', authority='deaf.test', end=False)))
piece, sent = bytes(16_384), 0
def room(c, stream): return min(c.h2.local_flow_control_window(stream), len(piece))
while not all(c.is_over(stream) for c, stream in streams):
    for c, stream in streams:
        try:
            while not c.is_over(stream) and room(c, stream) > 0:
                size = room(c, stream)
                c.h2.send_data(stream, piece[:size]); c.flush()
                sent += size
        except h2.exceptions.StreamClosedError: pass
    for c in clients:
        c.socket.settimeout(0.01)
        try: c.step()
        except TimeoutError: pass
        c.socket.settimeout(30)
say({c.heads.get(stream, {}).get(':status') for c, stream in streams}, sent > 2_000_000)
say(sum(c.closed for c in clients), clients[0].ask('/bytes/1000')[0])
";
    let mut script = python_http2_running(&scene.site, ("https", scene.https), script);
    let (mut most, mut ended) = (before, None);
    wait("all to be over", || {
        most = most.max(scene.running.process.resident());
        ended = (!script.is_running()).then(|| script.wait_exit(PATIENCE));
        ended.is_some()
    });
    assert_eq!(script.log(), "{'504'} True\n0 200\n");
    assert!(most - before < 64 << 20, "{} MB more", (most - before) >> 20);
    wait("no work to be left", || scene.running.metric("pointsman_active", &[]) == 0.0);
}
