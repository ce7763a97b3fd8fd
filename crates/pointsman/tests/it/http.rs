//! HTTP's requirements on a proxy between two parties that both follow the standard (RFC 9110, RFC 9112).

use std::collections::HashSet;

use crate::harness::{
    Backend, Connection, Pointsman, Raw, Response, Site, Then, engine, get, get_ok, pattern, wait, websocket,
};

/// A served backend; fields drop in order, the program first.
struct Scene {
    running: Pointsman,
    backend: Backend,
    _site: Site,
}

fn scene() -> Scene {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    Scene { running: Pointsman::serving(&site), backend, _site: site }
}

/// A scripted instance behind the program.
fn scripted(bytes: &str, then: Then) -> (Pointsman, Raw, Site) {
    let raw = Raw::answering(bytes, then);
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &raw.instance())]);
    (Pointsman::serving(&site), raw, site)
}

fn ask(running: &Pointsman, request: &str) -> Response {
    let mut connection = running.connect();
    connection.send(request).expect("open");
    connection.response(request.split(' ').next().expect("a method")).expect("an answer")
}

/// The head that the backend received for this request.
fn head_at_backend(running: &Pointsman, lines: &str) -> String {
    ask(running, &format!("GET /head HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).text()
}

#[test]
fn requests_on_one_connection_reuse_one_to_the_instance() {
    let scene = scene();
    let mut connection = scene.running.connect();
    for number in 0..50 {
        let target = format!("/{number}");
        assert_eq!(connection.request("GET", "a.test", &target).expect("kept").text(), format!("one {target}\n"));
    }
    assert!(scene.backend.connections() <= 2, "{} connections for 50 requests", scene.backend.connections());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let scene = scene();
    let mut connection = scene.running.connect();
    let targets = ["/wait/200", "/1", "/bytes/70000", "/chunks/70000", "/status/404", "/last"];
    let requests = targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).concat();
    let post = "POST /count HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n\0\x01\x02";
    connection.send(requests + post + "HEAD /head HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    let mut next = |method: &str| connection.response(method).expect("in order");
    assert_eq!(next("GET").text(), "one /wait/200\n");
    assert_eq!(next("GET").text(), "one /1\n");
    assert_eq!(next("GET").body, pattern(0, 70_000));
    assert_eq!(next("GET").body, pattern(0, 70_000));
    assert_eq!(next("GET").status, 404);
    assert_eq!(next("GET").text(), "one /last\n");
    assert_eq!(next("POST").text(), "3 true\n");
    assert_eq!(next("HEAD").status, 200);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let scene = scene();
    let mut connection = scene.running.connect();
    let request = "POST /count HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n\0\x01\r\n1\r\n\x02\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        connection.send([*byte]).expect("open");
    }
    assert_eq!(connection.response("POST").expect("an answer").text(), "3 true\n");
    assert_eq!(connection.request("GET", "a.test", "/").expect("kept").text(), "one /\n");
}

#[test]
fn forwarded_headers_tell_who_asked_and_how() {
    let scene = scene();
    let check = |lines: &str, expected: &[&str], absent: &[&str]| {
        let head = head_at_backend(&scene.running, lines).to_ascii_lowercase();
        for line in expected {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "no `{line}` for {lines:?} in {head}");
        }
        for text in absent {
            assert!(!head.contains(text), "`{text}` for {lines:?} in {head}");
        }
    };
    let port = format!("x-forwarded-port: {}", scene.running.http.port());
    check("", &["host: a.test", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", &port], &["connection:"]);
    check("X-Forwarded-Proto: https\r\n", &["x-forwarded-proto: https"], &["x-forwarded-proto: http\r\n"]);
    check("X-Custom: kept\r\nCookie: a=b\r\n", &["x-custom: kept", "cookie: a=b"], &[]);
    let head = head_at_backend(&scene.running, "X-Forwarded-For: 192.0.2.1\r\n").to_ascii_lowercase();
    let values = head.lines().filter_map(|line| line.strip_prefix("x-forwarded-for: ")).collect::<Vec<_>>().join(", ");
    assert_eq!(values, "192.0.2.1, 127.0.0.1");
}

/// `balance = source` goes by the client that a trusted proxy tells, not by the proxy.
#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let backends = ["one", "two"].map(Backend::naming);
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/balance", "source")]);
    site.put("services/a/one", backends[0].instance());
    site.put("services/a/two", backends[1].instance());
    let running = Pointsman::serving(&site);
    let ask = |lines: &str| ask(&running, &format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).text();
    let by =
        |header: &str| (1..40).map(|n| ask(&header.replace("{}", &format!("192.0.2.{n}")))).collect::<HashSet<_>>();
    assert_eq!(by("X-Forwarded-For: {}\r\n").len(), 1, "nobody is trusted");
    site.put("config/trusted_proxies", "private");
    wait("the proxy is trusted", || by("X-Forwarded-For: {}\r\n").len() == 2);
    assert_eq!(by("X-Forwarded-For: 198.51.100.1, {}, 10.0.0.1, 10.0.0.2\r\n").len(), 2, "proxies before it");
    assert_eq!(by("X-Forwarded-For: {}, 198.51.100.1, 10.0.0.1\r\n").len(), 1, "what a client says of itself");
    assert_eq!(by("X-Forwarded-For: {}, junk, 10.0.0.1\r\n").len(), 1, "an entry that is no address ends the way");
    assert_eq!(by("X-Real-IP: {}\r\n").len(), 2);
    let forwarded = by("Forwarded: for={};proto=https\r\n").len();
    assert_eq!(forwarded, if engine().differs("forwarded-client") { 1 } else { 2 });
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let scene = scene();
    let lines = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\n";
    let head = head_at_backend(&scene.running, lines).to_ascii_lowercase();
    let nominated = engine().differs("nominated-headers");
    for name in ["keep-alive", "proxy-connection", "upgrade", "h2c"] {
        assert!(!head.contains(name), "{name} in {head}");
    }
    assert!(nominated || !head.contains("x-mine"), "{head}");
    let (running, _raw, _site) = scripted(
        "HTTP/1.1 200 OK\r\nConnection: X-Theirs\r\nX-Theirs: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n",
        Then::Again,
    );
    let head = get_ok(running.http, "a.test", "/").head.to_ascii_lowercase();
    assert!(head.contains("x-kept: 1") && !head.contains("keep-alive: "), "{head}");
    assert!(nominated || !head.contains("x-theirs"), "{head}");
}

#[test]
fn an_absolute_target_is_routed_by_its_own_authority() {
    let scene = scene();
    let answer = ask(&scene.running, "GET http://a.test/head HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("GET /head HTTP/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().to_ascii_lowercase().contains("\r\nhost: a.test\r\n"), "{}", answer.text());
}

#[test]
fn answers_without_a_body_have_none() {
    let scene = scene();
    let mut connection = scene.running.connect();
    let head = connection.request("HEAD", "a.test", "/bytes/1000").expect("kept");
    assert_eq!(head.header("content-length"), Some("1000"));
    assert_eq!(connection.request("GET", "a.test", "/status/204").expect("kept").status, 204);
    assert_eq!(connection.request("GET", "a.test", "/status/304").expect("kept").status, 304);
    assert_eq!(connection.request("GET", "a.test", "/bytes/10").expect("kept").body, pattern(0, 10));
    assert_eq!(scene.backend.connections(), 1);
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let scene = scene();
    let mut connection = scene.running.connect();
    let head = "POST /count HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    connection.send(head).expect("open");
    assert_eq!(connection.any_response("POST").expect("go on").status, 100);
    connection.send(pattern(0, 4)).expect("open");
    assert_eq!(connection.response("POST").expect("an answer").text(), "4 true\n");
    connection.send(head).expect("kept");
    connection.send(pattern(0, 4)).expect("a client need not wait");
    assert_eq!(connection.response("POST").expect("an answer").text(), "4 true\n");
}

#[test]
fn interim_responses_are_passed_on() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let (running, _raw, _site) =
        scripted(&format!("{early}{early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Then::Again);
    let mut connection = running.connect();
    for _ in 0..2 {
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        for _ in 0..2 {
            let hint = connection.any_response("GET").expect("a hint");
            assert_eq!((hint.status, hint.header("link")), (103, Some("</style.css>")));
        }
        assert_eq!(connection.any_response("GET").expect("the answer").text(), "ok");
    }
    let old = ask(&running, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(old.status, 200);
}

#[test]
fn interim_responses_never_reach_http_1_0() {
    let (running, _raw, _site) =
        scripted("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Again);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").expect("open");
    let expected = if engine().differs("interim-1.0") { 103 } else { 200 };
    assert_eq!(connection.any_response("GET").expect("the answer").status, expected);
}

#[test]
fn trailers_are_passed_on() {
    let scene = scene();
    let response = get(scene.running.http, "a.test", "/chunks/25000").expect("an answer");
    assert_eq!(response.trailer("x-total"), Some("25000"));
    assert_eq!(response.trailers.lines().count(), 1);
    assert_eq!(response.body, pattern(0, 25_000));
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let scene = scene();
    for request in
        ["GET /chunks/25000 HTTP/1.0\r\nHost: a.test\r\n\r\n", "GET /bytes/25000 HTTP/1.0\r\nHost: a.test\r\n\r\n"]
    {
        let mut connection = scene.running.connect();
        connection.send(request).expect("open");
        let response = connection.response("GET").expect("an answer");
        let chunked = request.contains("chunks") && engine().differs("chunked-1.0");
        assert_eq!(response.header("transfer-encoding").is_some(), chunked, "{request}");
        assert_eq!(response.body, pattern(0, 25_000), "{request}");
        assert!(connection.is_closed(), "{request}");
    }
    let mut kept = scene.running.connect();
    for _ in 0..2 {
        kept.send("GET /bytes/10 HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n").expect("kept");
        let response = kept.response("GET").expect("an answer");
        assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    }
}

#[test]
fn http_1_0_instances_are_understood() {
    let (running, _raw, _site) = scripted("HTTP/1.0 200 OK\r\n\r\nuntil the end", Then::Close);
    let mut connection = running.connect();
    for _ in 0..3 {
        let response = connection.request("GET", "a.test", "/").expect("kept on our side");
        assert_eq!(response.text(), "until the end");
        if engine().differs("close-delimited") {
            connection = running.connect();
        }
    }
}

#[test]
fn connection_close_is_obeyed_on_either_side() {
    let scene = scene();
    let mut connection = scene.running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").expect("open");
    let response = connection.response("GET").expect("an answer");
    assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    assert!(connection.is_closed());
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let (running, raw, _site) = scripted(closing, Then::Close);
    let mut connection = running.connect();
    for turn in 1..=5 {
        assert_eq!(connection.request("GET", "a.test", "/").expect("kept on our side").text(), "ok");
        assert_eq!(raw.heads(), turn);
    }
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let scene = scene();
    let mut connection = scene.running.connect();
    connection.send(websocket("/chat", "a.test") + "early").expect("open");
    let head = connection.read_head().expect("a head").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert_eq!(connection.read_bytes(5).expect("what was sent early"), b"early");
    for piece in [pattern(0, 10), pattern(10, 100_000)] {
        connection.send(&piece).expect("open");
        assert!(connection.read_bytes(piece.len()).expect("it comes back") == piece);
    }
    connection.finish_sending();
    assert_eq!(connection.read_rest(), b"");
}

#[test]
fn an_upgrade_that_is_declined_is_a_request_like_others() {
    let (running, _raw, _site) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", Then::Again);
    let mut connection = running.connect();
    for _ in 0..2 {
        connection.send(websocket("/", "a.test")).expect("kept");
        assert_eq!(connection.response("GET").expect("an answer").text(), "no");
    }
}

#[test]
fn an_answer_before_the_body_is_over_is_passed_on() {
    let (running, _raw, _site) =
        scripted("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", Then::Hang);
    let mut connection = running.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nsome").expect("open");
    assert_eq!(connection.response("POST").expect("an answer").status, 413);
}

#[test]
fn a_client_that_leaves_frees_the_instance() {
    let scene = scene();
    let mut connection = scene.running.connect();
    connection.send("GET /drip/600000 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    connection.read_head().expect("a head");
    wait("the request to be counted", || scene.running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    drop(connection);
    wait("the instance to be free", || scene.running.metric("pointsman_active", &["\"a\""]) == 0.0);
}

#[test]
fn nobody_waits_for_another_s_slow_request() {
    let scene = scene();
    let mut slow: Vec<_> = (0..20).map(|_| scene.running.connect()).collect();
    slow.iter_mut().for_each(|one| one.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open"));
    wait("all of them to be at work", || scene.backend.whole() >= slow.len());
    for _ in 0..20 {
        assert_eq!(get(scene.running.http, "a.test", "/").expect("while they are at work").status, 200);
    }
    scene.backend.let_go();
    let is_whole = |one: &mut Connection| one.response("GET").expect("in the end").trailer("x-total").is_some();
    assert!(slow.iter_mut().all(is_whole));
}
