//! The log's content, and that serving does not depend on its reader.

use crate::harness::{Launch, Process, Site, free_address, get, program_folder, wait};

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
