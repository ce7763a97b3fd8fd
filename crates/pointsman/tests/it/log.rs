//! The log's content, and that serving does not depend on its reader.

use crate::harness::{Launch, Process, Site, free_address, get, program_folder, run, wait};

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (site, admin) = (Site::with(&[("services/a/domain", "a.test")]), free_address());
    let (pipe, keys, program) = (site.home().join("log"), site.folder(), program_folder().join("pointsman"));
    let (pipe, keys, program) = (pipe.display(), keys.display(), program.display());
    let flags = format!("--store {keys} --prefix / --http 127.0.0.1:0 --admin {admin}");
    let line = format!("mkfifo {pipe}; head -n 1 <{pipe} & exec {program} run {flags} 2>{pipe}");
    let _process = Process::start(std::process::Command::new("sh").args(["-c", &line]));
    let table = || get(admin, "admin", "/api/table").map(|page| page.text().to_owned()).unwrap_or_default();
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
    for command in [&["routes"][..], &["explain", "b.test/"], &["ls", "--recursive", "--values"], &["check"], &["status"]] {
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
