//! Passive health: instances that are ejected for their answers (`eject`), and services that use all of theirs (`panic`).

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Http2Instance, Load, Pointsman, Process, Raw, Scripted, Site, Then, answer, engine, get,
    get_ok, holds, raw_answers, run, wait,
};

const OK: &str = "HTTP/1.1 200 OK\r\nX-Backend: scripted\r\nContent-Length: 3\r\n\r\nok\n";
const FAILED: &str = "HTTP/1.1 502 Told\r\nContent-Length: 0\r\n\r\n";

/// An instance in a process of its own, which answers in one write.
const INSTANCE: &str = "
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self): self.wfile.write(b'HTTP/1.1 200 OK\\r\\nX-Backend: python\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n')
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer)
server.daemon_threads = True
print('port', server.server_port, flush=True)
server.serve_forever()
";

/// A service `a` with these instances and keys. `None`: the engine has no `eject`.
fn serving(instances: &[&str], keys: &[(&str, &str)]) -> Option<(Pointsman, Site)> {
    if engine().differs("eject") {
        return None;
    }
    let site = Site::with(&[("services/a/domain", "a.test")]);
    for (number, instance) in instances.iter().enumerate() {
        site.put(&format!("services/a/i{number}"), instance);
    }
    for (key, value) in keys {
        site.put(&format!("services/a/{key}"), value);
    }
    Some((Pointsman::serving(&site), site))
}

/// Sends this many requests, one after another; returns how many did not get 200.
fn failures(running: &Pointsman, requests: usize) -> usize {
    (0..requests).filter(|_| !get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200)).count()
}

/// Sends requests from four clients until the condition is true.
fn under_load(running: &Pointsman, what: &str, condition: impl FnMut() -> bool) {
    let (stopped, address) = (AtomicBool::new(false), running.http);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stopped.load(SeqCst) {
                    let _ = get(address, "a.test", "/");
                }
            });
        }
        let _stop = Stop(&stopped);
        wait(what, condition);
    });
}

/// Ends the load, also when a wait fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn up(running: &Pointsman) -> f64 {
    running.metric("pointsman_instance_up", &["service=\"a\""])
}

fn process() -> (Process, String) {
    let mut process = Process::start(Command::new("python3").args(["-c", INSTANCE]));
    let line = process.wait_line("port ");
    (process, line.replace("port ", "127.0.0.1:"))
}

#[test]
fn five_errors_in_a_row_eject_an_instance() {
    let (good, bad) = (Backend::naming("good"), Raw::answering(FAILED, Then::Again));
    let keys = [("eject", "errors=5 for=60s")];
    let Some((mut running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    assert_eq!((failures(&running, 100), bad.heads()), (5, 5));
    running.process.wait_log(&format!(
        "service a instance i1 ({}) is ejected for 60 s: 5 answers in a row were 5xx or broken, last 502",
        bad.instance()
    ));
    assert_eq!(running.metric("pointsman_instance_up", &["\"i1\""]), 0.0);
    assert_eq!(running.metric("pointsman_ejections_total", &["\"i1\"", "reason=\"errors\""]), 1.0);
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 1.0);
    let table = running.admin_page("/api/table");
    for text in ["\"eject\": \"errors=5 for=60s at_most=50%\"", "5 answers in a row were 5xx or broken, last 502"] {
        assert!(table.replace("\":\"", "\": \"").contains(text), "{text}: {table}");
    }
    let explained = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).ok();
    assert!(explained.contains("eject errors=5 for=60s at_most=50%"), "{explained}");
    assert!(explained.contains("down, ") && explained.contains("in a row were 5xx or broken, last 502"), "{explained}");
}

#[test]
fn any_5xx_is_an_error() {
    let (good, bad) = (Backend::naming("good"), Raw::answering(FAILED.replace("502", "500"), Then::Again));
    let keys = [("eject", "errors=3 for=60s")];
    let Some((running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    assert_eq!((failures(&running, 60), bad.heads()), (3, 3));
}

#[test]
fn an_idle_connection_that_was_closed_is_no_error() {
    // Every other request comes on a connection that has answered one.
    let moody = Scripted::new(|number, _| if number % 2 == 0 { answer(200, "moody") } else { Vec::new() });
    let good = Backend::naming("good");
    let keys = [("eject", "errors=1 for=60s")];
    let Some((running, _site)) = serving(&[&good.instance(), &moody.instance()], &keys) else { return };
    let mut client = running.connect();
    assert!((0..40).all(|_| client.request("GET", "a.test", "/").is_ok_and(|answer| answer.status == 200)));
    assert!(moody.requests() > 20, "{}", moody.requests());
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 0.0);
}

#[test]
fn a_client_that_leaves_is_no_error() {
    let backends = ["one", "two"].map(Backend::naming);
    let keys = [("eject", "errors=1 for=60s")];
    let [one, two] = backends.each_ref().map(Backend::instance);
    let Some((running, _site)) = serving(&[&one, &two], &keys) else { return };
    for left in 1..=4 {
        let mut leaver = running.connect();
        leaver.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        wait("it to be at work", || backends.iter().map(Backend::whole).sum::<usize>() == left);
        leaver.reset();
        wait("it to have left", || running.metric("pointsman_faults_total", &["client_gone"]) == left as f64);
    }
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 0.0);
}

/// Sends requests until this instance has got one more; returns the connection of that.
fn reached(running: &Pointsman, instance: &Raw, other: &Backend) -> Connection {
    loop {
        let (heads, before) = (instance.heads(), instance.heads() + other.whole());
        let mut connection = running.connect();
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
        wait("it to be at work", || instance.heads() + other.whole() > before);
        if instance.heads() > heads {
            return connection;
        }
    }
}

/// Without an outcome a trial is over after `timeout/connect`, and answers from before the ejection are none.
#[test]
fn only_the_trial_decides() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let (good, bad) = (
        Backend::naming("good"),
        raw_answers(move |number| {
            // The second fails; the first, and all trials, are not answered before the gate is open.
            while number != 1 && !(gate.load(SeqCst) && number == 0) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if number == 0 { OK.into() } else { FAILED.into() }
        }),
    );
    let keys = [("eject", "errors=1 for=5s"), ("timeout/connect", "300ms")];
    let Some((running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    let mut slow = reached(&running, &bad, &good);
    assert_eq!(reached(&running, &bad, &good).response("GET").expect("an answer").status, 502);
    let _first = reached(&running, &bad, &good);
    let began = Instant::now();
    let _second = reached(&running, &bad, &good);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?} after the first trial", began.elapsed());
    open.store(true, SeqCst);
    assert_eq!(slow.response("GET").expect("an answer").status, 200);
    holds("it is on trial", Duration::from_millis(300), || !running.process.log().contains("is up again"));
}

#[test]
fn an_instance_that_was_ejected_gets_its_share_by_and_by() {
    let bad = raw_answers(|number| if number == 0 { FAILED.into() } else { OK.into() });
    let good = Backend::naming("good");
    let keys = [("eject", "errors=1 for=300ms"), ("slow_start", "1h")];
    let Some((running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    wait("its return", || {
        failures(&running, 1);
        running.process.log().contains("is up again")
    });
    let before = bad.heads();
    assert_eq!(failures(&running, 110), 0);
    let share = bad.heads() - before;
    assert!((1..=30).contains(&share), "{share} of 110: about a tenth of the other's");
}

#[test]
fn a_change_of_keys_ends_no_ejection() {
    let (good, bad) = (Backend::naming("good"), Raw::answering(FAILED, Then::Again));
    let keys = [("eject", "errors=1 for=60s")];
    let Some((running, site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    let counted = || running.metric("pointsman_requests_total", &["instance=\"i0\""]);
    wait("the ejection", || {
        failures(&running, 1);
        running.metric("pointsman_ejections_total", &[]) == 1.0 && counted() >= 20.0
    });
    let (asked, before) = (bad.heads(), running.metric("pointsman_table_applied_revision", &[]));
    site.put("services/a/another", good.instance());
    wait("the change", || running.metric("pointsman_table_applied_revision", &[]) > before);
    assert_eq!((failures(&running, 10), bad.heads()), (0, asked));
    assert!(counted() >= 20.0, "{} requests of it are counted", counted());
}

/// Clients see no error, and the instance is ejected all the same.
#[test]
fn an_answer_counts_even_if_its_request_is_sent_again() {
    let (good, bad) = (Backend::naming("good"), Raw::answering(FAILED, Then::Again));
    let keys = [("eject", "errors=5 for=60s"), ("retries", "1")];
    let Some((running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    assert_eq!((failures(&running, 100), bad.heads()), (0, 5));
    assert_eq!(running.metric("pointsman_ejections_total", &["\"i1\"", "reason=\"errors\""]), 1.0);
}

#[test]
fn a_default_ejects_unless_the_service_is_out_of_it() {
    let (good, bad) = (Backend::naming("good"), Raw::answering(FAILED, Then::Again));
    let Some((running, site)) = serving(&[&good.instance(), &bad.instance()], &[("eject", "off")]) else {
        let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/eject", "errors=5")]);
        site.put("config/panic", "50%");
        let running = Pointsman::serving(&site);
        running.wait_problem("unsupported", &["services/a/eject", "--engine native honours it"]);
        running.wait_problem("unsupported", &["config/panic", "--engine native honours it"]);
        return;
    };
    site.put("services/b/domain", "b.test");
    site.put("config/eject", "errors=2 for=60s");
    wait("the default", || running.admin_page("/api/table").contains("errors=2 for=60s at_most=50%"));
    assert_eq!(failures(&running, 40), 20);
    site.remove("services/a/eject");
    under_load(&running, "the ejection", || running.metric("pointsman_instance_up", &["\"i1\""]) == 0.0);
    site.put("services/a/eject", "off");
    wait("the ejection to be forgotten", || running.metric("pointsman_instance_up", &["\"i1\""]) == 1.0);
}

#[test]
fn one_killed_of_three_fails_no_request() {
    let others = ["one", "two"].map(Backend::naming);
    let (mut killed, instance) = process();
    let keys = [("eject", "errors=5")];
    let Some((running, _site)) = serving(&[&others[0].instance(), &others[1].instance(), &instance], &keys) else {
        return;
    };
    let sent = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let (stopped, address) = (AtomicBool::new(false), running.http);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stopped.load(SeqCst) {
                    let is_good = get(address, "a.test", "/").is_ok_and(|answer| answer.status == 200);
                    failed.fetch_add(usize::from(!is_good), SeqCst);
                    sent.fetch_add(1, SeqCst);
                }
            });
        }
        let _stop = Stop(&stopped);
        wait("the load to run", || sent.load(SeqCst) > 100);
        killed.kill();
        let before = sent.load(SeqCst);
        wait("the load to go on", || sent.load(SeqCst) > before + 300);
    });
    assert_eq!(failed.load(SeqCst), 0);
    // For failed connects, or, of requests that were on their way, for missing answers.
    assert!(running.metric("pointsman_ejections_total", &["\"i2\""]) >= 1.0);
}

#[test]
fn a_frozen_instance_costs_its_timeout_and_no_more() {
    let other = Backend::naming("other");
    let (frozen, instance) = process();
    let keys = [("eject", "errors=3 for=4s"), ("timeout/server", "300ms")];
    let Some((running, _site)) = serving(&[&other.instance(), &instance], &keys) else { return };
    assert_eq!(failures(&running, 10), 0);
    frozen.signal("STOP");
    let mut failed = 0;
    wait("the ejection", || {
        failed += failures(&running, 1);
        running.metric("pointsman_ejections_total", &["\"i1\"", "reason=\"errors\""]) == 1.0
    });
    assert_eq!(failed, 3);
    // A trial of the rule for missing answers would come sooner.
    holds("no request goes there", Duration::from_millis(2_500), || failures(&running, 1) == 0);
    frozen.signal("CONT");
    running.wait_backend("a.test", "/", "python");
}

#[test]
fn ejections_in_a_row_grow() {
    let is_bad = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_bad);
    let flapping = raw_answers(move |_| if told.load(SeqCst) { FAILED.into() } else { OK.into() });
    let good = Backend::naming("good");
    let keys = [("eject", "errors=2 for=300ms")];
    let Some((running, _site)) = serving(&[&good.instance(), &flapping.instance()], &keys) else { return };
    let says = |text: &str| running.process.log().contains(text);
    under_load(&running, "longer ejections", || says("is ejected for 300 ms") && says("is ejected for 600 ms"));
    is_bad.store(false, SeqCst);
    let before = flapping.heads();
    under_load(&running, "its return", || says("is up again") && flapping.heads() > before + 10);
    let failed = failures(&running, 50);
    assert_eq!(failed, 0);
}

#[test]
fn answers_cut_short_eject() {
    let cut = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Then::Close);
    let good = Backend::naming("good");
    let keys = [("eject", "errors=3 for=60s")];
    let Some((mut running, _site)) = serving(&[&good.instance(), &cut.instance()], &keys) else { return };
    assert_eq!((failures(&running, 60), cut.heads()), (3, 3));
    running.process.wait_log("3 answers in a row were 5xx or broken, last bad_response_body");
}

#[test]
fn however_many_fail_only_so_many_are_ejected() {
    let bad = [(); 4].map(|()| Raw::answering(FAILED, Then::Again));
    let instances = bad.each_ref().map(Raw::instance);
    let keys = [("eject", "errors=2 for=300ms at_most=50%")];
    let Some((running, _site)) = serving(&instances.each_ref().map(String::as_str), &keys) else { return };
    let mut fewest = 4.0_f64;
    let mut looks = 0;
    under_load(&running, "many ejections", || {
        fewest = fewest.min(up(&running));
        looks += 1;
        running.metric("pointsman_ejections_total", &[]) >= 6.0 && looks > 100
    });
    assert_eq!(fewest, 2.0);
    assert!(running.process.log().contains("is not ejected: no more than 50% of the instances may be at once"));
}

/// Two of four take work, so one of them may be ejected.
#[test]
fn instances_that_take_no_work_do_not_count() {
    let bad = [(); 2].map(|()| Raw::answering(FAILED, Then::Again));
    let [one, two] = bad.each_ref().map(Raw::instance);
    let (drained, light) = (format!("{one} drain"), format!("{two} weight=0"));
    let keys = [("eject", "errors=1 for=60s at_most=50%")];
    let Some((running, _site)) = serving(&[&one, &two, &drained, &light], &keys) else { return };
    assert_eq!(failures(&running, 20), 20);
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 1.0);
}

#[test]
fn an_only_instance_is_never_ejected() {
    let bad = Raw::answering(FAILED, Then::Again);
    let Some((running, _site)) = serving(&[&bad.instance()], &[("eject", "errors=1 at_most=100%")]) else { return };
    assert_eq!(failures(&running, 10), 10);
    assert_eq!((bad.heads(), up(&running)), (10, 1.0));
}

#[test]
fn with_few_healthy_instances_all_are_used() {
    if engine().differs("panic") {
        return;
    }
    let is_bad = Arc::new(AtomicBool::new(true));
    let bad = [(); 3].map(|()| {
        let is_bad = Arc::clone(&is_bad);
        raw_answers(move |_| if is_bad.load(SeqCst) { FAILED.into() } else { OK.into() })
    });
    let good = Backend::naming("good");
    let [one, two, three] = bad.each_ref().map(Raw::instance);
    let keys = [("eject", "errors=1 for=1s at_most=100%"), ("panic", "60%")];
    let (spare, usual) = (Backend::naming("spare"), good.instance());
    let backup = format!("{} backup", spare.instance());
    let instances = [&*usual, &*one, &*two, &*three, &*backup];
    let Some((mut running, site)) = serving(&instances, &keys) else { return };
    wait("each to fail once", || {
        failures(&running, 1);
        running.metric("pointsman_ejections_total", &["reason=\"errors\""]) >= 3.0
    });
    let heads = |bad: &[Raw; 3]| bad.each_ref().map(Raw::heads);
    let before = heads(&bad);
    assert_eq!((failures(&running, 8), spare.whole()), (6, 0), "all four are used, and no backup");
    assert!(heads(&bad).iter().zip(before).all(|(now, before)| *now > before));
    running.process.wait_log("service a: 1 of 4 instances are healthy, less than panic=60%; all of them are used");
    assert_eq!(running.metric("pointsman_panic", &["service=\"a\""]), 1.0);
    let explained = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).ok();
    assert!(explained.contains("panic 60%: fewer are healthy, so all are used"), "{explained}");
    let used = |line: &&str| line.contains(" down") && line.ends_with("; used in panic");
    let all = explained.split_once("one of\n").unwrap_or_else(|| panic!("{explained}")).1;
    assert_eq!(all.lines().take(4).filter(used).count(), 3, "{explained}");
    let apart = explained.split_once("set apart").map_or("", |(_, apart)| apart);
    assert!(!apart.contains(" down, "), "{explained}");
    is_bad.store(false, SeqCst);
    under_load(&running, "panic to end", || running.metric("pointsman_panic", &["service=\"a\""]) == 0.0);
    running.process.wait_log("service a: enough instances are healthy again");
    is_bad.store(true, SeqCst);
    site.put("services/a/panic", "off");
    wait("the healthy one to serve alone, without panic", || failures(&running, 8) == 0);
}

#[test]
fn one_with_far_more_errors_than_its_peers_is_ejected() {
    an_outlier_is_ejected(2, &[]);
}

#[test]
fn an_outlier_is_seen_behind_retries() {
    an_outlier_is_ejected(500, &[("retries", "1 on=502 budget=100%")]);
}

/// Of five instances, one fails all requests but each `every`th.
fn an_outlier_is_ejected(every: usize, more: &[(&str, &str)]) {
    let good = ["a", "b", "c", "d"].map(Backend::naming);
    let bad = raw_answers(move |number| if number % every < every - 1 { FAILED.into() } else { OK.into() });
    let instances = good.each_ref().map(Backend::instance);
    let [a, b, c, d] = instances.each_ref().map(String::as_str);
    let keys = [&[("eject", "errors=1000 for=60s outliers")], more].concat();
    let Some((mut running, _site)) = serving(&[a, b, c, d, &bad.instance()], &keys) else { return };
    under_load(&running, "the ejection", || {
        running.metric("pointsman_ejections_total", &["\"i4\"", "reason=\"outlier\""]) == 1.0
    });
    let line = running.process.wait_line("is ejected for");
    assert!(
        line.contains("instance i4 (") && line.ends_with("% of its answers were good, 100% on average with its peers")
    );
    assert_eq!(running.metric("pointsman_ejections_total", &[]), 1.0);
    assert_eq!(failures(&running, 20), 0);
    let table = running.admin_page("/api/table");
    let table = table.replace(": ", ":");
    assert_eq!(table.matches("\"errors\":0").count(), 4, "{table}");
}

#[test]
fn when_all_come_back_at_once_all_get_work_at_once() {
    if engine().differs("all-down") {
        return;
    }
    let backends = ["one", "two", "three"].map(Backend::naming);
    let addresses = backends.each_ref().map(Backend::address);
    let instances = addresses.map(|address| address.to_string());
    let Some((running, _site)) = serving(&instances.each_ref().map(String::as_str), &[]) else { return };
    drop(backends);
    wait("all to be down", || failures(&running, 1) == 1 && up(&running) == 0.0);
    let backends = [("one", addresses[0]), ("two", addresses[1]), ("three", addresses[2])];
    // Some ejections end at any moment: without a word from the first, the others would wait up to two seconds.
    let backends = backends.map(|(name, address)| Backend::at(name, address));
    wait("the first", || failures(&running, 1) == 0);
    // The clocks of two workers differ by up to 100 ms.
    let work_for_all = || backends.iter().all(|backend| backend.whole() > 0);
    let requests = (0..200).take_while(|_| !work_for_all());
    assert_eq!(requests.map(|_| failures(&running, 1)).sum::<usize>(), 0);
    assert!(work_for_all());
}

/// Failures among requests to four instances, of which one fails half of its requests.
fn failures_of_half_bad(keys: &[(&str, &str)]) -> Option<usize> {
    // Chance, the same every time.
    let half =
        raw_answers(|number| if fastrand::Rng::with_seed(number as u64).bool() { FAILED.into() } else { OK.into() });
    let good = ["a", "b", "c"].map(Backend::naming);
    let instances = good.each_ref().map(Backend::instance);
    let [a, b, c] = instances.each_ref().map(String::as_str);
    let (running, _site) = serving(&[a, b, c, &half.instance()], keys)?;
    Some(failures(&running, 1_200))
}

#[test]
fn an_instance_that_fails_half_of_its_requests_does_a_quarter_of_the_harm() {
    let (Some(plain), Some(ejecting)) =
        (failures_of_half_bad(&[]), failures_of_half_bad(&[("eject", "errors=3 for=60s")]))
    else {
        return;
    };
    assert!(plain > 100 && ejecting * 4 <= plain, "{ejecting} failures with eject, {plain} without");
}

#[test]
fn grpc_codes_count_as_5xx() {
    let answer = |code: &str| {
        format!(
            "def serve(instance, number):
    while True:
        stream, head = instance.asked()
        say('asked')
        instance.head(stream, 200, [('grpc-status', '{code}'), ('x-code', '{code}')], end=True)"
        )
    };
    let (bad, good) = (Http2Instance::scripted(&answer("14")), Http2Instance::scripted(&answer("5")));
    let keys = [("eject", "errors=3 for=60s"), ("protocol", "h2")];
    let Some((running, _site)) = serving(&[&good.instance, &bad.instance], &keys) else { return };
    let codes = (0..40).filter(|_| get_ok(running.http, "a.test", "/").header("x-code") == Some("14")).count();
    assert_eq!(codes, 3);
    assert!(running.process.log().contains("last 503"), "{}", running.process.log());
}

#[test]
fn load_beside_ejections_fails_only_where_an_instance_does() {
    let (bad, good) = (Raw::answering(FAILED, Then::Again), Backend::naming("good"));
    let keys = [("eject", "errors=2 for=60s")];
    let Some((running, _site)) = serving(&[&good.instance(), &bad.instance()], &keys) else { return };
    assert_eq!(failures(&running, 10), 2);
    let load = Load::new().keep_alive(4, running.http, "a.test").open_close(2, running.http, "a.test");
    wait("the load to run", || load.done() > 500);
    load.finish().assert_clean(500);
}
