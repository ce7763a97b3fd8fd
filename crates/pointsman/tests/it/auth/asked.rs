//! `forward_auth`: another server is asked before a request goes on.

use super::asked_http2::unsupported;
use crate::harness::{
    Backend, Connection, Pointsman, Raw, Response, Scripted, Then, answer, engine, free_address, get, get_ok, serving,
    wait, websocket,
};

fn ask(connection: &mut Connection, method: &str, target: &str, fields: &str, body: &str) -> Response {
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")).expect("open");
    connection.response(method).expect("an answer")
}

fn faults(running: &Pointsman, name: &str) -> f64 {
    running.metric("pointsman_faults_total", &[&format!("\"{name}\"")])
}

/// What this backend received on all connections.
fn received(backend: &Backend) -> String {
    backend.received().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// A server that answers this to every question.
fn server(answer: impl Into<String>) -> Scripted {
    let answer = answer.into().into_bytes();
    Scripted::new(move |_, _| answer.clone())
}

#[test]
fn the_haproxy_engine_does_not_serve_it() {
    if !engine().differs("forward-auth") {
        return;
    }
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("services/a/forward_auth", "http://127.0.0.1:9/verify")]);
    running.wait_problem("unsupported", &["services/a/forward_auth", "--engine native honours it"]);
    running.wait_gone("a.test", "/");
}

#[test]
fn a_request_that_is_let_in_takes_headers_of_the_answer_over() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let auth = server(
        "HTTP/1.1 200 OK\r\nRemote-User: ann\r\nX-Groups: a\r\nX-Groups: b\r\nX-Own: kept\r\nSet-Cookie: s=1; Path=/\r\n\
         Set-Cookie: t=2\r\nContent-Length: 2\r\n\r\nok",
    );
    let value = format!("http://{}/verify?x=y Remote-User,X-Groups X-Missing Set-Cookie", auth.instance());
    let (_site, running) = serving(&backend.instance(), &[("services/a/forward_auth", &value)]);
    wait("it to be asked", || get(running.http, "a.test", "/").is_ok() && auth.requests() > 0);
    let fields = "remote-user: eve\r\nRemote_User: eve\r\nRemote.User: eve\r\nX-Missing: eve\r\nx_groups: eve\r\nX-Own: mine\r\nX-Tell: 1\r\n\
                  Content-Length: 5\r\n";
    let answer = ask(&mut running.connect(), "POST", "/x?q=1", fields, "hello");
    let told = answer.text();
    assert_eq!(answer.status, 200, "{told}");
    for line in ["Remote-User: ann", "X-Groups: a", "X-Groups: b", "X-Own: mine"] {
        assert_eq!(told.matches(line).count(), 1, "{line} in {told}");
    }
    assert!(!told.contains("eve") && !told.contains("kept") && !told.contains("Missing"), "{told}");
    assert!(told.starts_with("POST /x?q=1 HTTP/1.1\r\n") && told.ends_with("hello"), "{told}");
    // Trailers would say it again.
    let fields = "Transfer-Encoding: chunked\r\nTrailer: Remote-User\r\n";
    let answer = ask(&mut running.connect(), "POST", "/", fields, "3\r\nabc\r\n0\r\nRemote-User: mallory\r\n\r\n");
    wait("the body", || received(&backend).contains("abc"));
    assert!(answer.status == 200 && !received(&backend).contains("mallory"), "{}", received(&backend));
    let cookies = answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")).count();
    assert_eq!(cookies, 2, "{}", answer.head);
    assert_eq!(running.metric("pointsman_faults_total", &[]), 0.0);
    // Counted as any service.
    assert!(running.metric("pointsman_requests_total", &["http://127.0.0.1"]) >= 1.0);
}

#[test]
fn the_question_tells_of_the_request() {
    if unsupported() {
        return;
    }
    let (backend, auth) = (Backend::naming("one"), Backend::naming("auth"));
    let (site, running) = serving(
        &backend.instance(),
        &[
            ("services/auth/upstreams/one", &*auth.instance()),
            ("services/a/forward_auth", "auth:/verify?x Remote-User"),
            ("services/a/rewrite", "/in /out"),
        ],
    );
    wait("it to be asked", || get(running.http, "a.test", "/").is_ok() && auth.whole() > 0);
    let fields = "Cookie: s=1\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /open\r\nIf-None-Match: *\r\nContent-Length: 5\r\n\
                  X-Real-IP: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.7\r\n";
    let answer = ask(&mut running.connect(), "PUT", "/in?q=1", fields, "hello");
    assert!(answer.text().contains("/out?q=1"), "{}", answer.text());
    let asked = received(&auth);
    let question = asked.split("GET /verify?x HTTP/1.1\r\n").last().unwrap_or_default().to_owned();
    for line in [
        "Host: a.test",
        "Cookie: s=1",
        "X-Forwarded-Method: PUT",
        "X-Forwarded-Uri: /in?q=1",
        "X-Forwarded-Host: a.test",
        "X-Forwarded-Proto: http",
        "X-Forwarded-For: 127.0.0.1",
    ] {
        assert!(question.contains(&format!("{line}\r\n")), "{line} is not in {question}");
    }
    for left_out in ["hello", "/open", "If-None-Match", "Content-Length", "192.0.2.9", "192.0.2.7"] {
        assert!(!question.contains(left_out), "{left_out} in {question}");
    }
    // The client that a trusted proxy names, without the way that led to it.
    site.put("config/trusted_proxies", "loopback");
    let fields = "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\nForwarded: for=10.0.0.1\r\n";
    wait("the client that the proxy names", || {
        ask(&mut running.connect(), "GET", "/", fields, "");
        received(&auth).contains("X-Forwarded-For: 192.0.2.7\r\n")
    });
    assert!(!received(&auth).contains("for=10.0.0.1"), "{}", received(&auth));
    // Other services and their requests are asked about nowhere.
    let before = auth.whole();
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", backend.instance());
    running.wait_backend("b.test", "/", "one");
    assert_eq!(auth.whole(), before);
}

#[test]
fn any_other_answer_is_the_clients() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let auth = Scripted::new(|_, line| {
        let body = "x".repeat(60_000);
        let say = |status: &str, more: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
        };
        match line.split('/').next_back().unwrap_or_default() {
            _ if line.contains("/302") => {
                say("302 Found", "Location: https://login.test/?rd=x\r\nSet-Cookie: s=1\r\n", "")
            }
            _ if line.contains("/401") => say("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", "who?"),
            _ if line.contains("/403") => {
                "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n".to_owned()
            }
            _ if line.contains("/500") => say("500 Oh", "", &body),
            _ => say("204 Yes", "", ""),
        }
        .into_bytes()
    });
    let (site, running) = serving(
        &backend.instance(),
        &[
            ("services/auth/upstreams/one", &*auth.instance()),
            ("services/a/forward_auth", "auth:/204"),
            ("services/a/response_headers", "set X-Ours yes"),
        ],
    );
    running.wait_backend("a.test", "/", "one");
    let mut connection = running.connect();
    for (path, status, header, body) in [
        ("302", 302, Some(("location", "https://login.test/?rd=x")), ""),
        ("401", 401, Some(("www-authenticate", "Negotiate")), "who?"),
        ("403", 403, None, "no!"),
        ("500", 500, None, &*"x".repeat(60_000)),
    ] {
        site.put("services/a/forward_auth", format!("auth:/{path}"));
        wait(path, || ask(&mut connection, "GET", "/", "", "").status == status);
        let seen = backend.bytes();
        let answer = ask(&mut connection, "GET", "/", "", "");
        assert_eq!((answer.status, &*answer.text()), (status, body), "{path}");
        assert_eq!(answer.header("x-ours"), Some("yes"));
        if let Some((name, value)) = header {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert_eq!(answer.header("set-cookie"), (path == "302").then_some("s=1"));
        let head = ask(&mut connection, "HEAD", "/", "", "");
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
        // The body is not sent on.
        assert_eq!(ask(&mut connection, "POST", "/", "Content-Length: 5\r\n", "hello").status, status);
        connection = running.connect();
        assert_eq!(backend.bytes(), seen, "nothing of it reached the instance");
    }
    site.put("services/a/forward_auth", "auth:/204");
    running.wait_backend("a.test", "/", "one");
}

#[test]
fn interim_answers_are_not_the_clients() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </secret>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let auth = Scripted::new(move |_, line| {
        let status = if line.contains("/yes") { 200 } else { 401 };
        [early.as_bytes(), &answer(status, "auth")].concat()
    });
    let keys = [("services/auth/upstreams/one", &*auth.instance()), ("services/a/forward_auth", "auth:/yes")];
    let (site, running) = serving(&backend.instance(), &keys);
    running.wait_backend("a.test", "/", "one");
    let head = || {
        let mut client = running.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        client.read_head().expect("a head")
    };
    assert!(head().starts_with("HTTP/1.1 200 "), "{}", head());
    site.put("services/a/forward_auth", "auth:/no");
    wait("the refusal", || head().starts_with("HTTP/1.1 401 "));
}

#[test]
fn nobody_is_let_in_without_an_answer() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n{}", "x".repeat(90_000));
    let endless = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(5)
    );
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let switch = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let servers = [
        (Raw::answering(huge, Then::Close), 502, "auth_bad_answer"),
        (Raw::answering(endless, Then::Hang), 502, "auth_bad_answer"),
        (Raw::answering(long, Then::Close), 502, "auth_bad_answer"),
        (Raw::answering("no HTTP at all\r\n\r\n", Then::Close), 502, "auth_bad_answer"),
        (Raw::answering(switch, Then::Close), 502, "auth_bad_answer"),
        (Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", Then::Close), 502, "auth_bad_answer"),
        (Raw::answering("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", Then::Close), 502, "auth_bad_answer"),
        (Raw::answering("", Then::Close), 503, "auth_unreachable"),
    ];
    let dead = free_address();
    let (site, mut running) = serving(&backend.instance(), &[("services/a/forward_auth", "auth:/verify")]);
    running.wait_problem("no_target", &["services/a/forward_auth", "there is no service auth; nobody is let in"]);
    running.wait_answer("a.test", "/", 503, "");
    wait("the fault", || faults(&running, "auth_unreachable") >= 1.0);
    for (auth, status, fault) in &servers {
        let before = faults(&running, fault);
        site.put("services/auth/upstreams/one", auth.instance());
        wait(fault, || {
            let is_it = get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == *status);
            is_it && auth.heads() > 0 && faults(&running, fault) > before
        });
    }
    site.put("services/auth/upstreams/one", dead.to_string());
    wait("nobody there", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 503));
    running.process.wait_log("auth_unreachable: a.test/ of service a from 127.0.0.1: forward_auth: ");
    assert_eq!(backend.whole(), 0, "nothing reached the instance");
    site.put("services/auth/upstreams/one", backend.instance());
    running.wait_backend("a.test", "/", "one");
}

#[test]
fn a_silent_server_is_waited_for_a_while_only() {
    if unsupported() {
        return;
    }
    let (backend, auth) = (Backend::naming("one"), Backend::naming("auth"));
    let (site, running) = serving(
        &backend.instance(),
        &[
            ("services/auth/upstreams/one", &*auth.instance()),
            ("services/auth/timeout/server", "300ms"),
            ("services/a/forward_auth", "auth:/wait/60000"),
            ("services/b/domain", "b.test"),
            ("services/b/one", &backend.instance()),
        ],
    );
    running.wait_backend("b.test", "/", "one");
    wait("the timeout", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 503));
    assert!(faults(&running, "auth_unreachable") >= 1.0);
    // A client that leaves meanwhile is noticed, and the question is not kept open for it.
    site.put("services/auth/timeout/server", "60s");
    wait("the new timeout", || {
        let mut connection = running.connect();
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        wait("a question", || running.metric("pointsman_active", &["\"auth\""]) > 0.0);
        let asked = !connection.is_closed();
        drop(connection);
        asked
    });
    // Others are served meanwhile.
    let mut waiting = running.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    for _ in 0..20 {
        assert_eq!(get_ok(running.http, "b.test", "/").status, 200);
    }
    // In any case it is over after ten seconds.
    let answer = waiting.response("GET").expect("an answer");
    assert_eq!(answer.status, 503);
    wait("no question is left", || running.metric("pointsman_active", &["\"auth\""]) == 0.0);
    // One that resets is gone; nobody blames the server.
    let (mut gone, before) = (running.connect(), faults(&running, "client_gone"));
    gone.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("a question", || running.metric("pointsman_active", &["\"auth\""]) > 0.0);
    gone.reset();
    wait("it is gone", || faults(&running, "client_gone") > before);
    wait("no question is left", || running.metric("pointsman_active", &["\"auth\""]) == 0.0);
    assert_eq!(faults(&running, "auth_bad_answer"), 0.0);
}

#[test]
fn values_that_ask_nobody() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let (site, running) = serving(&backend.instance(), &[]);
    running.wait_backend("a.test", "/", "one");
    for (value, expected) in [
        ("a:/verify", "a is this service itself"),
        ("https://", "expected http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or SERVICE:/PATH"),
        ("auth", "expected http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or SERVICE:/PATH"),
        ("auth:/ Content-Length", "Content-Length cannot be copied"),
    ] {
        site.put("services/a/forward_auth", value);
        running.wait_problem("bad_value", &["services/a/forward_auth", expected]);
        running.wait_gone("a.test", "/");
    }
    // A server that is ourselves.
    site.put("services/a/forward_auth", format!("http://{}/verify", running.http));
    running.wait_problem("loop", &[&running.http.to_string()]);
    running.wait_answer("a.test", "/", 503, "");
    site.remove("services/a/forward_auth");
    running.wait_backend("a.test", "/", "one");
}

#[test]
fn a_websocket_opens_once_it_is_let_in() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let auth = Scripted::new(|_, line| answer(if line.contains("/yes") { 200 } else { 401 }, "auth"));
    let keys = [("services/auth/upstreams/one", &*auth.instance()), ("services/a/forward_auth", "auth:/no")];
    let (site, running) = serving(&backend.instance(), &keys);
    wait("it to be asked", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 401));
    let mut client = running.connect();
    client.send(websocket("/", "a.test")).expect("sent");
    assert!(client.read_head().expect("a head").starts_with("HTTP/1.1 401 "));
    site.put("services/a/forward_auth", "auth:/yes");
    running.wait_backend("a.test", "/", "one");
    let mut client = running.connect();
    client.send(websocket("/", "a.test") + "early").expect("sent");
    assert!(client.read_head().expect("a head").starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read_bytes(5).expect("echoed"), b"early");
}
