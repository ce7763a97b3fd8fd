//! The same over HTTP/2: clients, servers that are asked, and calls of gRPC.

use crate::harness::{Backend, Http2Instance, Scripted, answer, engine, get, python_http2, serving, wait};

/// Whether the engine under test does not honour the key.
pub(super) fn unsupported() -> bool {
    engine().differs("forward-auth")
}

#[test]
fn clients_and_servers_of_http_2() {
    if unsupported() {
        return;
    }
    let (backend, auth) = (Backend::naming("one"), Http2Instance::node());
    let keys = [
        ("services/auth/upstreams/one", &*auth.instance),
        ("services/auth/protocol", "h2"),
        ("services/a/forward_auth", "auth:/verify X-Made-By"),
    ];
    let (site, running) = serving(&backend.instance(), &keys);
    running.wait_backend("a.test", "/", "one");
    let said = python_http2(
        &site,
        ("http", running.http),
        "
c = Client()
status, head, body = c.ask('/x', 'POST', more=[('x-tell', '1'), ('x-made-by', 'mine')], body=b'hello')
text = body.decode().lower()
say(status, 'x-made-by: node' in text, 'mine' in text, text.endswith('hello'))
many = [c.begin('/%d' % n) for n in range(50)]
say(*{c.finish(stream)[0] for stream in many})
",
    );
    assert_eq!(said, "200 True False True\n200\n");
}

#[test]
fn refusals_over_http_2_and_of_grpc() {
    if unsupported() {
        return;
    }
    let backend = Backend::naming("one");
    let auth = Scripted::new(|_, line| match line.contains("/302") {
        true => b"HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => answer(401, "who?"),
    });
    let keys = [("services/auth/upstreams/one", &*auth.instance()), ("services/a/forward_auth", "auth:/401")];
    let (site, running) = serving(&backend.instance(), &keys);
    wait("it to be asked", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 401));
    let script = "
c = Client()
status, head, body = c.ask()
say(status, head.get('location'), body.decode(), head.get('content-length'))
status, head, body = c.ask('/', 'HEAD')
say(status, body.decode())
status, head, body = c.ask('/', 'POST', body=b'x' * 1000, more=[('content-type', 'application/grpc')])
say(status, head.get('grpc-status'), body.decode())
";
    assert_eq!(python_http2(&site, ("http", running.http), script), "401 None who? 4\n401 \n200 16 \n");
    site.put("services/a/forward_auth", "auth:/302");
    wait("the redirect", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 302));
    let said = python_http2(&site, ("http", running.http), script);
    assert_eq!(said, "302 https://login.test/  0\n302 \n200 2 \n");
}
