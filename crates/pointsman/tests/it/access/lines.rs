//! What lines say: the formats, how requests ended, and what HAProxy itself writes of the same requests.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;

use super::{Logged, lines_of};
use crate::harness::{
    Backend, Connection, Process, Raw, Site, Then, echo_tcp, free_address, free_port, get, python_http2, run, shell,
    wait,
};

/// The words of a line, its quoted end as one.
fn words(line: &str) -> Vec<&str> {
    let (before, request) = line.split_once(" \"").unwrap_or((line, ""));
    before.split(' ').chain((!request.is_empty()).then_some(request)).collect()
}

#[test]
fn a_request_is_a_line_as_haproxy_writes_it() {
    let backend = Backend::naming("one");
    let logged = Logged::new(&[("services/a/one", &backend.instance())], &[]);
    let mut client = Connection::open(logged.running.http);
    let from = client.stream().local_addr().expect("open");
    client.request("GET", "a.test", "/x?q=1").expect("answered");
    client.request("HEAD", "a.test", "/status/404").expect("answered");
    let lines = logged.lines(2);
    let first = words(&lines[0]);
    assert_eq!(first[0], from.to_string());
    assert!(first[1].starts_with('[') && first[1].ends_with(']') && first[1].len() == 26, "{}", first[1]);
    assert_eq!(&first[2..4], ["http", "services:a/one"]);
    let times: Vec<_> = first[4].split('/').map(|time| time.parse::<u32>().expect("a number")).collect();
    assert_eq!(times.len(), 5, "{}", first[4]);
    assert_eq!(
        (first[5], &first[7..10], first[11], first[12]),
        ("200", &["-", "-", "----"][..], "0/0", "GET /x?q=1 HTTP/1.1\"")
    );
    assert_eq!(first[10], "1/1/0/0/0");
    assert!(lines[1].contains(" 404 ") && lines[1].ends_with("\"HEAD /status/404 HTTP/1.1\""), "{}", lines[1]);
}

#[test]
fn bytes_of_clients_break_no_line() {
    let backend = Backend::naming("one");
    let keys = [("services/a/one", &*backend.instance())];
    let request =
        b"GET /a\"b?c\\d HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x\"\\\xc3\xa9\xff\ty\r\nConnection: close\r\n\r\n";
    for (format, expected) in [
        ("httplog", r##""GET /a#22b?c\d HTTP/1.1""##),
        ("combined", r#""GET /a\"b?c\\d HTTP/1.1" 200 "#),
        ("combined", r#" "-" "x\"\\\xc3\xa9\xff\ty""#),
        ("json", r#""path":"/a\"b","query":"c\\d""#),
        ("json", r#""user_agent":"x\"\\\u00e9\ufffd\u0009y""#),
        ("{status} {uri} {header:User-Agent} {header:X-Not}", r"200 /a#22b?c\d x#22\#C3#A9#FF#09y -"),
    ] {
        let logged = Logged::new(&keys, &["--access-log-format", format]);
        let mut client = Connection::open(logged.running.http);
        client.send(request).expect("sent");
        client.read_rest();
        // A request line that cannot be parsed is not repeated at all.
        let mut bad = Connection::open(logged.running.http);
        bad.send(b"GET /\x1b[2J\nX HTTP/1.1\r\n\r\n").expect("sent");
        bad.read_rest();
        let lines = logged.lines(2);
        assert!(lines[0].contains(expected), "{format}: {}", lines[0]);
        assert!(lines.iter().all(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~'))), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
}

#[test]
fn json_and_logs_tell_everything() {
    let backend = Backend::naming("one");
    let logged = Logged::new(&[("services/a/one", &backend.instance())], &["--access-log-format", "json"]);
    let mut client = Connection::open(logged.running.http);
    client
        .send("POST /count HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: r-7\r\nContent-Length: 3\r\nReferer: http://b/\r\n\r\nabc")
        .expect("sent");
    client.response("POST").expect("answered");
    assert_eq!(get(logged.running.http, "nobody.test", "/").expect("answered").status, 503);
    let lines = logged.lines(2);
    let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    for (name, expected) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "a.test"),
        ("path", "/count"),
        ("protocol", "HTTP/1.1"),
        ("service", "a"),
        ("instance", "one"),
        ("request_id", "r-7"),
        ("referer", "http://b/"),
        ("kind", "http"),
    ] {
        assert_eq!(first[name], expected, "{name}: {}", lines[0]);
    }
    assert_eq!((&first["status"], &first["retries"]), (&200.into(), &0.into()));
    assert!(first["bytes_out"].as_u64() > Some(20) && first["bytes_in"].as_u64() > Some(20), "{}", lines[0]);
    let second: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
    assert_eq!(
        (&second["fault"], &second["termination"], &second["status"]),
        (&"no_route".into(), &"SC".into(), &503.into())
    );
    let admin = logged.running.admin.to_string();
    let shown = |more: &[&str]| run(&[&["logs", "--admin", &*admin], more].concat()).ok();
    wait("both requests", || shown(&[]).lines().count() == 2);
    assert!(shown(&["a"]).contains(" 200 ") && shown(&["a"]).lines().count() == 1);
    assert!(
        shown(&["--status", "5xx"]).ends_with("GET nobody.test/ -/- no_route SC\n"),
        "{}",
        shown(&["--status", "5xx"])
    );
    assert_eq!(shown(&["--slower", "1m"]), "");
    assert!(shown(&["--json", "--status", "503"]).contains("\"fault\":\"no_route\""));
}

#[test]
fn how_requests_end() {
    let closed = free_address();
    let hangs = Raw::answering("", Then::Hang);
    let cuts = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Then::Close);
    let silent = Raw::answering("", Then::Close);
    let backend = Backend::naming("one");
    let full = format!("{} maxconn=1", backend.instance());
    let service = |name: &str, key: &str| format!("services/{name}/{key}");
    let mut keys =
        vec![("services/a/one".to_owned(), backend.instance()), ("config/timeout/queue".into(), "1s".into())];
    for (name, instance) in [
        ("refused", closed.to_string()),
        ("hangs", hangs.instance()),
        ("cuts", cuts.instance()),
        ("silent", silent.instance()),
        ("full", full),
    ] {
        keys.push((service(name, "domain"), format!("{name}.test")));
        keys.push((service(name, "one"), instance));
    }
    keys.push((service("hangs", "timeout/server"), "500ms".into()));
    keys.push((service("empty", "domain"), "empty.test".into()));
    let keys: Vec<_> = keys.iter().map(|(key, value)| (&**key, &**value)).collect();
    let logged = Logged::new(&keys, &[]);
    let (mut count, http) = (0, logged.running.http);
    let mut ends = |letters: &str, status: &str, what: &str| {
        count += 1;
        let line = logged.lines(count).swap_remove(count - 1);
        let words = words(&line);
        assert_eq!((words[9], words[5]), (letters, status), "{what}: {line}");
        line
    };
    let ask = |host: &str| drop(get(http, host, "/"));
    ask("refused.test");
    let line = ends("SC--", "502", "refused");
    assert!(line.contains(" services:refused/one 0/") && line.contains("/-1/-1/"), "{line}");
    ask("hangs.test");
    ends("sH--", "504", "an instance that does not answer");
    ask("cuts.test");
    ends("SD--", "200", "an answer that is cut");
    ask("silent.test");
    let line = ends("SH--", "502", "an instance that closes");
    assert!(line.contains("/0 0/0 ") || line.contains("/1 0/0 "), "{line}");
    ask("empty.test");
    let line = ends("SC--", "503", "no instance");
    assert!(line.contains(" services:empty/<NOSRV> 0/-1/-1/-1/"), "{line}");
    ask("nobody.test");
    let line = ends("SC--", "503", "no service");
    assert!(line.contains(" http http/<NOSRV> -1/-1/-1/-1/"), "{line}");
    let mut bad = Connection::open(http);
    bad.send("GET nonsense\r\n\r\n").expect("sent");
    bad.read_rest();
    let line = ends("PR--", "400", "a bad request");
    assert!(line.ends_with("\"<BADREQ>\""), "{line}");
    // A client that leaves while its request is at the instance.
    let mut leaves = Connection::open(http);
    leaves.send("GET /wait/60000 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    wait("the request at the instance", || backend.received().iter().any(|all| all.ends_with(b"\r\n\r\n")));
    SockRef::from(leaves.stream()).set_linger(Some(Duration::ZERO)).expect("open");
    drop(leaves);
    ends("CH--", "400", "a client that left");
    let mut holds = Connection::open(http);
    holds.send("GET /hold HTTP/1.1\r\nHost: full.test\r\n\r\n").expect("sent");
    holds.read_head().expect("the head comes");
    ask("full.test");
    let line = ends("sQ--", "503", "a full queue");
    assert!(line.contains("/-1/-1/"), "{line}");
    backend.let_go();
    holds.read_rest();
}

#[test]
fn tries_are_counted() {
    let (closed, backend) = (free_address(), Backend::naming("two"));
    let keys = [("services/a/one", &*closed.to_string()), ("services/a/two", &*backend.instance())];
    let logged = Logged::new(&keys, &[]);
    for _ in 0..2 {
        assert_eq!(logged.get("/"), 200);
    }
    let lines = logged.lines(2);
    assert!(lines.iter().any(|line| line.contains("/+1 0/0 ") && line.contains("services:a/two")), "{lines:?}");
}

#[test]
fn http2_and_tcp_have_lines() {
    let backend = Backend::naming("one");
    let port = free_port();
    let echo = echo_tcp("hello ").to_string();
    let keys = [
        ("services/a/one", &*backend.instance()),
        ("tcp-services/t/port", &*port.to_string()),
        ("tcp-services/t/one", &echo),
    ];
    let logged = Logged::new(&keys, &[]);
    python_http2(&logged.site, ("http", logged.running.http), "Client().ask('/two')");
    let line = logged.lines(1).swap_remove(0);
    assert!(line.ends_with("\"GET http://a.test/two HTTP/2.0\"") && line.contains(" services:a/one "), "{line}");
    wait("the port", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let from = stream.local_addr().expect("open");
    stream.write_all(b"you").expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("until the end");
    let of_it = || {
        let text = std::fs::read_to_string(&logged.path).ok()?;
        text.lines().find(|line| line.starts_with(&from.to_string())).map(str::to_owned)
    };
    wait("the line of the connection", || of_it().is_some());
    let line = of_it().expect("found");
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[2..4], [format!("tcp:127.0.0.1:{port}"), "tcp-services:t/one".into()], "{line}");
    assert_eq!((words[5], words[6], words[8], words.len()), ("9", "--", "0/0", 9), "{line}");
}

/// The lines that requests get from us, with these keys, and from HAProxy, with these backends for `NAME.test`.
fn both_logs(keys: &[(String, String)], backends: &[(&str, String)], requests: &[String]) -> (Logged, Vec<String>) {
    let keys: Vec<_> = keys.iter().map(|(key, value)| (&**key, &**value)).collect();
    let logged = Logged::new(&keys, &[]);
    let theirs = Site::new();
    let (http, config, log) = (free_address(), theirs.home().join("cfg"), theirs.home().join("log"));
    let rule = |name: &str| format!(" use_backend services:{name} if {{ hdr(host) {name}.test }}\n");
    let rules: String = backends.iter().map(|(name, _)| rule(name)).collect();
    let sections: String = backends.iter().map(|(name, lines)| format!("backend services:{name}\n{lines}")).collect();
    let text = format!(
        "global\n log stdout format raw local0\ndefaults\n mode http\n log global\n option httplog\n option dontlognull\n timeout client 5s\n \
         timeout connect 5s\n timeout server 500ms\n retries 0\nfrontend http\n bind {http}\n{rules}{sections}"
    );
    std::fs::write(&config, text).expect("our own folder");
    let line = format!("exec haproxy -db -f '{}' >'{}'", config.display(), log.display());
    let _haproxy = Process::start(Command::new("sh").args(["-c", &line]));
    wait("HAProxy", || TcpStream::connect(http).is_ok());
    for (done, request) in requests.iter().enumerate() {
        for (address, path) in [(logged.running.http, &logged.path), (http, &log)] {
            let mut client = Connection::open(address);
            client.send(request).expect("sent");
            client.read_rest();
            lines_of(path, done + 1);
        }
    }
    let theirs = lines_of(&log, requests.len());
    (logged, theirs)
}

/// Requests of every kind, and those of their fields that do not depend on time: what HAProxy writes of them.
#[test]
fn haproxy_writes_the_same() {
    let (backend, closed) = (Backend::naming("one"), free_address());
    let hangs = Raw::answering("", Then::Hang);
    let cuts = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Then::Close);
    let services =
        [("a", backend.instance()), ("b", closed.to_string()), ("c", hangs.instance()), ("d", cuts.instance())];
    let mut keys = vec![("services/e/domain".to_owned(), "e.test".to_owned())];
    let mut backends = vec![("e", String::new())];
    for (name, instance) in &services {
        keys.push((format!("services/{name}/domain"), format!("{name}.test")));
        keys.push((format!("services/{name}/one"), instance.clone()));
        keys.push((format!("services/{name}/timeout/server"), "500ms".to_owned()));
        backends.push((name, format!(" server one {instance}\n")));
    }
    let requests = [
        "GET /x?q=1 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET /a\"b?c\\ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "POST /status/404 HTTP/1.0\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: c.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: e.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n",
        "GET nonsense\r\n\r\n",
    ]
    .map(str::to_owned);
    let (logged, theirs) = both_logs(&keys, &backends, &requests);
    for ((ours, theirs), request) in logged.lines(requests.len()).iter().zip(&theirs).zip(&requests) {
        let both = format!("{request:?}\nours:   {ours}\ntheirs: {theirs}");
        let (ours, theirs) = (words(ours), words(theirs));
        assert_eq!(ours.len(), theirs.len(), "{both}");
        let lasts = |words: &[&str]| words[4].split('/').map(|time| time == "-1").collect::<Vec<_>>();
        assert_eq!((&ours[2..4], lasts(&ours)), (&theirs[2..4], lasts(&theirs)), "{both}");
        // The status of a service that cannot be reached differs by design.
        if !request.contains("b.test") && !request.contains("d.test") {
            assert_eq!(ours[5], theirs[5], "{both}");
        }
        assert_eq!(ours[7..], theirs[7..], "{both}");
    }
    let counted = shell(&format!("halog -s -4 -srv -q <'{}' | tail -n +2", logged.path.display())).stdout;
    assert!(counted.lines().any(|line| line.starts_with("services:a/one ")), "{counted}");
}

/// The third and the fourth letter: what became of a cookie.
#[test]
fn haproxy_writes_the_same_of_cookies() {
    let backend = Backend::naming("one");
    let forms = [
        ("f", "SRV insert indirect nocache"),
        ("g", "SRV insert maxidle 1h maxlife 2h"),
        ("h", "SRV rewrite"),
        ("i", "SRV prefix"),
        ("j", "SRV insert preserve"),
    ];
    let (mut keys, mut backends) = (Vec::new(), Vec::new());
    for (name, cookie) in forms {
        keys.push((format!("services/{name}/domain"), format!("{name}.test")));
        keys.push((format!("services/{name}/cookie"), cookie.to_owned()));
        keys.push((format!("services/{name}/one"), backend.instance()));
        backends.push((name, format!(" cookie {cookie}\n server one {} cookie one\n", backend.instance())));
    }
    let lines = [
        "",
        "Cookie: SRV=one\r\n",
        "Cookie: SRV=nobody\r\n",
        "Cookie: SRV=nobody; SRV=one\r\n",
        // A date of 1970.
        "Cookie: SRV=one|AAAAB|AAAAB\r\n",
        "Cookie: SRV=one~mine\r\n",
        "X-Answer: Set-Cookie: SRV=own\r\n",
        "Cookie: SRV=one\r\nX-Answer: Set-Cookie: SRV=own\r\n",
    ];
    let request =
        |name: &str, more: &str| format!("GET / HTTP/1.1\r\nHost: {name}.test\r\n{more}Connection: close\r\n\r\n");
    let requests: Vec<_> =
        forms.iter().flat_map(|(name, _)| lines.iter().map(move |more| request(name, more))).collect();
    let (logged, theirs) = both_logs(&keys, &backends, &requests);
    for ((ours, theirs), request) in logged.lines(requests.len()).iter().zip(&theirs).zip(&requests) {
        assert_eq!(words(ours)[9], words(theirs)[9], "{request:?}\nours:   {ours}\ntheirs: {theirs}");
    }
}

/// It reads each line of `combined`, also those of odd requests.
#[test]
fn goaccess_reads_our_lines() {
    let backend = Backend::naming("one");
    let logged = Logged::new(&[("services/a/one", &backend.instance())], &["--access-log-format", "combined"]);
    let requests: [&[u8]; 6] = [
        b"GET /a\"b?c\\d=%22 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x\"\\\xc3\xa9\xff\ty\r\nReferer: http://b/?\"\r\nConnection: close\r\n\r\n",
        b"HEAD / HTTP/1.0\r\nHost: a.test\r\n\r\n",
        b"PURGE /status/404 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        b"GET nonsense\r\n\r\n",
    ];
    for request in requests {
        let mut client = Connection::open(logged.running.http);
        client.send(request).expect("sent");
        client.read_rest();
    }
    let said = python_http2(&logged.site, ("http", logged.running.http), "c = Client()\nsay(c.ask('/h2')[0])\n");
    assert_eq!(said, "200\n");
    let lines = logged.lines(requests.len() + 1);
    let report = logged.site.home().join("report.json");
    let (log, to) = (logged.path.display(), report.display());
    shell(&format!("goaccess '{log}' --log-format=COMBINED --no-global-config --no-progress -o '{to}' </dev/null"));
    let report = std::fs::read_to_string(&report).expect("GoAccess writes its report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let count = |name: &str| report["general"][name].as_u64();
    assert_eq!((count("valid_requests"), count("failed_requests")), (Some(7), Some(0)), "{lines:?}");
}

/// A port without anybody, for a moment.
#[test]
fn an_endless_wait_has_its_place_in_the_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let instance = listener.local_addr().expect("bound").to_string();
    let logged = Logged::new(&[("services/a/one", &instance), ("services/a/timeout/server", "300ms")], &[]);
    assert_eq!(logged.get("/"), 504);
    let line = logged.lines(1).swap_remove(0);
    let times: Vec<i32> = words(&line)[4].split('/').map(|time| time.parse().expect("a number")).collect();
    assert!(times[3] == -1 && times[4] >= 300, "{line}");
}
