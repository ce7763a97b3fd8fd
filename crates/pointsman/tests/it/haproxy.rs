//! The HAProxy engine in normal operation: changes without a reload, the cost of reloads, its pages.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Engine, Launch, Load, PATIENCE, Pointsman, Site, echo_tcp, free_address, free_port, get,
    get_ok, holds, is_haproxy, paced, run, shell, wait, wait_within,
};

/// HAProxy's state is looked at every so often, and mended.
const MENDING: Duration = Duration::from_secs(60);

/// HAProxy in front of one service; fields drop in order, the program first.
struct Scene {
    running: Pointsman,
    backend: Backend,
    site: Site,
}

fn scene(more: &[(&str, &str)]) -> Scene {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    more.iter().for_each(|(key, value)| site.put(key, value));
    let running = Launch::engine(Engine::HaProxy).store(&site).start();
    running.wait_backend("a.test", "/", "one");
    Scene { running, backend, site }
}

#[test]
fn three_hundred_instance_changes_need_no_reload_and_lose_nothing() {
    let (two, three) = (Backend::naming("two"), Backend::naming("three"));
    let Scene { running, backend: _one, site } = scene(&[("services/a/two", &two.instance())]);
    // The preconditions for several instances are met by now.
    running.wait_backend("a.test", "/", "two");
    let before = running.reloads();
    let load = Load::new().open_close(4, running.http, "a.test").keep_alive(2, running.http, "a.test");
    wait("the load to run", || load.done() > 50);
    paced(Duration::from_secs(9), 300, |number| match number % 6 {
        0 => site.put("services/a/three", three.instance()),
        1 => site.put("services/a/two", format!("{} weight={}", two.instance(), 1 + number % 50)),
        2 => site.put("services/a/three", format!("{} maxconn=50", three.instance())),
        3 => site.put("services/a/two", format!("{} drain", two.instance())),
        4 => site.remove("services/a/three"),
        _ => site.put("services/a/two", two.instance()),
    });
    site.put("services/a/last", three.instance());
    site.remove("services/a/one");
    site.remove("services/a/two");
    running.wait_backend("a.test", "/", "three");
    let tally = load.finish();
    tally.assert_served(200);
    assert_eq!(tally.closed, 0);
    assert_eq!(running.reloads() - before, 0.0);
}

#[test]
fn thirty_reloads_lose_nothing() {
    let Scene { running, backend: _one, site } = scene(&[]);
    let load = Load::new().open_close(4, running.http, "a.test").keep_alive(2, running.http, "a.test");
    wait("the load to run", || load.done() > 50);
    for number in 1..=30 {
        let before = running.reloads();
        site.put("config/timeout/server", format!("{}s", 20 + number));
        wait("the reload", || running.reloads() > before);
    }
    let done = load.done();
    wait("the load to go on", || load.done() > done + 100 || load.has_failed());
    load.finish().assert_served(200);
}

#[test]
fn new_services_need_no_reload() {
    let Scene { running, backend, site } = scene(&[]);
    // Ten services go within seconds.
    site.put("config/guard", "off");
    let before = running.reloads();
    for number in 0..10 {
        site.put(&format!("services/new-{number}/domain"), format!("new-{number}.test"));
        site.put(&format!("services/new-{number}/one"), backend.instance());
        running.wait_backend(&format!("new-{number}.test"), "/", "one");
    }
    for number in 0..10 {
        site.remove(&format!("services/new-{number}"));
        running.wait_gone(&format!("new-{number}.test"), "/");
    }
    assert_eq!(running.reloads() - before, 0.0);
}

#[test]
fn what_reloads_is_coalesced() {
    let Scene { running, backend: _one, site } = scene(&[]);
    let (before, start) = (running.reloads(), Instant::now());
    paced(Duration::from_secs(3), 100, |number| {
        site.put("config/timeout/server", format!("{}s", 20 + number));
    });
    site.put("config/errors/503", "the last change");
    running.wait_answer("nobody.test", "/", 503, "the last change");
    let reloads = running.reloads() - before;
    let most = start.elapsed().as_secs_f64() + 2.0;
    assert!((1.0..=most).contains(&reloads), "{reloads} reloads for 100 changes, at most {most} at one a second");
}

#[test]
fn what_was_down_is_down_after_a_reload() {
    let dead = free_address().to_string();
    let Scene { running, backend: _one, site } = scene(&[("services/a/dead", &dead)]);
    let up = |name: &str| running.metric("pointsman_instance_up", &["service=\"a\"", &format!("\"{name}\"")]);
    wait("the dead one to be out", || get_ok(running.http, "a.test", "/").status == 200 && up("dead") == 0.0);
    let before = running.reloads();
    site.put("config/timeout/server", "33s");
    wait("the reload", || running.reloads() > before);
    assert_eq!([up("dead"), up("one")], [0.0, 1.0]);
}

#[test]
fn metrics_survive_reloads() {
    let Scene { running, backend: _one, site } = scene(&[]);
    let requests = || running.metric("pointsman_requests_total", &["service=\"a\"", "instance=\"one\""]);
    wait("the first request to be counted", || requests() == 1.0);
    for _ in 0..10 {
        get_ok(running.http, "a.test", "/");
    }
    wait("ten more", || requests() == 11.0);
    let before = running.reloads();
    site.put("config/timeout/server", "33s");
    wait("the reload", || running.reloads() > before);
    for _ in 0..10 {
        get_ok(running.http, "a.test", "/");
    }
    wait("another ten", || requests() == 21.0);
    holds("no more than that", Duration::from_secs(2), || requests() == 21.0);
}

#[test]
fn routes_and_explain_are_the_same() {
    let Scene { running, backend, site } = scene(&[]);
    site.put("services/a/path", "/cart");
    running.wait_gone("a.test", "/");
    let ask = |arguments: &[&str]| run(&[arguments, &["--admin", &running.admin.to_string()]].concat());
    assert!(ask(&["routes"]).ok().contains(&backend.instance()));
    assert!(ask(&["explain", "http://a.test/cart/1"]).ok().contains("a: "));
    assert_eq!(ask(&["explain", "http://a.test/"]).code, Some(1));
}

#[test]
fn what_somebody_changes_by_hand_is_mended() {
    let (two, other) = (Backend::naming("two"), Backend::naming("other"));
    let Scene { running, backend: _one, site } = scene(&[("services/b/domain", "b.test")]);
    site.put("services/b/two", two.instance());
    running.wait_backend("b.test", "/", "two");
    let state = site.home().join("state");
    let meddle = |command: &str| running.meddle(&state, command);
    let server = meddle("show servers state");
    let line = server.lines().find(|line| line.contains(&format!(" {} ", two.address().port()))).expect("it is there");
    let words: Vec<_> = line.split_whitespace().collect();
    let server = format!("{}/{}", words[1], words[3]);
    let port = other.address().port();
    meddle(&format!("set server {server} addr 127.0.0.1 port {port}"));
    wait_within("the address to be mended", MENDING, || serves(&running, "b.test", "two"));
    meddle(&format!("set server {server} state maint"));
    assert_eq!(serves(&running, "b.test", "two"), None);
    wait_within("the state to be mended", MENDING, || serves(&running, "b.test", "two"));
    let maps = meddle("show map");
    let hosts = maps.lines().find(|line| line.contains("hosts.map")).expect("it is there");
    let hosts = hosts.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a path in brackets").0;
    meddle(&format!("del map {hosts} b.test"));
    assert_eq!(serves(&running, "b.test", "two"), None);
    wait_within("the map to be mended", MENDING, || serves(&running, "b.test", "two"));
    drop(other);
}

/// Whether the backend of this name answers now.
fn serves(running: &Pointsman, host: &str, name: &str) -> Option<()> {
    get(running.http, host, "/").is_ok_and(|answer| answer.header("x-backend") == Some(name)).then_some(())
}

#[test]
fn old_workers_are_counted_and_ended() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    let running = Launch::engine(Engine::HaProxy).store(&site).args(&["--haproxy-hard-stop", "2s"]).start();
    running.wait_backend("a.test", "/", "one");
    let mut download = running.connect();
    download.send("GET /drip/600000 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("the download to run", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    let before = running.haproxies();
    site.put("config/timeout/server", "33s");
    let old = || running.metric("pointsman_haproxy_workers", &["\"old\""]);
    wait("an old worker to be counted", || old() == 1.0);
    wait("it to end", || old() == 0.0);
    wait("its process to end", || !before[1..].iter().any(|id| is_haproxy(*id)));
    assert!(download.response("GET").is_err(), "cut off");
}

#[test]
fn term_drains_and_leaves_nothing() {
    let Scene { mut running, backend: _one, site: _site } = scene(&[]);
    let mut download = running.connect();
    download.send("GET /drip/1500 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("the download to run", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    let all = running.haproxies();
    assert!(all.len() >= 2);
    running.process.signal("TERM");
    wait("new connections to be refused", || Connection::try_open(running.http).is_err());
    let response = download.response("GET").expect("the whole download");
    assert!(response.trailer("x-total").is_some());
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    wait("every HAProxy to end", || !all.iter().any(|id| is_haproxy(*id)));
}

/// A certificate for this name with its key, as PEM.
fn certificate(name: &str) -> String {
    let line = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout - -out - -subj";
    let made =
        Command::new("openssl").args(line.split(' ')).arg(format!("/CN={name}")).output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("PEM is text")
}

/// The name in the certificate that the server presents for this server name.
fn shown(address: SocketAddr, name: &str) -> String {
    let script = format!(
        "openssl s_client -connect {address} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -subject"
    );
    shell(&script).stdout.trim().rsplit('=').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn certificates_come_are_renewed_and_are_held_back_alone() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    site.put("certs/a", certificate("first"));
    let https = free_address();
    let mut running = Launch::engine(Engine::HaProxy).store(&site).args(&["--https", &https.to_string()]).start();
    running.process.wait_log(&format!("listening for HTTPS on {https}"));
    running.wait_backend("a.test", "/", "one");
    wait("the certificate", || shown(https, "a.test") == "first");
    let before = running.reloads();
    site.put("certs/a", certificate("second"));
    wait("the renewed one", || shown(https, "a.test") == "second");
    assert_eq!(running.reloads(), before, "a renewal needs no reload");
    let (one, other) = (certificate("x"), certificate("y"));
    let mixed = one[..one.find("-----BEGIN CERTIFICATE").expect("it has one")].to_owned()
        + &other[other.find("-----BEGIN CERTIFICATE").expect("it has one")..];
    site.put("certs/bad", mixed);
    running.wait_problem("rejected", &["/certs/bad"]);
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", backend.instance());
    running.wait_backend("b.test", "/", "one");
    assert_eq!(shown(https, "a.test"), "second");
}

#[test]
fn an_expression_that_would_hold_haproxy_up_is_refused_alone() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/fast/domain", "fast.test"),
        ("services/fast/url_reg", "^/x.*y.*/[0-9]$"),
        ("services/fast/one", &backend.instance()),
        ("services/slow/domain", "slow.test"),
        ("services/slow/url_reg", "^/(a+)+$"),
        ("services/slow/one", &backend.instance()),
    ]);
    let running = Launch::engine(Engine::HaProxy).store(&site).start();
    running.wait_problem("rejected", &["/services/slow/url_reg", "nest no repetitions"]);
    running.wait_backend("fast.test", &format!("/x{}/1", "y".repeat(10_000)), "one");
    site.put("services/slow/url_reg", "^/a+$");
    running.wait_backend("slow.test", &format!("/{}", "a".repeat(10_000)), "one");
}

#[test]
fn render_prints_what_it_would_run() {
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", "127.0.0.1:9001"),
        ("tcp-services/t/port", &free_port().to_string()),
        ("tcp-services/t/one", &echo_tcp("").to_string()),
    ]);
    let store = site.folder().to_string_lossy().into_owned();
    let printed = run(&["render", "--store", &store, "--prefix", "/"]).ok();
    for text in ["frontend ", "backend services:a", "a.test", "127.0.0.1:9001", "backend tcp-services:t"] {
        assert!(printed.contains(text), "no {text} in {printed}");
    }
    let output = site.home().join("output");
    run(&["render", "--store", &store, "--prefix", "/", "--output", &output.to_string_lossy()]).ok();
    let mut check = Command::new("haproxy");
    let checked = crate::harness::finish(check.args(["-c", "-f"]).arg(output.join("haproxy.cfg")));
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}
