//! What is written as one word, a real HAProxy reads as this very text.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pointsman_haproxy::words::quote;

#[path = "../../pointsman/tests/support/ports.rs"]
mod ports;

/// Ends HAProxy with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A HAProxy that answers the path `/N` with the Nth text.
fn haproxy(folder: &std::path::Path, port: u16, texts: &[&str]) -> Running {
    let answer = |(number, text): (usize, &&str)| {
        let text = quote(text);
        format!("    http-request return status 200 content-type text/plain string {text} if {{ path /{number} }}\n")
    };
    let answers: String = texts.iter().enumerate().map(answer).collect();
    let config = format!(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
         frontend test\n    bind 127.0.0.1:{port}\n{answers}"
    );
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    Running(
        Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

fn body(port: u16, path: usize) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").expect("a whole answer").1.to_owned()
}

#[test]
fn haproxy_reads_what_was_meant() {
    let texts = [
        "plain",
        "a b",
        "a#b",
        "\\",
        "a\\",
        "'",
        "\"",
        "it's \"so\"",
        "$6$salt$hash",
        "$HOME",
        "${HOME}",
        "\"$HOME\"",
        "\\$",
        "a\tb",
        "a\nb",
        "\\x41",
        "\\ ",
        "ü#ß",
        "{",
        "if",
        "%[src]",
        "[x]",
        "*",
        "\u{1}\u{7f}",
    ];
    let (folder, port) = (tempfile::tempdir().unwrap(), ports::free_port());
    let _running = haproxy(folder.path(), port, &texts);
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(body(port, number), *text, "{}", quote(text));
    }
}
