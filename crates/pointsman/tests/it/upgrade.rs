//! One program takes over from another: nothing that clients see is lost, and what fails leaves the old one serving.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Backend, Connection, Engine, Finished, Launch, Load, PATIENCE, Pointsman, Process, Site, certificate, echo_tcp,
    engine, epoch, free_address, free_port, get, get_ok, holds, long, python_http2_running, python_tls_running, run,
    signal, wait,
};

/// The longest time without an answer that an upgrade may cause.
const GAP: Duration = Duration::from_millis(100);

/// The programs that took over, which are nobody's children in the end.
#[derive(Default)]
pub(crate) struct Successors(Vec<u32>);

impl Successors {
    /// Upgrades the balancer of this site; returns the new process.
    #[track_caller]
    fn upgrade(&mut self, site: &Site) -> u32 {
        self.took(&upgrade(site, &[]))
    }

    /// Notes the process that an upgrade started, and returns it.
    #[track_caller]
    pub(crate) fn took(&mut self, told: &Finished) -> u32 {
        assert_eq!(told.code, Some(0), "{told:?}");
        let pid = told.stderr.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("process N serves");
        self.0.push(pid);
        pid
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        // TERM first: the HAProxy engine ends its HAProxy itself.
        for (name, within) in [("INT", 0), ("INT", 3), ("KILL", 3)] {
            let start = Instant::now();
            while self.0.iter().any(|pid| is_running(*pid)) && start.elapsed() < Duration::from_secs(within) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.0.iter().filter(|pid| is_running(**pid)).for_each(|pid| signal(*pid, name));
        }
    }
}

fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && stat.contains("(pointsman)"))
}

fn state(site: &Site) -> String {
    site.home().join("state").display().to_string()
}

fn upgrade(site: &Site, more: &[&str]) -> Finished {
    run(&[&["upgrade", "--state", &state(site)], more].concat())
}

fn scene(more: &[(&str, &str)]) -> (Site, Backend) {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    site.put("config/timeout/drain", "120s");
    more.iter().for_each(|(key, value)| site.put(key, value));
    (site, backend)
}

/// The longest time between two answers to new connections, asked for one after another until told to stop.
struct Gaps {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Gaps {
    fn measure(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                if get(address, "a.test", "/").is_ok_and(|answer| answer.status == 200) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

#[test]
fn upgrades_lose_no_connection() {
    let (echo, port) = (echo_tcp(""), free_port());
    let (site, _backend) =
        scene(&[("tcp-services/echo/port", &port.to_string()), ("tcp-services/echo/one", &echo.to_string())]);
    let running = Pointsman::serving(&site);
    let tcp: SocketAddr = ([127, 0, 0, 1], port).into();
    wait("the TCP service", || Connection::try_open(tcp).is_ok());
    let gaps = Gaps::measure(running.http);
    let load = Load::new()
        .keep_alive(4, running.http, "a.test")
        .open_close(4, running.http, "a.test")
        .tunnel(running.http, "a.test")
        .stream(tcp)
        .download(running.http, "a.test", Duration::from_millis(700));
    let mut successors = Successors::default();
    let times = if long() { 10 } else { 3 };
    for number in 1..=times {
        let (pid, done) = (successors.upgrade(&site), load.done());
        wait("work at the new program", || load.done() > done + 200 || load.has_failed());
        wait("its socket", || fs::metadata(site.home().join("state/takeover.sock")).is_ok());
        assert!(is_running(pid), "{number}");
        // A service manager must be its parent: it kills others' children without a warning.
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let parent = parent.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).expect("a number");
        assert!(!fs::read_to_string(format!("/proc/{parent}/comm")).expect("a name").contains("pointsman"), "{parent}");
        // New TCP connections, too.
        let mut fresh = Connection::open(tcp);
        fresh.send("hello").expect("open");
        assert_eq!(fresh.read_bytes(5).expect("an echo"), b"hello");
    }
    let (longest, tally) = (gaps.longest(), load.finish());
    eprintln!("{times} upgrades, {} exchanges, the longest gap {longest:?}", tally.done);
    tally.assert_served(times * 200);
    // Other tests want the cores, too: the bench has the figure.
    assert!(!long() || longest < GAP, "{longest:?}");
    let log = running.process.log();
    assert!(log.contains("took over from process ") && log.contains(" took over: "), "{log}");
}

#[test]
fn counters_go_on_and_count_nothing_twice() {
    let (site, _backend) = scene(&[]);
    let mut running = Pointsman::serving(&site);
    let http = running.http;
    let ask = |count: usize| (0..count).for_each(|_| drop(get_ok(http, "a.test", "/")));
    let counted = |running: &Pointsman| running.metric("pointsman_requests_total", &["\"a\""]);
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    ask(20);
    wait("all of them to be counted", || counted(&running) >= 21.0);
    let before = counted(&running);
    let mut open = running.connect();
    open.send("GET /drip/1500 HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("the download to run", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    let mut successors = Successors::default();
    let pid = successors.upgrade(&site);
    assert!(counted(&running) >= before, "no counter falls");
    wait("the open work of the old program", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    ask(10);
    assert!(open.response("GET").expect("the whole download").trailer("x-total").is_some());
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0), "it has drained");
    if engine() == Engine::HaProxy {
        // What HAProxy counted in its last second is not known.
        return assert!(counted(&running) >= before + 10.0);
    }
    wait("the download to be counted", || counted(&running) == before + 11.0);
    wait("no open work", || running.metric("pointsman_active", &["\"a\""]) == 0.0);
    ask(5);
    wait("the new program's own", || counted(&running) == before + 16.0);
    // And once more, from the successor.
    assert_ne!(successors.upgrade(&site), pid);
    ask(1);
    wait("the sum", || counted(&running) == before + 17.0);
    let measured = || running.metric("pointsman_request_duration_seconds_count", &["\"a\""]);
    wait("all are measured", || measured() == before + 17.0);
}

#[test]
fn health_and_slow_starts_go_on() {
    if engine() == Engine::HaProxy {
        return;
    }
    let gone = free_address().to_string();
    let (site, other) = scene(&[("services/a/gone", &gone), ("services/a/slow_start", "10m")]);
    let running = Pointsman::serving(&site);
    let up = |instance: &str| running.metric("pointsman_instance_up", &[&format!("\"{instance}\"")]);
    wait("the ejection", || {
        let _ = get(running.http, "a.test", "/");
        up("gone") == 0.0
    });
    site.put("services/a/two", other.instance());
    let weight = || running.metric("pointsman_instance_weight", &["\"two\""]);
    wait("the new instance", || weight() > 0.0);
    assert!(weight() < 0.5, "{}", weight());
    let mut successors = Successors::default();
    successors.upgrade(&site);
    // One failure alone would not eject it.
    assert_eq!(get_ok(running.http, "a.test", "/").status, 200);
    assert_eq!(up("gone"), 0.0, "it is ejected though no request has failed here");
    assert!(weight() < 0.5, "{}", weight());
}

/// Starts the balancer of a site by a link, so that the program at its path can be replaced.
fn by_link(site: &Site) -> (Pointsman, PathBuf) {
    let link = site.home().join("pointsman");
    point(&link, Path::new(env!("CARGO_BIN_EXE_pointsman")));
    let script = format!("shift; exec {} \"$@\"", link.display());
    let running = Launch::on(site).under(&["sh", "-c", &script, "sh"]).start();
    running.wait_ready();
    (running, link)
}

fn point(link: &Path, target: &Path) {
    let _ = fs::remove_file(link);
    symlink(target, link).expect("our own folder");
}

fn script(site: &Site, link: &Path, text: &str) {
    let path = site.home().join("script");
    let _ = fs::remove_file(&path);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("our own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    point(link, &path);
}

#[test]
fn a_new_program_that_does_not_serve_leaves_the_old_one_serving() {
    let (site, _backend) = scene(&[]);
    let (mut running, link) = by_link(&site);
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    let load = Load::new().keep_alive(1, running.http, "a.test").open_close(1, running.http, "a.test");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_address = taken.local_addr().expect("bound").to_string();
    let real = env!("CARGO_BIN_EXE_pointsman");
    for (text, within, expected) in [
        ("exit 3", "20s", vec!["ended; its last lines in the log say why"]),
        ("exec sleep 1000", "1s", vec!["did not serve within 1s, and was ended"]),
        (
            &format!("exec {real} \"$@\" --http {taken_address}"),
            "20s",
            vec!["does not serve", "another process listens there"],
        ),
        (&format!("exec {real} \"$@\" --prefix /other"), "20s", vec!["ended; its last lines"]),
    ] {
        script(&site, &link, text);
        let told = upgrade(&site, &["--wait", within]);
        assert_eq!(told.code, Some(2), "{text}: {told:?}");
        assert!(expected.iter().all(|words| told.stderr.contains(words)), "{text}: {told:?}");
        assert!(running.process.log().contains("not upgraded; this program serves on"), "{text}");
        assert_eq!(get_ok(running.http, "a.test", "/").status, 200, "{text}");
    }
    fs::remove_file(&link).expect("ours");
    fs::write(&link, "no program").expect("our own folder");
    let told = upgrade(&site, &[]);
    assert!(running.process.is_running() && told.code == Some(2), "{told:?}");
    load.finish().assert_clean(50);
    // It can still be upgraded.
    point(&link, Path::new(real));
    let mut successors = Successors::default();
    successors.upgrade(&site);
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(get_ok(running.http, "a.test", "/").status, 200);
}

#[test]
fn a_hung_or_killed_program_is_told_apart() {
    let (site, _backend) = scene(&[]);
    let mut running = Pointsman::serving(&site);
    running.process.signal("STOP");
    let mut blind = Launch::on(&site).args(&["--takeover"]).start_process();
    assert_eq!(blind.wait_exit(PATIENCE).code(), Some(2));
    let said = blind.log();
    let pid = running.process.id();
    assert!(said.contains(&format!("(process {pid})")) && said.contains("it hangs"), "{said}");
    let asked = upgrade(&site, &["--wait", "1s"]);
    assert!(asked.code == Some(2) && asked.stderr.contains("it hangs, and is not upgraded"), "{asked:?}");
    let admin = running.admin.to_string();
    let seen =
        run(&["doctor", "--state", &state(&site), "--admin", &admin, "--store", &site.folder().display().to_string()]);
    assert!(seen.stdout.contains(&format!("the balancer (process {pid}) runs on --state and hangs")), "{seen:?}");
    // What nobody waits for is not done afterwards.
    running.process.signal("CONT");
    running.process.wait_log("who asked for the upgrade waits no longer");
    assert_eq!(get_ok(running.http, "a.test", "/").status, 200);
    let other = upgrade(&site, &["--id", "zz"]);
    assert!(
        other.code == Some(2) && other.stderr.contains("it serves the keys below /, not those below "),
        "{other:?}"
    );
    running.process.kill();
    let mut next = Launch::on(&site).args(&["--takeover"]).start();
    next.process.wait_log("there is no program to take over from at --state ");
    next.wait_ready();
    wait("the table", || get(next.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
}

#[test]
fn two_programs_of_one_folder_are_told() {
    let (site, _backend) = scene(&[]);
    let first = Pointsman::serving(&site);
    let pid = first.process.id();
    if engine() == Engine::Native {
        let second = Launch::on(&site).args(&["--name", "second"]).start();
        second.wait_ready();
        second.wait_problem("state", &[&format!("another pointsman (process {pid}) uses the folder"), "--state"]);
    }
    let foreign = Launch::new().state(state(&site)).arg("--store").arg(site.folder());
    let mut foreign = foreign.args(&["--prefix", "/other", "--takeover"]).start_process();
    assert_eq!(foreign.wait_exit(PATIENCE).code(), Some(2));
    let said = foreign.log();
    assert!(
        said.contains("does not hand over: it serves the keys below /, the new one would serve those below /other"),
        "{said}"
    );
    let other = if engine() == Engine::Native { "haproxy" } else { "native" };
    let mut other = Launch::on(&site).args(&["--engine", other, "--takeover"]).start_process();
    assert_eq!(other.wait_exit(PATIENCE).code(), Some(2));
    assert!(first.process.log().lines().all(|line| !line.contains("draining")), "it serves on");
    assert_eq!(get_ok(first.http, "a.test", "/").status, 200);
    let nobody = run(&["upgrade", "--state", &site.home().join("none").display().to_string()]);
    assert!(nobody.code == Some(2) && nobody.stderr.contains("no balancer runs on --state "), "{nobody:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_a_problem() {
    if engine() == Engine::HaProxy {
        return;
    }
    let (site, _backend) = scene(&[]);
    let running = Launch::on(&site).state("/proc/pointsman").start();
    running.wait_problem("state", &["cannot listen on /proc/pointsman/takeover.sock", "cannot be upgraded"]);
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
}

#[test]
fn the_status_names_one_balancer_and_the_work_that_is_left() {
    let (site, _backend) = scene(&[]);
    let mut running = Launch::on(&site).args(&["--name", "edge"]).start();
    running.wait_ready();
    let status = || run(&["status", "--store", &site.folder().display().to_string(), "--prefix", "/"]).stdout;
    wait("its status", || status().contains("edge"));
    let mut open = running.connect();
    open.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    wait("the request", || running.metric("pointsman_active", &["\"a\""]) >= 1.0);
    let mut successors = Successors::default();
    successors.upgrade(&site);
    let old = format!("edge~{}", running.process.id());
    wait("both", || status().lines().any(|line| line.starts_with("edge ")) && status().contains(&old));
    let is_there = || status().lines().any(|line| line.starts_with("edge "));
    holds("the name is there", Duration::from_millis(300), is_there);
    drop(open);
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    wait("one", || !status().contains('~') && is_there());
    assert!(!running.process.log().contains("another balancer has the name"));
}

/// A program that opens sockets as a service manager does, and executes its arguments.
const ACTIVATE: &str = "
import os, socket, sys
addresses = sys.argv[1].split(',')
for number, address in enumerate(addresses):
    host, port = address.rsplit(':', 1)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, int(port))); s.listen(128)
    os.dup2(s.fileno(), 50 + number)
for number in range(len(addresses)): os.dup2(50 + number, 3 + number, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(addresses)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='web:admin')
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn sockets_of_the_service_manager_are_used_and_handed_on() {
    let (site, _backend) = scene(&[]);
    let (http, admin) = (free_address(), free_address());
    let both = format!("{http},{admin}");
    let (http_flag, admin_flag) = (http.to_string(), admin.to_string());
    let launch = Launch::bare().store(&site).under(&["python3", "-c", ACTIVATE, &both]);
    let launch =
        launch.args(&["--engine", engine().name(), "--http", &http_flag, "--admin", &admin_flag, "--workers", "2"]);
    let running = launch.start();
    running.wait_ready();
    assert!(running.process.log().contains(&format!("the service manager opened {http} (web)")));
    assert_eq!((running.http, running.admin), (http, admin));
    let gaps = Gaps::measure(http);
    let mut successors = Successors::default();
    for _ in 0..2 {
        successors.upgrade(&site);
        assert_eq!(get_ok(http, "a.test", "/").status, 200);
    }
    assert!(gaps.longest() < 10 * GAP);
}

/// Requests over TLS on new and kept connections until the file `stop` is there; resumes a session of before.
const TLS: &str = "
count, first = 0, Client()
first.ask('/')
session = first.socket.session
kept = Client()
while not os.path.exists(os.path.join(home, 'stop')):
    fresh = Client(session=session)
    status, head, body = fresh.ask('/', more='Connection: close\\r\\n')
    assert status == 200 and fresh.socket.session_reused, (status, fresh.socket.session_reused)
    status, head, body = kept.ask('/')
    assert status == 200, status
    if head.get('connection') == 'close': kept = Client()
    count += 1
    time.sleep(0.005)
say(count, 'done')
";

/// Requests over HTTP/2 on one connection, and on the next after each GOAWAY.
const HTTP2: &str = "
count, client, connections = 0, Client(), 1
while not os.path.exists(os.path.join(home, 'stop')):
    if client.goaway is not None: client, connections = Client(), connections + 1
    status, head, body = client.ask()
    assert status == '200', (status, client.goaway, client.closed, client.resets)
    count += 1
    time.sleep(0.005)
say(count, 'done on', connections, 'connections')
";

#[test]
fn tls_and_http2_go_on() {
    let (site, _backend) = scene(&[]);
    site.put("certs/a", certificate("a.test", epoch() - 1000, epoch() + 100_000));
    let https = free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string()]).start();
    running.wait_ready();
    wait("the table", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status != 503));
    let mut clients: Vec<Process> =
        vec![python_tls_running(&site, https, TLS), python_http2_running(&site, ("https", https), HTTP2)];
    let mut successors = Successors::default();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        successors.upgrade(&site);
    }
    std::thread::sleep(Duration::from_millis(1500));
    fs::write(site.home().join("stop"), "").expect("our own folder");
    for client in &mut clients {
        let ended = client.wait_exit(PATIENCE);
        assert!(ended.success(), "{}", client.log());
    }
    eprintln!("{} {}", clients[0].log(), clients[1].log());
}
