//! What a service changes in requests and answers, beyond the rows of both engines: several lines, HTTP/2 on both sides, names,
//! hosts that are none, and `explain`.

use crate::harness::{Backend, Connection, Http2Instance, Pointsman, Site, engine, python_http2, run, serving, wait};

/// The head that the instance got.
#[track_caller]
fn told(connection: &mut Connection, target: &str, fields: &str) -> String {
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nX-Tell: yes\r\n{fields}\r\n")).expect("open");
    connection.response("GET").expect("an answer").text().to_ascii_lowercase()
}

const LINES: [(&str, &str); 3] = [
    ("services/a/rewrite", "/old/ /new/\n~^/u([0-9]+)$ /user/{1}\n/ /rest/"),
    (
        "services/a/request_headers",
        "set X-One {path}\nadd X-One two\nremove X-Three\nset x-one {method}\nadd X-One {1a}",
    ),
    ("services/a/response_headers", "set X-By {instance} of {service}\n\n  remove Server"),
];

#[test]
fn lines_are_taken_in_order() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/upstreams/b+b", &backend.instance())]);
    let running = Pointsman::serving(&site);
    LINES.iter().for_each(|(key, value)| site.put(key, value));
    running.wait_problem("bad_value", &["services/a/request_headers", "unknown placeholder {1a}"]);
    site.put("services/a/request_headers", LINES[1].1.replace("{1a}", "{{1}"));
    // HAProxy closes connections with a reload.
    wait("the lines", || {
        let mut connection = running.connect();
        let head = told(&mut connection, "/u12", "");
        let answer = connection.request("GET", "a.test", "/");
        let is_told = answer.is_ok_and(|answer| answer.header("x-by").is_some());
        is_told && head.starts_with("get /user/12 http/1.1") && head.contains("x-one: {1}")
    });
    let mut connection = running.connect();
    assert!(told(&mut connection, "/old/u12?q", "").starts_with("get /new/u12?q http/1.1"));
    assert!(told(&mut connection, "/x", "").starts_with("get /rest/x http/1.1"));
    let head = told(&mut connection, "/x", "X-Three: 3\r\nX-One: own\r\n");
    assert!(head.contains("x-one: get\r\nx-one: {1}\r\n"), "{head}");
    assert!(!head.contains("x-three") && !head.contains("own") && !head.contains("two"), "{head}");
    let answer = connection.request("GET", "a.test", "/").expect("an answer");
    let name = if engine().differs("instance-text") { "b:2Bb of a" } else { "b+b of a" };
    assert_eq!(answer.header("x-by"), Some(name));
    let shown = run(&["explain", "http://a.test/old/", "--admin", &running.admin.to_string()]).stdout;
    for step in
        ["rewrite /old/ /new/, ~^/u([0-9]+)$ /user/{1}, / /rest/", "request_headers set X-One {path}, add X-One two"]
    {
        assert!(shown.contains(step), "{step} is not in {shown}");
    }
}

#[test]
fn what_is_secret_is_not_explained() {
    let backend = Backend::naming("one");
    let lines = "set Authorization Basic c2VjcmV0";
    let (_site, running) = serving(&backend.instance(), &[("services/a/request_headers", lines)]);
    let shown = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).stdout;
    assert!(shown.contains("request_headers (secret)") && !shown.contains("c2VjcmV0"), "{shown}");
    assert!(told(&mut running.connect(), "/", "").contains("authorization: basic c2vjcmv0"));
}

#[test]
fn a_host_that_is_none_is_not_set() {
    let backend = Backend::naming("one");
    let keys = [("services/a/request_headers", "set Host {header:X-Host}\nset X-Port {client_port}")];
    let (site, running) = serving(&backend.instance(), &keys);
    let mut connection = running.connect();
    assert!(told(&mut connection, "/", "X-Host: b.test:81\r\n").contains("host: b.test:81\r\n"));
    if !engine().differs("host-text") {
        assert!(told(&mut connection, "/", "X-Host: b test\r\n").contains("\r\nhost: a.test\r\n"));
    }
    let port = format!("x-port: {}\r\n", connection.stream().local_addr().expect("open").port());
    assert!(told(&mut connection, "/", "X-Forwarded-For: 192.0.2.1\r\n").contains(&port));
    site.put("config/trusted_proxies", "loopback");
    if !engine().differs("client-port") {
        wait("trust", || told(&mut connection, "/", "X-Forwarded-For: 192.0.2.1\r\n").contains("x-port: 0\r\n"));
    }
}

#[test]
fn http_2_on_both_sides() {
    let node = Http2Instance::node();
    let keys = [
        ("services/a/protocol", "h2"),
        ("services/a/rewrite", "/old /head"),
        ("services/a/request_headers", "set X-One {method} {path}\nremove X-Two"),
        ("services/a/response_headers", "set X-Made-By {instance}\nset X-Told {header:x-two}"),
    ];
    let (site, running) = serving(&node.instance, &keys);
    let mut client = running.connect();
    client.send("GET /old?q HTTP/1.1\r\nHost: a.test\r\nX-Two: 2\r\n\r\n").expect("open");
    let answer = client.response("GET").expect("an answer");
    let lines = answer.text();
    assert!(
        lines.contains(":path: /head?q") && lines.contains("x-one: GET /old") && !lines.contains("x-two"),
        "{lines}"
    );
    assert_eq!((answer.header("x-made-by"), answer.header("x-told")), (Some("one"), Some("2")));
    let script = "
status, head, body = Client().ask('/old?q', more=[('x-two', '2')])
say(status, head['x-made-by'], head['x-told'])
";
    assert_eq!(python_http2(&site, ("http", running.http), script).trim(), "200 one 2");
}

#[test]
fn requests_have_ids_that_both_sides_are_told() {
    let backend = Backend::naming("one");
    let (site, running) = serving(&backend.instance(), &[("config/request_id", "true")]);
    // HAProxy closes connections with a reload.
    let ids = |told: &str| {
        let mut connection = running.connect();
        connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Tell: yes\r\n{told}\r\n")).expect("open");
        let answer = connection.response("GET").expect("an answer");
        let of_client = answer.header("x-request-id").unwrap_or_default().to_owned();
        let head = answer.text().to_ascii_lowercase();
        let of_instance = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or_default();
        let text = head.lines().find_map(|line| line.strip_prefix("x-text: ")).unwrap_or_default();
        (of_client, of_instance.trim().to_owned(), text.trim().to_owned())
    };
    wait("an id", || ids("").0.len() == 36);
    let (first, of_instance, _) = ids("X-Request-Id: own\r\n");
    assert_eq!((first.len(), &first), (36, &of_instance));
    assert_ne!(ids("").0, first);
    site.put("config/trusted_proxies", "loopback");
    wait("trust", || ids("X-Request-Id: own\r\n").0 == "own");
    assert_eq!(ids(&format!("X-Request-Id: {}\r\n", "x".repeat(200))).0.len(), 36);
    running.after(|| site.put("services/a/request_id", "false"));
    running.after(|| site.put("services/a/request_headers", "set X-Text {request_id}"));
    assert_eq!(ids("X-Request-Id: own\r\n").2, "own");
    assert_eq!(ids("").0, "");
    assert_eq!(ids("").2.len(), 36);
}

#[test]
fn browsers_that_ask_first_need_no_password() {
    let backend = Backend::naming("one");
    let keys =
        [("services/a/cors", "https://app.test"), ("services/a/basic_auth_secrets", "user ann insecure-password x")];
    let (_site, running) = serving(&backend.instance(), &keys);
    let mut connection = running.connect();
    let mut ask = |method: &str| {
        let fields = "Origin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n";
        connection.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).expect("open");
        let answer = connection.response(method).expect("an answer");
        (answer.status, answer.header("access-control-allow-origin").map(str::to_owned))
    };
    let named = Some("https://app.test".to_owned());
    assert_eq!(ask("OPTIONS"), (204, named.clone()));
    assert_eq!(ask("GET"), (401, named));
}
