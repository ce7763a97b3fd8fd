//! Where instances may be: never behind a listener of ours, whatever name leads there; and names that move, die or stay
//! silent.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Launch, NameServer, Pointsman, Site, Zone, echo_tcp, engine, free_port, get, holds, run, wait,
};

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
    wait("the backend to be gone", || !is_open());
    site.put("services/other/domain", "other.test");
    wait("the other key", || again.admin_page("/api/table").contains("other.test"));
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
    let names = NameServer::with(&[("me.test", at(1))]);
    let name = own_name().unwrap_or_else(|| "me.test".to_owned());
    let port = free_port().to_string();
    let site = Site::with(&[("tcp-services/t/port", &port), ("services/good/domain", "good.test")]);
    let backend = Backend::naming("good");
    site.put("services/good/one", backend.instance());
    let running = Launch::bare()
        .args(&[
            "--http",
            "0.0.0.0:0",
            "--admin",
            "0.0.0.0:0",
            "--engine",
            engine().name(),
            "--resolver",
            &names.flag(),
        ])
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
    let answer = connection.request("GET", "ring.test", "/").expect("an answer");
    assert_eq!(answer.status, 508);
    assert!(answer.text().contains("goes in circles"), "{}", answer.text());
    assert!(engine().differs("loop-page") || answer.text().contains("<h1>Loop Detected"), "{}", answer.text());
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

/// Serves this store, and asks this name server.
fn asking(names: &NameServer, site: &Site, flags: &[&str]) -> Pointsman {
    let running = Launch::on(site).args(&["--resolver", &names.flag()]).args(flags).start();
    running.wait_ready();
    running
}

fn at(last: u8) -> Zone {
    Zone::At(vec![Ipv4Addr::new(127, 0, 0, last)], 1)
}

/// Two backends with the same port, on 127.0.0.2 and 127.0.0.3.
fn two_with_one_port() -> (Backend, Backend, u16) {
    let one = Backend::at("one", ([127, 0, 0, 2], free_port()).into());
    let port = one.address().port();
    (one, Backend::at("two", ([127, 0, 0, 3], port).into()), port)
}

#[test]
fn instances_are_only_where_the_settings_permit_them() {
    let names =
        NameServer::with(&[("meta.test", Zone::At(vec![Ipv4Addr::new(169, 254, 169, 254)], 1)), ("web.test", at(2))]);
    let (one, _two, port) = two_with_one_port();
    let site = Site::with(&[("services/s/domain", "s.test"), ("services/ok/domain", "ok.test")]);
    site.put("services/s/meta", "meta.test:80");
    site.put("services/s/plain", "169.254.169.254:80");
    site.put("services/s/three", format!("127.0.0.3:{port}"));
    site.put("services/s/socket", "unix:/run/docker.sock");
    site.put("services/ok/one", format!("web.test:{port}"));
    let running =
        asking(&names, &site, &["--instances-allow", "127.0.0.0/8,/run/apps", "--instances-deny", "127.0.0.3"]);
    running.wait_backend("ok.test", "/", "one");
    for (key, why) in [
        ("services/s/meta", "link-local"),
        ("services/s/plain", "link-local"),
        ("services/s/three", "--instances-deny 127.0.0.3/32"),
        ("services/s/socket", "--instances-allow does not permit instances at /run/docker.sock"),
    ] {
        running.wait_problem("denied", &[key, why]);
    }
    assert_eq!(get(running.http, "s.test", "/").expect("an answer").status, 503);
    let url = ["explain", "http://ok.test/", "--admin", &running.admin.to_string()].map(str::to_owned);
    let explained = run(&url.each_ref().map(String::as_str)).ok();
    assert!(explained.contains(&format!("web.test:{port} (127.0.0.2:{port})")), "{explained}");
    // A name is judged again whenever it moves.
    names.set("web.test", at(3));
    running.wait_problem("denied", &["services/ok/one", "web.test", "127.0.0.3"]);
    running.wait_answer("ok.test", "/", 503, "");
    assert!(one.connections() > 0);
}

#[test]
fn a_name_that_moves_gets_new_work_elsewhere_at_once() {
    let names = NameServer::with(&[("web.test", at(2))]);
    let (one, two, port) = two_with_one_port();
    let site = Site::with(&[("services/s/domain", "s.test"), ("config/timeout/drain", "1s")]);
    site.put("services/s/web", format!("web.test:{port}"));
    let running = asking(&names, &site, &[]);
    running.wait_backend("s.test", "/", "one");
    let mut held = running.connect();
    held.send("GET /hold HTTP/1.1\r\nHost: s.test\r\n\r\n").expect("open");
    wait("the request", || one.received().iter().any(|bytes| String::from_utf8_lossy(bytes).contains("/hold")));
    names.set("web.test", at(3));
    running.wait_backend("s.test", "/", "two");
    holds("new work at the new address", Duration::from_millis(300), || {
        get(running.http, "s.test", "/").is_ok_and(|answer| answer.header("x-backend") == Some("two"))
    });
    assert!(two.connections() > 0);
    // What runs at the old address may finish, and ends when its time is over.
    assert!(held.response("GET").is_err(), "it is cut off");
}

/// A request that is never answered.
fn holding(running: &Pointsman, host: &str) -> Connection {
    let mut connection = running.connect();
    connection.send(format!("GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("open");
    connection
}

#[test]
fn a_name_that_stops_resolving_keeps_its_last_addresses() {
    let names = NameServer::with(&[("gone.test", at(2)), ("silent.test", at(2))]);
    let (_one, _two, port) = two_with_one_port();
    let site = Site::with(&[("services/gone/domain", "gone.test"), ("services/silent/domain", "silent.test")]);
    site.put("services/gone/web", format!("gone.test:{port}"));
    site.put("services/silent/web", format!("silent.test:{port}"));
    let running = asking(&names, &site, &[]);
    for host in ["gone.test", "silent.test"] {
        running.wait_backend(host, "/", "one");
    }
    names.forget("gone.test");
    names.set("silent.test", Zone::Silent);
    // Held requests take the connections that are open, so that all others need new ones.
    let held: Vec<_> = (0..8).flat_map(|_| ["gone.test", "silent.test"]).map(|host| holding(&running, host)).collect();
    for host in ["gone.test", "silent.test"].repeat(4) {
        assert_eq!(get(running.http, host, "/").expect("an answer").header("x-backend"), Some("one"), "{host}");
    }
    drop(held);
    running.wait_problem("unresolved", &["services/gone/web", "its last addresses serve on: 127.0.0.2"]);
    running.wait_problem("unresolved", &["services/silent/web", "no answer"]);
    for host in ["gone.test", "silent.test"] {
        assert_eq!(get(running.http, host, "/").expect("an answer").header("x-backend"), Some("one"));
    }
    names.set("gone.test", at(3));
    names.set("silent.test", at(3));
    for host in ["gone.test", "silent.test"] {
        running.wait_backend(host, "/", "two");
    }
    wait("no problem", || !running.admin_page("/api/problems").contains("unresolved"));
}

/// However many names are dead, they delay nobody, and their name server is asked at a bounded rate.
#[test]
fn dead_names_delay_nobody() {
    let names = NameServer::with(&[("web.test", at(2)), ("new.test", at(3))]);
    let (_one, _two, port) = two_with_one_port();
    let site = Site::with(&[("services/s/domain", "s.test"), ("services/dead/domain", "dead.test")]);
    site.put("services/s/web", format!("web.test:{port}"));
    for number in 0..200 {
        let name = format!("dead-{number}.silent.test");
        names.set(&name, Zone::Silent);
        site.put(&format!("services/dead/i{number}"), format!("{name}:80"));
    }
    let began = Instant::now();
    let running = asking(&names, &site, &["--workers", "2"]);
    running.wait_backend("s.test", "/", "one");
    running.wait_answer("dead.test", "/", 503, "");
    running.wait_listed("unresolved", &["services/dead/i199"]);
    holds("answers", Duration::from_secs(3), || {
        let answer = get(running.http, "s.test", "/").expect("an answer");
        assert_eq!(answer.header("x-backend"), Some("one"), "{} {}", answer.head, answer.text());
        true
    });
    names.set("web.test", at(3));
    running.wait_backend("s.test", "/", "two");
    site.put("services/new/domain", "new.test");
    site.put("services/new/one", format!("new.test:{port}"));
    running.wait_backend("new.test", "/", "two");
    let threads = || std::fs::read_dir(format!("/proc/{}/task", running.process.id())).map_or(0, Iterator::count);
    assert!(threads() < 40, "{} threads", threads());
    // Usual are 150 questions a second; with all names at once it would be 400 and more.
    let bound = 200 * (began.elapsed().as_secs() as usize + 2);
    let asked = names.asked("silent.test");
    assert!(asked < bound, "{asked} questions in {:?}", began.elapsed());
}

/// A name server that refuses, and one that is slow, keep nobody from an answer.
#[test]
fn another_name_server_may_know_and_a_slow_one_is_waited_for() {
    let late = Zone::Late(vec![Ipv4Addr::new(127, 0, 0, 3)], Duration::from_millis(700));
    let first = NameServer::with(&[("web.test", Zone::Refused), ("late.test", Zone::Refused)]);
    let second = NameServer::with(&[("web.test", at(2)), ("late.test", late)]);
    let (_one, _two, port) = two_with_one_port();
    let site = Site::with(&[("services/s/domain", "s.test"), ("services/late/domain", "late.test")]);
    site.put("services/s/web", format!("web.test:{port}"));
    site.put("services/late/web", format!("late.test:{port}"));
    let running = asking(&first, &site, &["--resolver", &second.flag()]);
    running.wait_backend("s.test", "/", "one");
    running.wait_backend("late.test", "/", "two");
}
