//! `pointsman demo`: runs the lines that it prints.

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
    let (mut process, lines) = started();
    assert!(lines.iter().filter(|line| line.starts_with("curl ")).count() >= 3, "{lines:#?}");
    assert!(lines.iter().filter(|line| line.contains(" set ")).count() >= 3, "{lines:#?}");
    for line in &lines {
        try_line(line);
    }
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
    let (_process, lines) = started();
    let curl =
        lines.iter().find(|line| line.starts_with("curl ")).expect("a first curl").replacen("curl", "curl -sS", 1);
    let greeters = || -> std::collections::BTreeSet<String> {
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
}

/// It ends, with its folder, when its terminal is closed too; and its first line works on any address.
#[test]
fn it_leaves_nothing_behind() {
    for (signal, http) in [("INT", "127.0.0.1:0"), ("TERM", "0.0.0.0:0"), ("HUP", "[::1]:0")] {
        let mut process = demo(&["--http", http, "--admin", "127.0.0.1:0"]);
        process.wait_log("Ctrl-C ends the demo");
        let log = process.log();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let folder = words(log.split("Its keys are files in ").nth(1).expect("it says where")).remove(0);
        let curl = log.lines().find(|line| line.starts_with("  curl ")).expect("a first curl");
        shell(&curl.replacen("curl", "curl -gsS --fail", 1)).ok();
        process.signal(signal);
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(0), "{signal}");
        assert!(!std::path::Path::new(&folder).exists(), "{folder} after {signal}");
    }
}
