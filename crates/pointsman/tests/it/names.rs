//! Where instances may be: never behind a listener of ours, whatever name leads there; and names that move, die or stay
//! silent.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Backend, Connection, Launch, Pointsman, Site, echo_tcp, free_port, get, holds, wait};

/// Asks again and again until told to stop; every answer must be 200.
fn all_well(running: &Pointsman, host: &str, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Acquire) {
        let answer = get(running.http, host, "/").expect("an answer");
        assert_eq!(answer.status, 200, "after {answered} good answers: {}", answer.text());
        answered += 1;
    }
    answered
}

#[test]
fn a_port_that_is_taken_harms_only_the_service_that_asks_for_it() {
    let backend = Backend::naming("web");
    let port = backend.address().port().to_string();
    let site = Site::with(&[("services/shop/domain", "shop.test"), ("services/shop/web-1", &backend.instance())]);
    site.put("tcp-services/db/one", echo_tcp("hello").to_string());
    let running = Pointsman::serving(&site);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| all_well(&running, "shop.test", &stop));
        site.put("tcp-services/db/port", &port);
        running.wait_problem("listen", &["tcp-services/db/port", &port]);
        holds("no loop", Duration::from_millis(500), || !running.admin_page("/api/problems").contains("\"loop\""));
        stop.store(true, Ordering::Release);
        assert!(asking.join().expect("all well") > 0);
    });
    drop(running);
    let again = Pointsman::serving(&site);
    again.wait_problem("listen", &["tcp-services/db/port", &port]);
    assert_eq!(get(again.http, "shop.test", "/").expect("an answer").status, 200);
    assert!(!again.process.log().contains(": loop:"), "{}", again.process.log());
    // Its port is not taken while it is away for a moment, but once it is gone for good.
    drop(backend);
    let is_open = || TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).is_ok();
    holds("the port is left alone", Duration::from_millis(2500), || !is_open());
    site.remove("services/shop/web-1");
    wait("the port", is_open);
    site.put("services/shop/web-1", format!("127.0.0.1:{port}"));
    again.wait_problem("loop", &["services/shop/web-1", "tcp service db"]);
}

/// A name that leads to this machine without being `localhost`.
fn own_name() -> Option<String> {
    let name = std::fs::read_to_string("/etc/hostname").ok()?.trim().to_owned();
    let hosts = std::fs::read_to_string("/etc/hosts").ok()?;
    hosts.split_whitespace().any(|word| word == name).then_some(name)
}

#[test]
fn a_name_of_this_machine_leads_to_no_listener_of_ours() {
    let name = own_name().unwrap_or_else(|| "ip6-localhost".to_owned());
    let port = free_port().to_string();
    let site = Site::with(&[("tcp-services/t/port", &port), ("services/good/domain", "good.test")]);
    let backend = Backend::naming("good");
    site.put("services/good/one", backend.instance());
    let running = Launch::bare()
        .args(&["--http", "0.0.0.0:0", "--admin", "0.0.0.0:0", "--engine", crate::harness::engine().name()])
        .store(&site)
        .start();
    running.wait_ready();
    let (http, admin) = (running.http.port(), running.admin.port());
    site.put("services/pages/domain", "pages.test");
    site.put("services/pages/one", format!("{name}:{admin}"));
    site.put("services/self/domain", "self.test");
    site.put("services/self/one", format!("{name}:{http}"));
    site.put("tcp-services/t/one", format!("{name}:{port}"));
    for key in ["services/pages/one", "services/self/one", "tcp-services/t/one"] {
        running.wait_problem("loop", &[key]);
    }
    running.wait_answer("pages.test", "/api/table", 503, "");
    running.wait_answer("self.test", "/", 503, "");
    let port = port.parse().expect("a port");
    wait("the port", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("open");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(get(running.http, "good.test", "/").expect("an answer").status, 200);
}

/// Two balancers that know of each other and of nothing else: no check of one can see it.
#[test]
fn a_request_that_goes_in_circles_is_ended() {
    let (one, two) = (Site::new(), Site::new());
    let (first, second) = (Launch::on(&one).start(), Launch::on(&two).start());
    for (site, other) in [(&one, &second), (&two, &first)] {
        site.put("services/ring/domain", "ring.test");
        site.put("services/ring/one", other.http.to_string());
    }
    for running in [&first, &second] {
        running.wait_ready();
        wait("the ring", || running.admin_page("/api/table").contains("ring"));
    }
    first.wait_answer("ring.test", "/", 508, "");
    let requests = || first.metric("pointsman_requests_total", &[]) + second.metric("pointsman_requests_total", &[]);
    let before = requests();
    let mut connection = Connection::open(first.http);
    assert_eq!(connection.request("GET", "ring.test", "/").expect("an answer").status, 508);
    let mut hops = 0.0;
    wait("the hops to be counted", || {
        hops = requests() - before;
        hops > 1.0
    });
    assert!(hops < 40.0, "{hops} hops");
}

#[test]
fn numbers_that_some_take_for_addresses_are_refused() {
    let site = Site::with(&[("services/s/domain", "s.test")]);
    let running = Pointsman::serving(&site);
    for (name, value) in
        [("hex", "0x7f000001:80"), ("short", "127.1:80"), ("long", "2130706433:80"), ("mixed", "127.0.0.0x1:80")]
    {
        site.put(&format!("services/s/{name}"), value);
        running.wait_problem("bad_instance", &[&format!("services/s/{name}"), value]);
    }
}
