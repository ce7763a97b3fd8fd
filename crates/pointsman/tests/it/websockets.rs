//! WebSockets to instances that speak HTTP/2 (RFC 8441), from clients of either version.

use crate::harness::{
    Connection, Http2Instance, Pointsman, Site, engine, get_ok, pattern, python_http2, serving, wait, websocket,
};

/// A script that takes no WebSockets: HTTP/2 has them only where its settings say so.
const PLAIN: &str = "
def serve(i, number):
    while True:
        stream, head = i.asked()
        say('asked', head[':method'])
        i.answer(stream, b'plain')
";

/// A service on a.test whose instance speaks HTTP/2.
fn of(instance: &Http2Instance) -> (Site, Pointsman) {
    let (site, running) = serving(&instance.instance, &[("services/a/protocol", "h2")]);
    wait("the instance", || get_ok(running.http, "a.test", "/").status == 200);
    (site, running)
}

fn asked_by_http_1(running: &Pointsman, target: &str) -> (Connection, String) {
    let mut client = running.connect();
    client.send(websocket(target, "a.test") + "early").expect("sent");
    let head = client.read_head().expect("answered");
    (client, head)
}

#[test]
fn clients_of_http_1_reach_them() {
    let node = Http2Instance::node();
    let (_site, running) = of(&node);
    let (mut client, head) = asked_by_http_1(&running, "/chat?a=b");
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
        assert!(head.lines().any(|one| one == line), "{line} is not in\n{head}");
    }
    let asked = head.lines().find_map(|line| line.strip_prefix("x-asked: ")).expect("what Node was asked");
    for field in [":method=connect", ":protocol=websocket", ":path=/chat?a=b", "sec-websocket-version=13"] {
        assert!(asked.split(' ').any(|one| one == field), "{field} is not in {asked}");
    }
    assert!(engine().differs("websocket-key") || !asked.contains("sec-websocket-key"), "{asked}");
    assert!(!asked.contains("content-length"), "{asked}");
    assert_eq!(client.read_bytes(5).expect("echoed"), b"early");
    for round in 0..20 {
        let piece = pattern(round, 50_000);
        client.send(&piece).expect("sent");
        assert!(client.read_bytes(piece.len()).expect("echoed") == piece, "round {round}");
    }
    assert_eq!(running.metric("pointsman_active", &["\"a\""]), 1.0);
    client.finish_sending();
    assert_eq!(client.read_rest(), b"", "its end comes back");
    wait("the end", || running.metric("pointsman_active", &["\"a\""]) == 0.0);
    assert_eq!(running.metric("pointsman_faults_total", &[]), 0.0);
}

#[test]
fn clients_of_http_2_reach_them() {
    let node = Http2Instance::node();
    let (site, running) = of(&node);
    let script = r"
c, piece = Client(), pattern(50_000)
c.until(lambda: c.h2.remote_settings.enable_connect_protocol)
stream = c.begin('/chat', 'CONNECT', more=[('sec-websocket-version', '13')], end=False, protocol='websocket')
c.until(lambda: stream in c.heads or c.is_over(stream))
head = c.heads.get(stream, {})
say(head.get(':status'), 'content-length' in head, 'sec-websocket-accept' in head, ':protocol=websocket' in head.get('x-asked', ''))
for round in range(1, 11):
    c.data(stream, piece)
    c.until(lambda: len(c.bodies.get(stream, b'')) >= round * len(piece))
say(c.bodies[stream] == piece * 10, c.ask('/bytes/3')[0])
c.h2.end_stream(stream); c.flush()
c.until(lambda: c.is_over(stream))
say(stream in c.ended)
refused = c.begin('/other', 'CONNECT', end=False, protocol='websocket')
say(*c.finish(refused)[::2])
";
    let said = python_http2(&site, ("http", running.http), script);
    assert_eq!(said, "200 False False True\nTrue 200\nTrue\n403 b'no chat\\n'\n");
}

#[test]
fn an_instance_may_refuse_one() {
    let node = Http2Instance::node();
    let (_site, running) = of(&node);
    let mut client = running.connect();
    client.send(websocket("/other", "a.test")).expect("sent");
    let answer = client.response("GET").expect("answered");
    assert_eq!((answer.status, answer.text()), (403, "no chat\n".to_owned()));
    assert_eq!(client.request("GET", "a.test", "/bytes/7").expect("answered").body, pattern(0, 7));
}

#[test]
fn one_that_is_broken_off_breaks_off_the_other_side() {
    let script = r"
settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
def serve(i, number):
    while True:
        event = i.next()
        if isinstance(event, h2.events.StreamReset): say('reset', int(event.error_code))
        if isinstance(event, h2.events.RequestReceived):
            head = dict(event.headers)
            if ':protocol' not in head: i.answer(event.stream_id, b'plain'); continue
            i.head(event.stream_id)
            say('open', head[':path'])
            if head[':path'] == '/breaks': i.reset(event.stream_id, ErrorCodes.INTERNAL_ERROR)
";
    if engine().differs("shared-connections") {
        return;
    }
    let instance = Http2Instance::scripted(script);
    let (site, running) = of(&instance);
    let (client, head) = asked_by_http_1(&running, "/left");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    socket2::SockRef::from(client.stream()).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
    drop(client);
    wait("the reset", || instance.said("reset 8") == 1);
    let (mut client, head) = asked_by_http_1(&running, "/breaks");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(client.read_some(1).expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
    let script = "
c = Client()
c.until(lambda: c.h2.remote_settings.enable_connect_protocol)
stream = c.begin('/breaks', 'CONNECT', end=False, protocol='websocket')
c.until(lambda: c.is_over(stream))
say(c.heads[stream][':status'], int(c.resets[stream]))
";
    // RFC 8441 §5: CANCEL.
    assert_eq!(python_http2(&site, ("http", running.http), script), "200 8\n");
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "plain");
    assert_eq!(instance.said("closed"), 0, "the connection goes on");
}

#[test]
fn an_instance_without_them_is_told_of() {
    let instance = Http2Instance::scripted(PLAIN);
    let (site, running) = of(&instance);
    let ask = || {
        let mut client = running.connect();
        client.send(websocket("/chat", "a.test")).expect("sent");
        client.response("GET").expect("answered").status
    };
    assert_eq!([ask(), ask(), ask(), ask()], [502; 4]);
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "plain", "it is not ejected");
    if engine().differs("websocket-key") {
        return;
    }
    let script = "
c = Client()
c.until(lambda: c.h2.remote_settings.enable_connect_protocol)
stream = c.begin('/chat', 'CONNECT', end=False, protocol='websocket')
say(c.finish(stream)[0])
";
    assert_eq!(python_http2(&site, ("http", running.http), script), "502\n");
    assert_eq!(instance.said("asked CONNECT"), 0);
    assert_eq!(running.metric("pointsman_faults_total", &["no_websocket"]), 5.0);
    wait("the log", || running.process.log().contains("no_websocket: 502 for a.test/chat of service a"));
}

#[test]
fn one_without_a_key_cannot_be_answered() {
    let node = Http2Instance::node();
    let (_site, running) = of(&node);
    let mut client = running.connect();
    client
        .send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .expect("sent");
    assert_eq!(client.response("GET").expect("answered").status, 400);
}
