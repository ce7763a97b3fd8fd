//! Clocks that jump. A lease ends by etcd's own monotonic clock; this program renews it, and times everything else, by
//! its own. The only wall clock compared is Docker's, with itself: the time of a container's start and the time of a
//! signal.

use std::io::Write as _;
use std::path::Path;

use crate::harness::{Process, holds, wait};
use crate::place::{TTL, each};

const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// The hour in the agent's log.
fn hour(log: &str) -> Option<i64> {
    let line = log.lines().last()?;
    let (_, time) = line.split_once('T')?;
    time.get(..2)?.parse().ok()
}

#[test]
fn a_clock_that_jumps_ends_nothing() {
    let Some(library) = LIBRARIES.iter().find(|path| Path::new(path).exists()) else {
        drop(writeln!(std::io::stderr(), "SKIPPED: no libfaketime"));
        return;
    };
    each(|place| {
        let home = tempfile::tempdir().expect("a folder");
        let jump = |by: &str| {
            let (new, file) = (home.path().join("new"), home.path().join("time"));
            std::fs::write(&new, by).and_then(|()| std::fs::rename(new, &file)).expect("our own folder");
            file
        };
        let mut command = place.agent_command();
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", jump("+0")).env("FAKETIME_NO_CACHE", "1");
        // Only the wall clock, which an operator can set; the monotonic clock is not affected.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        let mut agent = Process::start(&mut command);
        agent.wait_log("keeping ");
        let begin = hour(&agent.log()).expect("a time in each line");
        let mut keys = String::new();
        for (name, by, hours) in [("a", "+3600", 1), ("b", "-3600", -1), ("c", "+0", 0)] {
            jump(by);
            let web = place.container(name, &format!("service={name}"), &[]);
            keys = format!("{keys}, services/{name}/upstreams/{name}=80");
            place.wait_keys(keys.trim_start_matches(", "));
            // The log shows the changed time. (An hour may begin meanwhile.)
            let expected = (begin + hours).rem_euclid(24);
            wait("a line of another hour", || {
                hour(&agent.log()).is_some_and(|now| now == expected || now == (expected + 1) % 24)
            });
            holds("the keys stay", TTL + TTL / 3, || place.keys().as_deref() == Some(keys.trim_start_matches(", ")));
            place.docker.docker(&["restart", "-t", "5", &web]);
            place.wait_keys(keys.trim_start_matches(", "));
        }
    });
}
