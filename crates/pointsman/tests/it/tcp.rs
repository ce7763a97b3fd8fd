//! TCP services: bytes in both directions, including half-close.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::{Pointsman, Site, echo_tcp, engine, free_address, free_port, is_timeout, pattern, wait};

fn serving(instances: &[(&str, String)], more: &[(&str, &str)]) -> (Pointsman, Site, SocketAddr) {
    let port = free_port();
    let site = Site::with(&[("tcp-services/t/port", &*port.to_string())]);
    instances.iter().for_each(|(name, value)| site.put(&format!("tcp-services/t/{name}"), value));
    more.iter().for_each(|(key, value)| site.put(key, value));
    let running = Pointsman::serving(&site);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the port", || TcpStream::connect(address).is_ok());
    (running, site, address)
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("open");
    stream
}

#[test]
fn a_half_close_is_passed_on_and_the_answer_still_comes() {
    let (_running, _site, address) = serving(&[("one", echo_tcp("hello ").to_string())], &[]);
    let mut stream = open(address);
    stream.write_all(b"and goodbye").expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("until the end");
    assert_eq!(all, "hello and goodbye");
}

#[test]
fn much_data_both_ways_at_once_arrives_whole() {
    let (_running, _site, address) = serving(&[("one", echo_tcp("").to_string())], &[]);
    let size = 20_000_000;
    let (mut reader, sent) = (open(address), pattern(0, size));
    let mut writer = reader.try_clone().expect("open");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("taken");
            writer.shutdown(Shutdown::Write).expect("open");
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).expect("until the end");
        assert!(back == sent, "{} bytes of {size}, or others", back.len());
    });
}

#[test]
fn a_server_that_speaks_first_and_closes() {
    let (_running, _site, address) = serving(&[("one", echo_tcp("greetings").to_string())], &[]);
    let mut greeting = [0; 9];
    open(address).read_exact(&mut greeting).expect("greeted");
    assert_eq!(&greeting, b"greetings");
}

#[test]
fn a_dead_instance_is_passed_by() {
    let dead = free_address().to_string();
    let (running, _site, address) = serving(&[("dead", dead), ("live", echo_tcp("live").to_string())], &[]);
    for _ in 0..20 {
        let mut greeting = [0; 4];
        open(address).read_exact(&mut greeting).expect("greeted");
    }
    let failures = || running.metric("pointsman_connect_failures_total", &["\"dead\""]);
    assert!(failures() >= 1.0 || engine().differs("checks"));
}

#[test]
fn without_any_instance_the_connection_is_closed() {
    let (_running, _site, address) = serving(&[("dead", free_address().to_string())], &[]);
    let mut rest = Vec::new();
    let _ = open(address).read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn least_connections_is_the_default() {
    let (running, _site, address) =
        serving(&[("one", echo_tcp("1").to_string()), ("two", echo_tcp("2").to_string())], &[]);
    wait("the probe to be over", || running.metric("pointsman_active", &["\"t\""]) == 0.0);
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = open(address);
        let mut name = [0];
        stream.read_exact(&mut name).expect("greeted");
        held.push((name[0], stream));
    }
    // Each worker balances on its own, so the counts may differ by a connection or two.
    let ones = held.iter().filter(|(name, _)| *name == b'1').count();
    assert!((3..=7).contains(&ones), "{ones} of 10");
}

#[test]
fn an_idle_relay_is_closed_in_time() {
    let echo = echo_tcp("").to_string();
    let (_running, _site, address) = serving(&[("one", echo)], &[("tcp-services/t/timeout/tunnel", "500ms")]);
    let ended = open(address).read_to_end(&mut Vec::new());
    assert!(!is_timeout(&ended), "{ended:?}");
}

#[test]
fn a_peer_that_does_not_read_holds_back_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let instance = listener.local_addr().expect("bound").to_string();
    let (running, _site, address) = serving(&[("one", instance)], &[]);
    let before = running.process.resident();
    let mut writer = open(address);
    writer.set_write_timeout(Some(Duration::from_millis(700))).expect("open");
    let piece = vec![b'x'; 1 << 20];
    let taken = (0..500).take_while(|_| writer.write_all(&piece).is_ok()).count();
    assert!(taken < 100, "{taken} MiB were taken and nobody read them");
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for one stream that nobody reads");
}
