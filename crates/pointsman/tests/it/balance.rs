//! Who gets a request, counted: turns of several workers, weights under load, open work of all workers, keys, bounds,
//! returns by and by.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pointsman_table::{Rendezvous, hash_key};

use crate::harness::{
    Backend, Connection, Launch, Load, Pointsman, Scripted, Site, answer, engine, free_address, get, run, wait,
};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Two workers and the service `a`.
fn serving(keys: &[(&str, &str)]) -> (Pointsman, Site) {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(&format!("services/a/{key}"), value));
    let running = Launch::on(&site).args(&["--workers", "2"]).start();
    running.wait_ready();
    (running, site)
}

/// The same with three instances.
fn three(options: [&str; 3], keys: &[(&str, &str)]) -> (Pointsman, Site, [Backend; 3]) {
    let backends = NAMES.map(Backend::naming);
    let instances: Vec<_> =
        backends.iter().zip(options).map(|(backend, options)| format!("{} {options}", backend.instance())).collect();
    let named = NAMES.iter().copied().zip(instances.iter().map(String::as_str));
    let (running, site) = serving(&named.chain(keys.iter().copied()).collect::<Vec<_>>());
    (running, site, backends)
}

/// The instance that answers a request on a connection of its own.
fn taker(running: &Pointsman, target: &str) -> String {
    get(running.http, "a.test", target).expect("an answer").header("x-backend").expect("the instance").to_owned()
}

/// Requests that are held by their instances, sent one after another.
fn hold(running: &Pointsman, backends: &[Backend; 3], count: usize) -> Vec<Connection> {
    let begun = || backends.iter().map(Backend::whole).sum::<usize>();
    let send = |_| {
        let before = begun();
        let mut connection = running.connect();
        connection.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        wait("the request to be at work", || begun() > before);
        connection
    };
    (0..count).map(send).collect()
}

fn counts(backends: &[Backend; 3]) -> [usize; 3] {
    backends.each_ref().map(Backend::whole)
}

#[test]
fn two_workers_take_turns_together() {
    let (running, _site, _backends) = three(["", "", ""], &[]);
    let names: Vec<_> = (0..120).map(|_| taker(&running, "/")).collect();
    for (number, four) in names.windows(4).enumerate() {
        assert!(four[0] != four[1] && four[0] != four[2] && four[0] == four[3], "{number}: {names:?}");
    }
}

#[test]
fn shares_under_load_are_those_of_the_weights() {
    let (running, _site, backends) = three(["weight=5", "weight=3", "weight=2"], &[]);
    let load = Load::new().keep_alive(8, running.http, "a.test").open_close(4, running.http, "a.test");
    wait("enough requests", || load.done() >= 3_000);
    load.finish().assert_served(3_000);
    let counts = counts(&backends);
    let all: usize = counts.iter().sum();
    for (count, part) in counts.into_iter().zip([5, 3, 2]) {
        let off = (count * 10).abs_diff(all * part);
        // A hundredth of all.
        assert!(off * 10 <= all, "{counts:?}");
    }
}

#[test]
fn shares_hold_while_instances_come_and_go() {
    let (running, site, backends) = three(["", "", ""], &[]);
    let another = Backend::naming("another");
    for round in 0..40 {
        running.after(|| match round % 2 {
            0 => site.put("services/a/another", another.instance()),
            _ => site.remove("services/a/another"),
        });
        (0..25).for_each(|_| drop(taker(&running, "/")));
    }
    // A quarter of one half of the time, a third of the other. HAProxy's turns begin again with each of its changes.
    let (counts, most) = (counts(&backends), if engine().differs("reload-pace") { 60 } else { 10 });
    assert!(counts.iter().all(|count| count.abs_diff(292) <= most), "{counts:?} of 1,000");
    assert!(another.whole().abs_diff(125) <= most, "{} of 1,000", another.whole());
}

#[test]
fn open_work_of_all_workers_counts() {
    let (running, _site, backends) = three(["", "", "weight=2"], &[("balance", "leastconn")]);
    let held = hold(&running, &backends, 24);
    assert_eq!(counts(&backends), [6, 6, 12]);
    drop(held);
}

#[test]
fn a_key_has_its_instance_wherever_it_is_asked_for() {
    let (running, _site, _backends) = three(["", "", "weight=3"], &[("balance", "cookie(sid)")]);
    let ordered = [("one", 1), ("three", 3), ("two", 1)];
    let spread = Rendezvous::new(ordered.into_iter());
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..60 {
        let ask = || {
            let mut connection = running.connect();
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: x=y; sid=user-{number}; z=\r\n\r\n");
            connection.send(head).expect("open");
            connection.response("GET").expect("an answer").header("x-backend").expect("the instance").to_owned()
        };
        let first = ask();
        assert_eq!(ask(), first);
        if !engine().differs("hashed-keys") {
            let home = spread.pick(hash_key(format!("user-{number}").as_bytes()), |_| true).expect("there are some");
            assert_eq!(first, ordered[home].0, "user-{number}");
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3);
    // Written down, so that a new version cannot move keys.
    let homes =
        (0..12).map(|n| ordered[spread.pick(hash_key(format!("user-{n}").as_bytes()), |_| true).expect("some")].0);
    assert_eq!(homes.collect::<Vec<_>>().join(" "), GOLDEN);
}

/// The instances of `user-0` to `user-11`.
const GOLDEN: &str = "one three three three three one three three three three three two";

#[test]
fn what_is_beyond_the_bound_goes_to_the_next() {
    let (running, _site, backends) = three(["", "", ""], &[("balance", "uri"), ("bounded", "150%")]);
    let held = hold(&running, &backends, 30);
    let bounded = counts(&backends);
    // Half as much again as ten.
    assert!(bounded.iter().all(|count| *count <= 16) && bounded.iter().any(|count| *count >= 14), "{bounded:?}");
    drop(held);
}

#[test]
fn a_bound_needs_a_hashing_balance() {
    let (running, site, _backends) = three(["", "", ""], &[]);
    site.put("services/a/bounded", "125%");
    running.wait_problem("bad_value", &["services/a/bounded", "roundrobin has no use for it"]);
    site.put("services/a/balance", "source");
    wait("no problem", || !running.admin_page("/api/problems").contains("bounded"));
    site.put("services/a/bounded", "50%");
    running.wait_problem("bad_value", &["services/a/bounded", "from 100% to 1000%"]);
}

#[test]
fn an_instance_that_returns_gets_its_share_by_and_by() {
    let address = free_address();
    let one = Backend::naming("one");
    let (running, _site) = serving(&[("one", &one.instance()), ("two", &address.to_string()), ("slow_start", "1h")]);
    wait("it to be ejected", || {
        taker(&running, "/");
        running.metric("pointsman_instance_up", &["\"two\""]) == 0.0
    });
    let two = Backend::at("two", address);
    wait("it to be up", || {
        taker(&running, "/");
        running.metric("pointsman_instance_up", &["\"two\""]) == 1.0
    });
    let before = two.whole();
    (0..550).for_each(|_| drop(taker(&running, "/")));
    let share = two.whole() - before;
    if engine().differs("slow-start-share") {
        assert!(share < 60, "{share} of 550: it begins with nothing");
    } else {
        // About one to ten: turns begin anew each time its weight has grown. Half would be its whole share.
        assert!((30..=80).contains(&share), "{share} of 550");
    }
}

#[test]
fn an_instance_that_is_new_gets_its_share_by_and_by() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let (running, site) = serving(&[("one", &one.instance()), ("slow_start", "3s")]);
    (0..20).for_each(|_| drop(taker(&running, "/")));
    site.put("services/a/two", two.instance());
    wait("it to have work", || taker(&running, "/") == "two");
    if engine().differs("slow-start-share") {
        return;
    }
    let half = || (0..100).filter(|_| taker(&running, "/") == "two").count() == 50;
    assert!(!half(), "it does not begin with all of it");
    wait("its whole share", half);
    site.remove("services/a/two");
    wait("it to go", || (0..10).all(|_| taker(&running, "/") == "one"));
    site.put("services/a/two", two.instance());
    wait("it to have work again", || taker(&running, "/") == "two");
    assert!(!half(), "it begins anew");
}

#[test]
fn an_instance_that_checks_bring_back_gets_its_share_by_and_by() {
    if engine().differs("slow-start-share") {
        return;
    }
    let is_well: Arc<AtomicBool> = Arc::default();
    let told = Arc::clone(&is_well);
    let status = move |line: &str| if line.contains("/health") && !told.load(Ordering::SeqCst) { 503 } else { 200 };
    let (one, two) = (Scripted::saying(200, "one"), Scripted::new(move |_, line| answer(status(line), "two")));
    let checks = [("health_check_uri", "/health"), ("health_check_interval", "200ms"), ("slow_start", "1h")];
    let instances = [("one", &*one.instance()), ("two", &*two.instance())];
    let (running, _site) = serving(&[&instances[..], &checks].concat());
    let is_up = |up: f64| running.metric("pointsman_instance_up", &["\"two\""]) == up;
    wait("two to be down", || is_up(0.0));
    is_well.store(true, Ordering::SeqCst);
    wait("it to be up", || is_up(1.0));
    let share = (0..110).filter(|_| get(running.http, "a.test", "/").expect("an answer").text() == "two").count();
    assert!((1..=30).contains(&share), "{share} of 110: about a tenth of the other's");
}

/// An instance that takes a while for each answer, with this status.
fn slow(name: &'static str, status: u16, takes: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(input) = stream.try_clone() else { return };
                let ends = BufReader::new(input).lines().map_while(Result::ok).filter(String::is_empty);
                for _ in ends {
                    std::thread::sleep(takes);
                    let answer =
                        format!("HTTP/1.1 {status} Whatever\r\nX-Backend: {name}\r\nContent-Length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn two_choices_go_by_latency() {
    let fast = Backend::naming("fast");
    let slow = slow("slow", 200, Duration::from_millis(60));
    let (running, _site) = serving(&[("fast", &fast.instance()), ("slow", &slow.to_string()), ("balance", "p2c")]);
    let slow_ones = (0..60).filter(|_| taker(&running, "/") == "slow").count();
    if engine().differs("least-busy-of-two") {
        assert!(slow_ones >= 10, "{slow_ones} of 60");
    } else {
        assert!(slow_ones <= 12, "{slow_ones} of 60");
    }
}

#[test]
fn two_choices_do_not_blame_whoever_helps_out() {
    if engine().differs("least-busy-of-two") {
        return;
    }
    let (well, sick) = (Backend::naming("well"), slow("sick", 503, Duration::from_millis(5)));
    let keys = [
        ("well", &*well.instance()),
        ("sick", &sick.to_string()),
        ("balance", "p2c"),
        ("retries", "2 on=503 budget=100%"),
    ];
    let (running, _site) = serving(&keys);
    // The pause before an attempt is longer than what the sick one takes, and not the other's. That one may be late now and
    // then by itself, and is believed again after some seconds.
    let retries = || running.metric("pointsman_retries_total", &["\"sick\""]);
    wait("few of 60 requests that try the sick one first", || {
        let before = retries();
        assert!((0..60).all(|_| taker(&running, "/") == "well"));
        retries() - before <= 12.0
    });
    assert!(retries() >= 1.0);
}

#[test]
fn explain_names_the_balance() {
    let (running, _site, _backends) =
        three(["", "", ""], &[("balance", "cookie(sid)"), ("bounded", "125%"), ("slow_start", "30s")]);
    let page = running.admin_page("/api/explain?url=http://a.test/");
    assert!(page.contains(r#""balance":"cookie(sid)","bounded":"125%","slow_start":"30s""#), "{page}");
    let told = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).ok();
    assert!(told.contains("balance cookie(sid), bounded 125%, slow_start 30s, one of"), "{told}");
}
