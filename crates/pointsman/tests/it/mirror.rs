//! Copies of requests for another service: whole, of the share asked for, and never in the way of the original.

use std::net::TcpListener;

use crate::harness::{
    Backend, Http2Instance, Pointsman, Response, Site, engine, get, get_ok, pattern, python_http2, run, wait, websocket,
};

const HOST: &str = "shop.test";

/// A shop whose requests are copied to a shadow, which no rule leads to.
fn mirrored(share: &str, shadow: &str) -> (Site, Pointsman, Backend) {
    let shop = Backend::naming("shop");
    let site = Site::with(&[
        ("services/shop/domain", HOST),
        ("services/shop/a", &shop.instance()),
        ("services/shop/mirror/shadow", share),
        ("services/shadow/a", shadow),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_ready();
    running.wait_backend(HOST, "/", "shop");
    (site, running, shop)
}

#[test]
fn whole_requests_are_copied() {
    let shadow = Backend::naming("shadow");
    let (_site, running, _shop) = mirrored("100%", &shadow.instance());
    if engine().differs("mirror") {
        running.wait_problem("unsupported", &["services/shop/mirror/shadow", "100%"]);
        return;
    }
    let mut connection = running.connect();
    let before = shadow.whole();
    for (sent, length) in [(0, 0), (1, 3), (2, 20_000), (3, 60_000)] {
        connection
            .send(format!("POST /count?{sent} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n"))
            .expect("open");
        let body = pattern(0, length);
        body.chunks(7_000).for_each(|part| connection.send(part).expect("open"));
        let answer = connection.response("POST").expect("an answer");
        assert_eq!((answer.status, answer.header("x-backend")), (200, Some("shop")));
    }
    let text = || String::from_utf8_lossy(&shadow.received().concat()).into_owned();
    let has_come = |sent: usize| text().contains(&format!("POST /count?{sent} "));
    wait("four copies", || (0..4).all(has_come) && shadow.whole() >= before + 4);
    assert!(text().contains("X-Forwarded-For: "), "as the original has");
    let body = pattern(0, 60_000);
    wait("the body as it was", || shadow.received().iter().any(|row| row.ends_with(&body)));
    let shown = run(&["explain", &format!("http://{HOST}/"), "--admin", &running.admin.to_string()]);
    assert!(shown.stdout.contains("shadow gets copies of 100%"), "{}", shown.stdout);
    wait("their count", || running.metric("pointsman_requests_total", &["service=\"shadow\""]) >= 4.0);
}

#[test]
fn what_cannot_be_copied_is_served_all_the_same() {
    if engine().differs("mirror") {
        return;
    }
    let shadow = Backend::naming("shadow");
    let (_site, running, shop) = mirrored("100%", &shadow.instance());
    let mut connection = running.connect();
    // With its head longer than what is kept, and a tunnel.
    connection.send(format!("POST /count HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 65500\r\n\r\n")).expect("open");
    pattern(0, 65_500).chunks(10_000).for_each(|part| connection.send(part).expect("open"));
    assert!(connection.response("POST").expect("an answer").text().contains("65500"));
    connection.send(websocket("/socket", HOST)).expect("open");
    assert!(connection.read_head().expect("a head").starts_with("HTTP/1.1 101"));
    let served = || running.metric("pointsman_requests_total", &["service=\"shop\""]);
    let before = served();
    drop(connection);
    wait("the tunnel to end", || served() > before);
    get_ok(running.http, HOST, "/last");
    let copied = || String::from_utf8_lossy(&shadow.received().concat()).into_owned();
    wait("the last", || copied().contains("GET /last "));
    assert!(!copied().contains("POST ") && !copied().contains("/socket"), "{}", copied());
    assert!(shop.whole() >= 2);
}

#[test]
fn a_request_that_did_not_come_whole_is_not_copied() {
    if engine().differs("mirror") {
        return;
    }
    let shadow = Backend::naming("shadow");
    let (_site, running, shop) = mirrored("100%", &shadow.instance());
    let mut cut = running.connect();
    cut.send(format!("POST /cut HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf")).expect("open");
    wait("it to be at work", || String::from_utf8_lossy(&shop.received().concat()).contains("POST /cut "));
    cut.reset();
    wait("it to have left", || running.metric("pointsman_faults_total", &["client_gone"]) > 0.0);
    get_ok(running.http, HOST, "/last");
    let copied = || String::from_utf8_lossy(&shadow.received().concat()).into_owned();
    wait("the last", || copied().contains("GET /last "));
    assert!(!copied().contains("/cut"), "{}", copied());
}

#[test]
fn a_share_of_the_requests_is_copied() {
    if engine().differs("mirror") {
        return;
    }
    let shadow = Backend::naming("shadow");
    let (_site, running, _shop) = mirrored("25%", &shadow.instance());
    let (mut connection, before) = (running.connect(), shadow.whole());
    for _ in 0..400 {
        assert_eq!(connection.request("GET", HOST, "/").expect("an answer").status, 200);
    }
    // Six standard deviations are 52 of 100.
    wait("a quarter of them", || (48..=152).contains(&(shadow.whole() - before)));
}

/// Nobody answers the copies: those beyond the bound are dropped and counted, and the original is answered all the same.
#[test]
fn a_mirror_that_stalls_holds_nothing_up() {
    if engine().differs("mirror") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (_site, running, _shop) = mirrored("100%", &listener.local_addr().expect("bound").to_string());
    let mut connection = running.connect();
    for _ in 0..1_500 {
        assert_eq!(connection.request("GET", HOST, "/").expect("an answer").status, 200);
    }
    wait("dropped copies", || running.metric("pointsman_faults_total", &["copy_dropped"]) > 0.0);
}

/// A client of HTTP/2 may get its answer before it says that its body was all.
#[test]
fn a_body_of_known_length_is_copied_before_its_end_is_told() {
    if engine().differs("mirror") {
        return;
    }
    let shadow = Backend::naming("shadow");
    let (site, running, _shop) = mirrored("100%", &shadow.instance());
    let script = r"
c = Client()
late = c.begin('/count?early', 'POST', [('content-length', '5')], end=False, authority='shop.test')
c.data(late, b'hello')
say(c.finish(late)[0])
";
    assert_eq!(python_http2(&site, ("http", running.http), script), "200\n");
    wait("the copy", || shadow.received().concat().ends_with(b"\r\n\r\nhello"));
}

/// A client of HTTP/2 whose body comes after its head, to instances of either version.
#[test]
fn bodies_of_http2_that_come_late_are_copied() {
    if engine().differs("mirror") {
        return;
    }
    let shadow = Backend::naming("shadow");
    let (site, running, _shop) = mirrored("100%", &shadow.instance());
    let script = r"
c = Client()
for path, more in [('/count?told', [('content-length', '30000')]), ('/count?open', [])]:
    late = c.begin(path, 'POST', more, end=False, authority='shop.test')
    say(c.ask('/between', authority='shop.test')[0])
    c.data(late, pattern(30_000)[:10_000])
    say(c.ask('/between', authority='shop.test')[0])
    c.data(late, pattern(30_000)[10_000:], end=True)
    say(c.finish(late)[0])
";
    let text = || String::from_utf8_lossy(&shadow.received().concat()).into_owned();
    let node = Http2Instance::node();
    for (number, protocol) in [(1, "http1"), (2, "h2")] {
        if protocol == "h2" {
            running.after(|| site.put("services/shop/a", &node.instance));
            running.after(|| site.put("services/shop/protocol", "h2"));
            let is_node = |response: Response| response.status == 200 && response.text().starts_with("node");
            wait("node", || get(running.http, HOST, "/").is_ok_and(is_node));
        }
        let whole = shadow.whole();
        let said = python_http2(&site, ("http", running.http), script);
        assert_eq!(said, "200\n".repeat(6), "{protocol}");
        let copies = |query: &str| text().matches(&format!("POST /count?{query} ")).count();
        wait("both copies", || copies("told") == number && copies("open") == number && shadow.whole() >= whole + 6);
    }
    let body = pattern(0, 30_000);
    let is_whole = |row: &[u8]| row.windows(body.len()).any(|part| part == body);
    wait("the bodies as they were", || shadow.received().iter().any(|row| is_whole(row)));
}
