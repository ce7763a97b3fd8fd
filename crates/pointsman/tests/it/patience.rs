//! Peers that take their time: who reads last, who reads slowly, and what was written before a cut.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::harness::{Backend, Connection, Pointsman, Raw, Site, Then, echo_tcp, engine, paced, serving};

/// Sends a large body to the end before it reads.
fn upload(running: &Pointsman, host: &str, megabytes: usize) -> u16 {
    let mut connection = running.connect();
    let length = megabytes << 20;
    connection.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")).expect("open");
    for _ in 0..megabytes {
        connection.send(vec![b'x'; 1 << 20]).expect("the rest of the body is read and thrown away");
    }
    connection.response("POST").expect("an answer").status
}

#[test]
fn an_early_answer_reaches_a_client_that_reads_when_it_has_sent_everything() {
    let refusing = Raw::answering(
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch",
        Then::Close,
    );
    let (_site, running) = serving(&refusing.instance(), &[]);
    if engine().differs("early-answer") {
        return;
    }
    for round in 0..4 {
        assert_eq!(upload(&running, "a.test", 32), 413, "round {round}");
    }
    assert_eq!(upload(&running, "nobody.test", 8), 503, "an answer of our own");
}

/// The reader's pace: as much, so often, and for so long.
const SIP: usize = 64 * 1024;
const SIPS: u32 = 30;
const SLOW: Duration = Duration::from_secs(6);

#[test]
fn a_client_that_reads_slowly_and_steadily_gets_everything() {
    if engine().differs("slow-reader") {
        return;
    }
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("config/timeout/client", "2s")]);
    let mut connection = running.connect();
    connection.send("GET /bytes/30000000 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    connection.read_head().expect("a head");
    paced(SLOW, SIPS, |_| drop(connection.read_bytes(SIP).expect("not cut while it reads")));
    connection.read_bytes(30_000_000 - SIP * SIPS as usize).expect("all of the rest");
}

#[test]
fn a_client_of_a_tcp_service_that_reads_slowly_and_steadily_gets_everything() {
    if engine().differs("slow-reader") {
        return;
    }
    let site = Site::with(&[("tcp-services/t/one", &echo_tcp("").to_string())]);
    let port = crate::harness::free_port();
    site.put("tcp-services/t/port", port.to_string());
    site.put("tcp-services/t/timeout/tunnel", "2s");
    let running = Pointsman::serving(&site);
    crate::harness::wait("the port", || Connection::try_open((Ipv4Addr::LOCALHOST, port).into()).is_ok());
    let mut connection = Connection::open((Ipv4Addr::LOCALHOST, port).into());
    let stream = connection.stream().try_clone().expect("a descriptor");
    let sent = std::thread::spawn(move || io::copy(&mut io::repeat(b'x').take(30_000_000), &mut &stream));
    paced(SLOW, SIPS, |_| drop(connection.read_bytes(SIP).expect("not cut while it reads")));
    connection.read_bytes(30_000_000 - SIP * SIPS as usize).expect("all of the rest");
    assert_eq!(sent.join().expect("no panic").expect("sent"), 30_000_000);
    drop(running);
}

#[test]
fn an_instance_that_reads_slowly_and_steadily_gets_everything() {
    if engine().differs("slow-reader") {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let instance = listener.local_addr().expect("bound").to_string();
    let slow = std::thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut read = vec![0; SIP];
        paced(SLOW, SIPS, |_| stream.read_exact(&mut read).expect("not cut while it reads"));
        io::copy(&mut (&stream).take(30_000_000 - (SIP as u64) * u64::from(SIPS)), &mut io::sink())?;
        io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let (_site, running) = serving(&instance, &[("services/a/timeout/server", "2s")]);
    let mut connection = running.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30000000\r\n\r\n").expect("open");
    for _ in 0..30 {
        connection.send(vec![b'x'; 1_000_000]).expect("taken as the instance takes it");
    }
    assert_eq!(connection.response("POST").expect("an answer").status, 200);
    slow.join().expect("no panic").expect("everything came");
}

#[test]
fn what_was_written_before_a_cut_arrives() {
    let body = vec![b'y'; 600_000];
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
    let breaking = Raw::answering([&head[..], &body].concat(), Then::Reset);
    let (_site, running) = serving(&breaking.instance(), &[]);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    connection.read_head().expect("a head");
    crate::harness::wait("the fault to be counted", || {
        engine().differs("slow-reader") || running.metric("pointsman_faults_total", &["bad_response_body"]) > 0.0
    });
    let read = connection.read_rest();
    assert_eq!(read.len(), body.len(), "what the instance sent before it broke off");
}

#[test]
fn a_protocol_may_begin_behind_a_body() {
    let docker =
        Raw::answering("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\noutput", Then::Hang);
    let (_site, running) = serving(&docker.instance(), &[]);
    let mut connection = running.connect();
    let head = "POST /exec/1/start HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 28\r\n\r\n";
    connection.send(format!("{head}{{\"Detach\":false,\"Tty\":true}}\n")).expect("open");
    let status = connection.response("POST").expect("an answer").status;
    if engine().differs("upgrade-with-body") {
        return assert_eq!(status, 502);
    }
    assert_eq!(status, 101);
    assert_eq!(connection.read_bytes(6).expect("the tunnel"), b"output");
}

#[test]
fn any_number_of_interim_responses_pass() {
    let many = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100);
    let hinting = Raw::answering(format!("{many}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Then::Again);
    let (_site, running) = serving(&hinting.instance(), &[]);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    for _ in 0..100 {
        assert_eq!(connection.any_response("GET").expect("a hint").status, 103);
    }
    assert_eq!(connection.any_response("GET").expect("an answer").status, 200);
}
