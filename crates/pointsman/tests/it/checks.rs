//! Active checks of instances: what passes, what fails and in which words, and which requests an instance gets meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{
    Backend, Http2Instance, Launch, NameServer, Pointsman, Site, Then, Zone, engine, free_address, free_port, get,
    get_ok, holds, run, wait,
};

/// An instance that is asked `/health` by checks and anything else by requests.
struct Patient {
    address: SocketAddr,
    shared: Arc<PatientState>,
}

struct PatientState {
    name: &'static str,
    /// What checks get, one after another, then the last again and again.
    checks: Mutex<Vec<(Vec<u8>, Then)>>,
    /// Requests are closed without an answer.
    is_deaf: Mutex<bool>,
    checked: AtomicUsize,
    asked: AtomicUsize,
}

const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ILL: &str = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";

impl Patient {
    fn new(name: &'static str, answer: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(PatientState {
            name,
            checks: Mutex::default(),
            is_deaf: Mutex::default(),
            checked: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        let patient = Self { address, shared };
        patient.is(answer, Then::Close);
        patient
    }

    /// What checks get from now on.
    fn is(&self, answer: &str, then: Then) {
        self.plays(&[(answer, then)]);
    }

    fn plays(&self, answers: &[(&str, Then)]) {
        let answers = answers.iter().map(|(answer, then)| (answer.as_bytes().to_vec(), *then)).collect();
        *self.shared.checks.lock().expect("no panic while held") = answers;
    }

    fn instance(&self) -> String {
        self.address.to_string()
    }

    fn checked(&self) -> usize {
        self.shared.checked.load(Ordering::Acquire)
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Acquire)
    }
}

fn serve(mut stream: TcpStream, shared: &PatientState) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        if head.contains(" /health ") {
            shared.checked.fetch_add(1, Ordering::AcqRel);
            let (bytes, then) = {
                let mut checks = shared.checks.lock().expect("no panic while held");
                if checks.len() > 1 { checks.remove(0) } else { checks[0].clone() }
            };
            stream.write_all(&bytes)?;
            if then == Then::Reset {
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            // Ends when the other side does.
            return if then == Then::Hang { lines.read_line(&mut head).map(drop) } else { Ok(()) };
        }
        shared.asked.fetch_add(1, Ordering::AcqRel);
        if *shared.is_deaf.lock().expect("no panic while held") {
            return Ok(());
        }
        let name = shared.name;
        let length = name.len();
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nContent-Length: {length}\r\n\r\n{name}").as_bytes(),
        )?;
    }
}

/// Ends of keys, and their values.
type Keys = &'static [(&'static str, &'static str)];

/// Checks in quick succession.
const QUICK: Keys = &[
    ("config/health_check_interval", "200ms"),
    ("config/health_check_timeout", "1s"),
    ("config/health_check_fall", "2"),
];

fn site(keys: &[(&str, &str)]) -> Site {
    Site::with(&[QUICK, keys].concat())
}

/// A service `a.test` whose instances are checked with `/health`.
fn shop(instances: &[(&str, &Patient)]) -> Site {
    let site = site(&[("services/a/domain", "a.test"), ("services/a/health_check_uri", "/health")]);
    for (name, patient) in instances {
        site.put(&format!("services/a/{name}"), patient.instance());
    }
    site
}

fn is_up(running: &Pointsman, instance: &str, up: f64) -> bool {
    running.metric("pointsman_instance_up", &[&format!("instance=\"{instance}\"")]) == up
}

#[test]
fn an_instance_whose_checks_fail_gets_no_work_until_they_pass() {
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", WELL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let running = Pointsman::serving(&site);
    running.wait_backend("a.test", "/", "one");
    running.wait_backend("a.test", "/", "two");
    wait("both to be checked", || one.checked() > 1 && two.checked() > 1);
    two.is(ILL, Then::Close);
    wait("two to be down", || is_up(&running, "two", 0.0));
    let asked = two.asked();
    (0..20).for_each(|_| assert_eq!(get_ok(running.http, "a.test", "/").text(), "one"));
    assert_eq!(two.asked(), asked, "not even a trial");
    let store = site.folder().display().to_string();
    let counts_one = |status: &str| status.replace(' ', "").contains("\"down\":1");
    wait("status to count it", || counts_one(&run(&["status", "--json", "--store", &store]).stdout));
    let admin = running.admin.to_string();
    let routes = run(&["routes", "--admin", &admin]).stdout;
    assert!(routes.lines().any(|line| line.contains("two") && line.contains("down")), "{routes}");
    if !engine().differs("checks") {
        let line = format!(
            "service a instance two ({}) is down: its check GET /health got 503, 2 times in a row",
            two.address
        );
        wait("the log", || running.process.log().contains(&line));
        assert!(routes.contains("its check GET /health got 503"), "{routes}");
        let explained = run(&["explain", "--admin", &admin, "http://a.test/"]).stdout;
        assert!(explained.contains("its check GET /health got 503"), "{explained}");
        assert_eq!(running.metric("pointsman_instance_check_up", &["\"two\""]), 0.0);
        assert_eq!(running.metric("pointsman_instance_check_up", &["\"one\""]), 1.0);
        assert!(running.metric("pointsman_instance_check_duration_seconds", &["\"one\""]) > 0.0);
        let table = running.admin_page("/api/table").replace("\": \"", "\":\"");
        assert!(table.contains("\"check\":\"GET /health got 200\""), "{table}");
    }
    two.is(WELL, Then::Close);
    running.wait_backend("a.test", "/", "two");
    wait("it to be up", || is_up(&running, "two", 1.0));
}

#[test]
fn what_fails_is_said_in_words_and_is_tried_all_the_same() {
    if engine().differs("checks") {
        return;
    }
    let refused = free_address().to_string();
    let rows: [(&str, Then, Keys, &str); 12] = [
        ("", Then::Hang, &[], "got no answer within 300ms"),
        ("HTTP/1.1 200 OK\r\nX: y", Then::Hang, &[], "got no whole answer within 300ms"),
        ("HTTP/1.1 200 OK\r\nX: y", Then::Close, &[], "got half an answer: the connection was closed"),
        ("", Then::Close, &[], "got no answer: the connection was closed"),
        ("SSH-2.0-x\r\n", Then::Close, &[], "got what is no response: the status line is malformed"),
        ("", Then::Reset, &[], "failed: Connection reset by peer"),
        (ILL, Then::Close, &[], "got 503"),
        ("HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Then::Close, &[], "got 101"),
        ("HTTP/1.1 302 Go\r\nLocation: /\r\n\r\n", Then::Close, &[("expect", "200-299,304")], "got 302"),
        (WELL, Then::Close, &[("expect", "~^fine$")], "got 200 without ^fine$ in its body"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Then::Close, &[("expect", "~ok")], "got half an answer"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
            Then::Close,
            &[("expect", "~ok")],
            "got a malformed body",
        ),
    ];
    let site = site(&[("config/health_check_timeout", "300ms")]);
    let patients: Vec<_> = rows.iter().map(|(answer, then, ..)| (Patient::new("ill", ""), *answer, *then)).collect();
    for (at, ((patient, answer, then), (_, _, more, _))) in patients.iter().zip(&rows).enumerate() {
        patient.is(answer, *then);
        site.put(&format!("services/s{at}/domain"), format!("s{at}.test"));
        site.put(&format!("services/s{at}/health_check_uri"), "/health");
        site.put(&format!("services/s{at}/one"), patient.instance());
        more.iter().for_each(|(key, value)| site.put(&format!("services/s{at}/health_check_{key}"), value));
    }
    site.put("services/refused/domain", "refused.test");
    site.put("services/refused/one", &refused);
    site.put("services/refused/health_check", "tcp");
    let running = Pointsman::serving(&site);
    for (at, (_, _, _, words)) in rows.iter().enumerate() {
        let lead =
            format!("service s{at} instance one ({}) is down: its check GET /health {words}", patients[at].0.address);
        wait(&lead, || running.process.log().contains(&lead));
        assert_eq!(get_ok(running.http, &format!("s{at}.test"), "/").text(), "ill", "all are down, so they are tried");
    }
    let line =
        format!("service refused instance one ({refused}) is down: its check connection failed: Connection refused");
    wait(&line, || running.process.log().contains(&line));
}

#[test]
fn what_passes() {
    let rows: [(&str, Keys); 6] = [
        ("HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", &[]),
        ("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[("host", "x.test:8")]),
        (ILL, &[("expect", "503")]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", &[("method", "HEAD")]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall w\r\n3\r\nell\r\n0\r\n\r\n",
            &[("expect", "~^ALL well$")],
        ),
        ("HTTP/1.0 200 OK\r\n\r\nwell", &[("expect", "~well")]),
    ];
    let site = site(&[]);
    let patients: Vec<_> = rows.iter().map(|(answer, _)| Patient::new("well", answer)).collect();
    for (at, (patient, (_, more))) in patients.iter().zip(rows).enumerate() {
        site.put(&format!("services/s{at}/domain"), format!("s{at}.test"));
        site.put(&format!("services/s{at}/health_check_uri"), "/health");
        site.put(&format!("services/s{at}/one"), patient.instance());
        more.iter().for_each(|(key, value)| site.put(&format!("services/s{at}/health_check_{key}"), value));
    }
    let running = Pointsman::serving(&site);
    for (at, patient) in patients.iter().enumerate() {
        // HAProxy takes an interim response for the answer.
        if at == 1 && engine().differs("checks") {
            continue;
        }
        wait("three checks", || patient.checked() > 2);
        let up = running.metric("pointsman_instance_up", &[&format!("\"s{at}\"")]);
        assert_eq!(up, 1.0, "{at}: {}", running.admin_page("/api/table"));
        assert_eq!(get_ok(running.http, &format!("s{at}.test"), "/").text(), "well", "{at}");
    }
}

#[test]
fn who_flaps_below_the_limits_keeps_its_state() {
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", WELL));
    let both = [("one", &one), ("two", &two)];
    let site = shop(if engine().differs("checks") { &both[..1] } else { &both });
    site.put("services/a/health_check_fall", "3");
    let turns = |answers: &[&'static str]| answers.iter().map(|answer| (*answer, Then::Close)).collect::<Vec<_>>();
    one.plays(&[turns(&[WELL, ILL, ILL]).repeat(4), turns(&[WELL])].concat());
    two.plays(&[turns(&[ILL, WELL]).repeat(6), turns(&[ILL])].concat());
    let running = Pointsman::serving(&site);
    wait("all to be played", || one.checked() > 13 && (engine().differs("checks") || two.checked() > 13));
    assert!(is_up(&running, "one", 1.0));
    let log = running.process.log();
    let of_two = format!("two ({}) is down", two.address);
    assert!(!log.replace(&of_two, "").contains("is down") && !log.contains("is up again"), "{log}");
}

#[test]
fn when_all_are_down_they_are_tried_and_all_come_back() {
    let (one, two) = (Patient::new("one", ILL), Patient::new("two", ILL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let running = Pointsman::serving(&site);
    wait("both to be down", || is_up(&running, "one", 0.0) && is_up(&running, "two", 0.0));
    let answer = get(running.http, "a.test", "/").expect("an answer");
    assert_eq!(answer.status, if engine().differs("all-down") { 503 } else { 200 });
    one.is(WELL, Then::Close);
    two.is(WELL, Then::Close);
    running.wait_backend("a.test", "/", "one");
    running.wait_backend("a.test", "/", "two");
}

/// Checks do not outvote requests.
#[test]
fn an_instance_that_only_checks_find_well_is_ejected() {
    if engine().differs("unanswered") {
        return;
    }
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", WELL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let running = Pointsman::serving(&site);
    let passes = || running.metric("pointsman_instance_check_up", &["\"two\""]) == 1.0;
    wait("its check to pass", passes);
    *two.shared.is_deaf.lock().expect("no panic while held") = true;
    wait("it to be ejected", || {
        let _ = get(running.http, "a.test", "/");
        running.process.log().contains(&format!("service a instance two ({}) is ejected", two.address))
    });
    assert!(passes());
}

#[test]
fn without_checks_an_instance_is_judged_by_requests_alone() {
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", ILL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let running = Pointsman::serving(&site);
    wait("two to be down", || is_up(&running, "two", 0.0));
    site.put("services/a/health_check", "off");
    running.wait_backend("a.test", "/", "two");
    wait("it to be up", || is_up(&running, "two", 1.0));
}

/// Connections, and requests where the instances of a TCP service answer some.
#[test]
fn tcp_services_are_checked_too() {
    let (one, two, port) = (Patient::new("one", WELL), Patient::new("two", ILL), free_port());
    let (dead, listen) = (free_address().to_string(), port.to_string());
    let site = site(&[
        ("tcp-services/t/port", &listen),
        ("tcp-services/t/health_check", "tcp"),
        ("tcp-services/t/balance", "roundrobin"),
        ("tcp-services/t/one", &one.instance()),
        ("tcp-services/t/two", &two.instance()),
        ("tcp-services/t/dead", &dead),
    ]);
    let running = Pointsman::serving(&site);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = |name: &str| get(address, "x", "/").is_ok_and(|answer| answer.text() == name);
    wait("dead to be down", || is_up(&running, "dead", 0.0));
    wait("one", || answers("one"));
    wait("two", || answers("two"));
    site.put("tcp-services/t/health_check", "http");
    site.put("tcp-services/t/health_check_uri", "/health");
    wait("two to be down", || is_up(&running, "two", 0.0) && is_up(&running, "one", 1.0));
    wait("one alone", || (0..10).all(|_| answers("one")));
}

/// Another port is asked in plain text.
#[test]
fn a_port_of_its_own_is_checked() {
    let (one, health) = (Backend::naming("one"), Patient::new("health", ILL));
    let site = site(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &one.instance()),
        ("services/a/health_check_uri", "/health"),
        ("services/a/health_check_port", &health.address.port().to_string()),
    ]);
    let running = Pointsman::serving(&site);
    wait("it to be down", || is_up(&running, "one", 0.0));
    health.is(WELL, Then::Close);
    wait("it to be up", || is_up(&running, "one", 1.0));
    running.wait_backend("a.test", "/", "one");
}

/// A server with nothing but the health checking protocol.
const GRPC: &str = "
import asyncio, grpc
async def check(request, context):
    if request == b'': return b'\\x08\\x01'
    if request == b'\\x0a\\x03a.B': return b'\\x08\\x02'
    await context.abort(grpc.StatusCode.NOT_FOUND, 'who?')
async def main():
    server = grpc.aio.server()
    handlers = {'Check': grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('grpc.health.v1.Health', handlers),))
    print('port', server.add_insecure_port('127.0.0.1:0'), flush=True)
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
";

#[test]
fn grpc_is_asked_for_its_health() {
    let server = Http2Instance::program(GRPC);
    let site = site(&[("config/health_check_timeout", "5s")]);
    for (service, uri) in [("whole", ""), ("part", "/a.B"), ("other", "/c.D")] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/protocol"), "h2");
        site.put(&format!("services/{service}/health_check"), "grpc");
        site.put(&format!("services/{service}/one"), &server.instance);
        if !uri.is_empty() {
            site.put(&format!("services/{service}/health_check_uri"), uri);
        }
    }
    let running = Pointsman::serving(&site);
    if engine().differs("grpc-checks") {
        running.wait_problem("unsupported", &["services/whole/health_check", "grpc"]);
        return;
    }
    let check = |service: &str| running.metric("pointsman_instance_check_up", &[&format!("\"{service}\"")]);
    for words in ["Check of a.B got NOT_SERVING", "Check of c.D got gRPC status 5"] {
        wait(words, || running.process.log().contains(&format!("is down: its check grpc.health.v1.Health/{words}")));
    }
    wait("the whole to be up", || check("whole") == 1.0);
    assert_eq!(check("part"), 0.0);
}

/// Over HTTP/2, as its requests are.
#[test]
fn instances_that_speak_http2_are_checked_over_it() {
    let server = Http2Instance::node();
    let site =
        site(&[("services/a/domain", "a.test"), ("services/a/protocol", "h2"), ("services/a/one", &server.instance)]);
    site.put("services/a/health_check_uri", "/status/500");
    let running = Pointsman::serving(&site);
    wait("it to be down", || is_up(&running, "one", 0.0));
    site.put("services/a/health_check_uri", "/head");
    site.put("services/a/health_check_expect", "~:path: /head");
    wait("it to be up", || is_up(&running, "one", 1.0));
    site.put("services/a/health_check_expect", "~:path: /other");
    wait("it to be down again", || is_up(&running, "one", 0.0));
}

#[test]
fn who_was_down_is_down_after_a_restart() {
    if engine().differs("checks") {
        return;
    }
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", ILL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let mut running = Launch::on(&site).state(site.home().join("state")).start();
    running.wait_ready();
    wait("two to be down", || is_up(&running, "two", 0.0));
    running.process.signal("TERM");
    assert!(running.process.wait_exit(Duration::from_secs(30)).success());
    // Its next check has no outcome for a while.
    two.is("", Then::Hang);
    site.put("services/a/health_check_timeout", "30s");
    let running = Launch::on(&site).state(site.home().join("state")).start();
    running.wait_ready();
    let said = "its check found it down before Pointsman was started";
    wait("it to be remembered", || running.admin_page("/api/table").contains(said));
    holds("one has all the work", Duration::from_millis(300), || get_ok(running.http, "a.test", "/").text() == "one");
}

#[test]
fn who_went_down_is_down_after_a_kill() {
    if engine().differs("checks") {
        return;
    }
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", WELL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let state = site.home().join("state");
    let mut running = Launch::on(&site).state(&state).start();
    running.wait_ready();
    wait("both to be checked", || one.checked() > 2 && two.checked() > 2);
    two.is(ILL, Then::Close);
    wait("two to be down", || is_up(&running, "two", 0.0));
    let files = || std::fs::read_dir(state.join("memory")).into_iter().flatten().flatten().map(|file| file.path());
    // Not a draft.
    let kept = || files().filter(|path| path.extension().is_some_and(|end| end == "json"));
    let is_kept = || kept().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("down_at")));
    wait("it to be kept, though no key has changed", is_kept);
    running.process.signal("KILL");
    running.process.wait_exit(Duration::from_secs(30));
    // Its next check has no outcome for a while.
    two.is("", Then::Hang);
    site.put("services/a/health_check_timeout", "30s");
    let running = Launch::on(&site).state(&state).start();
    running.wait_ready();
    let said = "its check found it down before Pointsman was started";
    wait("it to be remembered", || running.admin_page("/api/table").contains(said));
    holds("one has all the work", Duration::from_millis(300), || get_ok(running.http, "a.test", "/").text() == "one");
}

/// From where the command runs, without a balancer.
#[test]
fn every_instance_can_be_asked_once() {
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", ILL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let dead = free_address().to_string();
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", "127.0.0.1:1");
    site.put("tcp-services/t/port", free_port().to_string());
    site.put("tcp-services/t/health_check", "tcp");
    site.put("tcp-services/t/dead", &dead);
    let store = site.folder().display().to_string();
    let check = run(&["check", "--engine", "native", "--probe", "--store", &store]);
    let (first, second) = (one.address, two.address);
    let expected = format!(
        "services/a/one ({first}) passes: GET /health got 200\n\
         services/a/two ({second}) fails: GET /health got 503\n\
         tcp-services/t/dead ({dead}) fails: connection failed: Connection refused (os error 111)\n"
    );
    assert_eq!((check.code, &*check.stdout), (Some(1), &*expected), "{check:?}");
    two.is(WELL, Then::Close);
    site.remove("tcp-services/t");
    let check = run(&["check", "--engine", "native", "--probe", "--store", &store]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

/// At the addresses that their names have now.
#[test]
fn instances_with_names_and_of_dns_can_be_asked_too() {
    if engine().differs("dns-lookups") {
        return;
    }
    let one = Patient::new("one", WELL);
    let names = NameServer::with(&[("web.test", Zone::At(vec![Ipv4Addr::LOCALHOST], 1))]);
    let port = one.address.port().to_string();
    let site = site(&[
        ("services/a/domain", "a.test"),
        ("services/a/health_check_uri", "/health"),
        ("services/a/named", &format!("web.test:{port}")),
        ("services/b/domain", "b.test"),
        ("services/b/health_check_uri", "/health"),
        ("services/b/dns", "web.test"),
        ("services/b/port", &port),
    ]);
    let store = site.folder().display().to_string();
    let asked = ["check", "--engine", "native", "--probe", "--resolver", &names.flag(), "--store", &store];
    let expected = format!(
        "services/a/named (web.test:{port}) passes: GET /health got 200\n\
         services/b/127.0.0.1:{port} (127.0.0.1:{port}) passes: GET /health got 200\n"
    );
    let check = run(&asked);
    assert_eq!((check.code, &*check.stdout), (Some(0), &*expected), "{check:?}");
}

#[test]
fn bad_keys_say_what_is_right() {
    let one = Backend::naming("one");
    let site = site(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &one.instance()),
        ("services/a/health_check", "grpc"),
        ("config/health_check_fall", "none"),
        ("config/health_check_interval", "1ms"),
    ]);
    let running = Launch::on(&site).start();
    running.wait_listed("bad_value", &["services/a/health_check", "expected protocol=h2 too"]);
    running.wait_listed("bad_value", &["config/health_check_fall", "expected a number from 1 to 100"]);
    running.wait_listed("bad_value", &["config/health_check_interval", "at least 100ms"]);
}

#[test]
fn services_share_the_checks_of_an_address() {
    if engine().differs("checks") {
        return;
    }
    let (alone, shared) = (Patient::new("alone", WELL), Patient::new("shared", WELL));
    let site = shop(&[("alone", &alone), ("shared", &shared)]);
    site.put("config/health_check_host", "same.test");
    for service in ["b", "c"] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/health_check_uri"), "/health");
        site.put(&format!("services/{service}/one"), shared.instance());
    }
    let _running = Pointsman::serving(&site);
    wait("checks of one", || alone.checked() >= 30);
    assert!(shared.checked() < 60, "{} checks, {} of another", shared.checked(), alone.checked());
}

#[test]
fn a_drained_instance_is_not_checked_and_nothing_is_known_of_it_afterwards() {
    if engine().differs("checks") {
        return;
    }
    let (one, two) = (Patient::new("one", WELL), Patient::new("two", ILL));
    let site = shop(&[("one", &one), ("two", &two)]);
    let running = Pointsman::serving(&site);
    wait("two to be down", || is_up(&running, "two", 0.0));
    site.put("services/a/two", format!("{} drain", two.instance()));
    wait("it to be forgotten", || is_up(&running, "two", 1.0));
    let (before, others) = (two.checked(), one.checked());
    wait("checks of the other", || one.checked() > others + 5);
    assert!(two.checked() <= before + 1, "one may have been under way");
    // Its next check has no outcome for a while.
    two.is("", Then::Hang);
    site.put("services/a/health_check_timeout", "30s");
    site.put("services/a/two", two.instance());
    running.wait_backend("a.test", "/", "two");
}

/// And one that hangs holds no other up.
#[test]
fn an_unsure_state_is_checked_more_often() {
    if engine().differs("checks") {
        return;
    }
    let (sure, unsure, hung) = (Patient::new("sure", WELL), Patient::new("unsure", WELL), Patient::new("hung", ""));
    hung.is("", Then::Hang);
    unsure.plays(&[(WELL, Then::Close), (ILL, Then::Close)]);
    let site = shop(&[("sure", &sure), ("unsure", &unsure), ("hung", &hung)]);
    site.put("services/a/health_check_interval", "1s");
    site.put("services/a/health_check_fall", "100");
    let _running = Pointsman::serving(&site);
    wait("checks of one", || sure.checked() >= 8);
    assert!(unsure.checked() >= 13, "{} checks, {} of another", unsure.checked(), sure.checked());
}
