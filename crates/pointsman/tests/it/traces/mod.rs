//! Traces: `traceparent` on its way, and the spans that a collector gets.

mod collector;
mod exemplars;
mod outlets;

use crate::harness::{
    Backend, Engine, Http2Instance, Launch, PATIENCE, Pointsman, Response, Scripted, Site, engine, free_address, get,
    python_http2, wait, wait_within,
};
use collector::{Collector, Told};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A balancer that sends spans, and the service `a.test`.
struct Traced {
    running: Pointsman,
    site: Site,
    collector: Collector,
}

impl Traced {
    fn new(keys: &[(&str, &str)], flags: &[&str]) -> Self {
        Self::with(Collector::new(), keys, flags)
    }

    fn with(collector: Collector, keys: &[(&str, &str)], flags: &[&str]) -> Self {
        let site = Site::with(&[("services/a/domain", "a.test")]);
        keys.iter().for_each(|(key, value)| site.put(key, value));
        let launch = Launch::engine(Engine::Native).store(&site).args(&["--otlp", &collector.url()]).args(flags);
        let running = launch.start();
        running.wait_ready();
        Self { running, site, collector }
    }

    /// The answer to a request with these header lines.
    #[track_caller]
    fn ask(&self, target: &str, lines: &str) -> Response {
        let mut connection = self.running.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
        connection.response("GET").expect("an answer")
    }

    /// The trace of the one request to this path, once there are so many spans of it.
    #[track_caller]
    fn trace_of(&self, path: &str, count: usize) -> Vec<Told> {
        let find = || self.collector.traces(path).first().cloned();
        self.collector.trace(&wait_within(&format!("a trace of {path}"), PATIENCE, find), count)
    }
}

/// The line of this header in a head, without its name.
fn line_of(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (of, value) = line.split_once(": ")?;
        of.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

fn parent(trace: &str, span: &str, flags: &str) -> String {
    format!("traceparent: 00-{trace}-{span}-{flags}\r\n")
}

#[test]
fn a_request_that_its_caller_records_is_recorded() {
    let backend = Backend::naming("one");
    let traced = Traced::new(&[("services/a/one", &backend.instance())], &["--otlp-sample", "0", "--name", "edge-1"]);
    let lines =
        parent(TRACE, CALLER, "01") + "TraceState: k=v\r\ntracestate: b=2\r\nUser-Agent: t\u{e9}st/1\r\nX-Tell: 1\r\n";
    let head = traced.ask("/cart?secret=1", &lines).text();
    let spans = traced.collector.trace(TRACE, 2);
    let [server, client] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((&*server.parent, &*server.name, server.failed, server.is_server), (CALLER, "GET", false, true));
    assert_eq!((&*client.parent, &*client.name, client.failed, client.is_server), (&*server.id, "GET", false, false));
    assert_eq!((&*server.state, &*client.state), ("k=v,b=2", "k=v,b=2"));
    assert!(server.begin <= client.begin && client.begin <= client.end && client.end <= server.end, "{spans:?}");
    let port = traced.running.http.port().to_string();
    for (name, expected) in [
        ("http.request.method", "GET"),
        ("url.path", "/cart"),
        ("url.scheme", "http"),
        ("url.query", ""),
        ("server.address", "a.test"),
        ("server.port", &port),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("user_agent.original", "t\u{e9}st/1"),
        ("pointsman.service", "a"),
        ("pointsman.instance", "one"),
        ("pointsman.fault", ""),
        ("error.type", ""),
    ] {
        assert_eq!(server.get(name), expected, "{name}: {server:?}");
    }
    let (address, url) = (backend.address().port().to_string(), format!("http://{}/cart", backend.address()));
    for (name, expected) in [
        ("http.request.method", "GET"),
        ("url.full", &*url),
        ("server.address", "127.0.0.1"),
        ("server.port", &address),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
        ("pointsman.instance", "one"),
    ] {
        assert_eq!(client.get(name), expected, "{name}: {client:?}");
    }
    // The instance is told the span of the attempt, and what other systems wrote.
    assert_eq!(line_of(&head, "traceparent"), Some(format!("00-{TRACE}-{}-01", client.id)), "{head}");
    assert!(head.contains("TraceState: k=v\r\ntracestate: b=2\r\n"), "{head}");
    let resource = traced.collector.resource();
    assert_eq!((&*resource["service.name"], &*resource["service.instance.id"]), ("pointsman", "edge-1"));
    let asked = &traced.collector.heads()[0];
    assert!(
        asked.starts_with("POST /v1/traces HTTP/1.1\r\n") && asked.contains("content-type: application/x-protobuf")
    );
    wait("the count", || traced.running.metric("pointsman_trace_spans_sent_total", &[]) == 2.0);
}

#[test]
fn a_request_that_its_caller_does_not_record_passes_as_it_is() {
    let backend = Backend::naming("one");
    let traced = Traced::new(&[("services/a/one", &backend.instance())], &["--otlp-sample", "1"]);
    let lines = "TraceParent: 01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more\r\ntracestate: k=v\r\n";
    assert!(traced.ask("/head", lines).text().contains(lines));
    // What comes after it is recorded.
    traced.ask("/after", "");
    traced.trace_of("/after", 2);
    assert!(traced.collector.traces("/head").is_empty(), "{:?}", traced.collector.spans());
}

#[test]
fn traces_begin_here() {
    let backend = Backend::naming("one");
    let keys = [("services/a/one", &*backend.instance())];
    let site = Site::with(&[]);
    let log = site.home().join("access.log");
    let log_to = log.display().to_string();
    let flags = ["--access-log", &*log_to, "--access-log-format", "{uri} {trace_id}"];
    let recorded = Traced::new(&keys, &[&["--otlp-sample", "1"], &flags[..]].concat());
    // Of two parents none counts, and notes about an unknown trace are not passed on (W3C Trace Context §4.3).
    let lines = parent(TRACE, CALLER, "01") + &parent(TRACE, CALLER, "00") + "tracestate: k=v\r\n";
    for (path, lines) in [("/none", ""), ("/bad", "traceparent: 00-1-2-01\r\ntracestate: k=v\r\n"), ("/two", &lines)] {
        let head = recorded.ask(path, &format!("X-Tell: 1\r\n{lines}")).text();
        let spans = recorded.trace_of(path, 2);
        let (server, client) = (&spans[0], &spans[1]);
        assert_eq!((&*server.parent, &*server.state), ("", ""));
        assert_ne!(server.trace, TRACE);
        assert_eq!(line_of(&head, "traceparent"), Some(format!("00-{}-{}-01", server.trace, client.id)), "{head}");
        assert_eq!(head.to_ascii_lowercase().matches("\ntrace").count(), 1, "{head}");
        wait("its line", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains(&format!("{path} {}\n", server.trace)))
        });
    }
    let unrecorded = Traced::new(&keys, &["--otlp-sample", "0"]);
    for lines in ["", "traceparent: 00-1-2-01\r\ntracestate: k=v\r\n"] {
        let head = unrecorded.ask("/head", lines).text();
        let made = line_of(&head, "traceparent").expect("made");
        assert!(made.len() == 55 && made.starts_with("00-") && made.ends_with("-00"), "{made}");
        assert_eq!(line_of(&head, "tracestate"), None);
    }
    unrecorded.ask("/after", &parent(TRACE, CALLER, "01"));
    unrecorded.collector.trace(TRACE, 2);
    assert_eq!(unrecorded.collector.spans().len(), 2);
}

/// A client from outside decides about its ids, not about what is recorded, here or behind us.
#[test]
fn flags_of_clients_that_are_not_trusted_do_not_count() {
    let backend = Backend::naming("one");
    let keys = [("services/a/one", &*backend.instance()), ("config/trusted_proxies", "192.0.2.1")];
    let none = Traced::new(&keys, &["--otlp-sample", "0"]);
    let lines = parent(TRACE, CALLER, "01");
    let head = none.ask("/head", &(lines + "tracestate: k=v\r\n")).text();
    assert!(head.contains(&(parent(TRACE, CALLER, "00"))) && head.contains("tracestate: k=v\r\n"), "{head}");
    assert_eq!(head.matches("traceparent").count(), 1, "{head}");
    let all = Traced::new(&keys, &["--otlp-sample", "1"]);
    let head = all.ask("/head", &parent(TRACE, CALLER, "00")).text();
    let spans = all.collector.trace(TRACE, 2);
    assert_eq!(spans[0].parent, CALLER);
    assert_eq!(line_of(&head, "traceparent"), Some(format!("00-{TRACE}-{}-01", spans[1].id)), "{head}");
    assert!(none.collector.spans().is_empty());
}

/// The server of `forward_auth` is told the trace that its question belongs to.
#[test]
fn questions_are_of_the_trace() {
    let (backend, auth) = (Backend::naming("one"), Backend::naming("auth"));
    let asks = format!("http://{}/verify", auth.instance());
    let keys = [("services/a/one", &*backend.instance()), ("services/a/forward_auth", &asks)];
    let traced = Traced::new(&keys, &["--otlp-sample", "1"]);
    wait("it to be asked", || traced.ask("/", "").status == 200 && auth.whole() > 0);
    traced.ask("/asked", &parent(TRACE, CALLER, "01"));
    let server = traced.trace_of("/asked", 2).swap_remove(0);
    let seen: String = auth.received().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    let asked = seen.split("GET /verify ").last().unwrap_or_default();
    assert_eq!(line_of(asked, "traceparent"), Some(format!("00-{TRACE}-{}-01", server.id)), "{asked}");
}

#[test]
fn each_attempt_has_a_span() {
    let (bad, good) = (Scripted::saying(502, "bad"), Backend::naming("good"));
    let keys =
        [("services/a/bad", &*bad.instance()), ("services/a/good", &good.instance()), ("services/a/retries", "2")];
    let traced = Traced::new(&keys, &["--otlp-sample", "1"]);
    let (spans, head) = wait_within("a request that was sent again", PATIENCE, || {
        let before = bad.requests();
        let path = format!("/again-{before}-{}", good.connections());
        let head = traced.ask(&path, "X-Tell: 1\r\n").text();
        (bad.requests() > before).then(|| (traced.trace_of(&path, 3), head))
    });
    let [server, first, second] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((server.get("http.response.status_code"), server.failed), ("200", false));
    assert_eq!(server.get("pointsman.instance"), "good");
    let shown = |span: &Told| {
        ["pointsman.instance", "http.response.status_code", "http.request.resend_count", "error.type"]
            .map(|name| span.get(name).to_owned())
            .join(" ")
    };
    assert_eq!((shown(first), first.failed), ("bad 502  502".to_owned(), true));
    assert_eq!((shown(second), second.failed), ("good 200 1 ".to_owned(), false));
    assert!(first.parent == server.id && second.parent == server.id && first.end <= second.begin, "{spans:?}");
    // Each attempt has an id of its own.
    assert_eq!(line_of(&head, "traceparent"), Some(format!("00-{}-{}-01", server.trace, second.id)), "{head}");
}

#[test]
fn so_has_one_that_no_connection_takes() {
    let (closed, good) = (free_address().to_string(), Backend::naming("good"));
    let traced = Traced::new(
        &[("services/a/closed", &closed), ("services/a/good", &good.instance())],
        &["--otlp-sample", "1", "--workers", "1"],
    );
    let mut number = 0;
    let spans = wait_within("a request that went elsewhere", PATIENCE, || {
        number += 1;
        let path = format!("/elsewhere-{number}");
        assert_eq!(traced.ask(&path, "").status, 200);
        let spans = traced.trace_of(&path, 2);
        (spans.len() == 3).then_some(spans)
    });
    assert_eq!((spans[1].get("pointsman.instance"), spans[1].get("error.type")), ("closed", "connect_refused"));
    assert_eq!((spans[2].get("pointsman.instance"), spans[2].get("http.response.status_code")), ("good", "200"));
    assert_eq!((spans[1].failed, spans[2].failed, spans[0].failed), (true, false, false));
}

#[test]
fn faults_are_told() {
    let closed = free_address().to_string();
    let traced = Traced::new(
        &[
            ("services/a/one", &closed),
            ("services/shut/domain", "shut.test"),
            ("services/shut/deny", "all"),
            ("services/shut/one", &closed),
        ],
        &["--otlp-sample", "1"],
    );
    let shown = |host: &str, path: &str, count: usize| {
        get(traced.running.http, host, path).expect("an answer");
        let spans = traced.trace_of(path, count);
        let server = &spans[0];
        let values = ["pointsman.service", "pointsman.fault", "http.response.status_code", "error.type"];
        format!("{} {}", values.map(|name| server.get(name).to_owned()).join(" "), server.failed)
    };
    assert_eq!(shown("nobody.test", "/1", 1), " no_route 503 no_route true");
    assert_eq!(shown("shut.test", "/2", 1), "shut denied 403  false");
    assert_eq!(shown("a.test", "/3", 2), "a connect_refused 502 connect_refused true");
    let mut odd = traced.running.connect();
    odd.send("PURGE /4 HTTP/1.1\r\nHost: nobody.test\r\n\r\n").expect("open");
    odd.response("PURGE").expect("an answer");
    let span = &traced.trace_of("/4", 1)[0];
    assert_eq!((&*span.name, span.get("http.request.method")), ("HTTP", "_OTHER"));
    assert_eq!(span.get("http.request.method_original"), "PURGE");
}

#[test]
fn over_http2_and_grpc() {
    let script = r"
def serve(i, number):
    while True:
        stream, head = i.asked()
        i.answer(stream, head.get('traceparent', 'none').encode(), more=[('content-type', head.get('content-type', 'text/plain'))])
";
    let server = Http2Instance::scripted(script);
    let keys = [("services/a/one", &*server.instance), ("services/a/protocol", "h2")];
    let traced = Traced::new(&keys, &["--otlp-sample", "0"]);
    let said = python_http2(
        &traced.site,
        ("http", traced.running.http),
        &format!(
            r"
c = Client()
parent = ('traceparent', '00-{TRACE}-{CALLER}-01')
first = c.begin('/h2', more=[parent])
say(c.finish(first)[2].decode())
call = c.begin('/t.T/Unary', 'POST', [parent, ('content-type', 'application/grpc'), ('te', 'trailers')])
say(c.finish(call)[2].decode())
nobody = c.begin('/t.T/None', 'POST', [parent, ('content-type', 'application/grpc'), ('te', 'trailers')], authority='nobody.test')
c.finish(nobody)
"
        ),
    );
    let spans = traced.collector.trace(TRACE, 5);
    let server =
        |path: &str| spans.iter().find(|span| span.is_server && span.get("url.path") == path).expect("its span");
    let client = |path: &str| spans.iter().find(|span| span.parent == server(path).id).expect("the attempt").id.clone();
    let told = |path: &str| format!("00-{TRACE}-{}-01\n", client(path));
    assert_eq!(said, told("/h2") + &told("/t.T/Unary"));
    assert_eq!((server("/h2").get("network.protocol.version"), server("/h2").parent.as_str()), ("2", CALLER));
    assert_eq!((&*server("/t.T/Unary").name, server("/t.T/Unary").failed), ("POST", false));
    let none = server("/t.T/None");
    assert_eq!((none.get("pointsman.fault"), none.failed), ("no_route", true));
}

#[test]
fn without_a_collector_traces_pass() {
    let backend = Backend::naming("one");
    let (running, _site) = crate::harness::with_two_workers(&[("services/a/one", &backend.instance())]);
    let lines = parent(TRACE, CALLER, "01") + "tracestate: k=v\r\n";
    let mut connection = running.connect();
    connection.send(format!("GET /head HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
    assert!(connection.response("GET").expect("an answer").text().contains(&lines));
    assert!(!engine().differs("traces") || running.metric("pointsman_trace_spans_sent_total", &[]) == 0.0);
}
