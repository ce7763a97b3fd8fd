//! One service broken in every possible way, beside ten good ones: the ten are not affected, and every report names the
//! key.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Finished, Pointsman, Site, engine, free_port, get, get_ok, holds, run, wait,
};

/// A broken key: its path, its value, and the name of the problem's kind.
type Row = (&'static str, &'static str, &'static str);

/// Each key is below `services/bad/` of an otherwise valid service, unless it begins with a slash.
const ROWS: &[Row] = &[
    ("port", "eighty", "bad_value"),
    ("port", "0", "bad_value"),
    ("port", "65536", "bad_value"),
    ("domain", "not a host!", "bad_value"),
    ("domain", "a..test", "bad_value"),
    ("virtual_hosts", "*", "bad_value"),
    ("url_reg", "^/(unclosed", "bad_value"),
    ("url_beg", "no-slash", "bad_value"),
    ("path", "no-slash", "bad_value"),
    ("virtual_path", "no-slash", "bad_value"),
    ("priority", "high", "bad_value"),
    ("match", "some", "bad_value"),
    ("default", "perhaps", "bad_value"),
    ("keep_virtual_path", "perhaps", "bad_value"),
    ("abort", "perhaps", "bad_value"),
    ("balance", "fastest", "bad_value"),
    ("protocol", "h3", "bad_value"),
    ("timeout/server", "soon", "bad_value"),
    ("scheme", "gopher", "bad_value"),
    ("one", "127.0.0.1:notaport", "bad_instance"),
    ("two", "127.0.0.1:0", "bad_instance"),
    ("two", "127.0.0.1:80 weight=257", "bad_instance"),
    ("two", "127.0.0.1:80 heavy", "bad_instance"),
    ("two", "[::1", "bad_instance"),
    ("deep/er/key", "x", "unknown_key"),
    ("/tcp-services/bad/port", "http", "bad_value"),
    ("/tcp-services/bad/one", "127.0.0.1:1", "no_rule"),
    ("/services/lonely/one", "127.0.0.1:1", "no_rule"),
    ("/config/timeout/connect", "5 parsecs", "bad_value"),
    ("/config/timeout/nonsense", "5s", "unknown_key"),
    ("/config/limit/headers", "many", "bad_value"),
    ("custom_settings", "option httpchk", "unsupported"),
    ("cookie", "SRV insert forever", "bad_value"),
];

fn ten_good(backend: &Backend) -> Site {
    let site = Site::new();
    for number in 0..10 {
        site.put(&format!("services/good-{number}/domain"), format!("good-{number}.test"));
        site.put(&format!("services/good-{number}/one"), backend.instance());
    }
    site
}

fn full(key: &str) -> String {
    key.strip_prefix('/').map_or_else(|| format!("services/bad/{key}"), str::to_owned)
}

#[test]
fn every_way_that_keys_can_be_broken() {
    let backend = Backend::naming("good");
    let site = ten_good(&backend);
    let running = Pointsman::serving(&site);
    let mut connections: Vec<_> = (0..10).map(|_| running.connect()).collect();
    let supported = |row: &&Row| row.2 == "unsupported" && engine().differs("supported-keys");
    for row in ROWS.iter().filter(|row| !supported(row)) {
        check(&site, &running, &backend, &mut connections, *row);
    }
}

fn check(site: &Site, running: &Pointsman, backend: &Backend, good: &mut [Connection], row: Row) {
    let (key, value, kind) = row;
    let key = full(key);
    site.put("services/bad/domain", "bad.test");
    site.put("services/bad/fine", backend.instance());
    site.put(&key, value);
    // A rule that nothing reaches is reported for the service, not for one of its keys.
    let named = if kind == "no_rule" { key.rsplit_once('/').map_or(&*key, |(service, _)| service) } else { &key };
    let expected = format!("/{named}");
    wait(&format!("{row:?} in /api/problems"), || {
        let page = running.admin_page("/api/problems");
        page.contains(&expected) && page.contains(kind)
    });
    wait(&format!("{row:?} in the log"), || running.process.log().contains(&expected));
    let checked = checked(site);
    assert_eq!(checked.code, Some(1), "{row:?}: {}{}", checked.stdout, checked.stderr);
    assert!((checked.stdout + &checked.stderr).contains(&expected), "{row:?}");
    for (number, connection) in good.iter_mut().enumerate() {
        let answer = connection.request("GET", &format!("good-{number}.test"), "/").expect("never notices");
        assert_eq!(answer.status, 200, "{row:?}");
    }
    let root: Vec<_> = key.split('/').take(2).collect();
    site.remove(&root.join("/"));
    if root[1] != "bad" || root[0] != "services" {
        site.remove("services/bad");
    }
    wait(&format!("{row:?} to be forgotten"), || !running.admin_page("/api/problems").contains(&expected));
}

#[test]
fn good_keys_pass_the_check() {
    let site = ten_good(&Backend::naming("good"));
    checked(&site).ok();
}

/// The output of `pointsman check` for the keys.
fn checked(site: &Site) -> Finished {
    run(&["check", "--store", &site.folder().to_string_lossy(), "--prefix", "/", "--engine", engine().name()])
}

#[test]
fn a_service_that_was_good_keeps_its_last_good_form() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &one.instance())]);
    let running = Pointsman::serving(&site);
    site.put("services/a/url_reg", "^/(unclosed");
    running.wait_problem("bad_value", &["/services/a/url_reg"]);
    assert_eq!(get_ok(running.http, "a.test", "/").header("x-backend"), Some("one"));
    site.remove("services/a/url_reg");
    site.put("services/a/one", two.instance());
    running.wait_backend("a.test", "/", "two");
    site.put("services/a/domain", "not a host!");
    running.wait_problem("bad_value", &["/services/a/domain"]);
    assert_eq!(get_ok(running.http, "a.test", "/").header("x-backend"), Some("two"));
    site.remove("services/a");
    running.wait_gone("a.test", "/");
}

#[test]
fn an_instance_that_turns_bad_is_left_out() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &*one.instance()),
        ("services/a/two", &two.instance()),
        ("services/b/domain", "b.test"),
        ("services/b/one", &one.instance()),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_backend("a.test", "/", "one");
    site.put("services/a/one", format!("{} drian", one.instance()));
    running.wait_problem("bad_instance", &["/services/a/one"]);
    let of_two = || get_ok(running.http, "a.test", "/").header("x-backend") == Some("two");
    wait("only the other one to serve", || (0..4).all(|_| of_two()));
    // The last one: nothing is left to answer, and the other service does not notice.
    site.put("services/a/two", "127.0.0.1:notaport");
    running.wait_problem("bad_instance", &["/services/a/two"]);
    wait("503", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 503));
    get_ok(running.http, "b.test", "/");
}

#[test]
fn a_service_that_starts_bad_is_not_started() {
    let one = Backend::naming("one");
    let keys = [("services/a/domain", "a.test"), ("services/a/one", &one.instance()), ("services/a/priority", "high")];
    let site = Site::with(&keys);
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_value", &["/services/a/priority", "high"]);
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 503);
    site.put("services/a/priority", "7");
    running.wait_backend("a.test", "/", "one");
    wait("no problem", || !running.admin_page("/api/problems").contains("/services/a/priority"));
}

#[test]
fn a_bad_instance_is_left_out_and_the_rest_serve() {
    let one = Backend::naming("one");
    let keys = [("services/a/domain", "a.test"), ("services/a/one", &one.instance()), ("services/a/two", "nowhere:x")];
    let site = Site::with(&keys);
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_instance", &["/services/a/two", "nowhere:x"]);
    let mut connection = running.connect();
    for _ in 0..20 {
        assert_eq!(connection.request("GET", "a.test", "/").expect("served").header("x-backend"), Some("one"));
    }
}

#[test]
fn a_second_service_with_the_same_rule_is_shadowed() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[
        ("services/a/domain", "same.test"),
        ("services/a/one", &one.instance()),
        ("services/b/domain", "same.test"),
        ("services/b/two", &two.instance()),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_problem("shadowed", &["/services/b"]);
    assert_eq!(get_ok(running.http, "same.test", "/").header("x-backend"), Some("one"));
}

#[test]
fn two_tcp_services_on_one_port_name_the_port_and_the_key() {
    let port = free_port().to_string();
    let (one, two) = (crate::harness::echo_tcp("one").to_string(), crate::harness::echo_tcp("two").to_string());
    let site = Site::with(&[
        ("tcp-services/a/port", &*port),
        ("tcp-services/a/one", &one),
        ("tcp-services/b/port", &port),
        ("tcp-services/b/two", &two),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_problem("port_taken", &["/tcp-services/b/port", &port]);
}

#[test]
fn an_instance_that_is_ourselves_is_a_loop() {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    let running = Pointsman::serving(&site);
    for own in [running.http, running.admin] {
        site.put("services/a/one", own.to_string());
        running.wait_problem("loop", &["/services/a/one", &own.to_string()]);
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 503);
    }
}

#[test]
fn secrets_are_never_shown() {
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", "127.0.0.1:9"),
        ("services/a/basic_auth_secrets", "user admin insecure-passwd hunter2"),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_problem("bad_value", &["/services/a/basic_auth_secrets"]);
    let checked = checked(&site);
    let pages = running.admin_page("/api/problems") + &running.admin_page("/api/table") + &running.process.log();
    assert!(!(pages + &checked.stdout + &checked.stderr).contains("hunter2"));
}

#[test]
fn a_list_of_ports_takes_no_more_than_its_share() {
    let list: Vec<_> = (21_000..21_700).map(|port| format!("127.0.0.77:{port}")).collect();
    let backend = Backend::naming("good");
    let echo = crate::harness::echo_tcp("one").to_string();
    let site = Site::with(&[
        ("tcp-services/a/ports", &*list.join(",")),
        ("tcp-services/a/one", &echo),
        ("services/good/domain", "good.test"),
        ("services/good/one", &backend.instance()),
    ]);
    let running = Pointsman::serving(&site);
    running.wait_backend("good.test", "/", "good");
    holds("the last of its ports stays closed", Duration::from_secs(1), || {
        TcpStream::connect(("127.0.0.77", 21_699)).is_err()
    });
    running.wait_problem("too_many_ports", &["/tcp-services/a/ports", "700 addresses", "may have 100"]);
}

#[test]
fn expressions_that_would_hold_requests_up_are_bad_values() {
    let backend = Backend::naming("good");
    let site = Site::with(&[("services/good/default", "true"), ("services/good/one", &backend.instance())]);
    for number in 0..30 {
        site.put(&format!("services/slow-{number}/url_reg"), format!("a[ab]{{{}}}[^ab]", 300 + number));
    }
    let running = Pointsman::serving(&site);
    // Without a period, which an automaton would soon know by heart.
    let letters =
        (1..=14_000_u64).map(|n| if n.wrapping_mul(0x9e37_79b9_7f4a_7c15).count_ones() % 2 == 0 { 'a' } else { 'b' });
    let target = format!("/{}", letters.collect::<String>());
    let asked = Instant::now();
    assert_eq!(get_ok(running.http, "good.test", &target).header("x-backend"), Some("good"));
    let taken = asked.elapsed();
    assert!(taken < Duration::from_secs(1), "{taken:?} for what takes a millisecond");
    running.wait_problem("bad_value", &["/services/slow-29/url_reg", "never holds a request up"]);
}
