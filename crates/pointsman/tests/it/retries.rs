//! `retries`: what is sent again, and what never is.

use std::time::{Duration, Instant};

use crate::harness::{
    Http2Instance, Pointsman, Raw, Response, Scripted, Then, answer, engine, free_address, get, python_http2, run,
    wait, with_two_workers,
};

fn send(running: &Pointsman, method: &str, body: &str) -> Response {
    let mut connection = running.connect();
    let head = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.send(head + body).expect("open");
    connection.response(method).expect("an answer")
}

fn reasons(running: &Pointsman, reason: &str) -> f64 {
    running.metric("pointsman_retries_by_reason_total", &[&format!("\"{reason}\"")])
}

#[test]
fn a_status_of_one_instance_is_not_seen_by_clients() {
    let (bad, good) = (Scripted::saying(502, "bad"), Scripted::saying(200, "good"));
    let (running, site) = with_two_workers(&[
        ("services/a/bad", &bad.instance()),
        ("services/a/good", &good.instance()),
        ("services/a/retries", "2"),
    ]);
    let (store, nobody) = (site.folder().to_string_lossy().into_owned(), free_address().to_string());
    let said = run(&["explain", "http://a.test/", "--store", &store, "--admin", &nobody]).ok();
    assert!(said.contains("  retries 2 on=connect,reset,502,503,504 budget=20%\n"), "{said}");
    for _ in 0..20 {
        let answer = get(running.http, "a.test", "/").expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "good".to_owned()));
    }
    assert!(bad.requests() > 0);
    if !engine().differs("retry-counts") {
        assert_eq!(reasons(&running, "status"), bad.requests() as f64);
        assert_eq!(running.metric("pointsman_retries_total", &["\"bad\""]), bad.requests() as f64);
        assert!(running.admin_page("/api/table").contains("\"retries\":\"2 on=connect,reset,502,503,504 budget=20%\""));
    }
}

#[test]
fn a_request_that_may_have_been_done_is_sent_again_only_if_that_is_allowed() {
    let (bad, good) = (Scripted::saying(503, "bad"), Scripted::saying(200, "good"));
    let (running, site) = with_two_workers(&[
        ("services/a/bad", &bad.instance()),
        ("services/a/good", &good.instance()),
        ("services/a/retries", "2"),
    ]);
    let failed = (0..20).filter(|_| send(&running, "POST", "ok").status == 503).count();
    assert!(failed > 0);
    assert_eq!((bad.requests(), bad.requests() + good.requests()), (failed, 20));
    if engine().differs("retry-any-method") {
        return;
    }
    site.put("services/a/retries", "2 on=503,non_idempotent budget=100%");
    wait("the change", || running.metric("pointsman_table_applied_revision", &[]) > 1.0);
    for _ in 0..10 {
        assert_eq!(send(&running, "POST", "ok").status, 200);
    }
}

#[test]
fn a_connection_that_breaks_is_replaced_so_many_times() {
    let moody = Scripted::new(|number, _| if number % 4 == 3 { answer(200, "well") } else { Vec::new() });
    let (running, site) =
        with_two_workers(&[("services/a/one", &moody.instance()), ("services/a/retries", "3 on=reset")]);
    assert_eq!(send(&running, "GET", "").text(), "well");
    assert_eq!(moody.requests(), 4);
    site.put("services/a/retries", "2 on=reset");
    wait("the change", || {
        let before = moody.requests();
        let status = send(&running, "GET", "").status;
        // The next begins where the script does.
        let tries = moody.requests() - before;
        (0..(4 - moody.requests() % 4) % 4).for_each(|_| drop(send(&running, "POST", "x")));
        (status, tries) == (502, 3)
    });
}

#[test]
fn a_timeout_is_sent_again_if_the_key_says_so() {
    let (slow, good) = (
        Scripted::new(|_, _| {
            std::thread::sleep(Duration::from_secs(20));
            Vec::new()
        }),
        Scripted::saying(200, "good"),
    );
    let (running, _site) = with_two_workers(&[
        ("services/a/good", &good.instance()),
        ("services/a/slow", &slow.instance()),
        ("services/a/retries", "1 on=timeout"),
        ("services/a/timeout/server", "2s"),
    ]);
    assert!((0..4).all(|_| send(&running, "GET", "").status == 200));
    assert!(slow.requests() > 0);
}

#[test]
fn without_the_word_a_timeout_is_final() {
    let silent = Raw::answering("", Then::Hang);
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &silent.instance()),
        ("services/a/retries", "2"),
        ("services/a/timeout/server", "500ms"),
    ]);
    assert_eq!((send(&running, "GET", "").status, silent.heads()), (504, 1));
}

#[test]
fn an_answer_that_stops_is_cut() {
    let half = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::Hang);
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &half.instance()),
        ("services/a/retries", "2 on=timeout"),
        ("services/a/timeout/server", "300ms"),
    ]);
    let mut connection = running.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    assert!(connection.response("GET").is_err() && half.heads() == 1, "{} requests", half.heads());
}

/// 25, 50, 100, 200 and twice 250 ms, each shortened by a half at most.
#[test]
fn pauses_grow() {
    if engine().differs("retry-counts") {
        return;
    }
    let bad = Scripted::saying(503, "bad");
    let keys = [("services/a/one", &*bad.instance()), ("services/a/retries", "6 on=503 budget=100%")];
    let (running, _site) = with_two_workers(&keys);
    let began = Instant::now();
    assert_eq!((send(&running, "GET", "").status, bad.requests()), (503, 7));
    assert!(began.elapsed() >= Duration::from_millis(430), "{:?}", began.elapsed());
}

#[test]
fn an_idle_connection_that_was_closed_is_no_attempt() {
    // Every other request comes on a connection that has answered one.
    let moody = Scripted::new(|number, _| if number % 2 == 0 { answer(200, "well") } else { Vec::new() });
    let (running, _site) = with_two_workers(&[("services/a/one", &moody.instance()), ("services/a/retries", "0")]);
    if engine().differs("retry-counts") {
        return;
    }
    let mut client = running.connect();
    assert!((0..10).all(|_| client.request("GET", "a.test", "/").is_ok_and(|answer| answer.status == 200)));
    assert_eq!(moody.requests(), 19);
}

#[test]
fn a_body_that_is_not_held_is_sent_once() {
    let bad = Scripted::saying(503, "bad");
    let (running, _site) = with_two_workers(&[("services/a/one", &bad.instance()), ("services/a/retries", "2 on=503")]);
    assert_eq!(send(&running, "PUT", &"x".repeat(1 << 20)).status, 503);
    assert_eq!(bad.requests(), 1);
    assert_eq!(send(&running, "PUT", &"x".repeat(1 << 10)).status, 503);
    assert_eq!(bad.requests(), 4);
}

#[test]
fn the_last_answer_is_passed_on() {
    let bad = Scripted::new(|number, _| answer(503, &format!("number {number}")));
    let (running, site) = with_two_workers(&[("services/a/one", &bad.instance()), ("services/a/retries", "2 on=503")]);
    assert_eq!(send(&running, "GET", "").text(), "number 2");
    site.put("services/a/retries", "0");
    wait("the change", || {
        let before = bad.requests();
        send(&running, "GET", "").status == 503 && bad.requests() == before + 1
    });
}

#[test]
fn an_answer_that_has_begun_is_final() {
    let cut = Scripted::new(|_, line| match line.contains("/hints") {
        true => [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec(), answer(503, "bad")].concat(),
        false => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nfour".to_vec(),
    });
    let (running, _site) =
        with_two_workers(&[("services/a/one", &cut.instance()), ("services/a/retries", "2 on=reset,503")]);
    if engine().differs("retry-after-hints") {
        return;
    }
    let mut connection = running.connect();
    connection.send("GET /hints HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    assert_eq!(connection.any_response("GET").expect("hints").status, 103);
    assert_eq!(connection.response("GET").expect("the answer").status, 503);
    assert_eq!(cut.requests(), 1);
}

#[test]
fn a_budget_bounds_what_is_sent_on_top() {
    if engine().differs("retry-budget") {
        return;
    }
    let (one, two) = (Scripted::saying(503, "one"), Scripted::saying(503, "two"));
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &one.instance()),
        ("services/a/two", &two.instance()),
        ("services/a/retries", "3"),
    ]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert_eq!(send(&running, "GET", "").status, 503)));
        }
    });
    // Of 400 requests a fifth, and after each ten seconds of a slow machine three a second.
    let windows = 1 + began.elapsed().as_secs() as usize / 10;
    let extra = one.requests() + two.requests() - 400;
    assert!((70..=82 + 30 * windows).contains(&extra), "{extra} in {windows} windows");
    assert_eq!(reasons(&running, "status"), extra as f64);
}

#[test]
fn half_of_the_answers_of_one_of_four_instances_fail_and_nobody_notices() {
    let flaky = Scripted::new(|number, _| answer(if number % 2 == 0 { 503 } else { 200 }, "flaky"));
    let sound: Vec<_> = (0..3).map(|_| Scripted::saying(200, "sound")).collect();
    let mut keys =
        vec![("services/a/flaky".to_owned(), flaky.instance()), ("services/a/retries".to_owned(), "2".into())];
    keys.extend(sound.iter().enumerate().map(|(n, one)| (format!("services/a/sound-{n}"), one.instance())));
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let (running, _site) = with_two_workers(&keys);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert_eq!(send(&running, "GET", "").status, 200)));
        }
    });
    assert!(flaky.requests() > 20, "{}", flaky.requests());
}

#[test]
fn clients_of_http2_are_spared_too() {
    let (bad, good) = (Scripted::saying(503, "bad"), Scripted::saying(200, "good"));
    let (running, site) = with_two_workers(&[
        ("services/a/bad", &bad.instance()),
        ("services/a/good", &good.instance()),
        ("services/a/retries", "2"),
    ]);
    let said = python_http2(
        &site,
        ("http", running.http),
        r"
c = Client()
streams = [c.begin() for _ in range(10)]
say({c.finish(stream)[0] for stream in streams})
",
    );
    assert_eq!(said, "{'200'}\n");
    assert!(bad.requests() > 0);
}

#[test]
fn a_failed_connect_is_an_attempt() {
    let (good, dead) = (Scripted::saying(200, "good"), free_address().to_string());
    let keys = [("services/a/good", &*good.instance()), ("services/a/dead", &dead), ("services/a/retries", "0")];
    let (running, site) = with_two_workers(&keys);
    if engine().differs("checks") {
        return;
    }
    let refused = (0..6).filter(|_| send(&running, "POST", "x").status == 502).count();
    assert!(refused > 0, "nothing is sent again");
    site.put("services/a/retries", "1 on=connect");
    wait("the change", || running.metric("pointsman_table_applied_revision", &[]) > 1.0);
    for _ in 0..10 {
        assert_eq!(send(&running, "POST", "x").status, 200);
    }
}

/// Whichever comes first, a refused connection or an answer with a status.
#[test]
fn failed_connects_are_counted_with_other_attempts() {
    if engine().differs("retry-counts") {
        return;
    }
    let (bad, dead) = ([503, 503].map(|status| Scripted::saying(status, "bad")), free_address().to_string());
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &bad[0].instance()),
        ("services/a/two", &bad[1].instance()),
        ("services/a/dead", &dead),
        ("services/a/retries", "1 on=connect,503 budget=100%"),
    ]);
    let refused = || running.metric("pointsman_connect_failures_total", &["service=\"a\""]);
    let attempts = || refused() as usize + bad[0].requests() + bad[1].requests();
    for number in 1..=3 {
        assert!([502, 503].contains(&send(&running, "GET", "").status));
        assert_eq!(attempts(), 2 * number, "request {number}");
    }
    assert!(refused() > 0.0);
}

/// Over HTTP/2: an answer with a status, a stream that is reset, and one that is refused with its body held.
#[test]
fn instances_of_http2_are_asked_again_too() {
    let script = r"
def serve(i, number):
    while True:
        stream, head = i.asked()
        body, path = i.whole(stream), head[':path']
        say('asked', path)
        if path in seen: i.answer(stream, b'took ' + body); continue
        seen.append(path)
        if path == '/status': i.answer(stream, b'no', 503)
        elif path == '/reset': i.reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif path == '/refused': i.reset(stream, ErrorCodes.REFUSED_STREAM)
        else: i.goaway(0); raise Gone
seen = []
";
    let instance = Http2Instance::scripted(script);
    let (running, _site) = with_two_workers(&[
        ("services/a/one", &instance.instance),
        ("services/a/protocol", "h2"),
        ("services/a/retries", "2 on=reset,503"),
    ]);
    if engine().differs("refused-streams") {
        return;
    }
    for (path, reason) in [("/status", "status"), ("/reset", "reset"), ("/refused", "reset"), ("/goodbye", "reset")] {
        let before = reasons(&running, reason);
        let mut connection = running.connect();
        let head = format!("PUT {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        connection.send(head).expect("open");
        let answer = connection.response("PUT").expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "took body".to_owned()), "{path}");
        wait("both attempts", || instance.said(&format!("asked {path}")) == 2);
        assert_eq!(reasons(&running, reason), before + 1.0, "{path}");
    }
}
