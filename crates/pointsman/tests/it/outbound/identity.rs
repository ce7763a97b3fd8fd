//! Which connections are the same: those to one address that are set up differently never are. Sessions, tickets and TCP
//! services.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Nginx, answer, certified, told, wait_refused, wait_said};
use crate::harness::{Authority, Connection, Pointsman, Site, engine, free_port, get, wait};

/// What nginx says of the next request of a connection.
#[track_caller]
fn next(connection: &mut Connection, host: &str) -> String {
    connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("open");
    let answer = connection.response("GET").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn who_verifies_never_shares_a_connection_with_who_does_not() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(&site, &[("ssl", certified(&authority.issue("web", "DNS:web.test")))]);
    let services = [("plain", ""), ("same", ""), ("verified", "tls_ca"), ("shown", "tls_cert")];
    for (service, key) in services {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/tls_server_name"), "web.test");
        site.put(&format!("services/{service}/one"), nginx.tls(0));
        if key == "tls_ca" {
            site.put(&format!("services/{service}/tls_ca"), authority.pem());
        } else if key == "tls_cert" {
            let ours = std::fs::read_to_string(authority.issue("ours", "DNS:ours.test")).expect("issued");
            site.put(&format!("services/{service}/tls_cert"), ours);
        }
    }
    let running = Pointsman::serving(&site);
    let hosts = services.map(|(service, _)| format!("{service}.test"));
    hosts.iter().for_each(|host| drop(answer(&running, host)));
    // One client's connection, so that one worker serves them all.
    let mut connection = running.connect();
    let mut used = hosts.clone().map(|_| Vec::new());
    for _ in 0..5 {
        for (host, used) in hosts.iter().zip(&mut used) {
            used.push(told(&next(&mut connection, host), "connection").to_owned());
        }
    }
    for (place, used_here) in used.iter().enumerate() {
        for (other, used_there) in used.iter().enumerate().skip(place + 1) {
            let is_shared = used_here.iter().any(|number| used_there.contains(number));
            assert!(!is_shared || (place, other) == (0, 1), "{} and {}: {used:?}", hosts[place], hosts[other]);
        }
    }
    if engine().name() == "native" {
        assert!(used.iter().all(|used| used.iter().all(|number| *number == used[0])), "used again: {used:?}");
        assert_eq!(used[0][0], used[1][0], "what is the same is shared");
    }
}

#[test]
fn a_connection_for_one_host_serves_no_other() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(&site, &[("ssl", certified(&authority.issue("web", "DNS:a.test,DNS:b.test")))]);
    site.put("services/a/default", "true");
    site.put("services/a/tls_ca", authority.pem());
    site.put("services/a/one", nginx.tls(0));
    let running = Pointsman::serving(&site);
    answer(&running, "a.test");
    let mut connection = running.connect();
    let mut used = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (host, used) in ["a.test", "b.test"].iter().zip(&mut used) {
            let said = next(&mut connection, host);
            assert_eq!(told(&said, "name"), *host);
            used.push(told(&said, "connection").to_owned());
        }
    }
    assert!(used[0].iter().all(|number| !used[1].contains(number)), "{used:?}");
    if engine().differs("host-of-client") {
        return;
    }
    assert!(used.iter().all(|used| used.iter().all(|number| *number == used[0])), "used again: {used:?}");
    // Whatever host a client asks for, it ejects no instance.
    for _ in 0..10 {
        assert_eq!(get(running.http, "evil.test", "/").expect("an answer").status, 502);
    }
    wait_said(&running, "its certificate is not for evil.test");
    wait("the faults", || running.metric("pointsman_faults_total", &["instance_name"]) >= 10.0);
    assert_eq!(running.metric("pointsman_faults_total", &["instance_tls"]), 0.0);
    assert_eq!(get(running.http, "b.test", "/").expect("served").status, 200);
    assert!(!running.process.log().contains("is ejected"));
}

#[test]
fn sessions_are_resumed() {
    let (site, authority) = (Site::new(), Authority::new());
    let lines = certified(&authority.issue("web", "DNS:web.test"));
    let once = |version: &str| format!("{lines} keepalive_timeout 0; ssl_protocols {version};");
    let nginx = Nginx::serving(&site, &[("ssl", once("TLSv1.2")), ("ssl", once("TLSv1.3"))]);
    for (number, service) in ["old", "new"].into_iter().enumerate() {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/tls_ca"), authority.pem());
        site.put(&format!("services/{service}/tls_server_name"), "web.test");
        site.put(&format!("services/{service}/one"), nginx.tls(number));
    }
    let running = Pointsman::serving(&site);
    for (host, version) in [("old.test", "TLSv1.2"), ("new.test", "TLSv1.3")] {
        assert_eq!(told(&answer(&running, host), "version"), version);
        wait("a session to be resumed", || told(&answer(&running, host), "reused") == "r");
    }
}

#[test]
fn a_tcp_service_speaks_tls_to_its_instances() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(&site, &[("ssl", certified(&authority.issue("web", "DNS:web.test,IP:127.0.0.1")))]);
    let port = free_port();
    site.put("tcp-services/t/port", port.to_string());
    site.put("tcp-services/t/tls_ca", authority.pem());
    site.put("tcp-services/t/tls_server_name", "web.test");
    site.put("tcp-services/t/one", nginx.tls(0));
    let running = Pointsman::serving(&site);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
        let mut all = String::new();
        stream.read_to_string(&mut all)?;
        Ok(all)
    };
    wait("the service", || ask().is_ok_and(|said| said.contains("name=web.test")));
    site.put("tcp-services/t/tls_server_name", "other.test");
    wait("the wrong name", || !ask().is_ok_and(|said| said.contains("name=")));
    wait_said(&running, "its certificate is not for other.test");
    // Without a name it is the address that is verified.
    site.remove("tcp-services/t/tls_server_name");
    if engine().differs("verified-addresses") {
        running.wait_problem("unsupported", &["tcp-services/t/one", "set tls_server_name"]);
    } else {
        wait("the address", || ask().is_ok_and(|said| said.contains("name=;")));
    }
}

#[test]
fn an_instance_behind_a_socket_speaks_tls() {
    let (site, authority) = (Site::new(), Authority::new());
    let socket = site.home().join("web.sock");
    let lines = format!("listen unix:{} ssl; {}", socket.display(), certified(&authority.issue("web", "DNS:web.test")));
    let _nginx = Nginx::serving(&site, &[("ssl", lines)]);
    site.put("services/a/domain", "a.test");
    site.put("services/a/tls_ca", authority.pem());
    site.put("services/a/tls_server_name", "web.test");
    site.put("services/a/one", format!("unix:{} tls", socket.display()));
    let running = Pointsman::serving(&site);
    assert_eq!(told(&answer(&running, "a.test"), "name"), "web.test");
}

#[test]
fn what_is_bad_never_leads_to_an_unverified_connection() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(&site, &[("ssl", certified(&authority.issue("web", "DNS:web.test")))]);
    for service in ["new", "kept"] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/one"), nginx.tls(0));
        site.put(&format!("services/{service}/tls_server_name"), "other.test");
    }
    site.put("services/new/tls_ca", "systen");
    site.put("services/kept/tls_ca", authority.pem());
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_value", &["services/new/tls_ca", "expected system, or certificates"]);
    running.wait_gone("new.test", "/");
    wait_refused(&running, "kept.test");
    site.put("services/kept/tls_ca", authority.pem().replace("MI", "XX"));
    running.wait_listed("bad_value", &["services/kept/tls_ca"]);
    wait_refused(&running, "kept.test");
}
