//! Where lines go: files that are renamed, disks that are full, pipes that nobody reads, syslog; and which are left out.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::{Logged, lines_of, ready, site};
use crate::harness::{Backend, Engine, Launch, PATIENCE, get, get_ok, wait};

#[test]
fn a_renamed_file_keeps_its_lines_and_hup_begins_another() {
    let backend = Backend::naming("one");
    let mut logged = Logged::new(&[("services/a/one", &backend.instance())], &[]);
    logged.get("/before");
    logged.lines(1);
    let old = logged.site.home().join("access.log.1");
    std::fs::rename(&logged.path, &old).expect("the same folder");
    logged.get("/between");
    assert!(lines_of(&old, 2)[1].contains("/between"));
    assert!(!logged.path.exists());
    logged.get("/at-last");
    logged.running.process.signal("HUP");
    logged.running.process.wait_log("read the settings again");
    logged.get("/after");
    let is_there = || std::fs::read_to_string(&logged.path).is_ok_and(|text| text.contains("/after"));
    wait("the new file", is_there);
    let (old, new) = (lines_of(&old, 2), logged.lines(1));
    let all: Vec<_> = old.iter().chain(&new).collect();
    assert_eq!(all.len(), 4, "none is lost, and none comes twice: {all:?}");
}

#[test]
fn the_last_lines_are_written_at_the_end() {
    let backend = Backend::naming("one");
    let mut logged = Logged::new(&[("services/a/one", &backend.instance())], &["--workers", "2"]);
    for number in 0..20 {
        logged.get(&format!("/{number}"));
    }
    logged.running.process.signal("TERM");
    logged.running.process.wait_exit(PATIENCE);
    assert_eq!(logged.lines(20).len(), 20);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let backend = Backend::naming("one");
    let site = site(&[("services/a/one", &backend.instance())]);
    let launch = Launch::engine(Engine::Native).store(&site).args(&["--access-log", "/dev/full"]);
    let mut running = ready(launch.start());
    get_ok(running.http, "a.test", "/");
    running.process.wait_log("cannot be written, and its lines are dropped meanwhile: No space left on device");
    wait("the drop", || running.metric("pointsman_access_log_dropped_total", &["reason=\"write\""]) >= 1.0);
    get_ok(running.http, "a.test", "/");
}

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    let backend = Backend::naming("one");
    let site = site(&[("services/a/one", &backend.instance())]);
    let pipe = site.home().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let held = std::fs::File::options().read(true).write(true).open(&pipe).expect("our own");
    let flags = ["--access-log", "stdout", "--workers", "1"];
    let line = format!("exec \"$@\" >'{}'", pipe.display());
    let running =
        ready(Launch::engine(Engine::Native).store(&site).args(&flags).under(&["sh", "-c", &line, "sh"]).start());
    let dropped = || running.metric("pointsman_access_log_dropped_total", &["reason=\"queue\""]);
    let long = format!("/{}", "x".repeat(6_000));
    let mut client = running.connect();
    wait("a drop", || {
        for _ in 0..500 {
            assert_eq!(client.request("GET", "a.test", &long).expect("served").status, 200);
        }
        dropped() > 0.0
    });
    drop(held);
}

#[test]
fn a_sample_has_all_the_faults() {
    let backend = Backend::naming("one");
    let logged = Logged::new(&[("services/a/one", &backend.instance())], &["--access-log-sample", "0"]);
    for _ in 0..20 {
        assert_eq!(logged.get("/"), 200);
    }
    assert_eq!(get(logged.running.http, "nobody.test", "/").expect("answered").status, 503);
    let lines = logged.lines(1);
    assert!(lines.len() == 1 && lines[0].contains(" 503 "), "{lines:?}");
}

#[test]
fn syslog_takes_a_frame_for_each_line() {
    let backend = Backend::naming("one");
    let site = site(&[("services/a/one", &backend.instance())]);
    let (udp, tcp) =
        (UdpSocket::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let path = site.home().join("log.sock");
    let unix = UnixDatagram::bind(&path).expect("our own folder");
    for (set, socket) in
        [(udp.set_read_timeout(Some(PATIENCE)), "UDP"), (unix.set_read_timeout(Some(PATIENCE)), "Unix")]
    {
        set.unwrap_or_else(|error| panic!("{socket}: {error}"));
    }
    let to = format!("syslog:{},syslog:tcp:{}", udp.local_addr().expect("bound"), tcp.local_addr().expect("bound"));
    let flags =
        ["--access-log", &to, "--access-log", &format!("syslog:{}", path.display()), "--access-log-format", "clf"];
    let running = ready(Launch::engine(Engine::Native).store(&site).args(&flags).args(&["--workers", "1"]).start());
    get_ok(running.http, "a.test", "/one");
    get_ok(running.http, "a.test", "/two");
    let is_frame = |frame: &str, target: &str| {
        assert!(frame.starts_with("<134>1 20") && frame.contains(" pointsman "), "{frame}");
        assert!(
            frame.contains(" - - 127.0.0.1 - - [") && frame.contains(&format!("\"GET {target} HTTP/1.1\" 200 ")),
            "{frame}"
        );
    };
    let mut room = [0; 4096];
    for target in ["/one", "/two"] {
        let count = udp.recv(&mut room).expect("a frame");
        is_frame(&String::from_utf8_lossy(&room[..count]), target);
        let count = unix.recv(&mut room).expect("a frame");
        is_frame(&String::from_utf8_lossy(&room[..count]), target);
    }
    let (stream, _) = tcp.accept().expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("open");
    let mut stream = BufReader::new(stream);
    for target in ["/one", "/two"] {
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).expect("a length");
        let length: usize = String::from_utf8_lossy(&length).trim().parse().expect("a number");
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).expect("a frame");
        is_frame(&String::from_utf8_lossy(&frame), target);
    }
    // A syslog that is gone costs lines, and one that comes back gets those from then on.
    drop((stream, tcp));
    wait("the drop", || {
        get_ok(running.http, "a.test", "/three");
        std::thread::sleep(Duration::from_millis(20));
        running.metric("pointsman_access_log_dropped_total", &["reason=\"write\""]) >= 1.0
    });
}

#[test]
fn requests_are_kept_without_a_log() {
    let backend = Backend::naming("one");
    let site = site(&[("services/a/one", &backend.instance())]);
    let running =
        ready(Launch::engine(Engine::Native).store(&site).args(&["--recent-requests", "2", "--workers", "1"]).start());
    for target in ["/1", "/2", "/3"] {
        get_ok(running.http, "a.test", target);
    }
    wait("the last", || running.admin_page("/api/requests").contains("\"path\":\"/3\""));
    let page = running.admin_page("/api/requests");
    assert!(page.starts_with("{\"next\":3,") && page.contains("\"/2\"") && !page.contains("\"/1\""), "{page}");
    assert!(!running.admin_page("/api/requests?from=2").contains("\"/2\""));
}

#[test]
fn the_other_engine_says_that_it_has_none() {
    let site = site(&[]);
    let mut running = Launch::engine(Engine::HaProxy).store(&site).args(&["--access-log", "stdout"]).start();
    running.process.wait_log("--access-log has no effect on the HAProxy engine");
}
