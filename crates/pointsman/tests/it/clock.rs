//! Jumps of the wall clock: what goes by it, and all that must not.

use std::path::Path;

use crate::harness::{Engine, Launch, Pointsman, Raw, Response, Site, engine, free_address, raw_answers, run, wait};

/// Where Debian keeps the library that gives a program another wall clock; the monotonic one stays.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";
const DAY: f64 = 86_400.0;

/// An instance that names itself.
fn named(name: &'static str) -> Raw {
    raw_answers(move |_| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Backend: {name}\r\n\r\n").into())
}

/// Puts the clock ahead. The program reads no half-written file.
fn set_clock(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)).expect("a file");
}

/// The date in a cookie that a life is counted from.
fn first(cookie: &str) -> &str {
    cookie.split('|').nth(2).unwrap_or_else(|| panic!("no dates in {cookie}"))
}

/// A balancer whose clock is ahead by the text in this file, `+30d`.
fn started(site: &Site, file: &Path) -> Pointsman {
    set_clock(file, "+0d");
    let path = file.to_str().expect("UTF-8");
    let launch = Launch::on(site).env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", path);
    let running = launch.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").start();
    running.wait_ready();
    running
}

/// The answer to a request with this cookie, and the cookie that it sets.
fn ask(running: &Pointsman, cookie: &str) -> (Response, Option<String>) {
    let mut connection = running.connect();
    connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n")).expect("open");
    let answer = connection.response("GET").expect("an answer");
    let set = answer.header("set-cookie").map(|line| line.split(';').next().unwrap_or_default().to_owned());
    (answer, set)
}

/// How far its clock is ahead of ours, in days.
fn ahead(running: &Pointsman) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    ((running.metric("pointsman_instance_checked_seconds", &["\"one\""]) - now) / DAY).round()
}

#[test]
fn jumps_of_the_clock_change_no_instance() {
    if engine() == Engine::HaProxy {
        return;
    }
    let (one, two, bad) = (named("one"), named("two"), free_address());
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/health_check_uri", "/"),
        ("services/a/health_check_interval", "100ms"),
        ("services/a/slow_start", "1h"),
        ("services/a/cookie", "SRV insert maxidle 1h maxlife 8h"),
        ("services/a/one", &one.instance()),
        ("services/a/bad", &bad.to_string()),
    ]);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("clock");
    let running = started(&site, &file);
    let up = |name: &str| running.metric("pointsman_instance_up", &[&format!("instance=\"{name}\"")]);
    wait("the bad one to be down", || up("bad") == 0.0);
    site.put("services/a/two", two.instance());
    wait("the new one", || two.heads() > 0 && up("two") == 1.0);
    let (answer, set) = ask(&running, "SRV=one");
    assert_eq!(answer.header("x-backend"), Some("one"));
    let mut cookie = set.expect("a cookie with dates");
    // Ahead by a month, back to now, behind by a month, back to now.
    for (text, days) in [("+30d", 30.0), ("+0d", 0.0), ("-30d", -30.0), ("+0d", 0.0)] {
        let trusted = ask(&running, &cookie).1;
        assert!(trusted.is_none_or(|renewed| first(&renewed) == first(&cookie)), "{text}: it was set just now");
        set_clock(&file, text);
        wait("the jump", || ahead(&running) == days);
        let before = [one.heads(), two.heads()];
        wait("checks", || one.heads() > before[0] + 5 && two.heads() > before[1] + 5);
        assert_eq!([up("one"), up("two"), up("bad")], [1.0, 1.0, 0.0], "{text}");
        let weight = running.metric("pointsman_instance_weight", &["\"two\""]);
        assert!(weight < 0.5, "{text}: it starts slowly: {weight}");
        let (answer, set) = ask(&running, &cookie);
        assert_eq!(answer.status, 200, "{text}");
        let renewed = set.unwrap_or_else(|| panic!("{text}: {cookie} is trusted"));
        assert_ne!(first(&renewed), first(&cookie), "{text}");
        cookie = renewed;
    }
    assert_eq!(running.metric("pointsman_ejections_total", &["\"one\""]), 0.0);
    assert_eq!(running.metric("pointsman_ejections_total", &["\"two\""]), 0.0);
    assert_eq!(running.metric("pointsman_faults_total", &[]), 0.0);
    let routes = run(&["routes", "--admin", &running.admin.to_string()]).ok();
    assert!(routes.lines().any(|line| line.contains(" bad ") && line.contains(" down ")), "{routes}");
}
