//! HTTP/2 to instances: what requests and responses become, requests that share connections, and what instances refuse.

use std::time::Duration;

use crate::harness::{
    Backend, Connection, Http2Instance, Launch, Pointsman, Site, engine, get, get_ok, pattern, python_http2, wait,
};

/// A service `a` for all requests with this instance.
fn serving(instance: &str, more: &[(&str, &str)]) -> (Pointsman, Site) {
    let keys = [("services/a/default", "true"), ("services/a/protocol", "h2"), ("services/a/one", instance)];
    let site = Site::with(&keys);
    more.iter().for_each(|(key, value)| site.put(key, value));
    let running = Launch::on(&site).args(&["--workers", "1"]).start();
    running.wait_ready();
    (running, site)
}

/// As [`serving`], with an instance that runs a script.
fn scripted(script: &str, more: &[(&str, &str)]) -> (Pointsman, Http2Instance, Site) {
    let instance = Http2Instance::scripted(script);
    let (running, site) = serving(&instance.instance, more);
    (running, instance, site)
}

/// Ends a connection by a reset.
fn leave(client: Connection) {
    socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).expect("a socket");
}

fn post(running: &Pointsman, body: &str) -> (u16, String) {
    let mut client = running.connect();
    let length = body.len();
    client.send(format!("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}")).expect("sent");
    let answer = client.response("POST").expect("answered");
    (answer.status, answer.text())
}

#[test]
fn requests_of_http_1_reach_node() {
    let node = Http2Instance::node();
    let (running, _site) = serving(&node.instance, &[]);
    let mut client = running.connect();
    client
        .send("GET /head?b=c HTTP/1.1\r\nHost: A.test:81\r\nX-One: a b\r\nConnection: x-two\r\nX-Two: c\r\nCookie: a=1\r\n\r\n")
        .expect("sent");
    let answer = client.response("GET").expect("answered");
    assert_eq!((answer.status, answer.header("x-made-by")), (200, Some("node")));
    let told = answer.text();
    let differs = engine().differs("http2-authority");
    let named =
        if differs { [":scheme: https", "host: A.test:81"] } else { [":scheme: http", ":authority: A.test:81"] };
    let lines = [":method: GET", ":path: /head?b=c", "x-one: a b", "cookie: a=1", "te: trailers"];
    for line in named.into_iter().chain(lines) {
        assert!(told.lines().any(|told| told.eq_ignore_ascii_case(line)), "{line} is not in\n{told}");
    }
    for name in ["connection", "host", "x-two", "transfer-encoding", "upgrade"] {
        let stays = (name == "x-two" && engine().differs("nominated-headers")) || (name == "host" && differs);
        assert!(stays || !told.lines().any(|told| told.starts_with(&format!("{name}:"))), "{name} is in\n{told}");
    }
    let answer = client.request("GET", "a.test", "/bytes/100000").expect("answered");
    assert_eq!(answer.body, pattern(0, 100_000));
    assert_eq!(client.request("GET", "a.test", "/status/204").expect("answered").status, 204);
    assert_eq!(client.request("HEAD", "a.test", "/bytes/7").expect("answered").status, 200);
    let chunks = "POST /count HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\0\u{1}\u{2}\r\n";
    client.send(chunks).expect("sent");
    client.send("2\r\n\u{3}\u{4}\r\n0\r\nX-Sum: ten\r\n\r\n").expect("sent");
    let told = client.response("POST").expect("answered").text();
    assert_eq!(told, r#"5 true {"x-sum":"ten"}"#);
}

#[test]
fn long_bodies_go_both_ways_at_once() {
    let node = Http2Instance::node();
    let (running, site) = serving(&node.instance, &[]);
    let body = pattern(0, 3_000_000);
    let mut client = running.connect();
    let mut sender = Connection::open(running.http);
    std::mem::swap(&mut client, &mut sender);
    let head = format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    std::thread::scope(|scope| {
        let stream = sender.stream().try_clone().expect("a socket");
        let body = &body;
        scope.spawn(move || {
            use std::io::Write as _;
            (&stream).write_all(head.as_bytes()).expect("sent");
            (&stream).write_all(body).expect("sent");
        });
        let answer = sender.response("POST").expect("answered");
        assert!(answer.body == *body, "{} bytes", answer.body.len());
        assert_eq!(answer.trailer("x-total"), Some("3000000"));
    });
    let script = r"
c = Client()
status, head, body = c.ask('/echo', 'POST', body=pattern(60_000))
say(status, body == pattern(60_000), c.trailers)
status, head, body = c.ask('/count', 'POST', body=pattern(3_000_000))
say(status, body.decode())
";
    let told = python_http2(&site, ("http", running.http), script);
    assert_eq!(told, "200 True {1: {'x-total': '60000'}}\n200 3000000 true {}\n");
}

#[test]
fn requests_share_connections_and_a_full_one_is_joined_by_another() {
    let script = r"
settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
def serve(i, number):
    held = []
    while True:
        stream, head = i.asked()
        if head[':path'] == '/hold': held.append(stream); say('held', number)
        elif head[':path'] == '/go':
            i.answer(stream, b'went')
            for one in held: i.answer(one, b'held')
            held = []
        else: i.answer(stream, b'%d' % number)
";
    if engine().differs("shared-connections") {
        return;
    }
    let (running, instance, _site) = scripted(script, &[]);
    for _ in 0..5 {
        assert_eq!(get_ok(running.http, "a.test", "/").text(), "1");
    }
    let mut clients: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
        wait("the request", || instance.said("held") == number + 1);
    }
    assert_eq!((instance.said("held 1"), instance.said("held 2")), (2, 1));
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "2", "the one with room");
    assert_eq!(get_ok(running.http, "a.test", "/go").text(), "went");
    assert_eq!(clients[2].response("GET").expect("answered").text(), "held");
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "2");
    // Clients that leave make room on the first.
    clients.into_iter().for_each(leave);
    wait("room", || get_ok(running.http, "a.test", "/").text() == "1");
}

#[test]
fn what_an_instance_refuses_is_sent_again() {
    let script = r"
def serve(i, number):
    while True:
        stream, _ = i.asked()
        body = i.whole(stream)
        say('asked', body.decode())
        if seen.setdefault(body, 0) == 0: seen[body] = 1; i.reset(stream, ErrorCodes.REFUSED_STREAM)
        elif body == b'twice': i.reset(stream, ErrorCodes.REFUSED_STREAM)
        else: i.answer(stream, b'took ' + body)
seen = {}
";
    let (running, instance, site) = scripted(script, &[]);
    if engine().differs("refused-streams") {
        return;
    }
    assert_eq!(post(&running, "once"), (200, "took once".to_owned()));
    assert_eq!(post(&running, "twice").0, 503);
    wait("both", || (instance.said("asked once"), instance.said("asked twice")) == (2, 2));
    // What is not kept can only be sent again by the client, who is told so.
    let told = python_http2(
        &site,
        ("http", running.http),
        "c = Client(); say(c.ask('/', 'POST', body=b'other')[0], c.resets)",
    );
    assert_eq!(told, "None {1: 7}\n");
    assert_eq!(running.metric("pointsman_faults_total", &["stream_refused"]), 2.0);
    assert_eq!(post(&running, "once"), (200, "took once".to_owned()), "it is not ejected");
}

#[test]
fn an_instance_that_says_goodbye_finishes_and_gets_no_more() {
    let script = r"
def serve(i, number):
    while True:
        stream, head = i.asked()
        body = i.whole(stream)
        if head[':path'] == '/last':
            i.goaway(stream)
            i.head(stream)
            say('goodbye')
            while '/on' not in asked: pass
            i.h2.send_data(stream, b'%d' % number, end_stream=True); i.flush()
        elif body == b'late' and 'late' not in asked:
            asked.append('late')
            say('late', number)
            i.goaway(0)
            raise Gone
        else: asked.append(head[':path']); i.answer(stream, b'%d' % number)
asked = []
";
    let (running, instance, _site) = scripted(script, &[]);
    let mut client = running.connect();
    client.send("GET /last HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    wait("goodbye", || instance.said("goodbye") == 1);
    wait("another connection", || get_ok(running.http, "a.test", "/on").text() == "2");
    assert_eq!(client.response("GET").expect("answered").text(), "1");
    if !engine().differs("refused-streams") {
        assert_eq!(post(&running, "late"), (200, "3".to_owned()));
        wait("the late one", || instance.said("late") == 1);
    }
}

#[test]
fn what_an_instance_breaks_off_is_not_sent_again() {
    let script = r"
def serve(i, number):
    while True:
        stream, head = i.asked()
        say('asked', head[':path'])
        if head[':path'] == '/broken': i.reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif head[':path'] == '/half':
            i.head(stream)
            i.h2.send_data(stream, b'half'); i.flush()
            i.reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif head[':path'] == '/early':
            i.answer(stream, b'too much', 413)
            i.reset(stream, ErrorCodes.NO_ERROR)
        else: i.answer(stream, b'%d' % number)
";
    let (running, instance, _site) = scripted(script, &[]);
    assert_eq!(get(running.http, "a.test", "/broken").expect("answered").status, 502);
    if !engine().differs("refused-streams") {
        wait("the request", || instance.said("asked /broken") == 1);
    }
    assert!(get(running.http, "a.test", "/half").is_err(), "a response that is cut looks so");
    let mut client = running.connect();
    let head = "POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
    client.send(head).and_then(|()| client.send("x".repeat(100_000))).expect("sent");
    let answer = client.response("POST").expect("answered");
    assert_eq!((answer.status, answer.text()), (413, "too much".to_owned()));
    let went_on = get_ok(running.http, "a.test", "/").text() == "1";
    assert!(went_on || engine().differs("shared-connections"), "the connection goes on");
}

#[test]
fn clients_that_leave_and_late_answers_end_only_their_stream() {
    let script = r"
def serve(i, number):
    while True:
        event = i.next()
        if isinstance(event, h2.events.StreamReset): say('reset', int(event.error_code))
        if not isinstance(event, h2.events.RequestReceived): continue
        head = dict(event.headers)
        if head[':path'] in ('/hold', '/late'): say('held')
        elif head[':path'] == '/begin': i.head(event.stream_id); say('held')
        else: i.answer(event.stream_id, b'%d' % number)
";
    if engine().differs("shared-connections") {
        return;
    }
    let (running, instance, site) = scripted(script, &[]);
    let late = [("path", "/late"), ("protocol", "h2"), ("timeout/server", "300ms"), ("one", &*instance.instance)];
    late.iter().for_each(|(key, value)| site.put(&format!("services/late/{key}"), value));
    for (count, path) in (1..).zip(["/hold", "/begin"]) {
        let mut client = running.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect("sent");
        wait("the request", || instance.said("held") == count);
        leave(client);
        wait("the reset", || instance.said("reset 8") == count);
    }
    wait("the timeout", || get(running.http, "a.test", "/late").expect("answered").status == 504);
    wait("the reset", || instance.said("reset 8") >= 3);
    assert_eq!(get(running.http, "a.test", "/").expect("answered").status, 200);
}

#[test]
fn an_instance_that_speaks_http_1_is_told_of() {
    let backend = Backend::naming("one");
    let (running, site) = serving(&backend.instance(), &[]);
    assert_eq!(get(running.http, "a.test", "/").expect("answered").status, 502);
    if !engine().differs("failure-lines") {
        wait("the reason", || running.process.log().contains("it does not speak HTTP/2"));
    }
    site.put("services/a/protocol", "http1");
    wait("HTTP/1", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    site.put("services/a/protocol", "http2");
    wait("the problem", || running.admin_page("/api/problems").contains("expected http1 or h2"));
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "one /\n", "the last good settings");
}

#[test]
fn connections_end_with_the_instance() {
    let script = r"
def serve(i, number):
    while True:
        stream, _ = i.asked()
        i.answer(stream, b'%d' % number)
";
    let (running, instance, site) = scripted(script, &[("services/a/timeout/connect", "1s")]);
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "1");
    site.remove("services/a/one");
    if !engine().differs("reload-pace") {
        wait("its end", || instance.said("closed 1") == 1);
    }
    wait("no instance", || get(running.http, "a.test", "/").expect("answered").status == 503);
}

#[test]
fn a_maxconn_counts_requests() {
    let script = r"
held, lock = [], threading.Lock()
def serve(i, number):
    while True:
        stream, head = i.asked()
        with lock:
            held.append((i, stream))
            say('held', len(held))
            if len(held) == 2:
                for one, stream in held: one.answer(stream, b'held')
                held.clear()
";
    let (running, instance, site) = scripted(script, &[("services/a/timeout/connect", "30s")]);
    site.put("services/a/one", format!("{} maxconn=2", instance.instance));
    let all: Vec<_> = std::thread::scope(|scope| {
        let ask = || get(running.http, "a.test", "/").expect("answered").text();
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    assert_eq!(all, ["held"; 6]);
    wait("the last", || (instance.said("held 1"), instance.said("held 2")) == (3, 3));
    assert_eq!(instance.said("held 3"), 0);
}

#[test]
fn what_an_instance_must_not_say_is_not_passed_on() {
    let script = r"
def serve(i, number):
    i.h2.config.validate_outbound_headers = i.h2.config.normalize_outbound_headers = False
    while True:
        stream, head = i.asked()
        say('asked', head[':path'])
        if head[':path'] == '/upper':
            i.h2.send_headers(stream, [(':status', '200'), ('Upper', 'x')], end_stream=True); i.flush()
        else: i.answer(stream, b'hi', int(head[':path'][1:]))
";
    if engine().name() == "haproxy" {
        return;
    }
    let (running, instance, site) = scripted(script, &[]);
    let mut client = running.connect();
    for status in [204, 304, 200] {
        let answer = client.request("GET", "a.test", &format!("/{status}")).expect("answered");
        let content: &[u8] = if status == 200 { b"hi" } else { b"" };
        assert_eq!((answer.status, &*answer.body), (status, content));
    }
    let told = python_http2(
        &site,
        ("http", running.http),
        "c = Client()\nfor status in ('204', '304', '200'): say(*c.ask('/' + status)[::2], c.resets)",
    );
    assert_eq!(told, "204 b'' {}\n304 b'' {}\n200 b'hi' {}\n");
    assert_eq!(get(running.http, "a.test", "/upper").expect("answered").status, 502);
    assert_eq!(get_ok(running.http, "a.test", "/200").text(), "hi");
    wait("the last request", || instance.said("asked /200") == 3);
    assert_eq!(instance.said("asked /upper"), 1, "it is not asked again");
    assert_eq!(running.metric("pointsman_faults_total", &["bad_response\""]), 1.0);
}
