//! `timeout/request`, `limit/requests`, `limit/queue` and `timeout/queue`: how long a request may take, and how many may be
//! at work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Pointsman, Raw, Scripted, Then, answer, engine, get, python_http2, wait, with_two_workers,
};

/// An instance that answers when it is let go.
fn held() -> (Scripted, Arc<AtomicBool>) {
    let open: Arc<AtomicBool> = Arc::default();
    let gate = Arc::clone(&open);
    let scripted = Scripted::new(move |_, _| {
        while !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        answer(200, "ok")
    });
    (scripted, open)
}

fn sent(running: &Pointsman, target: &str) -> Connection {
    let mut connection = running.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect("open");
    connection
}

fn faults(running: &Pointsman, name: &str) -> f64 {
    running.metric("pointsman_faults_total", &[&format!("\"{name}\"")])
}

fn queued(running: &Pointsman) -> f64 {
    running.metric("pointsman_queued", &["\"a\""])
}

/// Whether the engine under test has these keys.
fn has_limits() -> bool {
    !engine().differs("request-limits")
}

#[test]
fn a_request_ends_in_time_in_every_phase() {
    if !has_limits() {
        return;
    }
    let silent = Raw::answering("", Then::Hang);
    let half = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::Hang);
    let (running, _site) = with_two_workers(&[
        ("config/timeout/request", "700ms"),
        ("services/a/one", &silent.instance()),
        ("services/half/domain", "half.test"),
        ("services/half/one", &half.instance()),
        ("services/queue/domain", "queue.test"),
        ("services/queue/one", &silent.instance()),
        ("services/queue/limit/requests", "1"),
        ("services/queue/timeout/request", "3s"),
        ("services/queue/timeout/queue", "60s"),
    ]);
    let late = |host: &str, rest: &str, status: u16| {
        let (before, began) = (faults(&running, "request_timeout"), Instant::now());
        let mut connection = running.connect();
        connection.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\n{rest}")).expect("open");
        match connection.response("POST") {
            Ok(response) => assert_eq!(response.status, status, "{host}"),
            Err(_) => assert_eq!(status, 0, "{host} is cut"),
        }
        assert!(began.elapsed() >= Duration::from_millis(700) && began.elapsed() < Duration::from_secs(15), "{host}");
        wait("the fault", || faults(&running, "request_timeout") > before);
    };
    late("a.test", "Content-Length: 0\r\n\r\n", 504);
    late("half.test", "Content-Length: 0\r\n\r\n", 0);
    late("a.test", "Content-Length: 1000000\r\n\r\nhalf", 504);
    let _first = {
        let mut first = running.connect();
        first.send("GET / HTTP/1.1\r\nHost: queue.test\r\n\r\n").expect("open");
        wait("it to be at work", || silent.heads() >= 3);
        first
    };
    late("queue.test", "Content-Length: 0\r\n\r\n", 504);
}

#[test]
fn a_connection_that_is_not_accepted_ends_in_time() {
    if !has_limits() {
        return;
    }
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    deaf.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a port");
    deaf.listen(0).expect("bound");
    let address = deaf.local_addr().expect("bound").as_socket().expect("an address");
    let _full: Vec<_> =
        (0..4).map_while(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok()).collect();
    let (running, _site) =
        with_two_workers(&[("services/a/one", &address.to_string()), ("services/a/timeout/request", "500ms")]);
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 504);
    wait("it to be counted", || faults(&running, "request_timeout") == 1.0);
}

#[test]
fn an_instance_that_never_answers_in_time_is_ejected() {
    if !has_limits() {
        return;
    }
    let (good, silent) = (Scripted::saying(200, "good"), Raw::answering("", Then::Hang));
    let (running, _site) = with_two_workers(&[
        ("services/a/good", &good.instance()),
        ("services/a/silent", &silent.instance()),
        ("services/a/timeout/request", "300ms"),
    ]);
    wait("it to be ejected", || {
        let _ = get(running.http, "a.test", "/");
        running.metric("pointsman_instance_up", &["\"silent\""]) == 0.0
    });
}

/// Of a request that is not sent whole, the client may be late.
#[test]
fn a_client_that_is_late_ejects_nobody() {
    if !has_limits() {
        return;
    }
    let silent = Raw::answering("", Then::Hang);
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &silent.instance()),
        ("services/a/two", &silent.instance()),
        ("services/a/timeout/request", "200ms"),
    ]);
    for _ in 0..8 {
        let mut late = running.connect();
        late.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nhalf").expect("open");
        assert_eq!(late.response("POST").expect("an answer").status, 504);
    }
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 0.0);
}

#[test]
fn the_queue_for_maxconn_has_the_same_bounds() {
    if !has_limits() {
        return;
    }
    let (peer, open) = held();
    let (running, site) = with_two_workers(&[
        ("services/a/one", &format!("{} maxconn=1", peer.instance())),
        ("services/a/limit/queue", "1"),
        ("services/a/timeout/queue", "60s"),
        ("services/a/timeout/connect", "50s"),
    ]);
    let mut first = sent(&running, "/first");
    wait("the first to be at work", || peer.requests() == 1);
    let mut second = sent(&running, "/second");
    wait("the second to wait", || queued(&running) == 1.0);
    let refused = |count: f64| {
        let late = get(running.http, "a.test", "/late").expect("an answer");
        assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
        wait("the fault", || faults(&running, "full") == count);
    };
    refused(1.0);
    for (key, value) in [("limit/queue", "2"), ("timeout/queue", "300ms")] {
        let before = running.metric("pointsman_table_applied_revision", &[]);
        site.put(&format!("services/a/{key}"), value);
        wait("the change", || running.metric("pointsman_table_applied_revision", &[]) > before);
    }
    let began = Instant::now();
    refused(2.0);
    assert!(began.elapsed() >= Duration::from_millis(300) && queued(&running) == 1.0, "it had a place in the queue");
    open.store(true, Ordering::Release);
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.response("GET").expect("an answer").status, 200);
    }
}

#[test]
fn a_tunnel_outlives_the_time_of_its_request() {
    if !has_limits() {
        return;
    }
    let echo =
        Raw::answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", Then::Hang);
    let (running, _site) =
        with_two_workers(&[("services/a/one", &echo.instance()), ("services/a/timeout/request", "300ms")]);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").expect("open");
    assert_eq!(connection.response("GET").expect("switched").status, 101);
    connection.stream().set_read_timeout(Some(Duration::from_secs(1))).expect("open");
    let kind = connection.response("GET").expect_err("nothing comes").kind();
    assert!(matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "it is open: {kind:?}");
}

#[test]
fn clients_of_http2_are_told_in_time() {
    if !has_limits() {
        return;
    }
    let silent = Raw::answering("", Then::Hang);
    let half = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::Hang);
    let (running, site) = with_two_workers(&[
        ("config/timeout/request", "500ms"),
        ("services/a/one", &silent.instance()),
        ("services/half/domain", "half.test"),
        ("services/half/one", &half.instance()),
    ]);
    let said = python_http2(
        &site,
        ("http", running.http),
        r"
c = Client()
say(c.ask('/')[0])
cut = c.begin('/', authority='half.test')
c.finish(cut)
say(c.heads[cut][':status'], cut in c.resets, cut in c.ended)
",
    );
    assert_eq!(said, "504\n200 True False\n");
}

#[test]
fn so_many_are_at_work_over_all_workers_and_no_more() {
    if !has_limits() {
        return;
    }
    let peer = Scripted::new(|_, _| {
        std::thread::sleep(Duration::from_millis(10));
        answer(200, "ok")
    });
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &peer.instance()),
        ("services/a/two", &peer.instance()),
        ("services/a/limit/requests", "3"),
        ("services/a/timeout/queue", "60s"),
    ]);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut connection = running.connect();
                for _ in 0..20 {
                    assert_eq!(connection.request("GET", "a.test", "/").expect("an answer").status, 200);
                }
            });
        }
    });
    assert_eq!((peer.most(), peer.requests()), (3, 240));
    wait("nobody to wait", || queued(&running) == 0.0);
}

#[test]
fn the_queue_is_in_order_and_bounded() {
    if !has_limits() {
        return;
    }
    let (peer, open) = held();
    let (running, site) = with_two_workers(&[
        ("services/a/one", &peer.instance()),
        ("services/a/limit/requests", "1"),
        ("services/a/limit/queue", "8"),
        ("services/a/timeout/queue", "60s"),
    ]);
    let mut connections = vec![sent(&running, "/0")];
    wait("the first to be at work", || peer.requests() == 1);
    for number in 1..=8 {
        connections.push(sent(&running, &format!("/{number}")));
        wait("it to wait", || queued(&running) == f64::from(number));
    }
    for _ in 0..2 {
        let late = get(running.http, "a.test", "/late").expect("an answer");
        assert_eq!((late.status, late.header("retry-after")), (503, Some("1")), "no request is measured yet");
    }
    let said = python_http2(
        &site,
        ("http", running.http),
        r"
c = Client()
late = c.begin('/late')
c.finish(late)
say(c.heads[late][':status'], c.heads[late].get('retry-after'))
",
    );
    assert_eq!(said, "503 1\n");
    wait("them to be counted", || {
        (faults(&running, "queue_full"), running.metric("pointsman_shed_total", &["\"a\""])) == (3.0, 3.0)
    });
    open.store(true, Ordering::Release);
    for mut connection in connections {
        assert_eq!(connection.response("GET").expect("an answer").status, 200);
    }
    let order: Vec<_> = (0..=8).map(|number| format!("GET /{number} HTTP/1.1")).collect();
    assert_eq!(peer.lines(), order);
}

#[test]
fn who_waits_for_too_long_is_told_and_who_leaves_takes_no_place() {
    if !has_limits() {
        return;
    }
    let (peer, open) = held();
    let (running, site) = with_two_workers(&[
        ("services/a/one", &peer.instance()),
        ("config/limit/requests", "1"),
        ("config/timeout/queue", "500ms"),
    ]);
    let mut first = sent(&running, "/first");
    wait("the first to be at work", || peer.requests() == 1);
    let late = get(running.http, "a.test", "/late").expect("an answer");
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    wait("it to be counted", || faults(&running, "queue_timeout") == 1.0);
    running.after(|| site.put("services/a/timeout/queue", "60s"));
    let gone = sent(&running, "/gone");
    wait("it to wait", || queued(&running) == 1.0);
    let mut patient = sent(&running, "/patient");
    wait("both to wait", || queued(&running) == 2.0);
    socket2::SockRef::from(gone.stream()).set_linger(Some(Duration::ZERO)).expect("open");
    drop(gone);
    wait("one to wait", || queued(&running) == 1.0);
    open.store(true, Ordering::Release);
    assert_eq!(first.response("GET").expect("an answer").status, 200);
    assert_eq!(patient.response("GET").expect("an answer").status, 200);
    assert_eq!(peer.requests(), 2);
}

#[test]
fn more_places_are_given_to_those_who_wait() {
    if !has_limits() {
        return;
    }
    let (peer, open) = held();
    let (running, site) = with_two_workers(&[
        ("services/a/one", &peer.instance()),
        ("services/a/limit/requests", "1"),
        ("services/a/timeout/queue", "60s"),
    ]);
    let mut connections: Vec<_> = (0..6).map(|number| sent(&running, &format!("/{number}"))).collect();
    wait("five to wait", || queued(&running) == 5.0);
    site.put("services/a/limit/requests", "4");
    wait("four to be at work", || peer.requests() == 4);
    site.put("services/a/limit/requests", "off");
    wait("all to be at work", || peer.requests() == 6);
    open.store(true, Ordering::Release);
    for connection in &mut connections {
        assert_eq!(connection.response("GET").expect("an answer").status, 200);
    }
}

#[test]
fn a_queue_that_takes_too_long_is_not_joined() {
    if !has_limits() {
        return;
    }
    let backend = Backend::naming("one");
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &backend.instance()),
        ("services/a/limit/requests", "1"),
        ("services/a/timeout/queue", "1s"),
    ]);
    for _ in 0..20 {
        assert_eq!(get(running.http, "a.test", "/wait/100").expect("an answer").status, 200);
    }
    let quick = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let began = Instant::now();
                let answer = get(running.http, "a.test", "/wait/100").expect("an answer");
                if answer.status == 503 && began.elapsed() < Duration::from_millis(900) {
                    let seconds: u32 = answer.header("retry-after").expect("a time").parse().expect("seconds");
                    assert!(
                        (2..=60).contains(&seconds),
                        "the queue takes more than its second, and is known: {seconds}"
                    );
                    *quick.lock().expect("no panic while held") += 1;
                }
            });
        }
    });
    wait("some to be shed", || faults(&running, "shed") > 0.0);
    assert!(*quick.lock().expect("no panic while held") > 0, "some are told at once");
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200);
}
