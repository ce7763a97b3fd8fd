//! The admin pages, from outside.

use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::{
    Backend, Connection, Launch, Pointsman, Site, echo_tcp, engine, free_address, free_port, get, get_ok, wait,
};

#[test]
fn health_readiness_and_lost_pages() {
    let site = Site::new();
    let running = Pointsman::serving(&site);
    let status = |path: &str| get(running.admin, "localhost", path).expect("an answer").status;
    assert_eq!([status("/healthz"), status("/readyz"), status("/metrics"), status("/")], [200; 4]);
    assert_eq!(status("/nowhere"), 404);
    let mut post = Connection::open(running.admin);
    assert_eq!(post.request("POST", "localhost", "/healthz").expect("an answer").status, 405);
}

#[test]
fn metrics_count_what_happened() {
    let (backend, port) = (Backend::naming("one"), free_port());
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &*backend.instance()),
        ("services/a/dead", &format!("{} backup", free_address())),
        ("tcp-services/t/port", &port.to_string()),
        ("tcp-services/t/one", &echo_tcp("hi").to_string()),
        ("services/odd/nonsense", "x"),
    ]);
    let running = Pointsman::serving(&site);
    for target in ["/", "/", "/status/404", "/status/500", "/bytes/5000"] {
        get(running.http, "a.test", target).expect("an answer");
    }
    get(running.http, "nobody.test", "/").expect("an answer");
    let of = |name: &str, labels: &[&str]| running.metric(&format!("pointsman_{name}"), labels);
    let a: &[&str] = &["service=\"a\"", "instance=\"one\""];
    wait("the requests to be counted", || of("requests_total", a) == 5.0);
    assert_eq!(of("responses_total", &["service=\"a\"", "code=\"2xx\""]), 3.0);
    assert_eq!(of("responses_total", &["service=\"a\"", "code=\"4xx\""]), 1.0);
    assert_eq!(of("responses_total", &["service=\"a\"", "code=\"5xx\""]), 1.0);
    assert!(of("bytes_out_total", a) > 5000.0);
    let timed = if engine().differs("no-histogram") { 0.0 } else { 5.0 };
    assert_eq!(of("request_duration_seconds_count", &["service=\"a\""]), timed);
    assert_eq!(of("active", a), 0.0);
    assert_eq!(of("faults_total", &["no_route"]), 1.0);
    assert_eq!([of("store_up", &[]), of("ready", &[])], [1.0, 1.0]);
    assert!(of("problems", &[]) >= 1.0);
    assert!(of("last_change_timestamp_seconds", &[]) > 1.5e9);
    wait("the relay", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    wait("its connection to be counted", || of("requests_total", &["service=\"t\""]) >= 1.0);
}

#[test]
fn the_table_is_shown_as_it_is_served() {
    let backend = Backend::naming("one");
    let instance = format!("{} weight=7 drain", backend.instance());
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &instance)]);
    let running = Pointsman::serving(&site);
    let table: serde_json::Value = serde_json::from_str(&running.admin_page("/api/table")).expect("JSON");
    let service = &table["services"][0];
    assert_eq!(service["name"], "a");
    assert_eq!(service["rule"]["hosts"][0], "a.test");
    assert_eq!(service["instances"][0]["target"], backend.instance());
    assert_eq!(service["instances"][0]["weight"], 7);
    assert_eq!(service["instances"][0]["state"], "drain");
    assert!(table["listeners"].to_string().contains(&running.http.to_string()), "{table}");
}

#[test]
fn the_health_uri_is_answered_by_the_balancer_itself() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/default", "true"), ("services/a/one", &backend.instance())]);
    let running = Pointsman::serving(&site);
    assert_eq!(get_ok(running.http, "any.test", "/alive").header("x-backend"), Some("one"));
    site.put("config/health_uri", "/alive");
    wait("the health page", || get_ok(running.http, "any.test", "/alive").header("x-backend").is_none());
    assert_eq!(get_ok(running.http, "any.test", "/other").header("x-backend"), Some("one"));
}

#[test]
fn the_log_says_what_is_served() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", "127.0.0.1:9001")]);
    let mut running = Pointsman::serving(&site);
    running.process.wait_log("serving 1 service, 1 instance at revision");
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", "127.0.0.1:9001");
    running.process.wait_log("serving 2 services, 2 instances at revision");
}

/// More than there are places.
const CROWD: usize = 150;
/// Less than the 10 s that each of them may be silent for.
const SOON: Duration = Duration::from_secs(8);

/// The status of an answer that comes while the crowd is still silent.
#[track_caller]
fn soon(running: &Pointsman, path: &str) -> u16 {
    let mut connection = Connection::open(running.admin);
    connection.stream().set_read_timeout(Some(SOON)).expect("open");
    connection.request("GET", "localhost", path).expect("an answer at once").status
}

#[test]
fn silent_clients_and_slow_readers_shut_nobody_out() {
    let site = Site::new();
    let running = Pointsman::serving(&site);
    let mut busy = Connection::open(running.admin);
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        crowd.push(TcpStream::connect(running.admin).expect("it listens"));
        if number % 30 == 0 {
            assert_eq!(
                busy.request("GET", "localhost", "/readyz").expect("who asks again and again stays").status,
                200
            );
        }
    }
    assert_eq!([soon(&running, "/healthz"), soon(&running, "/readyz")], [200; 2]);
    let pages = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    let mut readers: Vec<Connection> = Vec::new();
    for _ in 0..CROWD {
        let mut reader = Connection::open(running.admin);
        SockRef::from(reader.stream()).set_recv_buffer_size(4096).expect("open");
        // One that had to leave already cannot be sent to.
        let _ = reader.send(&pages);
        readers.push(reader);
    }
    let status = |path: &str| get(running.admin, "localhost", path).expect("an answer").status;
    assert_eq!([status("/healthz"), status("/readyz")], [200; 2]);
}

#[test]
fn a_crowd_that_comes_at_once_finds_room() {
    let site = Site::new();
    let running = Pointsman::serving(&site);
    // Nothing is accepted, as if the program had no core to itself.
    running.process.signal("STOP");
    let connect = |_| TcpStream::connect_timeout(&running.admin, SOON).expect("room in the listening queue");
    let _crowd: Vec<_> = (0..CROWD * 2).map(connect).collect();
    running.process.signal("CONT");
    assert_eq!(soon(&running, "/healthz"), 200);
}

#[test]
fn only_addresses_and_known_names_are_answered() {
    let site = Site::new();
    let mut running = Launch::on(&site).args(&["--admin-host", "lb.test", "--admin-host", "lb-2.test"]).start();
    running.wait_ready();
    let port = running.admin.port();
    for (host, expected) in [
        (running.admin.to_string(), 200),
        ("10.0.0.7".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("lb.test".to_owned(), 200),
        (format!("LB-2.test:{port}"), 200),
        (format!("evil.test:{port}"), 421),
        ("lb.test.evil.test".to_owned(), 421),
    ] {
        for path in ["/api/table", "/metrics", "/readyz", "/healthz", "/nowhere"] {
            let answer = get(running.admin, &host, path).expect("an answer");
            let expected = match path {
                "/readyz" | "/healthz" => 200,
                "/nowhere" if expected == 200 => 404,
                _ => expected,
            };
            assert_eq!(answer.status, expected, "{host}{path}");
            assert!(expected != 421 || answer.text().contains("--admin-host"), "{}", answer.text());
        }
    }
    running.process.wait_log("refused a request for host \"evil.test:");
}

#[test]
fn a_query_that_cannot_be_meant_is_refused() {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    let running = Launch::on(&site).start();
    running.wait_ready();
    for (path, expected, text) in [
        ("/api/service?name=a", 200, "\"name\":\"a\""),
        ("/api/service?protocol=http&name=a", 200, "\"name\":\"a\""),
        ("/api/service?protocol=xx&name=a", 400, "protocol=http or protocol=tcp"),
        ("/api/service?protocol=HTTP&name=a", 400, "protocol=http or protocol=tcp"),
        ("/api/service?protocol=&name=a", 400, "protocol=http or protocol=tcp"),
        ("/api/service?protocol=http", 400, "name the service"),
        ("/api/service?name=a&name=b", 400, "name the service"),
        ("/api/service?protocol=tcp&name=a", 404, "no such service"),
        ("/api/changes?from=x", 400, "from is a number"),
        ("/api/changes?from=-1", 400, "from is a number"),
        ("/api/requests?from=1.5", 400, "from is a number"),
        ("/api/explain?url=ftp://a", 400, "is not a URL"),
        ("/api/explain", 400, "no URL"),
        ("/api/explain?url=/&client=x", 400, "is not an IP address"),
        ("/api/explain?url=/&url=/b", 400, "one URL"),
        ("/api/explain?url=/&method=GET&method=PUT", 400, "one method"),
    ] {
        let answer = get(running.admin, "localhost", path).expect("an answer");
        assert!(
            answer.status == expected && answer.text().contains(text),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[test]
fn a_service_that_is_not_served_shows_its_problems() {
    let site = Site::with(&[("services/mail/port", "80x"), ("services/a/domain", "a.test")]);
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_value", &["80x"]);
    let page = get(running.admin, "localhost", "/api/service?protocol=http&name=mail").expect("it answers");
    let body = String::from_utf8_lossy(&page.body);
    assert!(page.status == 200 && body.contains("80x") && body.contains("\"instances\":[]"), "{body}");
    let none = get(running.admin, "localhost", "/api/service?protocol=http&name=none").expect("it answers");
    assert_eq!(none.status, 404);
}
