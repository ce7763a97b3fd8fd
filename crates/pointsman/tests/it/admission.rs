//! Who is let in: `allow`, `deny`, `max_body`, `rate_limit`, `maintenance`, with `errors/<status>`; and which service takes
//! a request by its method, headers and query.

use crate::harness::{
    Backend, Connection, Launch, Pointsman, Response, Scripted, Site, engine, get, get_ok, python_http2, run, wait,
    with_two_workers,
};

fn faults(running: &Pointsman, name: &str) -> f64 {
    running.metric("pointsman_faults_total", &[&format!("\"{name}\"")])
}

/// Waits until a fault was counted that the engine under test counts.
fn wait_fault(running: &Pointsman, name: &str, count: f64) {
    if !engine().differs("admission-faults") {
        wait(name, || faults(running, name) >= count);
    }
}

/// The answer to a request with these fields and this body.
#[track_caller]
fn ask(connection: &mut Connection, method: &str, target: &str, fields: &str, body: &str) -> Response {
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")).expect("open");
    connection.response(method).expect("an answer")
}

#[test]
fn clients_are_let_in_by_their_networks() {
    let backend = Backend::naming("a");
    let (running, site) = with_two_workers(&[
        ("config/trusted_proxies", "loopback"),
        ("services/a/one", &backend.instance()),
        ("services/a/allow", "10.0.0.0/8, fd00::/8"),
        ("services/a/deny", "10.6.0.0/16"),
    ]);
    let status =
        |client: &str| ask(&mut running.connect(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n"), "").status;
    for (client, expected) in
        [("10.1.1.1", 200), ("10.6.1.1", 403), ("11.1.1.1", 403), ("fd00::1", 200), ("fe00::1", 403)]
    {
        assert_eq!(status(client), expected, "{client}");
    }
    wait_fault(&running, "denied", 3.0);
    let admin = running.admin.to_string();
    let explained = |client: &str| run(&["explain", "http://a.test/", "--client", client, "--admin", &admin]);
    let refused = explained("10.6.1.1");
    assert_eq!(refused.code, Some(1));
    let line = "  403: the client 10.6.1.1 is refused by deny 10.6.0.0/16, allow 2 networks\n";
    assert!(refused.stdout.contains(line), "{}", refused.stdout);
    assert!(!explained("10.1.1.1").ok().contains("refused"));
    let list: Vec<_> = (0..1_000).map(|number| format!("11.{}.{}.0/24", number / 256, number % 256)).collect();
    site.put("services/a/allow", list.join(","));
    wait("the long list", || status("11.3.231.9") == 200);
    assert_eq!((status("10.1.1.1"), status("11.3.232.1")), (403, 403));
    site.put("services/a/deny", "10.6.0.0/33");
    running.wait_problem("bad_value", &["services/a/deny"]);
    assert_eq!(status("11.3.231.9"), 200, "it keeps its last good form");
    site.put("services/new/deny", "everybody");
    site.put("services/new/domain", "new.test");
    site.put("services/new/one", backend.instance());
    running.wait_problem("bad_value", &["services/new/deny"]);
    assert_eq!(get(running.http, "new.test", "/").expect("an answer").status, 503, "it was never good");
}

#[test]
fn tcp_clients_are_let_in_by_their_networks() {
    let backend = Backend::naming("a");
    let port = crate::harness::free_port();
    let site = Site::with(&[
        ("tcp-services/a/port", &format!("127.0.0.1:{port}")),
        ("tcp-services/a/one", &backend.instance()),
        ("tcp-services/a/allow", "127.0.0.0/8"),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_ready();
    let address = ([127, 0, 0, 1], port).into();
    wait("it to be served", || get(address, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    site.put("tcp-services/a/deny", "127.0.0.1");
    wait("it to be closed", || get(address, "a.test", "/").is_err());
    wait_fault(&running, "denied", 1.0);
    site.put("tcp-services/a/deny", "127.0.0.2");
    wait("it to be open again", || get(address, "a.test", "/").is_ok());
}

#[test]
fn bodies_have_a_limit() {
    let instance = Scripted::saying(200, "ok");
    let (running, _site) =
        with_two_workers(&[("services/a/one", &instance.instance()), ("services/a/max_body", "64KiB")]);
    let told = |length: usize| {
        let body = "x".repeat(length.min(64 * 1024));
        ask(&mut running.connect(), "POST", "/", &format!("Content-Length: {length}\r\n"), &body).status
    };
    assert_eq!((told(0), told(5), told(64 * 1024)), (200, 200, 200));
    let heads = instance.requests();
    assert_eq!((told(64 * 1024 + 1), told(1 << 30)), (413, 413));
    assert_eq!(instance.requests(), heads, "nothing of them reached the instance");
    wait_fault(&running, "body_too_large", 2.0);
    if engine().differs("body-limit") {
        return;
    }
    let chunked = |length: usize, size: usize| {
        let chunks: String = (0..length / size).map(|_| format!("{size:x}\r\n{}\r\n", "x".repeat(size))).collect();
        ask(&mut running.connect(), "POST", "/", "Transfer-Encoding: chunked\r\n", &format!("{chunks}0\r\n\r\n")).status
    };
    assert_eq!((chunked(16, 1), chunked(64 * 1024, 16), chunked(64 * 1024, 4096)), (200, 200, 200));
    assert_eq!((chunked(64 * 1024 + 16, 16), chunked(256 * 1024, 4096)), (413, 413));
    wait_fault(&running, "body_too_large", 4.0);
    assert_eq!(told(5), 200, "others are served");
}

#[test]
fn bodies_have_a_limit_over_http2() {
    let backend = Backend::naming("a");
    let (running, site) =
        with_two_workers(&[("services/a/one", &backend.instance()), ("services/a/max_body", "64KiB")]);
    let script = r"
c = Client()
def post(size, *more):
    stream = c.begin('/count', 'POST', more, end=False)
    try: c.data(stream, b'x' * size, end=True)
    except h2.exceptions.ProtocolError: pass
    return c.finish(stream)[0]
length = lambda size: ('content-length', str(size))
# Nobody reads the body of a request that is refused.
refused = c.finish(c.begin('/count', 'POST', [length(65537)], end=False))[0]
say(post(65536, length(65536)), refused)
";
    let said = python_http2(&site, ("http", running.http), script);
    assert_eq!(said, "200 413\n");
    if engine().differs("body-limit") {
        return;
    }
    let said =
        python_http2(&site, ("http", running.http), &format!("{script}say(post(65536), post(65537), post(1 << 20))\n"));
    assert_eq!(said, "200 413\n200 413 413\n");
    wait_fault(&running, "body_too_large", 4.0);
}

#[test]
fn requests_are_let_in_at_a_rate() {
    let backend = Backend::naming("a");
    let keys = [
        ("config/trusted_proxies", "loopback"),
        ("services/a/one", &backend.instance()),
        ("services/a/rate_limit", "10/h burst=3"),
    ];
    if engine().differs("rate-limit") {
        let site = Site::with(&keys);
        let running = Pointsman::serving(&site);
        running.wait_problem("unsupported", &["services/a/rate_limit"]);
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 503);
        return;
    }
    let (running, site) = with_two_workers(&keys);
    let get = |client: &str, more: &str| {
        ask(&mut running.connect(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n{more}"), "")
    };
    let admitted = |client: &str, more: &str| (0..8).filter(|_| get(client, more).status == 200).count();
    assert_eq!((admitted("10.0.0.1", ""), admitted("10.0.0.2", "")), (3, 3), "over both workers");
    let refused = get("10.0.0.1", "");
    assert_eq!(refused.status, 429);
    let after: u32 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("seconds");
    assert!((300..=360).contains(&after), "one in six minutes: {after}");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"default\";q=10;w=3600"));
    assert_eq!(refused.header("ratelimit"), Some(&*format!("\"default\";r=0;t={after}")));
    assert_eq!((admitted("2001:db8::1", ""), admitted("2001:db8::2", "")), (3, 0), "one network of 64 bits");
    wait_fault(&running, "rate_limited", 10.0);
    let counted = |service: &str| running.metric("pointsman_rate_limited_total", &[&format!("service=\"{service}\"")]);
    assert_eq!((counted("a"), counted("b")), (faults(&running, "rate_limited"), 0.0));
    site.put("services/a/balance", "random");
    site.put("services/b/domain", "b.test");
    running.wait_gone("b.test", "/");
    assert_eq!(admitted("10.0.0.1", ""), 0, "changes of the table forget nothing");
    site.put("services/a/rate_limit", "1000/s burst=1000 by=header:X-Key");
    wait("the new rate", || get("10.0.0.1", "X-Key: a\r\n").status == 200);
    site.put("services/a/rate_limit", "10/h burst=2 by=header:X-Key");
    wait("the new rate", || admitted("10.0.0.9", "X-Key: b\r\n") < 8);
    assert_eq!((admitted("10.0.0.1", "X-Key: c\r\n"), admitted("10.0.0.2", "X-Key: c\r\n")), (2, 0));
}

#[test]
fn a_service_in_maintenance_lets_in_whom_it_names() {
    let backend = Backend::naming("a");
    let (running, site) = with_two_workers(&[
        ("config/trusted_proxies", "loopback"),
        ("services/a/one", &backend.instance()),
        ("services/a/maintenance", "true"),
        ("services/a/maintenance_except", "10.0.0.0/8, header:X-Staff=let me in"),
    ]);
    let get = |client: &str, more: &str| {
        ask(&mut running.connect(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n{more}"), "")
    };
    let closed = get("11.0.0.1", "");
    assert_eq!((closed.status, closed.header("retry-after")), (503, Some("60")));
    assert_eq!(get("10.0.0.1", "").status, 200);
    assert_eq!(get("11.0.0.1", "X-Staff: let me in\r\n").status, 200);
    assert_eq!(get("11.0.0.1", "X-Staff: let me\r\n").status, 503);
    wait_fault(&running, "maintenance", 2.0);
    site.remove("services/a/maintenance");
    wait("it to be open", || get("11.0.0.1", "").status == 200);
    assert_eq!(get("11.0.0.1", "").header("retry-after"), None);
}

#[test]
fn services_have_their_own_pages() {
    let backend = Backend::naming("a");
    let page = "<p>{service} {method} {host}:{port}{path} {query} {client_ip} {header:X-A} {nobody}</p>";
    let keys = [
        ("config/errors/503", "none at {host}{uri}"),
        ("services/a/one", &backend.instance()),
        ("services/a/deny", "loopback"),
        ("services/a/errors/403", page),
    ];
    if engine().differs("error-pages") {
        let site = Site::with(&keys);
        let running = Pointsman::serving(&site);
        running.wait_problem("unsupported", &["services/a/errors/403"]);
        return;
    }
    let (running, site) = with_two_workers(&keys);
    let denied = ask(&mut running.connect(), "GET", "/x/<b>?q='1'", "X-A: \"<script>\"\r\n", "");
    assert_eq!(denied.status, 403);
    let expected = "<p>a GET a.test:80/x/&lt;b&gt; ?q=&#39;1&#39; 127.0.0.1 &quot;&lt;script&gt;&quot; {nobody}</p>";
    assert_eq!(denied.text(), expected);
    assert_eq!(denied.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(get(running.http, "b.test", "/y?z").expect("an answer").text(), "none at b.test/y?z");
    site.put("services/a/errors/503", "no instance of {service} for {path}");
    site.remove("services/a/deny");
    site.remove("services/a/one");
    running.wait_answer("a.test", "/x", 503, "no instance of a for /x");
    site.put("services/a/errors/999", "x");
    running.wait_problem("bad_value", &["services/a/errors/999"]);
}

#[test]
fn what_a_service_refuses_is_its_own() {
    if engine().differs("error-pages") {
        return;
    }
    let site = Site::with(&[
        ("services/a/default", "true"),
        ("services/a/scheme", "https"),
        ("services/a/request_id", "true"),
        ("services/a/errors/400", "{service} {request_id}"),
    ]);
    let running = Launch::on(&site).arg("--recent-requests").arg("10").start();
    running.wait_ready();
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.0\r\nX-Request-Id: victim-7\r\n\r\n").expect("open");
    let answer = connection.response("GET").expect("an answer");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert_eq!((answer.status, answer.text()), (400, format!("a {id}")));
    assert_ne!(id, "victim-7");
    let logged = || running.admin_page("/api/requests?from=0");
    wait("its line", || logged().contains(&format!("\"request_id\":\"{id}\"")));
    assert!(logged().contains("\"service\":\"a\"") && !logged().contains("victim-7"), "{}", logged());
}

#[test]
fn services_are_chosen_by_method_header_and_query() {
    let backends = ["all", "write", "beta", "both"].map(Backend::naming);
    let [all, write, beta, both] = backends.each_ref().map(Backend::instance);
    let keys = [
        ("services/all/domain", "a.test"),
        ("services/all/one", &*all),
        ("services/write/domain", "a.test"),
        ("services/write/method", "POST,PUT"),
        ("services/write/one", &write),
        ("services/beta/domain", "a.test"),
        ("services/beta/header/X-Beta", "~^[0-9]+$"),
        ("services/beta/one", &beta),
        ("services/both/domain", "a.test"),
        ("services/both/header/x-beta", "*"),
        ("services/both/query/v", "2"),
        ("services/both/one", &both),
    ];
    let site = Site::with(&keys);
    let running = Pointsman::serving(&site);
    running.wait_ready();
    if engine().differs("conditions") {
        running.wait_problem("unsupported", &["services/write/method"]);
        running.wait_problem("unsupported", &["services/both/query/v"]);
        assert_eq!(get_ok(running.http, "a.test", "/").header("x-backend"), Some("all"));
        return;
    }
    let mut connection = running.connect();
    for (method, target, fields, expected) in [
        ("GET", "/", "", "all"),
        ("POST", "/", "", "write"),
        ("GET", "/", "X-BETA: 12\r\n", "beta"),
        ("GET", "/", "X-Beta: no\r\n", "all"),
        ("GET", "/", "X-Beta: no\r\nx-beta: 1\r\n", "beta"),
        ("GET", "/?a&v=2", "X-Beta: no\r\n", "both"),
        ("POST", "/?v=2", "X-Beta: 1\r\n", "both"),
        ("GET", "/?v=%32", "X-Beta: no\r\n", "all"),
    ] {
        let fields = format!("{fields}Content-Length: 0\r\n");
        let answer = ask(&mut connection, method, target, &fields, "");
        assert_eq!(answer.header("x-backend"), Some(expected), "{method} {target} {fields}");
    }
    let admin = running.admin.to_string();
    let shown = run(&["explain", "-X", "POST", "-H", "X-Beta: x", "http://a.test/", "--admin", &admin]);
    assert!(shown.stdout.contains("services/write: host a.test, any path, method POST,PUT"), "{}", shown.stdout);
    let failing = "its conditions do not hold: header x-beta ~^[0-9]+$";
    assert!(shown.stdout.contains(failing), "{}", shown.stdout);
    site.put("services/beta2/domain", "a.test");
    site.put("services/beta2/header/x-BETA", "~^[0-9]+$");
    running.wait_problem("shadowed", &["services/beta2/domain"]);
}
