//! The way to a collector: what is tried again, what is dropped, and that nobody waits for it.

use std::time::Instant;

use super::collector::Collector;
use super::{Traced, parent};
use crate::harness::{Authority, Backend, Engine, Launch, PATIENCE, Site, free_address, run, wait, wait_within};
use crate::outbound::{Nginx, certified};

fn dropped(traced: &Traced, reason: &str) -> f64 {
    traced.running.metric("pointsman_trace_spans_dropped_total", &[&format!("\"{reason}\"")])
}

#[test]
fn what_a_collector_cannot_take_now_is_sent_again() {
    let backend = Backend::naming("one");
    let keys = [("services/a/one", &*backend.instance())];
    let collector = Collector::answering(|number| if number < 2 { (503, "Retry-After: 1\r\n") } else { (200, "") });
    let traced = Traced::with(collector, &keys, &["--otlp-sample", "1"]);
    let began = Instant::now();
    traced.ask("/kept", "");
    traced.trace_of("/kept", 2);
    assert!(began.elapsed().as_secs() >= 2, "it was told to wait a second each time");
    assert_eq!(["queue", "unsent", "refused"].map(|reason| dropped(&traced, reason)), [0.0; 3]);
    wait("the line", || traced.running.process.log().contains("spans are sent to http://127.0.0.1:"));
    assert_eq!(traced.running.process.log().matches("spans cannot be sent to ").count(), 1);
}

#[test]
fn what_a_collector_refuses_is_dropped() {
    let backend = Backend::naming("one");
    let collector = Collector::answering(|_| (400, ""));
    let traced = Traced::with(collector, &[("services/a/one", &backend.instance())], &["--otlp-sample", "1"]);
    traced.ask("/lost", "");
    wait("the drop", || dropped(&traced, "refused") == 2.0);
    let mut traced = traced;
    traced.running.process.wait_log("spans cannot be sent to http://127.0.0.1:");
    traced.running.process.wait_log("it answered 400");
    assert_eq!(traced.collector.heads().len(), 1);
}

/// Five attempts, with pauses.
#[test]
fn a_dead_collector_is_given_up_and_holds_up_nobody() {
    let backend = Backend::naming("one");
    let mut traced = Traced::with(Collector::new(), &[("services/a/one", &backend.instance())], &[]);
    let site = Site::with(&[("services/a/default", "true"), ("services/a/one", &backend.instance())]);
    let url = format!("http://{}", free_address());
    let launch = Launch::engine(Engine::Native).store(&site).args(&["--otlp", &url, "--otlp-sample", "1"]);
    traced.running = launch.start();
    traced.running.wait_ready();
    assert_eq!(traced.ask("/", "").status, 200);
    traced
        .running
        .process
        .wait_log(&format!("spans cannot be sent to {url}/v1/traces, and are dropped if that lasts: "));
    wait("the drop", || dropped(&traced, "unsent") == 2.0);
    assert_eq!(traced.ask("/", "").status, 200);
    traced.running.end();
}

#[test]
fn a_slow_collector_costs_spans_and_no_requests() {
    let collector = Collector::answering(|_| (0, ""));
    let flags = ["--otlp-sample", "1", "--workers", "1"];
    let keys = [("services/a/redirect", "302 /elsewhere")];
    let mut traced = Traced::with(collector, &keys, &flags);
    let mut client = traced.running.connect();
    // One span each; the first ones are on their way already.
    wait_within("full queues", 4 * PATIENCE, || {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(1_000)).expect("open");
        for _ in 0..1_000 {
            assert_eq!(client.response("GET").expect("an answer").status, 302);
        }
        (dropped(&traced, "queue") > 0.0).then_some(())
    });
    drop(client);
    traced.running.process.signal("TERM");
    assert!(traced.running.process.wait_exit(PATIENCE).success());
    assert!(traced.running.process.log().contains("the last spans were not sent within 2 s"));
}

#[test]
fn a_collector_over_tls_is_verified() {
    let (backend, authority, stranger) = (Backend::naming("one"), Authority::new(), Authority::new());
    let site = Site::with(&[("services/a/default", "true"), ("services/a/one", &backend.instance())]);
    let collector = Collector::new();
    let lines = certified(&authority.issue("collector", "DNS:localhost"));
    stranger.issue("any", "DNS:localhost");
    let lines = format!("{lines} location /v1/ {{ proxy_pass {}; }}", collector.url());
    let nginx = Nginx::serving(&site, &[("ssl", lines)]);
    let url = format!("https://localhost:{}", nginx.addresses[0].port());
    for (trusted, is_verified) in [(&authority, true), (&stranger, false)] {
        let file = trusted.file().display().to_string();
        let launch = Launch::engine(Engine::Native).store(&site).args(&["--otlp", &url, "--otlp-sample", "1"]);
        let mut running = launch.env("SSL_CERT_FILE", &file).start();
        running.wait_ready();
        running.wait_backend("a.test", "/tls", "one");
        if is_verified {
            wait("a trace", || !collector.traces("/tls").is_empty());
        } else {
            running.process.wait_log(&format!("spans cannot be sent to {url}/v1/traces"));
            running.process.wait_log("certificate");
        }
        running.end();
    }
}

#[test]
fn the_last_spans_are_sent_at_the_end() {
    let backend = Backend::naming("one");
    let mut traced = Traced::new(&[("services/a/one", &backend.instance())], &["--otlp-sample", "0"]);
    traced.ask("/last", &parent(super::TRACE, super::CALLER, "01"));
    traced.running.end();
    traced.collector.trace(super::TRACE, 2);
}

#[test]
fn headers_for_a_collector_are_secret() {
    let backend = Backend::naming("one");
    let (site, collector) = (Site::with(&[("services/a/default", "true")]), Collector::new());
    site.put("services/a/one", backend.instance());
    let launch = Launch::engine(Engine::Native).store(&site).args(&["--otlp", &collector.url(), "--otlp-sample", "1"]);
    let launch =
        launch.env("POINTSMAN_OTLP_HEADER", "Authorization=Bearer s3cret,X-Tenant=t1").args(&["--log", "trace"]);
    let mut running = launch.start();
    running.wait_ready();
    assert_eq!(crate::harness::get(running.http, "a.test", "/").expect("an answer").status, 200);
    wait("a request", || !collector.heads().is_empty());
    let head = &collector.heads()[0];
    assert!(head.contains("authorization: Bearer s3cret\r\n") && head.contains("x-tenant: t1\r\n"), "{head}");
    running.end();
    assert!(!running.process.log().contains("s3cret"), "{}", running.process.log());
}

#[test]
fn bad_settings_say_what_is_right() {
    for (flags, expected) in [
        (&["--otlp", "localhost:4318"][..], "is not a URL of a collector; write one such as http://127.0.0.1:4318"),
        (&["--otlp", "http://u:p@c.test"], "--otlp-header"),
        (&["--otlp-sample", "1.5"], "is not a share; write 0 to 1"),
        (&["--metrics-exemplars", "yes"], "[possible values: on, off]"),
        (&["--otlp-header", "secret"], "write NAME=VALUE"),
        (&["--otlp-header", "Host=a"], "not yours to set"),
    ] {
        let done = run(&[&["run", "--admin", "off", "--http", "127.0.0.1:0"], flags].concat());
        assert_eq!(done.code, Some(2), "{flags:?}");
        assert!(done.stderr.contains(expected), "{flags:?}: {}", done.stderr);
    }
}

#[test]
fn haproxy_traces_nothing_and_says_so() {
    let site = Site::with(&[]);
    let flags = ["--otlp", "http://127.0.0.1:1"];
    let mut running = Launch::engine(Engine::HaProxy).store(&site).args(&flags).start();
    running.process.wait_log("--otlp has no effect on the HAProxy engine");
    running.end();
}
