//! Headers that follow from HTTPS: what browsers are told about a service, and instances about the port.

use super::{CERTS, Scene, scene};
use crate::harness::{Raw, Then, get, wait};

/// What an answer over HTTPS says to browsers: every line of that name.
fn told(scene: &Scene, target: &str) -> String {
    let script = format!(
        "
c = Client()
c.send('{target}')
lines = [line.decode().strip() for line in iter(c.file.readline, b'\\r\\n')]
said = [line.split(':', 1)[1].strip() for line in lines if line.lower().startswith('strict-transport-security:')]
say(lines[0].split()[1], *said)
"
    );
    scene.python(&script).trim_end().to_owned()
}

const HSTS: (&str, &str) = ("services/a/hsts", "365d includeSubDomains");

#[test]
fn answers_over_https_tell_browsers_to_come_back_so() {
    let scene = scene(CERTS, &[HSTS]);
    let expected = "max-age=31536000; includeSubDomains";
    wait("the header", || told(&scene, "/") == format!("200 {expected}"));
    let plain = get(scene.running.http, "a.test", "/").expect("an answer");
    assert_eq!((plain.status, plain.header("strict-transport-security")), (200, None));
    // The instance's own is replaced there, and kept over plain HTTP.
    let own = "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 0\r\n\
               Strict-Transport-Security: max-age=2\r\n\r\n";
    let raw = Raw::answering(own, Then::Close);
    scene.site.put("services/a/one", raw.instance());
    wait("the other instance", || {
        let plain = get(scene.running.http, "a.test", "/").expect("an answer");
        plain.header("strict-transport-security").is_some_and(|value| value.starts_with("max-age="))
    });
    assert_eq!(told(&scene, "/"), format!("200 {expected}"));
    // Our own answers tell it too.
    scene.site.remove("services/a/one");
    wait("no instance", || told(&scene, "/").starts_with("503"));
    assert_eq!(told(&scene, "/"), format!("503 {expected}"));
    scene.site.put("services/a/scheme", "https");
    wait("the redirect", || get(scene.running.http, "a.test", "/").is_ok_and(|answer| answer.status == 301));
    let redirect = get(scene.running.http, "a.test", "/").expect("an answer");
    assert_eq!(redirect.header("strict-transport-security"), None, "RFC 6797 §7.2");
    scene.site.put("services/a/hsts", "0s");
    wait("the change", || told(&scene, "/") == "503 max-age=0");
    scene.site.put("services/a/hsts", "for ever");
    scene.running.wait_problem("bad_value", &["services/a/hsts"]);
    assert_eq!(told(&scene, "/"), "503 max-age=0");
}

#[test]
fn what_a_trusted_proxy_says_came_over_https_counts_too() {
    let scene = scene(CERTS, &[HSTS, ("config/trusted_proxies", "loopback")]);
    let told = |lines: &str| {
        let mut connection = scene.running.connect();
        connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
        let answer = connection.response("GET").expect("an answer");
        answer.header("strict-transport-security").map(str::to_owned)
    };
    wait("trust", || told("X-Forwarded-Proto: https\r\n").is_some());
    assert_eq!(told("X-Forwarded-Proto: http\r\n"), None);
    assert_eq!(told(""), None);
}

#[test]
fn instances_are_told_the_port() {
    let scene = scene(CERTS, &[]);
    wait("https", || scene.curl("").code == Some(0));
    let told = |options: &str| {
        let head = scene.curl(options).ok().to_ascii_lowercase();
        let lines = head.lines().filter_map(|line| line.strip_prefix("x-forwarded-port:"));
        lines.map(str::trim).collect::<Vec<_>>().join(", ")
    };
    let ours = scene.https.port().to_string();
    assert_eq!(told(""), ours);
    // What a peer of the same network says passes; beside its protocol, our port would be wrong.
    assert_eq!(told("-H 'X-Forwarded-Port: 8443'"), "8443");
    assert_eq!(told("-H 'X-Forwarded-Port;'"), ours);
    assert_eq!(told("-H 'X-Forwarded-Proto: https'"), "");
    scene.site.put("config/trusted_proxies", "192.0.2.0/24");
    wait("the key", || told("-H 'X-Forwarded-Port: 8443'") == ours);
    assert_eq!(told("-H 'X-Forwarded-Proto: https'"), ours);
}

#[test]
fn a_proxy_header_tells_the_port_too() {
    let scene = scene(CERTS, &[]);
    scene.site.put("config/accept_proxy", "loopback");
    let script = "
s = plain()
s.sendall(b'PROXY TCP4 203.0.113.7 203.0.113.1 4711 443\\r\\n')
try: c = context.wrap_socket(s, server_hostname='a.test')
except OSError: say('refused'); sys.exit()
c.sendall(b'GET /head HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: close\\r\\n\\r\\n')
head = c.makefile('rb').read().decode().lower()
say(*[line for line in head.splitlines() if line.startswith('x-forwarded-')])
";
    let expected = ["x-forwarded-for: 203.0.113.7", "x-forwarded-proto: https", "x-forwarded-port: 443"];
    wait("the header", || {
        let said = scene.python(script);
        expected.iter().all(|line| said.contains(line))
    });
}

#[test]
fn texts_tell_how_a_request_came() {
    let scene = scene(CERTS, &[("services/a/request_headers", "set X-Came {scheme} {port} {tls_version}.")]);
    wait("https", || scene.curl("").code == Some(0));
    let head = scene.curl("").ok().to_ascii_lowercase();
    assert!(head.contains(&format!("x-came: https {} tlsv1.3.\r\n", scene.https.port())), "{head}");
}
