//! Sticky sessions by `cookie`: they go on with the other engine, wait for their instance, and work over HTTP/2.

use crate::harness::{
    Backend, Connection, ENGINES, Engine, Launch, Pointsman, Scripted, Site, answer, engine, python_http2, wait,
    websocket,
};

/// Both engines on the same keys.
fn both(site: &Site) -> [Pointsman; 2] {
    ENGINES.map(|engine: Engine| {
        let state = site.home().join(format!("state-{}", engine.name()));
        let running = Launch::engine(engine).store(site).state(state).start();
        running.wait_ready();
        running
    })
}

/// Asks with these cookies; the instance, and the first `Set-Cookie`, without attributes.
fn ask(running: &Pointsman, cookie: &str) -> (String, Option<String>) {
    let mut connection = running.connect();
    let lines = "X-Tell: yes\r\nX-Answer: Set-Cookie: OWN=x\r\n";
    connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n{lines}\r\n")).expect("open");
    let answer = connection.response("GET").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.header("x-backend").expect("the instance's answer").to_owned();
    let sets = answer.head.lines().filter_map(|line| line.split_once(": "));
    let mut sets = sets.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value);
    let set = sets.find(|value| !value.starts_with("OWN=x")).map(|value| value.split(';').next().unwrap_or(value));
    (name, set.map(str::to_owned))
}

#[test]
fn a_session_goes_on_with_the_other_engine() {
    let backends = ["one", "two", "three"].map(Backend::naming);
    for cookie in [
        "SRV insert indirect",
        "SRV insert maxidle 1h",
        "SRV insert indirect maxidle 1h maxlife 8h",
        "SRV insert maxlife 8h",
        "SRV insert indirect dynamic",
        "OWN prefix",
        "OWN rewrite",
    ] {
        let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/cookie", cookie)]);
        for (name, backend) in ["a", "b+b", "c"].iter().zip(&backends) {
            site.put(&format!("services/a/upstreams/{name}"), backend.instance());
        }
        let engines = both(&site);
        for (first, second) in [(&engines[0], &engines[1]), (&engines[1], &engines[0])] {
            let (name, set) = ask(first, "x=y");
            let set = set.unwrap_or_else(|| panic!("no cookie with {cookie}"));
            for _ in 0..4 {
                for running in [second, first] {
                    let (again, _) = ask(running, &format!("x=y; {set}"));
                    assert_eq!(again, name, "{cookie}: {set}");
                }
            }
        }
    }
}

#[test]
fn a_key_of_custom_settings_is_the_same_in_both_engines() {
    let backends = ["one", "two"].map(Backend::naming);
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert dynamic"),
        ("services/a/custom_settings", "dynamic-cookie-key 'hunter 2'"),
        ("services/a/one", &backends[0].instance()),
        ("services/a/two", &backends[1].instance()),
    ]);
    let engines = both(&site);
    for (first, second) in [(&engines[0], &engines[1]), (&engines[1], &engines[0])] {
        let (name, set) = ask(first, "x=y");
        let set = set.expect("a cookie");
        assert_eq!(set.len(), "SRV=0123456789abcdef".len(), "{set}");
        assert_eq!((0..4).map(|_| ask(second, &set)).collect::<Vec<_>>(), vec![(name, None); 4]);
    }
    let pages = engines.map(|running| running.admin_page("/api/table") + &running.admin_page("/api/problems"));
    assert!(!pages.concat().contains("hunter"));
}

/// Dates are of the day, and the first one stays.
#[test]
fn dates_are_renewed() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert maxidle 1h maxlife 8h"),
        ("services/a/one", &backend.instance()),
    ]);
    for running in both(&site) {
        let mut set = String::new();
        // What is made earlier below is not its own time.
        wait("a cookie", || {
            set = ask(&running, "x=y").1.expect("a cookie");
            !set.ends_with('A')
        });
        let parts: Vec<_> = set.split('|').collect();
        assert!(parts[0] == "SRV=one" && parts.len() == 3 && parts[1] == parts[2], "{set}");
        // Up to some minutes ago: the last letter counts units of 4 s.
        let earlier = |text: &str| format!("{}A", &text[..4]);
        let old = format!("SRV=one|{}|{}", earlier(parts[1]), earlier(parts[2]));
        let (_, renewed) = ask(&running, &old);
        let renewed = renewed.expect("a cookie");
        let again: Vec<_> = renewed.split('|').collect();
        assert_eq!((again[0], again[2]), ("SRV=one", &*earlier(parts[2])), "{renewed}");
        assert_eq!(again[1].len(), parts[1].len(), "{renewed}");
    }
}

/// A client waits for its instance, as others wait for any; and others need not wait for it.
#[test]
fn a_session_waits_for_its_instance() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert"),
        ("services/a/timeout/connect", "60s"),
        ("services/a/one", &format!("{} maxconn=1", one.instance())),
        ("services/a/two", &two.instance()),
    ]);
    let running = Launch::on(&site).args(&["--workers", "2"]).start();
    running.wait_ready();
    let sent = |target: &str| {
        let mut connection = running.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: SRV=one\r\n\r\n")).expect("open");
        connection
    };
    let mut held = sent("/hold");
    wait("the first to be at work", || one.whole() == 1);
    let mut waiting = sent("/next");
    wait("the second to wait", || running.metric("pointsman_queued", &["\"a\""]) == 1.0);
    for _ in 0..6 {
        let answer = running.connect().request("GET", "a.test", "/").expect("an answer");
        assert_eq!(answer.header("x-backend"), Some("two"), "others do not wait");
    }
    one.let_go();
    for connection in [&mut held, &mut waiting] {
        let answer = connection.response("GET").expect("an answer");
        assert_eq!((answer.status, answer.header("x-backend")), (200, Some("one")));
    }
}

#[test]
fn who_sticks_to_an_instance_that_is_down_gets_another() {
    let (one, two) = (
        Backend::naming("one"),
        Scripted::new(|_, line| answer(if line.contains("/health") { 503 } else { 200 }, "two")),
    );
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert"),
        ("services/a/health_check_uri", "/health"),
        ("services/a/health_check_interval", "200ms"),
        ("services/a/one", &one.instance()),
        ("services/a/two", &two.instance()),
    ]);
    let running = Pointsman::serving(&site);
    wait("two to be down", || running.metric("pointsman_instance_up", &["\"two\""]) == 0.0);
    for _ in 0..4 {
        assert_eq!(ask(&running, "SRV=two"), ("one".to_owned(), Some("SRV=one".to_owned())));
    }
}

#[test]
fn long_and_many_cookies() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert indirect"),
        ("services/a/one", &backend.instance()),
    ]);
    let running = Pointsman::serving(&site);
    let long = "x".repeat(8_000);
    let many = "SRV=one|; ".repeat(800);
    for cookie in [format!("SRV={long}"), format!("{long}=SRV"), many, "SRV=one~|~|\u{7f}\u{80}".to_owned()] {
        let mut connection = running.connect();
        connection.send(format!("GET /head HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n")).expect("open");
        let answer = connection.response("GET").expect("an answer");
        assert!([200, 400].contains(&answer.status), "{}", answer.text());
        running.wait_backend("a.test", "/", "one");
    }
}

#[test]
fn a_websocket_sticks() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert"),
        ("services/a/one", &backend.instance()),
    ]);
    let running = Pointsman::serving(&site);
    let mut connection: Connection = running.connect();
    connection.send(websocket("/", "a.test")).expect("open");
    let head = connection.read_head().expect("a head").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("\r\nset-cookie: srv=one; path=/\r\n"), "{head}");
}

/// Cookies may come in pieces there.
#[test]
fn over_http2() {
    let backends = ["one", "two"].map(Backend::naming);
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/cookie", "SRV insert indirect nocache"),
        ("services/a/one", &backends[0].instance()),
        ("services/a/two", &backends[1].instance()),
    ]);
    let running = Pointsman::serving(&site);
    let script = "
c = Client()
for number in range(3):
    more = [('cookie', 'a=b'), ('cookie', 'SRV=two'), ('cookie', 'c=d'), ('x-answer', 'Set-Cookie: SRV=own ;; Set-Cookie: e=f')]
    status, head, body = c.ask('/head', more=more)
    lines = body.decode().lower().splitlines()
    say(status, head.get('x-backend'), head.get('set-cookie'), *[line for line in lines if line.startswith('cookie')], sep='|')
status, head, body = c.ask('/', more=[('cookie', 'SRV=gone')])
say(status, head.get('set-cookie') in ('SRV=one; path=/', 'SRV=two; path=/'), sep='|')
";
    let said = python_http2(&site, ("http", running.http), script);
    let stuck = "200|two|e=f|cookie: a=b; c=d\n";
    assert_eq!(said, format!("{}200|True\n", stuck.repeat(3)), "{:?}", engine());
}
