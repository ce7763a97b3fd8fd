//! PROXY headers ahead of connections to instances: who is named in them, and whose requests a connection carries.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Nginx, answer, certified, told};
use crate::harness::{Authority, Backend, Connection, Pointsman, Site, engine, free_port, wait};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What nginx says of the next request of a connection, with more header lines.
#[track_caller]
fn next(connection: &mut Connection, lines: &str) -> String {
    connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
    let answer = connection.response("GET").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// The client's end of its connection.
fn local(connection: &Connection) -> String {
    connection.stream().local_addr().expect("open").to_string()
}

#[test]
fn an_instance_is_told_who_its_client_is() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(
        &site,
        &[
            ("proxy_protocol", String::new()),
            ("ssl proxy_protocol", certified(&authority.issue("web", "DNS:web.test"))),
        ],
    );
    for (version, tls) in [("v1", ""), ("v2", ""), ("v1", " tls"), ("v2", " tls")] {
        site.put("services/a/domain", "a.test");
        site.put("services/a/send_proxy", version);
        site.put("services/a/one", format!("{}{tls}", nginx.addresses[usize::from(!tls.is_empty())]));
        let running = Pointsman::serving(&site);
        answer(&running, "a.test");
        let mut connection = running.connect();
        let said = next(&mut connection, "");
        assert_eq!(told(&said, "client"), local(&connection), "{version}{tls}");
        assert_eq!(told(&said, "at"), running.http.to_string(), "{version}{tls}");
    }
}

#[test]
fn a_connection_serves_the_client_that_it_names_and_no_other() {
    let site = Site::new();
    let nginx = Nginx::serving(&site, &[("proxy_protocol", String::new())]);
    site.put("services/a/domain", "a.test");
    site.put("services/a/send_proxy", "v2");
    site.put("services/a/one", nginx.addresses[0].to_string());
    let running = Pointsman::serving(&site);
    answer(&running, "a.test");
    let mut used = Vec::new();
    for _ in 0..3 {
        let mut connection = running.connect();
        let said: Vec<_> = (0..3).map(|_| next(&mut connection, "")).collect();
        assert!(said.iter().all(|said| told(said, "client") == local(&connection)), "{said:?}");
        let numbers: Vec<_> = said.iter().map(|said| told(said, "connection").to_owned()).collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "its own is used again: {numbers:?}");
        assert!(!used.contains(&numbers[0]), "{numbers:?} after {used:?}");
        used.push(numbers[0].clone());
    }
    if engine().differs("announced-client") {
        return;
    }
    // Behind a proxy that is trusted, one connection brings requests of many.
    site.put("config/trusted_proxies", "loopback");
    wait("the key", || {
        let said = next(&mut running.connect(), "X-Forwarded-For: 192.0.2.1\r\n");
        told(&said, "client").starts_with("192.0.2.1:")
    });
    let mut connection = running.connect();
    let mut numbers = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::7"] {
        let said = next(&mut connection, &format!("X-Forwarded-For: {client}\r\n"));
        assert!(told(&said, "client").starts_with(&format!("{client}:")), "{said}");
        numbers.push(told(&said, "connection").to_owned());
    }
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[3], "{numbers:?}");
}

#[test]
fn the_client_reaches_the_last_of_two_balancers() {
    let backend = Backend::naming("one");
    let last = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &backend.instance()),
        ("config/accept_proxy", "loopback"),
    ]);
    let last = (Pointsman::serving(&last), last);
    for version in ["v1", "v2"] {
        let first = Site::with(&[("services/a/domain", "a.test"), ("config/accept_proxy", "loopback")]);
        first.put("services/a/send_proxy", version);
        first.put("services/a/one", last.0.http.to_string());
        let running = Pointsman::serving(&first);
        wait("both balancers", || {
            let mut connection = running.connect();
            connection
                .send(format!("PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n{}", ASK.replace("/ ", "/head ")))
                .ok();
            connection.response("GET").is_ok_and(|answer| {
                let head = answer.text().to_ascii_lowercase();
                answer.status == 200 && head.contains("x-forwarded-for: 192.0.2.7")
            })
        });
    }
}

#[test]
fn tcp_services_send_them_too() {
    let site = Site::new();
    let nginx = Nginx::serving(&site, &[("proxy_protocol", String::new())]);
    for version in ["v1", "v2"] {
        let port = free_port();
        site.put("tcp-services/t/port", port.to_string());
        site.put("tcp-services/t/send_proxy", version);
        site.put("tcp-services/t/one", nginx.addresses[0].to_string());
        let _running = Pointsman::serving(&site);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let ask = || -> std::io::Result<(String, String)> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(ASK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())?;
            let mut all = String::new();
            stream.read_to_string(&mut all)?;
            Ok((all, stream.local_addr()?.to_string()))
        };
        wait("the service", || ask().is_ok_and(|(said, _)| said.contains("end")));
        let (said, client) = ask().expect("served");
        let body = said.rsplit("\r\n\r\n").next().unwrap_or_default();
        assert_eq!((told(body, "client"), told(body, "at")), (&*client, &*address.to_string()));
    }
}

#[test]
fn a_bad_value_sends_none() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    site.put("services/a/send_proxy", "v3");
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_value", &["services/a/send_proxy", "expected v1 or v2"]);
    running.wait_gone("a.test", "/");
    site.remove("services/a/send_proxy");
    running.wait_backend("a.test", "/", "one");
}
