//! PROXY headers ahead of connections: from whom they are taken, and what becomes of those that are malformed, late or
//! missing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Backend, Connection, Launch, Pointsman, Site, echo_tcp, engine, finish, free_port, get, wait};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n";
const V1_OF_6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: its command and family, and the block behind.
fn v2(kinds: [u8; 2], block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("short").to_be_bytes();
    [SIGNATURE, &kinds, &length, block].concat()
}

/// From 192.0.2.7, with a TLV that nobody knows.
fn v2_of_4() -> Vec<u8> {
    v2([0x21, 0x11], &[&[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 80][..], &[0xe0, 0, 2, 1, 2]].concat())
}

/// A backend behind a balancer that expects headers from these peers.
fn scene(from: &str, more: &[(&str, &str)]) -> (Pointsman, Site, Backend) {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    site.put("config/accept_proxy", from);
    more.iter().for_each(|(key, value)| site.put(key, value));
    (Pointsman::serving(&site), site, backend)
}

const ASK: &str = "GET /head HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Whom the instance sees as the client of the next request of a connection.
fn client_of(connection: &mut Connection) -> String {
    connection.send(ASK).expect("open");
    let head = connection.response("GET").expect("an answer").text().to_ascii_lowercase();
    let client = head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: ").map(str::to_owned));
    client.expect("the instance is told")
}

#[track_caller]
fn wait_fault(running: &Pointsman, name: &str, count: f64) {
    if engine().name() == "native" {
        wait(&format!("{count} {name}"), || running.metric("pointsman_faults_total", &[name]) >= count);
    }
}

#[test]
fn the_client_is_the_one_in_the_header() {
    let (running, _site, _backend) = scene("loopback", &[]);
    let check = |header: &[u8], client: &str| {
        let mut connection = running.connect();
        connection.send(header).expect("open");
        assert_eq!(client_of(&mut connection), client);
        assert_eq!(client_of(&mut connection), client, "and of the next request");
    };
    check(V1, "192.0.2.7");
    check(V1_OF_6, "2001:db8::7");
    check(UNKNOWN, "127.0.0.1");
    check(&v2_of_4(), "192.0.2.7");
    check(&v2([0x20, 0], &[]), "127.0.0.1");
    // In any segments, and with the request right behind.
    let pieces = [V1.to_vec(), v2_of_4()].into_iter().filter(|_| !engine().differs("proxy-pieces"));
    for header in pieces {
        let mut connection = running.connect();
        for byte in header.iter().chain(ASK.as_bytes()) {
            connection.send([*byte]).expect("open");
        }
        assert!(connection.response("GET").expect("an answer").text().contains("192.0.2.7"));
        assert_eq!(client_of(&mut connection), "192.0.2.7");
    }
    let curl = "curl --silent --show-error --haproxy-protocol -H 'Host: a.test'";
    let line = format!("{curl} http://{}/head", running.http);
    let head = finish(std::process::Command::new("sh").args(["-c", &line])).ok();
    assert!(head.to_ascii_lowercase().contains("x-forwarded-for: 127.0.0.1"), "{head}");
}

#[test]
fn headers_are_taken_from_nobody_else() {
    let (running, site, _backend) = scene("192.0.2.0/24", &[]);
    assert_eq!(get(running.http, "a.test", "/").expect("no header is needed").status, 200);
    let mut connection = running.connect();
    connection.send([V1, ASK.as_bytes()].concat()).expect("open");
    assert_eq!(connection.response("GET").expect("an answer").status, 400);
    site.put("config/accept_proxy", "nonsense");
    running.wait_problem("bad_value", &["config/accept_proxy", "nonsense"]);
    assert_eq!(get(running.http, "a.test", "/").expect("the last good value stays").status, 200);
    site.put("config/accept_proxy", "all");
    wait("headers are expected", || get(running.http, "a.test", "/").is_err());
    site.remove("config/accept_proxy");
    wait("none is", || get(running.http, "a.test", "/").is_ok());
}

#[test]
fn malformed_and_missing_ones_end_the_connection() {
    let (running, _site, _backend) = scene("private", &[]);
    let signature = [SIGNATURE, &[0x31, 0x11, 0, 12], &[0; 12]].concat();
    let rows: [&[u8]; 7] = [
        ASK.as_bytes(),
        b"PROXY TCP4 203.0.113.256 198.51.100.1 40000 80\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 0123 80\r\n",
        b"\x16\x03\x01\x02\x00",
        &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        &signature,
    ];
    let strict = !engine().differs("proxy-numbers");
    let rows = rows.into_iter().enumerate().filter(|(number, _)| strict || !(1..=3).contains(number));
    for (number, header) in rows {
        let mut connection = running.connect();
        connection.send(header).expect("open");
        let _ = connection.send(ASK);
        assert!(connection.response("GET").is_err(), "row {number}");
    }
    wait_fault(&running, "bad_proxy_header", 7.0);
    let mut connection = running.connect();
    connection.send(V1).expect("open");
    assert_eq!(client_of(&mut connection), "192.0.2.7", "others notice nothing");
}

#[test]
fn half_a_header_is_not_waited_for_longer_than_a_head() {
    let mut keys = vec![("config/timeout/head", "500ms")];
    keys.extend(engine().differs("proxy-pieces").then_some(("config/timeout/client", "500ms")));
    let (running, _site, _backend) = scene("loopback", &keys);
    let binary = v2_of_4();
    let mut half: Vec<_> =
        [&V1[..20], &binary[..30], b""].into_iter().map(|start| (running.connect(), start)).collect();
    half.iter_mut().for_each(|(connection, start)| connection.send(start).expect("open"));
    half.iter_mut().for_each(|(connection, _)| assert!(connection.is_closed()));
    wait_fault(&running, "proxy_timeout", 3.0);
}

#[test]
fn tcp_services_get_what_is_behind_the_header() {
    let port = free_port();
    let site = Site::with(&[("tcp-services/t/port", &*port.to_string()), ("config/accept_proxy", "loopback")]);
    site.put("tcp-services/t/one", echo_tcp("").to_string());
    let running = Launch::on(&site).start();
    running.wait_ready();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the port", || TcpStream::connect(address).is_ok());
    for header in [V1.to_vec(), v2_of_4()] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("open");
        let (first, rest) = header.split_at(if engine().differs("proxy-pieces") { 0 } else { 9 });
        stream.write_all(first).expect("open");
        stream.write_all(&[rest, b"hello"].concat()).expect("open");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).expect("relayed");
        assert_eq!(&echo, b"hello");
    }
}

#[test]
fn the_variable_of_the_older_image_expects_them_from_everybody() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    let running = Launch::on(&site).env("KONTENA_LB_ACCEPT_PROXY", "yes").start();
    running.wait_ready();
    wait("the table", || running.admin_page("/api/table").contains("a.test"));
    let mut connection = running.connect();
    connection.send(V1).expect("open");
    assert_eq!(client_of(&mut connection), "192.0.2.7");
}
