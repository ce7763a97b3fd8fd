//! The log's content, and that serving does not depend on its reader.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{
    Backend, Launch, PATIENCE, Pointsman, Process, Raw, Site, Then, demo_under, engine, free_address, get,
    program_folder, run, serving, wait,
};

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (site, admin) = (Site::with(&[("services/a/domain", "a.test")]), free_address());
    let (pipe, keys, program) = (site.home().join("log"), site.folder(), program_folder().join("pointsman"));
    let (pipe, keys, program) = (pipe.display(), keys.display(), program.display());
    let flags = format!("--store {keys} --prefix / --http 127.0.0.1:0 --admin {admin}");
    let line = format!("mkfifo {pipe}; head -n 1 <{pipe} & exec {program} run {flags} 2>{pipe}");
    let _process = Process::start(Command::new("sh").args(["-c", &line]));
    let table = || get(admin, "localhost", "/api/table").map(|page| page.text().to_owned()).unwrap_or_default();
    wait("the first service", || table().contains("a.test"));
    site.put("services/b/domain", "b.test");
    wait("a service written after the log's reader has gone", || table().contains("b.test"));
}

#[test]
fn each_transition_is_one_line() {
    let site = Site::new();
    let mut running = Launch::on(&site).start();
    running.process.wait_log("serving 0 services");
    let away = site.home().join("away");
    std::fs::rename(site.folder(), &away).expect("the same file system");
    running.process.wait_log("lost the store");
    std::fs::rename(&away, site.folder()).expect("the same file system");
    running.process.wait_log("the store is back");
    let log = running.process.log();
    for (text, expected) in [("watching folder", 2), ("watching ", 2), ("lost the store", 1), (" WARN ", 1)] {
        let lines = log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(lines, expected, "{text}:\n{log}");
    }
}

/// A pipe that is full, and whose reader does not read.
struct Stalled {
    path: PathBuf,
    pipe: File,
}

impl Stalled {
    fn new(site: &Site) -> Self {
        let path = site.home().join("stalled");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo is there").success());
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = File::options().read(true).write(true).custom_flags(nonblocking).open(&path);
        let mut stalled = Self { path, pipe: opened.expect("a pipe in our own folder") };
        while stalled.pipe.write(&[b'x'; 4096]).is_ok() {}
        stalled
    }

    /// The words of a shell that gives this pipe to a command, as this descriptor.
    fn wrapper(&self, descriptor: u8) -> [String; 4] {
        let line = format!("exec \"$@\" {descriptor}>'{}'", self.path.display());
        ["sh".to_owned(), "-c".to_owned(), line, "sh".to_owned()]
    }

    /// What can be read now.
    fn read(&mut self) -> String {
        let mut text = Vec::new();
        // Ends with an error: nothing more is there, though there may be later.
        let _ = self.pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A balancer whose log nobody reads.
struct Unread {
    process: Process,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Unread {
    fn start(site: &Site, stalled: &Stalled) -> Self {
        let (http, admin) = (free_address(), free_address());
        let (http_text, admin_text) = (http.to_string(), admin.to_string());
        let flags = ["--http", &http_text, "--admin", &admin_text, "--engine", engine().name()];
        let wrapper = stalled.wrapper(2);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let process = Launch::bare().args(&flags).store(site).under(&wrapper).start_process();
        Self { process, http, admin }
    }

    fn wait_backend(&self, host: &str, name: &str) {
        let what = format!("{name} for {host}");
        wait(&what, || get(self.http, host, "/").is_ok_and(|got| got.header("x-backend") == Some(name)));
    }

    fn page(&self, path: &str) -> String {
        get(self.admin, "localhost", path).map(|page| page.text()).unwrap_or_default()
    }
}

/// Each is a line of the log, at least this long.
fn put_bad_keys(site: &Site, count: usize, length: usize, value: usize) {
    for number in 0..count {
        site.put(&format!("services/bad-{number:0length$}/port"), format!("x{value}"));
    }
}

#[test]
fn a_stalled_reader_of_the_log_stops_nothing() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &one.instance())]);
    put_bad_keys(&site, 300, 3, 0);
    let stalled = Stalled::new(&site);
    let mut unread = Unread::start(&site, &stalled);
    unread.wait_backend("a.test", "one");
    // An instance that comes and goes, and changes that are logged.
    for round in 0..5 {
        site.put("services/a/flapping", free_address().to_string());
        site.put("services/b/domain", format!("b-{round}.test"));
        site.put("services/b/two", two.instance());
        unread.wait_backend(&format!("b-{round}.test"), "two");
        unread.wait_backend("a.test", "one");
        site.remove("services/a/flapping");
    }
    unread.process.signal("TERM");
    assert_eq!(unread.process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn lost_lines_are_counted_and_the_count_is_logged() {
    let site = Site::new();
    let mut stalled = Stalled::new(&site);
    let unread = Unread::start(&site, &stalled);
    let lost = || {
        let page = unread.page("/metrics");
        let sample = page.lines().find_map(|line| line.strip_prefix("pointsman_log_lost_lines_total "));
        sample.and_then(|count| count.parse::<f64>().ok()).unwrap_or_default()
    };
    wait("the metrics", || unread.page("/metrics").contains("pointsman_log_lost_lines_total 0\n"));
    let mut value = 0..;
    wait("lines without room", || {
        put_bad_keys(&site, 50, 240, value.next().unwrap_or_default());
        lost() > 0.0
    });
    let mut said = String::new();
    wait("the count in the log", || {
        said.push_str(&stalled.read());
        said.contains("lines of the log were lost")
    });
    assert!(said.contains("listening for HTTP on"), "what had room is there too");
}

#[test]
fn the_demo_serves_though_nobody_reads_what_it_prints() {
    let site = Site::new();
    let stalled = Stalled::new(&site);
    let (http, admin) = (free_address(), free_address());
    let (http_text, admin_text) = (http.to_string(), admin.to_string());
    let mut process =
        demo_under(&stalled.wrapper(1), &["--http", &http_text, "--https", "127.0.0.1:0", "--admin", &admin_text]);
    wait("the sample", || get(http, "localhost", "/").is_ok_and(|answer| answer.status == 200));
    wait("the metrics", || get(admin, "localhost", "/metrics").is_ok_and(|answer| answer.status == 200));
    process.signal("TERM");
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn names_and_values_forge_no_lines() {
    let site = Site::new();
    // A folder's file names are the keys.
    let forged = "services/a\nWARN forged\u{1b}[31m/domian";
    site.put(forged, "x\u{7}");
    site.put("services/b\nforged\u{1b}]0;t\u{7}/domain", "b.test");
    let mut running = Launch::on(&site).start();
    running.process.wait_log("domian");
    let log = running.process.log();
    assert!(!log.contains(['\u{1b}', '\u{7}']), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("WARN forged") || line.starts_with("forged")), "{log}");
    let store = site.folder().to_string_lossy().into_owned();
    let admin = running.admin.to_string();
    for command in
        [&["routes"][..], &["explain", "b.test/"], &["ls", "--recursive", "--values"], &["check"], &["status"]]
    {
        let asks = matches!(command[0], "routes" | "explain");
        let place = if asks { vec!["--admin", &*admin] } else { vec!["--store", &*store, "--prefix", "/"] };
        let finished = run(&[command, &*place].concat());
        let text = finished.stdout;
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{command:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged") || line.starts_with("WARN forged")), "{text}");
        assert!(command[0] == "status" || text.contains("\\n"), "{command:?}: {text}");
    }
    let metrics = get(running.admin, "localhost", "/metrics").expect("the page");
    assert!(!metrics.text().contains('\u{1b}'), "{}", metrics.text());
}

#[test]
fn a_change_is_named_by_service_and_key() {
    let site = Site::with(&[("services/shop/domain", "a.test"), ("services/shop/web-1", "127.0.0.1:9")]);
    let mut running = Launch::on(&site).start();
    running.process.wait_log("serving 1 service, 1 instance");
    assert!(
        !running.process.log().contains("services/shop"),
        "at the start just the counts: {}",
        running.process.log()
    );
    site.put("services/shop/web-3", "127.0.0.1:10");
    running.process.wait_log(" services/shop: +web-3\n".trim_end());
    site.put("services/shop/web-1", "127.0.0.1:9 weight=2");
    running.process.wait_log(" services/shop: weight of web-1 1 -> 2");
    site.put("services/shop/domain", "b.test");
    running.process.wait_log(" services/shop: domain a.test -> b.test");
    site.put("services/shop/basic_auth_secrets", "joe insecure-password hunter2");
    running.process.wait_log(" services/shop: basic_auth_secrets set");
    site.put("config/timeout/connect", "2s");
    running.process.wait_log(" config: timeout/connect = 2s");
    site.remove("services/shop");
    running.process.wait_log(" services/shop removed");
    assert!(!running.process.log().contains("hunter2"));
}

#[test]
fn many_changes_are_summed_up() {
    let site = Site::new();
    let mut running = Launch::on(&site).start();
    running.process.wait_log("serving 0 services");
    let draft = site.home().join("draft");
    for number in 0..200 {
        let service = draft.join(format!("services/s{number:03}"));
        std::fs::create_dir_all(&service).expect("our own folder");
        std::fs::write(service.join("domain"), format!("s{number}.test")).expect("our own folder");
    }
    std::fs::rename(draft.join("services"), site.folder().join("services")).expect("the same file system");
    running.process.wait_log("serving 200 services");
    let log = running.process.log();
    let named = log.lines().filter(|line| line.contains(" added: domain = ")).count();
    assert!((10..=60).contains(&named), "a folder may be read in a few steps: {named}\n{log}");
    assert!(log.contains(" more services: ") && log.contains(" added\n"), "{log}");
}

/// The lines that contain all of these.
fn lines(running: &Pointsman, texts: &[&str]) -> Vec<String> {
    let log = running.process.log();
    let found = log.lines().filter(|line| texts.iter().all(|text| line.contains(text)));
    found.map(str::to_owned).collect()
}

#[test]
fn a_failed_connect_names_the_reason_and_the_request() {
    if engine().differs("failure-lines") {
        return;
    }
    let (_site, running) = serving(&free_address().to_string(), &[]);
    for _ in 0..100 {
        running.wait_answer("a.test", "/cart?token=hunter2", 502, "");
    }
    let refused = ["cannot connect to service a instance one (127.0.0.1:", "Connection refused (os error 111)"];
    wait("the reason", || !lines(&running, &refused).is_empty());
    let request = ["connect_refused: 502 for a.test/cart of service a from 127.0.0.1: "];
    wait("the request", || !lines(&running, &request).is_empty());
    // One line in ten seconds, however slow the machine is.
    assert!(lines(&running, &refused).len() < 10 && lines(&running, &request).len() < 10, "{}", running.process.log());
    assert!(!running.process.log().contains("hunter2"), "{}", running.process.log());
}

#[test]
fn a_request_without_a_service_or_an_answer_is_named() {
    if engine().differs("failure-lines") {
        return;
    }
    let broken = Raw::answering("nonsense", Then::Close);
    let (_site, running) = serving(&broken.instance(), &[]);
    for _ in 0..100 {
        running.wait_answer("nobody.test", "/x?y=hunter2", 503, "");
    }
    wait("the one without a service", || {
        !lines(&running, &[" INFO no_route: nobody.test/x from 127.0.0.1: no service takes this request"]).is_empty()
    });
    running.wait_answer("a.test", "/broken", 502, "");
    wait("the one without an answer", || {
        !lines(&running, &["bad_response: 502 for a.test/broken of service a"]).is_empty()
    });
    assert!(lines(&running, &["no_route"]).len() < 10 && !running.process.log().contains("hunter2"));
}

#[test]
fn a_container_that_names_no_store_is_warned() {
    let site = Site::new();
    let start = |container: &str| {
        let state = site.home().join("state");
        let flags = ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--engine", engine().name()];
        Launch::bare().args(&flags).state(state).env("container", container).start()
    };
    let folder = site.home().join("state/store").display().to_string();
    let warned = start("docker");
    let keep = format!("to keep the folder, set POINTSMAN_STORE={folder}");
    let texts = [" WARN ", "no store is named", "POINTSMAN_STORE=http://HOST:2379", &keep];
    wait("the warning", || lines(&warned, &texts).len() == 1);
    drop(warned);
    let told = start("");
    wait("the line", || lines(&told, &[" INFO ", "no store is named", &folder]).len() == 1);
    assert_eq!(lines(&told, &[" WARN "]), [""; 0]);
}

#[test]
fn a_taken_address_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let site = Site::new();
    let store = site.folder().display().to_string();
    let state = site.home().join("state").display().to_string();
    let words = ["run", "--http", &address, "--store", &store, "--state", &state, "--engine", engine().name()];
    let finished = run(&words);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    for text in [&*format!("--http {address}: another process listens there"), "ss -ltnp", "Address already in use"] {
        assert!(finished.stderr.contains(text), "no {text} in {}", finished.stderr);
    }
    let words = [&words[..1], &["--http", "127.0.0.1:0", "--admin", &address], &words[3..]].concat();
    let finished = run(&words);
    let told = finished.stderr.contains(&format!("--admin {address}: another process listens there (`ss -ltnp"));
    assert!(finished.code == Some(2) && told, "{}", finished.stderr);
}
