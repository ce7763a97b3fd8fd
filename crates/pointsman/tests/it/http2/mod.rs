//! HTTP/2 from clients, over TLS and with prior knowledge in clear text: what requests and responses become, streams that
//! share a connection, and how it ends.

mod floods;
mod heads;
mod sharing;

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::{
    Authority, Backend, Finished, Launch, Pointsman, Raw, Site, Then, certificate, engine, epoch, finish, free_address,
    get, python_http2, wait,
};

/// A service `a` on a.test with one instance, served with and without TLS.
struct Scene {
    running: Pointsman,
    site: Site,
    backend: Backend,
    https: SocketAddr,
}

fn scene(more: &[(&str, &str)]) -> Scene {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    site.put("certs/a", certificate("a.test", epoch() - 3600, epoch() + 30 * 86_400));
    more.iter().for_each(|(key, value)| site.put(key, value));
    let https = free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string()]).start();
    running.wait_ready();
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    let scene = Scene { running, site, backend, https };
    wait("https", || scene.curl("/", "").code == Some(0));
    scene
}

impl Scene {
    /// What a script says that speaks HTTP/2 in clear text, with prior knowledge.
    #[track_caller]
    fn clear(&self, script: &str) -> String {
        python_http2(&self.site, ("http", self.running.http), script)
    }

    /// What a script says over TLS.
    #[track_caller]
    fn secure(&self, script: &str) -> String {
        python_http2(&self.site, ("https", self.https), script)
    }

    /// What curl says over TLS, where it chooses HTTP/2.
    fn curl(&self, path: &str, words: &str) -> Finished {
        let port = self.https.port();
        let line = format!("curl -s -k --resolve a.test:{port}:127.0.0.1 {words} https://a.test:{port}{path}");
        finish(Command::new("sh").args(["-c", &line]))
    }
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let scene = scene(&[]);
    let script = r"
c, big = Client(), 3_000_000
status, head, body = c.ask(f'/bytes/{big}')
say('down', status, body == pattern(big), head['content-length'])
status, _, told = c.ask('/count', 'POST', body=pattern(big))
say('up', status, told.decode().strip())
status, _, told = c.ask('/count', 'POST', more=[('content-length', '5')], body=pattern(5))
say('length', status, told.decode().strip())
status, head, body = c.ask('/bytes/7', 'HEAD')
say('head', status, head['content-length'], body)
stream = c.begin('/chunks/50000')
status, _, body = c.finish(stream)
say('trailers', status, body == pattern(50000), c.trailers.get(stream))
say('empty', c.ask('/status/204')[::2], c.ask('/status/304')[::2])
";
    let expected = "down 200 True 3000000\nup 200 3000000 true\nlength 200 5 true\nhead 200 7 b''\n\
        trailers 200 True {'x-total': '50000'}\nempty ('204', b'') ('304', b'')\n";
    assert_eq!(scene.clear(script), expected);
    assert_eq!(scene.secure(script), expected);
}

#[test]
fn instances_see_one_request_of_http_1() {
    let scene = scene(&[]);
    let script = r"
c = Client()
more = [('cookie', 'a=1'), ('x-one', '2'), ('cookie', 'b=2'), ('te', 'trailers')]
status, _, head = c.ask('/head', more=more, authority='A.test:8080')
lines = head.decode().lower().split('\r\n')
say(status, lines[0], *sorted(line for line in lines if line.startswith(('host', 'cookie', 'x-', 'te:', 'connection')) and 'port' not in line), sep='|')
say(c.ask('/', authority='b.test')[0], c.ask('/', more=[('host', 'b.test')])[0])
";
    for (proto, said) in [("http", scene.clear(script)), ("https", scene.secure(script))] {
        let mut lines = said.lines();
        let seen = format!(
            "200|get /head http/1.1|cookie: a=1; b=2|host: a.test:8080|x-forwarded-for: 127.0.0.1|\
             x-forwarded-proto: {proto}|x-one: 2"
        );
        assert_eq!(lines.next(), Some(seen.as_str()));
        let disagreeing = if engine().differs("http2-host") { "503 200" } else { "503 400" };
        assert_eq!(lines.next(), Some(disagreeing), "no service; a Host that is not the authority");
    }
}

#[test]
fn clients_choose_it() {
    let scene = scene(&[]);
    assert_eq!(scene.curl("/", "-o /dev/null -w '%{http_version} %{http_code}'").ok(), "2 200");
    assert_eq!(scene.curl("/", "--http1.1 -o /dev/null -w '%{http_version} %{http_code}'").ok(), "1.1 200");
    let clear = format!(
        "curl -s --http2-prior-knowledge -H 'Host: a.test' -o /dev/null -w '%{{http_version}} %{{http_code}}' http://{}/",
        scene.running.http
    );
    assert_eq!(finish(Command::new("sh").args(["-c", &clear])).ok(), "2 200");
    // A preface in pieces is none of HTTP/1.
    let said = scene.clear(
        r"
c = socket.create_connection((host, port))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for piece in (b'PRI * HT', b'TP/2.0\r\n\r', b'\nSM\r\n\r\n', b'\0\0\0\4\0\0\0\0\0'):
    c.sendall(piece); time.sleep(0.02)
head = c.recv(9)
say('settings' if head[3] == 4 else head)
",
    );
    assert_eq!(said, "settings\n");
}

#[test]
fn an_early_answer_is_read_by_a_client_that_still_sends() {
    if engine().differs("early-answer") {
        return;
    }
    let scene = scene(&[]);
    let line = "-o /dev/null -w '%{http_code}' -T -";
    let port = scene.https.port();
    let upload = format!(
        "head -c 8000000 /dev/zero | curl -s -k --resolve b.test:{port}:127.0.0.1 {line} https://b.test:{port}/"
    );
    assert_eq!(finish(Command::new("sh").args(["-c", &upload])).ok(), "503");
}

#[test]
fn an_answer_that_is_cut_short_is_seen_to_be() {
    if engine().differs("http2-cut") {
        return;
    }
    let scene = scene(&[]);
    let raw = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Then::Close);
    scene.site.put("services/a/one", raw.instance());
    let script = r"
c = Client()
stream = c.begin()
c.finish(stream)
say(c.heads.get(stream, {}).get(':status'), c.bodies.get(stream), stream in c.ended, c.resets.get(stream))
say(c.ask('/', authority='b.test')[0])
";
    wait("the instance", || scene.clear("say(Client().ask()[0])").trim() == "200" && raw.heads() > 0);
    assert_eq!(scene.clear(script), "200 b'short' False 2\n503\n");
}

#[test]
fn a_websocket_runs_over_a_stream() {
    // It checks the answer to its key, and the backend has one for one key only.
    if engine().differs("websocket-key") {
        return;
    }
    let scene = scene(&[]);
    let script = r"
c, piece = Client(), pattern(50_000)
c.until(lambda: c.h2.remote_settings.enable_connect_protocol)
more = [('sec-websocket-version', '13'), ('origin', 'http://a.test')]
stream = c.begin('/chat', 'CONNECT', more=more, end=False, protocol='websocket')
c.until(lambda: stream in c.heads or c.is_over(stream))
say(c.heads.get(stream, {}).get(':status'), 'sec-websocket-accept' in c.heads.get(stream, {}))
echoed = 0
for round in range(1, 11):
    c.data(stream, piece)
    c.until(lambda: len(c.bodies.get(stream, b'')) >= round * len(piece))
say(c.bodies[stream] == piece * 10, c.ask('/bytes/3')[0])
c.h2.end_stream(stream); c.flush()
c.until(lambda: c.is_over(stream))
say(stream in c.ended)
";
    assert_eq!(scene.secure(script), "200 False\nTrue 200\nTrue\n");
    assert_eq!(scene.clear(script), "200 False\nTrue 200\nTrue\n");
}

#[test]
fn a_connection_for_one_name_does_not_reach_a_service_of_another_that_asks_for_certificates() {
    let authority = Authority::new();
    authority.issue("client", "DNS:client.test");
    let scene = scene(&[("services/b/domain", "b.test"), ("services/b/client_ca", &authority.pem())]);
    scene.site.put("services/b/one", scene.backend.instance());
    let script = "c = Client(); say(c.ask('/', authority='b.test')[0], c.ask()[0])";
    wait("the service", || scene.secure(script) == "421 200\n");
    assert_eq!(scene.clear(script), "403 200\n");
}

#[test]
fn a_service_changes_headers_of_its_answers_over_http2_too() {
    let scene = scene(&[("services/a/hsts", "365d")]);
    let raw = Raw::answering(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=2\r\nX-A: b\r\nContent-Length: 0\r\n\r\n",
        Then::Close,
    );
    scene.site.put("services/a/one", raw.instance());
    let script = "head = Client().ask()[1]; say(head.get('strict-transport-security'), head.get('x-a'))";
    wait("the instance", || scene.secure(script).ends_with("b\n"));
    assert_eq!(scene.secure(script), "max-age=31536000 b\n");
    assert_eq!(scene.clear(script), "max-age=2 b\n");
}
