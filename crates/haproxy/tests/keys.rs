//! What the keys that only HAProxy honours do to real requests: rows of keys and curl's arguments, and what comes back.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

#[path = "support/haproxy.rs"]
mod haproxy;
#[path = "../../pointsman/tests/support/ports.rs"]
mod ports;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_haproxy::desire::desire;
use pointsman_haproxy::model::{Addresses, Held};
use pointsman_haproxy::render::render;
use pointsman_haproxy::shape::{Listen, Shape};
use pointsman_table::{Capabilities, KeySet, Limits, compile};
use tempfile::TempDir;

const PEM: &str = include_str!("support/shop.test.pem");
/// Longest wait for HAProxy to listen, and for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An instance that answers every request with its own name and the request's head.
fn instance(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(name, stream));
        }
    });
    address
}

fn answer(name: &str, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = format!("I am {name}\n");
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => head.push_str(&line.to_ascii_lowercase()),
            }
        }
        let length = head.len();
        if write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}").is_err() {
            return;
        }
    }
}

/// HAProxy at work on some keys.
struct World {
    folder: TempDir,
    child: Child,
    http: u16,
    https: u16,
    tcp: u16,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World {
    /// `A`, `B`, `TLS` in a value are instances' addresses, `PORT` is the port of TCP services.
    fn new(keys: &[&str]) -> Self {
        let (a, b) = (instance("a").to_string(), instance("b").to_string());
        let (http, https, tcp) = (ports::free_port(), ports::free_port(), ports::free_port());
        let filled = |text: &str| {
            let text = text.replace("PORT", &tcp.to_string()).replace("HTTPS", &format!("127.0.0.1:{https}"));
            text.replace("{A}", &a).replace("{B}", &b).replace("\\n", "\n")
        };
        let mut key_set = KeySet::default();
        let pair = |row: &&str| {
            let (key, value) = row.split_once(" = ").unwrap();
            (Box::<str>::from(key), Box::<[u8]>::from(filled(value).as_bytes()))
        };
        key_set.reset(1, keys.iter().map(pair));
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let compiled = compile(&key_set, None, &limits);
        assert_eq!(compiled.problems, []);
        let folder = tempfile::tempdir().unwrap();
        let shape = shape(folder.path(), http, https);
        let (desired, problems) = desire(&compiled.table, &Held::new(), &Addresses::new(), &shape);
        assert_eq!(problems, []);
        let rendered = render(&desired, &shape);
        for file in &rendered.files {
            let path = folder.path().join(&*file.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &file.bytes).unwrap();
        }
        fs::write(folder.path().join("haproxy.cfg"), &rendered.config).unwrap();
        let child = start(folder.path());
        let world = Self { folder, child, http, https, tcp };
        world.wait(http);
        world
    }

    fn wait(&self, port: u16) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let config = || fs::read_to_string(self.folder.path().join("haproxy.cfg")).unwrap();
            assert!(Instant::now() < deadline, "HAProxy does not listen\n{}", config());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What curl prints, headers and all. `HTTP`, `HTTPS` and `TCP` are ports, `~` is a space within an argument.
    fn curl(&self, arguments: &str) -> String {
        let filled = arguments.replace("HTTPS", &self.https.to_string()).replace("HTTP", &self.http.to_string());
        let filled = filled.replace("TCP", &self.tcp.to_string());
        let output = Command::new("curl")
            .args(["-sik", "--max-time", "10", "--http1.1", "--connect-to", "::127.0.0.1:"])
            .args(filled.split(' ').map(|argument| argument.replace('~', " ")))
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            write!(said, "curl: {:?}", output.status.code()).unwrap();
        }
        said
    }

    #[track_caller]
    fn check(&self, arguments: &str, expected: &[&str]) -> String {
        let said = self.curl(arguments);
        for text in expected {
            match text.strip_prefix('!') {
                Some(absent) => assert!(!said.contains(absent), "{arguments}: {absent} is in\n{said}"),
                None => assert!(said.contains(text), "{arguments}: {text} is not in\n{said}"),
            }
        }
        said
    }
}

fn start(folder: &Path) -> Child {
    let config = folder.join("haproxy.cfg");
    Command::new(haproxy::program()).arg("-db").arg("-f").arg(config).stderr(Stdio::null()).spawn().unwrap()
}

fn shape(folder: &Path, http: u16, https: u16) -> Shape {
    let listen = |port: u16| Listen { address: SocketAddr::from(([127, 0, 0, 1], port)), socket: None };
    Shape {
        http: vec![listen(http)],
        https: vec![listen(https)],
        threads: 1,
        folder: folder.to_owned(),
        socket: None,
        hard_stop: PATIENCE,
        global_settings: None,
        custom_settings: None,
        ciphers: None,
        template: None,
        version: haproxy::version(),
        spares: 0,
        tickets: None,
    }
}

/// Keys that every world has: a service for `a.test`.
fn web(more: &[&str]) -> World {
    let cert = format!("certs/shop = {}", PEM.replace('\n', "\\n"));
    World::new(&[&["services/web/domain = a.test", "services/web/upstreams/a = {A}", &*cert], more].concat())
}

#[test]
fn plain_and_over_tls() {
    let world = web(&["config/health_uri = /up"]);
    world.check(
        "http://a.test:HTTP/x?y",
        &["HTTP/1.1 200 OK", "get /x?y http/1.1", "x-forwarded-proto: http\r", "x-forwarded-for: 127.0.0.1"],
    );
    world.check("https://a.test:HTTPS/x", &["HTTP/1.1 200 OK", "x-forwarded-proto: https\r"]);
    world.check("--http2 https://a.test:HTTPS/x", &["HTTP/2 200", "get /x http/1.1"]);
    world.check(
        "-H X-Forwarded-For:1.2.3.4 -H x_forwarded_for:6 -H Proxy:x -H TE:trailers http://a.test:HTTP/",
        &["x-forwarded-for: 1.2.3.4", "!proxy:", "!te:", "!x_forwarded_for"],
    );
    world.check("http://b.test:HTTP/", &["HTTP/1.1 503 Service Unavailable", "No server is available"]);
    world.check("http://b.test:HTTP/up", &["HTTP/1.1 200 OK", "ok\n"]);
    world.check(
        "-X CONNECT --request-target a.test:80 -H Host:a.test:80 http://a.test:HTTP/",
        &["HTTP/1.1 405 Method Not Allowed", "allow: GET"],
    );
    world.check("--request-target http://a.test:HTTP/x http://a.test:HTTP/", &["get /x http/1.1"]);
    world.check("--request-target http://a.test:HTTP http://a.test:HTTP/", &["get / http/1.1"]);
    // About the server as a whole; some versions take it for the root.
    world.check("-X OPTIONS --request-target http://a.test:HTTP http://a.test:HTTP/", &["!options http:"]);
    world.check("-X OPTIONS --request-target * http://a.test:HTTP/", &["options * http/1.1"]);
    world.check("-H Upgrade:h2c -H Connection:upgrade http://a.test:HTTP/", &["!upgrade: h2c"]);
}

#[test]
fn names_and_passwords() {
    let world = web(&[
        "services/web/basic_auth_secrets = user me insecure-password 'p$ \"#\\'\\nuser h password $5$salt$54n166qKgxUgSEXHe4xB0bcNRiObyZFrkkrQhDCJEf5",
    ]);
    world.check("-u me:wrong http://a.test:HTTP/", &["HTTP/1.1 401 "]);
    world.check("-u me:p$~\"#\\ http://a.test:HTTP/", &["HTTP/1.1 200 OK", "authorization: basic "]);
    world.check("-u h:hashed http://a.test:HTTP/", &["HTTP/1.1 200 OK"]);
}

#[test]
fn schemes() {
    let world = web(&["services/web/scheme = https", "services/web/virtual_path = /v"]);
    world.check("http://a.test:HTTP/v/x?y", &["HTTP/1.1 301 Moved Permanently", "location: https://a.test/v/x?y\r"]);
    world.check("https://a.test:HTTPS/v/x?y", &["HTTP/1.1 200 OK", "get /x?y http/1.1"]);
    let world = web(&["services/web/scheme = http-and-https"]);
    world.check("http://a.test:HTTP/", &["HTTP/1.1 200 OK"]);
    world.check("https://a.test:HTTPS/", &["HTTP/1.1 200 OK"]);
}

#[test]
fn sessions_stick() {
    let world = web(&["services/web/b = {B}", "services/web/cookie = "]);
    let said = world.check("http://a.test:HTTP/", &["set-cookie: KONTENA_SERVERID="]);
    let mine = if said.contains("I am a") { "a" } else { "b" };
    assert!(said.contains(&format!("KONTENA_SERVERID={mine};")), "{said}");
    for _ in 0..4 {
        world.check(
            &format!("-b KONTENA_SERVERID={mine} http://a.test:HTTP/"),
            &[&format!("I am {mine}"), "!set-cookie", "!\ncookie:"],
        );
    }
}

#[test]
fn paths_and_raw_lines() {
    let world = web(&[
        "services/web/virtual_path = /v,/long",
        "services/web/custom_settings = http-request set-header X-Path %[path]\\nhttp-response set-header X-Raw yes",
    ]);
    world.check("http://a.test:HTTP/v/x", &["get /x http/1.1", "x-path: /v/x", "x-raw: yes"]);
    world.check("http://a.test:HTTP/v?q", &["get /?q http/1.1"]);
    world.check("http://a.test:HTTP/longer", &["get /er http/1.1"]);
    world.check("http://a.test:HTTP/z", &["HTTP/1.1 503 "]);
}

#[test]
fn instances_that_speak_tls() {
    // The balancer's own TLS side stands in for one.
    let world = web(&[
        "services/loop/domain = b.test",
        "services/loop/upstreams/x = HTTPS tls",
        "services/back/domain = other.test",
        "services/back/upstreams/a = {A}",
        "services/loop/custom_settings = http-request set-header Host other.test",
    ]);
    // The side in front is a peer on loopback: what it says of the protocol passes.
    world.check("http://b.test:HTTP/x", &["HTTP/1.1 200 OK", "I am a", "x-forwarded-proto: http"]);
}

/// One that takes connections and says nothing.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

#[test]
fn nobody_there() {
    let silent = format!("services/silent/upstreams/x = {}", silent());
    let world = web(&[
        "services/none/domain = b.test",
        "services/silent/domain = c.test",
        &silent,
        "config/errors/502 = <b>oops</b>",
    ]);
    world.check("http://b.test:HTTP/", &["HTTP/1.1 503 Service Unavailable", "No server is available"]);
    world.check("http://c.test:HTTP/", &["HTTP/1.1 502 Bad Gateway", "<b>oops</b>"]);
    world.check("-d x http://c.test:HTTP/", &["HTTP/1.1 502 Bad Gateway", "<b>oops</b>"]);
    world.check("-I http://c.test:HTTP/", &["HTTP/1.1 502 Bad Gateway", "content-length: 11", "!oops"]);
}

#[test]
fn checks_take_instances_out() {
    let world = web(&[
        "services/web/b = {B}",
        "services/web/health_check_uri = /up",
        &format!("services/web/health_check_port = {}", ports::free_port()),
    ]);
    let deadline = Instant::now() + PATIENCE;
    while !world.curl("http://a.test:HTTP/").contains("HTTP/1.1 503") {
        assert!(Instant::now() < deadline, "checked at a port where nobody is, they still serve");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn tls_names_choose_tcp_services() {
    // TLS goes through untouched, to the balancer's own HTTPS side and to one that is not there.
    let world = web(&[
        "services/b/domain = b.test,*.b.test",
        "services/b/upstreams/b = {B}",
        "tcp-services/one/port = PORT",
        "tcp-services/one/sni = a.test,*.b.test",
        "tcp-services/one/upstreams/x = HTTPS",
        "tcp-services/rest/port = PORT",
        "tcp-services/rest/upstreams/a = {A}",
    ]);
    world.check("https://a.test:TCP/", &["HTTP/1.1 200 OK", "I am a"]);
    world.check("https://x.b.test:TCP/", &["HTTP/1.1 200 OK", "I am b"]);
    world.check("https://y.x.b.test:TCP/", &["HTTP/1.1 200 OK", "I am b"]);
    // Neither of these is for the first: the other one speaks no TLS.
    world.check("https://b.test:TCP/", &["curl: "]);
    world.check("http://b.test:TCP/", &["HTTP/1.1 200 OK", "I am a", "!x-forwarded-for"]);
}
