//! Short runs of the program: which HAProxy it is, and whether it would take a configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use pointsman_haproxy::check::{self, CheckFault, check};
use pointsman_haproxy::program::{NoProgram, Program, find};
use tempfile::TempDir;

use crate::site::{PATIENCE, Site, is_alive, program, script, until};

#[tokio::test]
async fn a_program_is_found_or_it_is_said_what_is_wrong() {
    let state = TempDir::new().unwrap();
    let found = program().await;
    assert!(found.version.at_least(2, 4) && found.release.starts_with(&*format!("{}.", found.version.major)));
    assert!(matches!(find(Some(Path::new("no-such-haproxy"))).await, Err(NoProgram::NotFound { .. })));
    let missing = find(Some(&state.path().join("haproxy"))).await.unwrap_err().to_string();
    assert!(missing.contains("No such file"), "{missing}");
    for (body, expected) in [
        (
            "echo 'HA-Proxy version 2.2.9-2+deb11u6 2023/12/10 - https://haproxy.org/'",
            "is HAProxy 2.2.9-2+deb11u6: the oldest that works is 2.4",
        ),
        (
            "echo 'nginx version: nginx/1.22.1'; exit 1",
            "does not seem to be HAProxy: to -vv it says \"nginx version: nginx/1.22.1\" (exit status: 1)",
        ),
        ("sleep 60 & wait", "-vv did not end within 5s"),
    ] {
        let path = script(state.path(), body);
        let said = find(Some(&path)).await.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    std::fs::set_permissions(state.path().join("haproxy"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = find(Some(&state.path().join("haproxy"))).await.unwrap_err().to_string();
    assert!(refused.contains("Permission denied"), "{refused}");
}

#[tokio::test]
async fn a_check_tells_every_complaint() {
    let mut site = Site::new().await;
    for (tail, expected) in [
        ("", vec![]),
        (
            "  bogus one\n  server s3 127.0.0.1 nonsense",
            vec![(Some(16), "unknown keyword 'bogus'"), (Some(17), "nonsense")],
        ),
        ("frontend f\n  bind 127.0.0.1:65000\n  default_backend none", vec![(None, "none")]),
        ("  http-request set-header \"x", vec![(Some(16), "unmatched quote")]),
        ("  use-server s1 if { path -f /no/such/file }", vec![(Some(16), "/no/such/file")]),
    ] {
        let generation = site.write(tail);
        let complaints = check(&site.program, &generation.config(), &site.sockets, PATIENCE).await.unwrap();
        let found: Vec<_> = complaints.iter().map(|complaint| (complaint.line, complaint.words.as_str())).collect();
        let matching = found.len() == expected.len()
            && std::iter::zip(&found, &expected)
                .all(|(found, expected)| found.0 == expected.0 && found.1.contains(expected.1));
        assert!(matching, "{tail:?}: {found:?}");
        assert!(found.iter().all(|(_, words)| !words.contains("haproxy.cfg")), "{found:?}");
    }
}

#[tokio::test]
async fn a_check_that_hangs_or_dies_is_told() {
    let mut site = Site::new().await;
    let state = TempDir::new().unwrap();
    let generation = site.write("");
    let deadline = Duration::from_millis(500);
    for (body, expected) in [("echo oops; exit 3", "oops (exit status: 3)"), ("kill -9 $$", "signal: 9")] {
        let program = Program { path: script(state.path(), body), ..site.program.clone() };
        let complaints = check(&program, &generation.config(), &site.sockets, PATIENCE).await.unwrap();
        assert!(complaints.len() == 1 && complaints[0].words.contains(expected), "{complaints:?}");
    }
    let child = state.path().join("child");
    let body = format!("sleep 60 & echo $! > {}; wait", child.display());
    let program = Program { path: script(state.path(), &body), ..site.program.clone() };
    let hung = check(&program, &generation.config(), &site.sockets, deadline).await;
    assert!(matches!(hung, Err(CheckFault::Hung(after)) if after == deadline));
    let child = std::fs::read_to_string(child).unwrap().trim().parse().unwrap();
    until("what a check that hangs had started is gone", async || !is_alive(child)).await;
    let program = Program { path: "/no/such/program".into(), ..site.program.clone() };
    let missing = check(&program, &generation.config(), &site.sockets, check::DEADLINE).await;
    assert!(matches!(missing, Err(CheckFault::CannotStart(_))));
}
