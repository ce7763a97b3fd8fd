//! Routes, services, instances and ports are added and removed under load, and no client notices.

use crate::harness::{Backend, Load, Pointsman, Site, echo_tcp, free_port, paced, pattern, span, wait};

/// The number of changes during the load.
const CHANGES: u32 = 300;

#[test]
fn three_hundred_changes_under_load_lose_nothing() {
    let (one, two, three) = (Backend::naming("one"), Backend::naming("two"), Backend::naming("three"));
    let (echo, port) = (echo_tcp(""), free_port());
    let site = Site::with(&[
        ("services/web/domain", "web.test"),
        ("services/web/one", &one.instance()),
        ("services/web/two", &two.instance()),
        ("tcp-services/echo/port", &port.to_string()),
        ("tcp-services/echo/one", &echo.to_string()),
    ]);
    let running = Pointsman::serving(&site);
    wait("the TCP service", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let length = span(20, 60);
    let load = Load::new()
        .keep_alive(4, running.http, "web.test")
        .open_close(2, running.http, "web.test")
        .download(running.http, "web.test", length)
        .tunnel(running.http, "web.test")
        .stream(([127, 0, 0, 1], port).into());
    wait("the load to run", || load.done() > 20);
    let spare = free_port();
    paced(length, CHANGES, |number| change(&site, number, [&two, &three], spare));
    site.put("services/last/domain", "last.test");
    site.put("services/last/one", two.instance());
    running.wait_backend("last.test", "/", "two");
    load.finish().assert_clean(200);
}

/// A change as operators make it; everything that the load uses stays reachable.
fn change(site: &Site, number: u32, backends: [&Backend; 2], spare: u16) {
    let extra = format!("services/extra-{}", number / 10);
    match number % 10 {
        0 => site.put(&format!("{extra}/domain"), format!("extra-{number}.test")),
        1 => site.put(&format!("{extra}/one"), backends[0].instance()),
        2 => site.put("services/web/three", backends[1].instance()),
        3 => site.put("services/web/two", format!("{} weight={}", backends[0].instance(), number % 7)),
        4 => site.remove("services/web/two"),
        5 => site.put("services/web/priority", (number % 5).to_string()),
        6 => site.put("services/web/two", backends[0].instance()),
        7 => site.remove("services/web/three"),
        8 if number % 20 == 8 => site.put("tcp-services/spare/port", spare.to_string()),
        8 => site.remove("tcp-services/spare"),
        _ => site.remove(&extra),
    }
}

#[test]
fn an_instance_removed_during_a_download_finishes_it() {
    let (old, new) = (Backend::naming("old"), Backend::naming("new"));
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &old.instance())]);
    let running = Pointsman::serving(&site);
    let mut download = running.connect();
    download.send("GET /drip/1500 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    wait("the download to reach the backend", || !old.received().iter().all(Vec::is_empty));
    site.put("services/a/one", new.instance());
    running.wait_backend("a.test", "/", "new");
    let response = download.response("GET").expect("the whole download");
    assert_eq!(response.header("x-backend"), Some("old"));
    assert_eq!(response.body, pattern(0, response.body.len()));
    assert_eq!(response.trailer("x-total"), Some(&*response.body.len().to_string()));
    let next = download.request("GET", "a.test", "/").expect("the same connection goes on");
    assert_eq!(next.header("x-backend"), Some("new"));
}

#[test]
fn a_service_removed_during_a_download_finishes_it() {
    let old = Backend::naming("old");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &old.instance())]);
    let running = Pointsman::serving(&site);
    let mut download = running.connect();
    download.send("GET /drip/1500 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    wait("the download to reach the backend", || !old.received().iter().all(Vec::is_empty));
    site.remove("services/a");
    running.wait_gone("a.test", "/");
    let response = download.response("GET").expect("the whole download");
    assert_eq!(response.body, pattern(0, response.body.len()));
    assert_eq!(download.request("GET", "a.test", "/").expect("the same connection goes on").status, 503);
}

#[test]
fn a_port_that_moves_keeps_the_connections_it_has() {
    use std::io::{Read as _, Write as _};
    let (before, after) = (free_port(), free_port());
    let echo = echo_tcp("").to_string();
    let site = Site::with(&[("tcp-services/echo/port", &before.to_string()), ("tcp-services/echo/one", &echo)]);
    let running = Pointsman::serving(&site);
    let connect = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port));
    wait("the first port", || connect(before).is_ok());
    let mut held = connect(before).expect("it just did");
    site.put("tcp-services/echo/port", after.to_string());
    wait("the second port", || connect(after).is_ok());
    wait("the first port to close", || connect(before).is_err());
    held.write_all(b"still here").expect("open");
    let mut back = [0; 10];
    held.read_exact(&mut back).expect("open");
    assert_eq!(&back, b"still here");
    assert!(running.metric("pointsman_swaps_total", &[]) >= 1.0);
}
