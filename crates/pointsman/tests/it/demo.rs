//! `pointsman demo`: runs the lines that it prints.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{PATIENCE, Process, alone, demo, shell, wait};

/// A running demo, and the lines that it suggests, in order.
fn started() -> (Process, Vec<String>) {
    // It uses well-known ports if they are free.
    alone();
    let mut process = demo(&[]);
    process.wait_log("Ctrl-C ends the demo");
    let log = process.log();
    let (_, text) = log.split_once("Try this").expect("it tells what to try");
    let lines = text.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim().to_owned());
    (process, lines.collect())
}

#[test]
fn its_lines_work_as_printed() {
    let (process, lines) = started();
    assert!(lines.iter().filter(|line| line.starts_with("curl ")).count() >= 3, "{lines:#?}");
    assert!(lines.iter().filter(|line| line.contains(" set ")).count() >= 3, "{lines:#?}");
    for line in &lines {
        try_line(line);
    }
    end(process);
}

/// A demo that is killed leaves its folder behind.
fn end(mut process: Process) {
    process.signal("INT");
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
}

/// A curl line may be a moment early for a change just made; a command must work at once.
fn try_line(line: &str) {
    if !line.starts_with("curl ") {
        shell(line).ok();
        return;
    }
    let strict = line.replacen("curl ", "curl -sS --fail ", 1);
    wait(line, || shell(&strict).code == Some(0));
}

#[test]
fn instances_take_turns_come_and_go() {
    let (process, lines) = started();
    let curl =
        lines.iter().find(|line| line.starts_with("curl ")).expect("a first curl").replacen("curl", "curl -sS", 1);
    let greeters = || -> BTreeSet<String> {
        let lines = shell(&curl).ok();
        lines.lines().map(str::to_owned).collect()
    };
    let before = greeters();
    assert_eq!(before.len(), 2, "{before:?}");
    lines.iter().filter(|line| line.contains("services/hello")).for_each(|line| drop(shell(line).ok()));
    wait("one to come and one to go", || {
        let after = greeters();
        after.len() == 2 && after != before
    });
    end(process);
}

/// It ends, with its folder, when its terminal is closed too; and its first line works on any address.
#[test]
fn it_leaves_nothing_behind() {
    for (signal, http) in [("INT", "127.0.0.1:0"), ("TERM", "0.0.0.0:0"), ("HUP", "[::1]:0")] {
        let (mut process, log) = on_free_ports(http, "127.0.0.1:0");
        let folder = folder(&log);
        let curl = log.lines().find(|line| line.starts_with("  curl ")).expect("a first curl");
        shell(&curl.replacen("curl", "curl -gsS --fail", 1)).ok();
        process.signal(signal);
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(0), "{signal}");
        assert!(!folder.exists(), "{folder:?} after {signal}");
    }
}

/// The line works as printed, on any address; and the key is for its owner only.
#[test]
fn https_has_a_certificate_that_curl_verifies() {
    for https in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let (process, log) = on_free_ports("127.0.0.1:0", https);
        let curl = log.lines().find(|line| line.contains(" https://")).expect("a line for HTTPS");
        let page = shell(&curl.replacen("curl", "curl -sS --fail", 1)).ok();
        assert!(page.contains("Hello from web-") && page.contains("x-forwarded-proto: https"), "{https}: {page}");
        let (folder, words) = (folder(&log), curl.split_whitespace());
        let shown = PathBuf::from(words.skip_while(|word| *word != "--cacert").nth(1).expect("a file"));
        for (path, mode, has_key) in [(shown, 0o644, false), (folder.join("certs/demo"), 0o600, true)] {
            let found = fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
            let text = fs::read_to_string(&path).expect("text");
            assert_eq!((found, text.contains("PRIVATE KEY")), (mode, has_key), "{path:?}");
        }
        end(process);
    }
}

/// A demo beside others, and what it said.
fn on_free_ports(http: &str, https: &str) -> (Process, String) {
    let mut process = demo(&["--http", http, "--https", https, "--admin", "127.0.0.1:0"]);
    process.wait_log("Ctrl-C ends the demo");
    let log = process.log();
    (process, log)
}

fn folder(log: &str) -> PathBuf {
    let (_, rest) = log.split_once("Its keys are files in ").expect("it says where");
    let path = rest.split_whitespace().next().expect("a path");
    Path::new(path.trim_end_matches(':')).to_owned()
}
