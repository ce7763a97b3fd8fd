//! TCP services that share a port by TLS server name: who gets which connection, and that its bytes pass as they came.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Launch, Pointsman, Site, echo_tcp, engine, free_port, is_timeout, wait};

/// Starts a balancer whose services share a port: name and server names (empty: none), each with an instance that
/// greets with its service's name, and echoes.
fn sharing(services: &[(&'static str, &str)], more: &[(&str, &str)]) -> (Pointsman, Site, SocketAddr) {
    let port = free_port();
    let site = Site::new();
    for (name, sni) in services {
        let key = |key: &str| format!("tcp-services/{name}/{key}");
        site.put(&key("one"), echo_tcp(name).to_string());
        site.put(&key("sni"), sni);
        site.put(&key("port"), port.to_string());
    }
    more.iter().for_each(|(key, value)| site.put(key, value));
    let running = Launch::on(&site).start();
    running.wait_ready();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the port", || TcpStream::connect(address).is_ok());
    (running, site, address)
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("open");
    stream.set_nodelay(true).expect("open");
    stream
}

/// A list behind its length, which takes so many bytes.
fn list(width: usize, items: &[u8]) -> Vec<u8> {
    [&items.len().to_be_bytes()[8 - width..], items].concat()
}

/// A ClientHello for this server name, with so many bytes of key shares.
fn hello(name: &str, shares: usize) -> Vec<u8> {
    let names = list(2, &[&[0][..], &list(2, name.as_bytes())].concat());
    let name = if name.is_empty() { Vec::new() } else { [&[0, 0][..], &list(2, &names)].concat() };
    let shares: Vec<u8> =
        vec![7; shares].chunks(40_000).flat_map(|share| [&[0, 51][..], &list(2, share)].concat()).collect();
    let body =
        [&[3, 3][..], &[9; 32], &[0], &list(2, &[0x13, 1]), &[1, 0], &list(2, &[shares, name].concat())].concat();
    [&[1][..], &list(3, &body)].concat()
}

/// A message in records of at most this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |content: &[u8]| [&[22, 3, 1][..], &list(2, content)].concat();
    message.chunks(size).flat_map(record).collect()
}

/// What comes back for these pieces and a FIN.
fn answer(address: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = open(address);
    for piece in pieces {
        stream.write_all(piece).expect("open");
    }
    let mut all = Vec::new();
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut all);
    all
}

#[track_caller]
fn check(address: SocketAddr, sent: &[u8], expected: &str) {
    for pieces in [vec![sent], sent.chunks(sent.len().div_ceil(3)).collect()] {
        let all = answer(address, &pieces);
        let whole = [expected.as_bytes(), sent].concat();
        assert!(all == whole, "{expected}: {} bytes, not {}: {}", all.len(), whole.len(), all.escape_ascii());
    }
}

const FAMILY: &[(&str, &str)] =
    &[("exact", "a.x.test"), ("near", "*.x.test"), ("far", "*.test, b.other"), ("rest", "")];

#[test]
fn the_server_name_chooses_and_every_byte_passes() {
    let (_running, _site, address) = sharing(FAMILY, &[("config/timeout/head", "2s")]);
    let named = |name: &str| records(&hello(name, 300), 1 << 14);
    for (name, expected) in [
        ("a.x.test", "exact"),
        ("A.X.Test", "exact"),
        ("b.x.test", "near"),
        ("c.b.x.test", "near"),
        ("x.test", "far"),
        ("b.other", "far"),
        ("c.other", "rest"),
        ("", "rest"),
    ] {
        check(address, &named(name), expected);
    }
    check(address, b"EHLO client.test\r\n", "rest");
    check(address, b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10", "rest");
    check(address, b"\x16\x03\x01\0\x05garbage", "rest");
    check(address, &[named("a.x.test"), b"\x17\x03\x03\0\x04data".to_vec()].concat(), "exact");
}

#[test]
fn a_hello_may_come_in_many_records_and_be_long() {
    if engine().differs("long-hello") {
        return;
    }
    let (running, _site, address) = sharing(FAMILY, &[]);
    for (shares, size) in [(900, 1), (20_000, 1 << 14), (65_000, 1 << 14), (65_000, 300)] {
        check(address, &records(&hello("b.x.test", shares), size), "near");
    }
    assert_eq!(answer(address, &[&records(&hello("b.x.test", 70_000), 1 << 14)]), b"");
    wait("the fault", || running.metric("pointsman_faults_total", &["hello_too_long"]) >= 1.0);
    check(address, &records(&hello("b.x.test", 0), 1 << 14), "near");
}

#[test]
fn a_name_that_nobody_has_is_refused() {
    let (mut running, site, address) = sharing(&[("a", "a.test")], &[]);
    check(address, &records(&hello("a.test", 0), 99), "a");
    let said = answer(address, &[&records(&hello("b.test", 0), 99)]);
    let differs = engine().differs("unknown-server-name");
    assert!(said == b"\x15\x03\x03\0\x02\x02\x70" || differs && said.is_empty(), "{}", said.escape_ascii());
    assert_eq!(answer(address, &[b"no TLS at all\r\n"]), b"");
    assert_eq!(answer(address, &[]), b"");
    if !differs {
        wait("the faults", || running.metric("pointsman_faults_total", &["unknown_server_name"]) == 2.0);
        running.process.wait_log("no service there has the server name \"b.test\"");
    }
    site.put("tcp-services/b/one", echo_tcp("b").to_string());
    site.put("tcp-services/b/sni", "b.test");
    site.put("tcp-services/b/port", address.port().to_string());
    wait("the new service", || answer(address, &[&records(&hello("b.test", 0), 99)]).starts_with(b"b"));
    check(address, &records(&hello("a.test", 0), 99), "a");
}

#[test]
fn who_waits_for_the_server_to_speak_gets_the_default() {
    let (_running, _site, address) = sharing(&[("a", "a.test"), ("rest", "")], &[("config/timeout/head", "1s")]);
    let mut greeting = [0; 4];
    open(address).read_exact(&mut greeting).expect("greeted");
    assert_eq!(&greeting, b"rest");
}

#[test]
fn a_service_alone_on_its_port_waits_for_nothing() {
    let (_running, _site, address) = sharing(&[("alone", "")], &[("config/timeout/head", "1h")]);
    let mut greeting = [0; 5];
    open(address).read_exact(&mut greeting).expect("greeted");
    assert_eq!(&greeting, b"alone");
}

#[test]
fn a_hello_that_does_not_come_is_not_waited_for() {
    let (running, _site, address) = sharing(&[("a", "a.test"), ("rest", "")], &[("config/timeout/head", "1s")]);
    let mut slow = open(address);
    slow.write_all(&records(&hello("a.test", 0), 99)[..20]).expect("open");
    if engine().differs("hello-time") {
        return;
    }
    let ended = slow.read_to_end(&mut Vec::new());
    assert!(!is_timeout(&ended), "{ended:?}");
    wait("the fault", || running.metric("pointsman_faults_total", &["hello_timeout"]) == 1.0);
}
