//! `basic_auth_secrets`: users and passwords. Rows of both engines are in `engines/passwords.txt`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{
    Backend, Connection, Engine, Launch, Pointsman, Response, Site, engine, get_ok, python_http2, run, serving, wait,
};

/// A hash of `secret`, made by crypt(3), that takes a while: hundreds of requests are served meanwhile.
const SLOW: &str = "user ann password $2y$09$abcdefghijklmnopqrstuuHGaj8X0gyV0nNYEM.J5pTQDq3AfkM3W";

fn login(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn ask(connection: &mut Connection, fields: &str) -> Response {
    connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).expect("open");
    connection.response("GET").expect("an answer")
}

/// Whether something came that was not read yet.
fn has_answer(connection: &Connection) -> bool {
    connection.stream().set_nonblocking(true).expect("open");
    let has_some = connection.stream().peek(&mut [0]).is_ok();
    connection.stream().set_nonblocking(false).expect("open");
    has_some
}

fn faults(running: &Pointsman, name: &str) -> f64 {
    running.metric("pointsman_faults_total", &[&format!("\"{name}\"")])
}

#[test]
fn a_client_without_a_password_is_asked_for_one() {
    let backend = Backend::naming("one");
    let users =
        "user ann password $5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\nuser bob insecure-password 'p:w'";
    let (_site, running) = serving(&backend.instance(), &[("services/a/basic_auth_secrets", users)]);
    let mut connection = running.connect();
    let mut status = |fields: &str| ask(&mut connection, fields).status;
    wait("it to be protected", || status("") == 401);
    for (fields, expected) in [
        (login("ann", "secret"), 200),
        (login("bob", "p:w"), 200),
        (login("ann", "secret").replace("Basic", "bAsIc"), 200),
        (login("ann", "secre"), 401),
        (login("ann", "p:w"), 401),
        (login("bob", "secret"), 401),
        (login("eve", "secret"), 401),
        (login("", ""), 401),
        (login("ann", &"x".repeat(600)), 401),
        ("Authorization: Basic\r\n".to_owned(), 401),
        ("Authorization: Basic !!!\r\n".to_owned(), 401),
        (format!("Authorization: Basic {}\r\n", STANDARD.encode("ann")), 401),
        ("Authorization: Bearer c2VjcmV0\r\n".to_owned(), 401),
        (login("ann", "secret"), 200),
    ] {
        assert_eq!(status(&fields), expected, "{fields}");
    }
    let refused = ask(&mut connection, "");
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"a\""));
    if !engine().differs("admission-faults") {
        wait("the faults", || faults(&running, "unauthorized") >= 11.0);
    }
    // Nobody reads it there, also not what was sent by a client.
    let said = running.process.log() + &running.admin_page("/api/table") + &running.admin_page("/metrics");
    let explained = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).stdout;
    for secret in ["p:w", "saltsalt", "c2VjcmV0", &STANDARD.encode("ann:secret")] {
        assert!(!said.contains(secret) && !explained.contains(secret), "{secret}");
    }
    assert!(explained.contains("a password of one of 2 users"), "{explained}");
}

#[test]
fn wrong_passwords_hold_nobody_else_up() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &*backend.instance()),
        ("services/a/basic_auth_secrets", SLOW),
        ("services/b/domain", "b.test"),
        ("services/b/one", &backend.instance()),
    ]);
    let running = Launch::engine(Engine::Native).store(&site).args(&["--workers", "2"]).start();
    wait("it to be protected", || ask(&mut running.connect(), "").status == 401);
    // Far more than can be computed: each holds a connection, and nobody waits for one of them.
    let mut guesses: Vec<_> = (0..200).map(|number| (running.connect(), login("ann", &number.to_string()))).collect();
    for (connection, fields) in &mut guesses {
        connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).expect("open");
    }
    wait("a full queue", || faults(&running, "passwords_busy") >= 100.0);
    let waiting = guesses.iter().filter(|(connection, _)| !has_answer(connection)).count();
    assert!(waiting >= 16, "{waiting} wait: those beyond the queue were answered late");
    for _ in 0..100 {
        assert_eq!(get_ok(running.http, "b.test", "/").header("x-backend"), Some("one"));
    }
    let (told, waiting): (Vec<_>, Vec<_>) = guesses.into_iter().partition(|(connection, _)| has_answer(connection));
    let mut answers = told.into_iter().map(|(mut connection, _)| connection.response("GET").expect("an answer"));
    let busy = answers.find(|answer| answer.status != 401).expect("one");
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")));
    // Guesses of clients that left are computed no more: others have their turn.
    drop(waiting);
    let fields = login("ann", "secret");
    wait("the right one", || ask(&mut running.connect(), &fields).status == 200);
    // What is known is not computed again, whatever waits.
    let before = faults(&running, "passwords_busy");
    let mut guesses: Vec<_> = (0..200).map(|number| (running.connect(), login("ann", &format!("x{number}")))).collect();
    for (connection, fields) in &mut guesses {
        connection.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).expect("open");
    }
    wait("a full queue", || faults(&running, "passwords_busy") >= before + 100.0);
    assert_eq!(ask(&mut running.connect(), &fields).status, 200);
    site.put("services/a/basic_auth_secrets", "user ann insecure-password other");
    wait("another password", || ask(&mut running.connect(), &fields).status == 401);
    assert_eq!(ask(&mut running.connect(), &login("ann", "other")).status, 200);
}

#[test]
fn hashes_that_take_too_long_are_bad_values() {
    if engine().differs("password-hashes") {
        return;
    }
    let backend = Backend::naming("one");
    let (site, running) = serving(&backend.instance(), &[]);
    running.wait_backend("a.test", "/", "one");
    let sum = "a".repeat(86);
    for (hash, expected) in [
        (format!("$6$rounds=999999999$salt${sum}"), "asks for other rounds than 1000 to 500000"),
        (format!("$2y$31${}", &sum[..53]), "asks for another cost than 04 to 13"),
        ("hunter2".to_owned(), "is of another kind"),
    ] {
        site.put("services/a/basic_auth_secrets", format!("user a insecure-password x\nuser ann password {hash}"));
        running.wait_problem("bad_value", &["services/a/basic_auth_secrets", "that of user 2", expected]);
        running.wait_gone("a.test", "/");
        assert!(!running.process.log().contains(&hash) && !running.admin_page("/api/problems").contains(&hash));
    }
    site.remove("services/a/basic_auth_secrets");
    running.wait_backend("a.test", "/", "one");
}

#[test]
fn the_steps_behind_a_password_need_it() {
    let backend = Backend::naming("one");
    let keys = [
        ("services/a/basic_auth_secrets", "user ann password $1$saltsalt$9xy1btjgzLYfb7hivXtC//"),
        ("services/a/redirect", "302 http://b.test/{header:Authorization}"),
    ];
    let (site, running) = serving(&backend.instance(), &keys);
    wait("a password", || ask(&mut running.connect(), "").status == 401);
    let fields = login("ann", "secret");
    assert_eq!(ask(&mut running.connect(), &login("ann", "wrong")).status, 401);
    assert_eq!(ask(&mut running.connect(), &fields).status, 302);
    site.remove("services/a/redirect");
    site.put("services/a/maintenance", "true");
    wait("it to be closed", || ask(&mut running.connect(), &fields).status == 503);
    assert_eq!(ask(&mut running.connect(), "").status, 401);
}

#[test]
fn requests_of_http_2_and_of_grpc_bring_passwords() {
    let backend = Backend::naming("one");
    let users = "user ann password $5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA";
    let (site, running) = serving(&backend.instance(), &[("services/a/basic_auth_secrets", users)]);
    wait("it to be protected", || ask(&mut running.connect(), "").status == 401);
    let said = python_http2(
        &site,
        ("http", running.http),
        "
c = Client()
right, wrong = ('authorization', 'Basic YW5uOnNlY3JldA=='), ('authorization', 'Basic YW5uOnNlY3JlVA==')
for headers in [], [wrong], [right]:
    status, head, body = c.ask(more=headers)
    say(status, head.get('www-authenticate'))
many = [c.begin(more=[('authorization', 'Basic YW5uOm1hbnk=')]) for _ in range(20)]
say(*{c.finish(stream)[0] for stream in many})
status, head, body = c.ask('/', 'POST', body=b'', more=[wrong, ('content-type', 'application/grpc')])
say(status, head.get('grpc-status'))
",
    );
    let grpc = if engine().differs("grpc-replies") { "401 None" } else { "200 16" };
    let challenge = "Basic realm=\"a\"";
    assert_eq!(said, format!("401 {challenge}\n401 {challenge}\n200 None\n401\n{grpc}\n"));
}

#[test]
fn the_log_names_users() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &backend.instance()),
        ("services/a/basic_auth_secrets", "user \"a \\\"b\" insecure-password x\nuser ann insecure-password x"),
    ]);
    let path = site.home().join("access.log");
    let launch = Launch::engine(Engine::Native).store(&site).args(&["--workers", "1", "--access-log-format", "json"]);
    let running = launch.arg("--access-log").arg(&path).start();
    running.wait_ready();
    let mut connection = running.connect();
    for (user, password, status) in [("a \"b", "x", 200), ("ann", "x", 200), ("ann", "y", 401)] {
        assert_eq!(ask(&mut connection, &login(user, password)).status, status);
    }
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    wait("three lines", || text().lines().filter(|line| line.contains("\"service\":\"a\"")).count() == 3);
    let users: Vec<_> =
        text().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")).collect();
    let named: Vec<_> = users.iter().map(|line| line["user"].as_str()).collect();
    assert_eq!(named, [Some("a \"b"), Some("ann"), None]);
    assert!(!text().contains("eDp4"), "no password");
}

/// A file that was cut to nothing, or a script with an empty variable, must not open a service.
#[test]
fn an_empty_list_of_users_opens_nothing() {
    let backend = Backend::naming("one");
    let users = "user ann insecure-password secret";
    let (site, running) = serving(&backend.instance(), &[("services/a/basic_auth_secrets", users)]);
    running.wait_answer("a.test", "/", 401, "");
    site.put("services/a/basic_auth_secrets", "");
    running.wait_problem("bad_value", &["services/a/basic_auth_secrets", "to open it, remove the key"]);
    running.wait_answer("a.test", "/", 503, "");
    site.put("services/a/basic_auth_secrets", users);
    running.wait_answer("a.test", "/", 401, "");
    site.remove("services/a/basic_auth_secrets");
    running.wait_backend("a.test", "/", "one");
    // Who may come from where keeps its last good value.
    site.put("services/a/allow", "192.0.2.0/24");
    running.wait_answer("a.test", "/", 403, "");
    site.put("services/a/allow", "");
    running.wait_problem("bad_value", &["services/a/allow"]);
    running.wait_answer("a.test", "/", 403, "");
    let refused = run(&["set", "services/a/allow", "", "--store", &site.folder().display().to_string()]);
    assert!(refused.code == Some(1) && refused.stderr.contains("protects the service"), "{refused:?}");
}
