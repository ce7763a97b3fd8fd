//! Clients that do not read, are silent, or are many: none of them harms another, or holds memory.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{ANSWER, ask, scene, serving};
use crate::harness::{Backend, Connection, Launch, PATIENCE, Site, is_timeout, wait};

/// The most clients at once.
const MOST: usize = 32;
/// How many services an answer is about that no socket's buffer holds.
const SERVICES: usize = 4_000;

/// A client that sends lines and keeps its connection.
fn client(socket: &std::path::Path, lines: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("a socket");
    stream.write_all(lines.as_bytes()).expect("open");
    stream.set_read_timeout(Some(ANSWER)).expect("open");
    stream
}

/// Whether the other end closes the connection, whatever comes before that.
fn is_closed(stream: &mut UnixStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).expect("open");
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return true,
            Ok(_) => {}
            read => return !is_timeout(&read),
        }
    }
}

#[test]
fn clients_that_do_not_read_hold_one_piece_each() {
    let backend = Backend::naming("one");
    let site = Site::new();
    for number in 0..SERVICES {
        site.put(&format!("services/s{number}/domain"), format!("s{number}.test"));
        site.put(&format!("services/s{number}/one"), backend.instance());
    }
    let (running, socket) = serving(&site, "stats.sock", "");
    let whole = ask(&socket, "show stat").len();
    assert!(whole > 1_500_000, "{whole}");
    let before = running.process.resident();
    let mut deaf: Vec<_> = (0..MOST - 2).map(|_| client(&socket, "prompt\nset timeout cli 600\nshow stat\n")).collect();
    let mut pages: Vec<_> = (0..10)
        .map(|_| {
            let mut page = Connection::open(running.admin);
            page.send("GET /haproxy?stats;csv HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
            page
        })
        .collect();
    for _ in 0..3 {
        let start = Instant::now();
        // Counters may have got another digit meanwhile.
        assert!(ask(&socket, "show stat").len().abs_diff(whole) < whole / 20);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }
    assert!(pages[0].read_head().expect("an answer").contains("200"));
    // All the answers together would be sixty megabytes.
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 30_000_000, "{grown} bytes more");
    // Who has read nothing for ten seconds has lost the rest.
    std::thread::sleep(Duration::from_secs(12));
    for stream in &mut deaf {
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        assert!(read.is_ok() && rest.len() < whole, "{read:?} {}", rest.len());
    }
}

#[test]
fn who_has_been_silent_for_longest_makes_room() {
    let scene = scene("");
    let mut silent: Vec<_> = (0..MOST + 8).map(|_| client(&scene.socket, "prompt\nset timeout cli 600\n")).collect();
    assert!(scene.ask("show info").contains("Name: Pointsman"));
    assert!(is_closed(&mut silent[0], PATIENCE), "the first had to go");
    let last = silent.last_mut().expect("some");
    last.write_all(b"get weight services:shop/web-1\n").expect("it is still there");
    assert!(!is_closed(last, Duration::from_millis(300)));
}

#[test]
fn a_silent_client_has_ten_seconds_or_what_it_asks_for() {
    let scene = scene("");
    let start = Instant::now();
    let [mut usual, mut short, mut long] = ["prompt\n", "prompt\nset timeout cli 1\n", "prompt\nset timeout cli 1h\n"]
        .map(|lines| client(&scene.socket, lines));
    assert!(is_closed(&mut short, PATIENCE));
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(is_closed(&mut usual, PATIENCE));
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(!is_closed(&mut long, Duration::from_millis(300)));
}

#[test]
fn a_line_without_end_is_the_end() {
    let scene = scene("");
    let mut stream = client(&scene.socket, &"x".repeat(16 * 1024 - 1));
    assert!(!is_closed(&mut stream, Duration::from_millis(300)));
    stream.write_all(b"xx").expect("open");
    assert!(is_closed(&mut stream, PATIENCE));
    assert!(scene.ask("show info").contains("Name: Pointsman"));
}

#[test]
fn the_file_has_the_rights_that_are_asked_for_and_goes_with_the_program() {
    let mut scene = scene("mode 640 level user");
    let rights = std::fs::metadata(&scene.socket).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(rights, 0o640);
    scene.running.end();
    assert!(!scene.socket.exists());
    std::fs::write(&scene.socket, "a file").expect("our own folder");
    let path = scene.socket.display().to_string();
    let mut refused = Launch::on(&scene.site).args(&["--stats-socket", &path]).start_process();
    refused.wait_log("a file that is not a socket is there");
    assert!(!refused.wait_exit(PATIENCE).success());
    wait("the file to be left alone", || std::fs::read_to_string(&scene.socket).is_ok_and(|text| text == "a file"));
}
