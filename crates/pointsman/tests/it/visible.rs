//! What operators see of instances: which one a key or a cookie leads to, and why; their states, checks, errors, weights and
//! queues.

use serde_json::Value;

use crate::harness::{Backend, Connection, Pointsman, Raw, Site, Then, engine, free_address, get, run, wait};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A service `a` with three instances.
fn three(keys: &[(&str, &str)]) -> (Site, Pointsman, Vec<Backend>) {
    let backends: Vec<_> = NAMES.map(Backend::naming).into();
    let site = Site::with(&[("services/a/domain", "a.test")]);
    for (name, backend) in NAMES.iter().zip(&backends) {
        site.put(&format!("services/a/upstreams/{name}"), backend.instance());
    }
    keys.iter().for_each(|(key, value)| site.put(&format!("services/a/{key}"), value));
    let running = Pointsman::serving(&site);
    (site, running, backends)
}

/// Sets a key, and waits until all workers have it.
fn change(site: &Site, running: &Pointsman, key: &str, value: &str) {
    let before = running.metric("pointsman_table_applied_revision", &[]);
    site.put(key, value);
    wait("the change", || running.metric("pointsman_table_applied_revision", &[]) > before);
}

fn explained(running: &Pointsman, target: &str, more: &[&str]) -> String {
    let (url, admin) = (format!("http://a.test{target}"), running.admin.to_string());
    run(&[&["explain", &url, "--admin", &admin], more].concat()).ok()
}

/// The instance that answers a request with this line.
fn taker(running: &Pointsman, target: &str, line: &str) -> String {
    let mut connection = Connection::open(running.http);
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{line}\r\n\r\n")).expect("open");
    connection.response("GET").expect("an answer").header("x-backend").expect("the instance").to_owned()
}

fn instance(running: &Pointsman, name: &str) -> Value {
    let table: Value = serde_json::from_str(&running.admin_page("/api/table")).expect("JSON");
    let all = table["services"][0]["instances"].as_array().expect("a list").clone();
    all.into_iter().find(|one| one["name"] == name).expect("it is listed")
}

#[test]
fn a_key_leads_to_the_instance_that_explain_names() {
    let (site, running, mut backends) = three(&[("health_check", "tcp"), ("health_check_interval", "200ms")]);
    if engine().differs("explained-keys") {
        assert!(!explained(&running, "/", &["--client", "127.0.0.1"]).contains("goes to"));
        return;
    }
    for (balance, target, line) in [
        ("source", "/", "X-Nothing: x"),
        ("uri", "/page-#?x", "X-Nothing: x"),
        ("hdr(X-User)", "/", "X-User: user #"),
        ("url_param(user)", "/?user=#", "X-Nothing: x"),
        ("cookie(ID)", "/", "Cookie: other=1; ID=#"),
    ] {
        change(&site, &running, "services/a/balance", balance);
        for number in 0..5 {
            let filled = |text: &str| text.replace('#', &number.to_string());
            let (target, line) = (filled(target), filled(line));
            let shown = explained(&running, &target, &["-H", &line, "--client", "127.0.0.1"]);
            let taker = taker(&running, &target, &line);
            assert!(shown.contains(&format!("  balance {balance}, key ")), "{shown}");
            assert!(shown.contains(&format!(": goes to {taker}\n")), "{line}: not {taker} in {shown}");
        }
    }
    assert!(explained(&running, "/", &[]).contains("the request has no key, so instances take turns"));
    let home = taker(&running, "/", "Cookie: ID=7");
    let page = running.admin_page("/api/explain?url=a.test&header=Cookie:%20ID=7");
    assert!(page.contains(&format!("\"key\":\"7\",\"instance\":\"{home}\"")), "{page}");
    // The open request is more than the share of its instance.
    change(&site, &running, "services/a/bounded", "100%");
    let mut held = running.connect();
    held.send("GET /hold HTTP/1.1\r\nHost: a.test\r\nCookie: ID=7\r\n\r\n").expect("open");
    wait("it to be at work", || running.metric("pointsman_active", &[&format!("instance=\"{home}\"")]) == 1.0);
    let shown = explained(&running, "/", &["-H", "Cookie: ID=7"]);
    let next = taker(&running, "/", "Cookie: ID=7");
    assert!(next != home && shown.contains(&format!(": goes to {next}\n")), "{shown}");
    assert!(shown.contains(&format!("the key's own instance, {home}, has its share of the open work")), "{shown}");
    backends.retain(|backend| !taker_is(&home, backend));
    wait("it to be down", || running.metric("pointsman_instance_up", &[&format!("instance=\"{home}\"")]) == 0.0);
    let shown = explained(&running, "/", &["-H", "Cookie: ID=7"]);
    assert!(shown.contains(&format!("the key's own instance, {home}, is down")), "{shown}");
}

/// Whether a backend has this name.
fn taker_is(name: &str, backend: &Backend) -> bool {
    get(backend.address(), "a.test", "/").is_ok_and(|answer| answer.header("x-backend") == Some(name))
}

#[test]
fn a_cookie_leads_to_the_instance_that_explain_names() {
    let (site, running, _backends) = three(&[("cookie", "SRV insert")]);
    if engine().differs("explained-keys") {
        return;
    }
    let asked = |cookie: &str| explained(&running, "/", &["--header", cookie]);
    assert!(asked("Cookie: SRV=two").contains("  cookie SRV, key two: goes to two\n"));
    assert!(asked("Cookie: SRV=four").contains("the cookie SRV names no instance of the service"));
    assert!(asked("X-Other: two").contains("the request has no cookie SRV"));
    let backend = Backend::naming("late");
    change(&site, &running, "services/a/upstreams/late", &format!("{} drain", backend.instance()));
    let shown = asked("Cookie: SRV=late");
    assert!(shown.contains(": goes to late\n") && shown.contains("it takes no new clients"), "{shown}");
    assert_eq!(taker(&running, "/", "Cookie: SRV=late"), "late");
    for bad in [["-H", "no colon"], ["-X", "GET /"], ["--client", "a.test"]] {
        assert_eq!(run(&[&["explain", "http://a.test/"][..], &bad].concat()).code, Some(2), "{bad:?}");
    }
}

#[test]
fn pages_have_the_history_of_each_instance() {
    let (site, running, _backends) = three(&[
        ("health_check_uri", "/"),
        ("health_check_interval", "200ms"),
        ("slow_start", "1h"),
        ("eject", "errors=2 for=1h"),
        ("upstreams/dead", &free_address().to_string()),
    ]);
    if engine().differs("explained-keys") {
        return;
    }
    wait("a check", || instance(&running, "one")["checked"].as_u64() > Some(1_500_000_000));
    let one = instance(&running, "one");
    assert_eq!((&one["check"], &one["state"]), (&"GET / got 200".into(), &"up".into()), "{one}");
    assert!(one["since"].as_u64() > Some(1_500_000_000) && one["check_ms"].is_u64(), "{one}");
    assert!(one["weight_now"].is_null() && one["last_error"].is_null(), "{one}");
    // A service without work has nothing to compare with.
    let used = || (0..8).for_each(|_| assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200));
    used();
    let late = Backend::naming("late");
    change(&site, &running, "services/a/upstreams/late", &format!("{} weight=100", late.instance()));
    wait("its weight", || {
        used();
        instance(&running, "late")["weight_now"].as_f64().is_some_and(|now| (9.0..20.0).contains(&now))
    });
    let weight = |name: &str| running.metric("pointsman_instance_weight", &[&format!("\"{name}\"")]);
    assert!((9.0..20.0).contains(&weight("late")) && weight("one") == 1.0);
    // Two answers in a row with 500 eject their instance.
    wait("an ejection", || {
        get(running.http, "a.test", "/status/500").expect("an answer");
        running.metric("pointsman_ejections_total", &["\"errors\""]) > 0.0
    });
    let table = || running.admin_page("/api/table");
    wait("the ejection", || {
        table().contains("\"ejections\":{\"errors\":1}") && table().contains("\"last_error\":\"500\"")
    });
    let routes = run(&["routes", "--admin", &running.admin.to_string()]).ok();
    assert!(routes.contains("last error 500 ") && routes.contains("; ejected once"), "{routes}");
    assert!(routes.lines().any(|line| line.contains(" late ") && line.contains(" of 100 ")), "{routes}");
    for (metric, labels) in [
        ("pointsman_instance_state_since_seconds", &["\"one\""][..]),
        ("pointsman_instance_checked_seconds", &["\"one\""]),
        ("pointsman_instance_last_error_seconds", &["error=\"500\""]),
    ] {
        assert!(running.metric(metric, labels) > 1_500_000_000.0, "{metric}");
    }
    change(&site, &running, "services/a/limit/requests", "1");
    let mut held = running.connect();
    held.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("it to be at work", || running.metric("pointsman_active", &[]) == 1.0);
    let mut waiting = running.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("a queue", || table().contains("\"queued\":1"));
}

#[test]
fn the_last_error_needs_no_eject() {
    let (site, running, _backends) = three(&[]);
    if engine().differs("explained-keys") {
        return;
    }
    let ask = |target: &str| get(running.http, "a.test", target);
    let errors = || NAMES.map(|name| instance(&running, name)["last_error"].as_str().unwrap_or("none").to_owned());
    (0..3).for_each(|_| assert_eq!(ask("/status/404").expect("an answer").status, 404));
    assert_eq!(errors(), ["none"; 3]);
    (0..3).for_each(|_| assert_eq!(ask("/status/503").expect("an answer").status, 503));
    wait("the status", || errors() == ["503"; 3]);
    let when = running.metric("pointsman_instance_last_error_seconds", &["\"one\"", "error=\"503\""]);
    assert!(when > 1_500_000_000.0, "{when}");
    let raw = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Then::Close);
    change(&site, &running, "services/a/upstreams/one", &raw.instance());
    wait("a body that was cut", || {
        // Some are cut.
        let _ = ask("/");
        errors()[0] == "bad_response_body"
    });
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 0.0);
}
