//! Who gets an instance: the queue at its `maxconn`, idle connections in the way, turns while keys change, instances that
//! take connections and do not answer.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Backend, Connection, Pointsman, Raw, Then, engine, get, request_head, wait, with_two_workers};

/// An instance with a `maxconn` of 1 that notes the targets in the order in which it gets them, and answers when it is let
/// go.
struct Single {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicBool>,
}

impl Single {
    fn new() -> Self {
        Self::start(false)
    }

    /// One that serves a connection until that ends before it takes the next, as simple servers do. It answers at once.
    fn one_at_a_time() -> Self {
        let single = Self::start(true);
        single.let_go();
        single
    }

    fn start(one_at_a_time: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (targets, open) = (Arc::default(), Arc::default());
        let single = Self { address, targets: Arc::clone(&targets), open: Arc::clone(&open) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (targets, open) = (Arc::clone(&targets), Arc::clone(&open));
                let serving = std::thread::spawn(move || drop(serve(stream, &targets, &open)));
                if one_at_a_time {
                    let _ = serving.join();
                }
            }
        });
        single
    }

    fn instance(&self) -> String {
        format!("{} maxconn=1", self.address)
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("no panic while held").clone()
    }

    fn let_go(&self) {
        self.open.store(true, Ordering::Release);
    }
}

fn serve(stream: TcpStream, targets: &Mutex<Vec<String>>, open: &AtomicBool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let Some(head) = request_head(&mut input)? else { return Ok(()) };
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        targets.lock().expect("no panic while held").push(target);
        while !open.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        output.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
}

fn queued(running: &Pointsman) -> f64 {
    running.metric("pointsman_queued", &["\"a\""])
}

/// A request on a connection of its own, sent and not answered yet.
fn sent(running: &Pointsman, target: &str) -> Connection {
    let mut connection = running.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).expect("open");
    connection
}

/// One request at work, then so many in the queue, one after another.
fn queue(running: &Pointsman, single: &Single, count: usize) -> Vec<Connection> {
    let mut connections = vec![sent(running, "/0")];
    wait("the first request to be at work", || single.targets().len() == 1);
    for number in 1..=count {
        connections.push(sent(running, &format!("/{number}")));
        wait("the request to wait", || queued(running) == number as f64);
    }
    connections
}

#[test]
fn requests_get_their_turn_in_the_order_in_which_they_came() {
    let single = Single::new();
    let (running, _site) =
        with_two_workers(&[("services/a/one", &single.instance()), ("services/a/timeout/connect", "60s")]);
    let connections = queue(&running, &single, 15);
    single.let_go();
    for mut connection in connections {
        assert_eq!(connection.response("GET").expect("an answer").status, 200);
    }
    let order: Vec<_> = (0..=15).map(|number| format!("/{number}")).collect();
    assert_eq!(single.targets(), order);
    wait("nobody to wait", || queued(&running) == 0.0);
}

#[test]
fn nobody_queues_for_much_longer_than_others() {
    let backend = Backend::naming("one");
    let one = format!("{} maxconn=1", backend.instance());
    let (running, _site) = with_two_workers(&[("services/a/one", &one), ("services/a/timeout/connect", "60s")]);
    let waits = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut connection = running.connect();
                for _ in 0..8 {
                    let began = Instant::now();
                    assert_eq!(connection.request("GET", "a.test", "/wait/20").expect("an answer").status, 200);
                    waits.lock().expect("no panic while held").push(began.elapsed());
                }
            });
        }
    });
    let mut waits = waits.into_inner().expect("no panic while held");
    waits.sort_unstable();
    // All wait for a turn of all clients. Out of order, some wait nine times as long as the half.
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    assert!(longest < median * 4, "{longest:?}, and the half waits {median:?} at most");
}

#[test]
fn who_queues_takes_an_instance_that_is_added() {
    let single = Single::new();
    let (running, site) =
        with_two_workers(&[("services/a/one", &single.instance()), ("services/a/timeout/connect", "60s")]);
    let mut connections = queue(&running, &single, 4);
    let added = Backend::naming("added");
    site.put("services/a/two", added.instance());
    for connection in &mut connections[1..] {
        assert_eq!(connection.response("GET").expect("an answer").header("x-backend"), Some("added"));
    }
    single.let_go();
    assert_eq!(connections[0].response("GET").expect("an answer").status, 200);
}

#[test]
fn who_leaves_the_queue_hands_its_turn_on() {
    let single = Single::new();
    let keys = [("services/a/one", &*single.instance()), ("services/a/timeout/connect", "1s")];
    let (running, site) = with_two_workers(&keys);
    let mut connections = queue(&running, &single, 2);
    let status = if engine().differs("queue-status") { 502 } else { 503 };
    for late in &mut connections[1..] {
        assert_eq!(late.response("GET").expect("an answer").status, status, "its time is over");
    }
    wait("nobody to wait", || queued(&running) == 0.0);
    running.after(|| site.put("services/a/timeout/connect", "60s"));
    let mut next = sent(&running, "/next");
    single.let_go();
    assert_eq!(next.response("GET").expect("an answer").status, 200);
}

#[test]
fn connections_of_a_tcp_service_queue_in_order() {
    let order: Arc<Mutex<Vec<u8>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let taken = Arc::clone(&order);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_ok() {
                taken.lock().expect("no panic while held").push(byte[0]);
                let _ = stream.read(&mut byte);
            }
        }
    });
    let port = crate::harness::free_port();
    let (running, _site) = with_two_workers(&[
        ("tcp-services/t/port", &port.to_string()),
        ("tcp-services/t/one", &format!("{address} maxconn=1")),
        ("tcp-services/t/timeout/connect", "60s"),
    ]);
    let wait_queued = |count: usize| {
        wait("the connection to wait", || running.metric("pointsman_queued", &["\"t\""]) == count as f64);
    };
    let mut clients = Vec::new();
    for number in 0..8_u8 {
        let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
        let mut client = crate::harness::wait_within("the port", Duration::from_secs(20), connect);
        client.write_all(&[number]).expect("open");
        clients.push(client);
        match number {
            0 => wait("the first to be taken", || order.lock().expect("no panic while held").len() == 1),
            number => wait_queued(number.into()),
        }
    }
    for (served, client) in clients.into_iter().enumerate() {
        wait("its turn", || order.lock().expect("no panic while held").len() > served);
        drop(client);
    }
    assert_eq!(*order.lock().expect("no panic while held"), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn an_idle_connection_makes_way_for_another_worker() {
    // HAProxy keeps the connection for its client, and opens a second one.
    if engine().differs("idle-places") {
        return;
    }
    let single = Single::one_at_a_time();
    let (running, _site) = with_two_workers(&[("services/a/one", &single.instance())]);
    // With any luck they come to both workers; each waits for at most 20 s.
    for number in 0..30 {
        let answer =
            get(running.http, "a.test", &format!("/{number}")).expect("an answer within the client's patience");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn weights_hold_while_the_service_changes_all_the_time() {
    let (a, b) = (Backend::naming("a"), Backend::naming("b"));
    let aside = |number: usize| format!("127.0.0.1:9 weight=0 maxconn={}", 10 + number);
    let (running, site) = with_two_workers(&[
        ("services/a/a", &format!("{} weight=9", a.instance())),
        ("services/a/b", &format!("{} weight=1", b.instance())),
        ("services/a/c", &aside(0)),
    ]);
    let mut shares = [0, 0];
    for round in 0..60 {
        running.after(|| site.put("services/a/c", aside(1 + round)));
        for _ in 0..3 {
            let answer = get(running.http, "a.test", "/").expect("an answer");
            shares[usize::from(answer.header("x-backend") == Some("b"))] += 1;
        }
    }
    assert!((12..=24).contains(&shares[1]), "{shares:?}: a tenth of 180 would be right");
}

/// An instance that closes every connection after the request, or answers.
struct Moody {
    address: SocketAddr,
    well: Arc<AtomicBool>,
}

impl Moody {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let well = Arc::new(AtomicBool::new(false));
        let mood = Arc::clone(&well);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                if mood.load(Ordering::Acquire) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Backend: moody\r\nContent-Length: 0\r\n");
                    let _ = stream.write_all(b"Connection: close\r\n\r\n");
                }
            }
        });
        Self { address, well }
    }
}

/// A request that is not sent twice.
fn post(running: &Pointsman) -> u16 {
    let mut connection = running.connect();
    connection.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nok").expect("open");
    connection.response("POST").expect("an answer").status
}

#[test]
fn an_instance_that_takes_connections_and_closes_them_is_ejected() {
    let (good, moody) = (Backend::naming("good"), Moody::new());
    let (running, _site) =
        with_two_workers(&[("services/a/good", &good.instance()), ("services/a/moody", &moody.address.to_string())]);
    if engine().differs("unanswered") {
        let failed = (0..60).filter(|_| post(&running) == 502).count();
        assert!(failed >= 20, "{failed} of 60: it keeps its half");
        return;
    }
    wait("it to be ejected", || {
        post(&running);
        running.metric("pointsman_instance_up", &["\"moody\""]) == 0.0
    });
    wait("the line", || running.process.log().contains("instance moody"));
    // Once in a while one request tries it. So many failures in a row would eject it for a minute, if that were a rule.
    let failed = (0..600).filter(|_| post(&running) == 502).count();
    assert!(failed < 60, "{failed} of 600");
    moody.well.store(true, Ordering::Release);
    running.wait_backend("a.test", "/", "moody");
    wait("it to be up", || running.metric("pointsman_instance_up", &["\"moody\""]) == 1.0);
    for lasts in ["3 s", "4 s", "8 s", "16 s", "32 s", "60 s"] {
        assert!(!running.process.log().contains(&format!("is ejected for {lasts}")), "{}", running.process.log());
    }
}

#[test]
fn an_instance_that_does_not_answer_in_time_is_ejected() {
    let (good, silent) = (Backend::naming("good"), Raw::answering("", Then::Hang));
    let (running, _site) = with_two_workers(&[
        ("services/a/good", &good.instance()),
        ("services/a/silent", &silent.instance()),
        ("services/a/timeout/server", "300ms"),
    ]);
    let late = (0..60).filter(|_| get(running.http, "a.test", "/").expect("an answer").status == 504).count();
    if engine().differs("unanswered") {
        assert!(late >= 20, "{late} of 60: it keeps its half");
    } else {
        assert!((3..20).contains(&late), "{late} of 60");
    }
}

#[test]
fn a_slow_endpoint_does_not_eject_an_instance_that_answers_others() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &one.instance()),
        ("services/a/two", &format!("{} backup", two.instance())),
        ("services/a/timeout/server", "2s"),
    ]);
    std::thread::scope(|scope| {
        let polls: Vec<_> = (0..5).map(|_| scope.spawn(|| get(running.http, "a.test", "/wait/20000"))).collect();
        while !polls.iter().all(|poll| poll.is_finished()) {
            let answer = get(running.http, "a.test", "/").expect("an answer");
            assert_eq!((answer.status, answer.header("x-backend")), (200, Some("one")));
            std::thread::sleep(Duration::from_millis(1));
        }
        for poll in polls {
            assert_eq!(poll.join().expect("asked").expect("answered").status, 504);
        }
    });
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").header("x-backend"), Some("one"));
}
