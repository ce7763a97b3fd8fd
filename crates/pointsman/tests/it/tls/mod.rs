//! HTTP over TLS: which certificate a client gets, changes and mistakes of certificates, redirects, and clients that do no
//! proper handshake.

mod abuse;
mod changes;
mod clients;
mod endurance;
mod headers;
mod sessions;
mod staples;
mod tcp;
mod terms;
mod traffic;
mod usual;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::harness::{Backend, Finished, Launch, Pointsman, Site, engine, finish, free_address, get, python_tls, wait};

/// A certificate for these names and its key, as PEM.
fn certificate(site: &Site, label: &str, names: &str, key: &str) -> String {
    let at = |end: &str| site.home().join(format!("{label}.{end}")).display().to_string();
    let kind = if key == "ec" { "-newkey ec -pkeyopt ec_paramgen_curve:P-256" } else { "-newkey rsa:2048" };
    let line = format!(
        "openssl req -x509 {kind} -nodes -days 30 -subj /CN={label} -addext subjectAltName={names} -keyout {} -out {} && cat {0} {1}",
        at("key"),
        at("crt"),
    );
    sh(&line).ok()
}

fn sh(line: &str) -> Finished {
    finish(Command::new("sh").args(["-c", &format!("{{ {line}; }} 2>&1 | grep -v '^[.+*-]*$'")]))
}

struct Scene {
    running: Pointsman,
    site: Site,
    backend: Backend,
    https: SocketAddr,
}

fn scene(certs: &[(&str, &str, &str)], more: &[(&str, &str)]) -> Scene {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    for (label, names, key) in certs {
        site.put(&format!("certs/{label}"), certificate(&site, label, names, key));
    }
    more.iter().for_each(|(key, value)| site.put(key, value));
    let https = free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string()]).start();
    running.wait_ready();
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status != 503));
    Scene { running, site, backend, https }
}

/// One certificate, for a.test.
const CERTS: &[(&str, &str, &str)] = &[("a", "DNS:a.test", "ec")];

impl Scene {
    /// Ends the balancer in order and starts it again.
    #[track_caller]
    fn restart(&mut self) {
        self.running.end();
        self.running = Launch::on(&self.site).args(&["--https", &self.https.to_string()]).start();
        self.running.wait_ready();
    }

    /// What a script of Python says that speaks TLS to it.
    #[track_caller]
    fn python(&self, script: &str) -> String {
        python_tls(&self.site, self.https, script)
    }

    /// How often a fault was counted.
    fn faults(&self, name: &str) -> f64 {
        self.running.metric("pointsman_faults_total", &[name])
    }

    /// The common name of the certificate for this server name; empty: none.
    fn shown(&self, options: &str) -> String {
        let line = format!("openssl s_client -connect {} {options} </dev/null 2>&1", self.https);
        let said = finish(Command::new("sh").args(["-c", &line])).stdout;
        let subject = said.lines().find_map(|line| line.trim().strip_prefix("subject=")).unwrap_or_default();
        subject.replace(' ', "").trim_start_matches("CN=").to_owned()
    }

    fn curl(&self, words: &str) -> Finished {
        let port = self.https.port();
        let line = format!("curl -s -k --http1.1 --resolve a.test:{port}:127.0.0.1 {words} https://a.test:{port}/head");
        finish(Command::new("sh").args(["-c", &line]))
    }
}

#[test]
fn requests_come_over_tls_and_instances_are_told() {
    let scene = scene(&[("a", "DNS:a.test", "ec")], &[]);
    wait("https", || scene.curl("").code == Some(0));
    let head = scene.curl("").ok().to_ascii_lowercase();
    assert!(head.contains("x-forwarded-proto: https"), "{head}");
    let port = scene.https.port();
    let big =
        format!("curl -s -k --http1.1 --resolve a.test:{port}:127.0.0.1 https://a.test:{port}/bytes/5000000 | wc -c");
    assert_eq!(finish(Command::new("sh").args(["-c", &big])).ok().trim(), "5000000");
    let up = format!(
        "head -c 3000000 /dev/zero | curl -s -k --http1.1 --data-binary @- --resolve a.test:{port}:127.0.0.1 https://a.test:{port}/count"
    );
    assert!(finish(Command::new("sh").args(["-c", &up])).ok().starts_with("3000000 "));
    let version = "2";
    let line = format!(
        "curl -s -k -o /dev/null -w '%{{http_version}}' --resolve a.test:{port}:127.0.0.1 https://a.test:{port}/head"
    );
    assert_eq!(finish(Command::new("sh").args(["-c", &line])).ok(), version);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(scene.shown(&format!("{version} -servername a.test")), "a");
    }
    let old = format!("openssl s_client -tls1_1 -connect {} </dev/null 2>&1 | grep -c 'Cipher is [A-Z]'", scene.https);
    assert_eq!(finish(Command::new("sh").args(["-c", &old])).stdout.trim(), "0");
}

#[test]
fn the_certificate_goes_by_the_server_name() {
    let certs = [
        ("rest", "DNS:rest.test", "ec"),
        ("wild", "DNS:*.w.test", "ec"),
        ("exact", "DNS:x.w.test", "ec"),
        ("z-rsa", "DNS:both.test", "rsa"),
        ("z-ec", "DNS:both.test", "ec"),
    ];
    let scene = scene(&certs, &[]);
    let shown = |name: &str| scene.shown(&format!("-servername {name}"));
    wait("certificates", || shown("x.w.test") == "exact");
    assert_eq!(shown("X.W.TEST"), "exact");
    assert_eq!(shown("y.w.test"), "wild");
    assert_eq!(shown("both.test"), "z-ec");
    if engine().name() == "native" {
        assert_eq!(shown("p.q.w.test"), "exact", "a wildcard covers one label; the first by name is left");
        assert_eq!(scene.shown("-servername both.test -sigalgs RSA-PSS+SHA256:RSA+SHA256"), "z-rsa");
    }
    assert_eq!(scene.shown("-noservername"), "exact");
    scene.site.put("certs/default", certificate(&scene.site, "default", "DNS:d.test", "ec"));
    wait("the default", || shown("unknown.test") == "default");
}

#[test]
fn certificates_change_and_bad_ones_keep_their_last_good_form() {
    let scene = scene(&[("a", "DNS:a.test", "ec"), ("b", "DNS:b.test", "ec")], &[]);
    let shown = |name: &str| scene.shown(&format!("-servername {name}"));
    wait("certificates", || shown("a.test") == "a");
    scene.site.put("certs/a", certificate(&scene.site, "renewed", "DNS:a.test", "ec"));
    wait("the renewed one", || shown("a.test") == "renewed");
    let other = certificate(&scene.site, "other", "DNS:a.test", "ec");
    let (key, chain) = (scene.site.home().join("renewed.key"), scene.site.home().join("other.crt"));
    let read = |path| std::fs::read_to_string(path).expect("made");
    scene.site.put("certs/a", read(&key) + &read(&chain));
    scene.running.wait_listed("rejected", &["certs/a"]);
    assert_eq!([shown("a.test"), shown("b.test")], ["renewed", "b"]);
    assert!(!scene.running.admin_page("/api/problems").contains("BEGIN"));
    assert!(!scene.running.process.log().contains("BEGIN"));
    scene.site.put("certs/a", other);
    wait("the good one", || shown("a.test") == "other");
    scene.site.put("certs/a", "junk");
    scene.running.wait_problem("bad_value", &["certs/a"]);
    assert_eq!(shown("a.test"), "other");
}

#[test]
fn a_rejected_certificate_keeps_its_last_good_form_over_restarts() {
    let mut scene = scene(&[("a", "DNS:a.test", "ec"), ("default", "DNS:d.test", "ec")], &[]);
    let other = certificate(&scene.site, "other", "DNS:a.test", "ec");
    let made = |file: &str| std::fs::read_to_string(scene.site.home().join(file)).expect("made");
    let rejected = ["a.key", "default.key"].map(|key| made(key) + &made("other.crt"));
    wait("the certificate", || scene.shown("-servername a.test") == "a");
    for bad in rejected {
        scene.site.put("certs/a", bad);
        for _ in 0..2 {
            scene.running.wait_listed("rejected", &["certs/a"]);
            assert_eq!(scene.shown("-servername a.test"), "a");
            scene.restart();
        }
    }
    scene.site.put("certs/a", &other);
    wait("the good one", || scene.shown("-servername a.test") == "other");
    // What is deleted is not remembered.
    scene.site.remove("certs/a");
    wait("it to be gone", || scene.shown("-servername a.test") == "default");
    scene.restart();
    assert_eq!(scene.shown("-servername a.test"), "default");
}

#[test]
fn plain_http_is_led_to_https() {
    let scene = scene(&[("a", "DNS:a.test", "ec")], &[("services/a/scheme", "https")]);
    wait("the redirect", || get(scene.running.http, "a.test", "/").is_ok_and(|answer| answer.status == 301));
    let answer = get(scene.running.http, "A.test:8080", "/cart?x=1").expect("an answer");
    assert_eq!((answer.status, answer.header("location")), (301, Some("https://a.test/cart?x=1")));
    wait("https", || scene.curl("").code == Some(0));
    scene.site.put("config/trusted_proxies", "loopback");
    let status = |lines: &str| {
        let mut connection = scene.running.connect();
        connection.send(format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
        connection.response("GET").map(|answer| answer.status).unwrap_or_default()
    };
    wait("a proxy that is trusted", || status("X-Forwarded-Proto: https\r\n") == 200);
    // A proxy may add its line behind the client's.
    assert_eq!(status("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n"), 301);
    assert_eq!(status("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n"), 200);
    assert_eq!(status(""), 301);
}

#[test]
fn bad_handshakes_harm_nobody() {
    let scene = scene(&[("a", "DNS:a.test", "ec")], &[("config/timeout/head", "3s"), ("config/timeout/client", "2s")]);
    wait("https", || scene.curl("").code == Some(0));
    let mut idle: Vec<_> = (0..100).map(|_| TcpStream::connect(scene.https).expect("it listens")).collect();
    idle[0].write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("open");
    assert_eq!(scene.curl("").code, Some(0));
    let mut plain = TcpStream::connect(scene.https).expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    let mut said = String::new();
    let _ = plain.read_to_string(&mut said);
    let mut garbage = TcpStream::connect(scene.https).expect("it listens");
    garbage.write_all(&[0xff; 64]).expect("open");
    let _ = garbage.read(&mut [0; 64]);
    if !engine().differs("plain-on-tls") {
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("speaks HTTPS"), "{said}");
        for name in ["tls_handshake", "tls_timeout", "plain_on_tls"] {
            wait(name, || scene.running.metric("pointsman_faults_total", &[name]) >= 1.0);
        }
    }
    for connection in &mut idle {
        assert!(matches!(connection.read(&mut [0; 16]), Ok(0..=16) | Err(_)), "closed, or told");
    }
    assert_eq!(scene.curl("").code, Some(0));
}
