//! The process from its start to its end, and past ours: reloads, good and bad, under load; what an earlier run left.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pointsman_haproxy::check::can_listen;
use pointsman_haproxy::leftover::{LeftoverFault, end_leftovers};
use pointsman_haproxy::process::ProcessFault;
use pointsman_haproxy::program::Program;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::site::{Load, PATIENCE, Site, get, is_alive, script, until};

#[tokio::test]
async fn a_reload_goes_in_and_a_bad_one_does_not() {
    let mut site = Site::new().await;
    let (mut process, _, _) = site.serve().await;
    assert_eq!(get(site.address()).await.unwrap(), "g1");
    for (tail, complaint) in
        [("", None), ("  bogus", Some("bogus")), ("", None), ("  worse", Some("worse")), ("", None)]
    {
        let before = get(site.address()).await.unwrap();
        let (generation, runtime) = site.activate(tail);
        match (process.reload(&runtime, PATIENCE).await, complaint) {
            (Ok(info), None) => {
                let workers = process.workers().await.unwrap().workers;
                assert_eq!((workers[0].pid, workers[0].old), (info.pid, false));
                until("the new worker serves alone", async || {
                    get(site.address()).await.unwrap() == format!("g{}", generation.number)
                        && process.workers().await.is_ok_and(|processes| processes.workers.len() == 1)
                })
                .await;
            }
            (Err(ProcessFault::Refused(complaints)), Some(words)) => {
                assert!(complaints.len() == 1 && complaints[0].line == Some(16), "{complaints:?}");
                assert!(complaints[0].words.contains(words), "{complaints:?}");
                assert_eq!(get(site.address()).await.unwrap(), before);
                let workers = process.workers().await.unwrap().workers;
                assert!(workers.len() == 1 && !workers[0].old, "{workers:?}");
            }
            (outcome, _) => panic!("{tail:?}: {outcome:?}"),
        }
        assert!(process.is_intact());
    }
    process.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_another_master_takes_over() {
    let mut site = Site::new().await;
    let (mut process, _, _) = site.serve().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(can_listen(address).is_err());
    let load = Load::start(site.address());
    let (_, runtime) = site.activate(&format!("listen q\n  bind {address}\n  server s 127.0.0.1:1"));
    match process.reload(&runtime, PATIENCE).await.unwrap_err() {
        ProcessFault::Refused(complaints) => {
            assert_eq!(complaints[0].bind.as_deref(), Some(&*address.to_string()), "{complaints:?}");
            assert_eq!(complaints[0].proxy.as_deref(), Some("q"), "{complaints:?}");
        }
        // 2.4 ends with it.
        ProcessFault::Died { .. } if !site.program.version.at_least(2, 5) => {}
        fault => panic!("{fault:?}"),
    }
    if site.program.version.at_least(3, 1) {
        assert!(process.is_intact());
    }
    // Whether it is or not: another one beside it takes over.
    let (generation, runtime) = site.activate("");
    let mut another = site.start();
    another.ready(&runtime, PATIENCE).await.unwrap();
    process.stop(PATIENCE).await;
    assert!(another.is_intact());
    let (done, failures) = load.failures().await;
    let may_fail = !site.program.version.at_least(2, 5);
    assert!(done > 10 && (failures.is_empty() || may_fail), "{done} done, failed: {failures:?}");
    assert_eq!(get(site.address()).await.unwrap(), format!("g{}", generation.number));
    let (generation, runtime) = site.activate("");
    another.reload(&runtime, PATIENCE).await.unwrap();
    until("it reloads", async || get(site.address()).await.unwrap() == format!("g{}", generation.number)).await;
    another.stop(PATIENCE).await;
}

#[tokio::test]
async fn reloads_under_load_lose_no_connection() {
    let mut site = Site::new().await;
    let (mut process, _, _) = site.serve().await;
    let load = Load::start(site.address());
    for _ in 0..20 {
        let (generation, runtime) = site.activate("");
        process.reload(&runtime, PATIENCE).await.unwrap();
        site.folder.sweep(&[generation.number]);
    }
    let (done, failures) = load.failures().await;
    assert!(done > 10 && failures.is_empty(), "{done} done, failed: {failures:?}");
    process.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_listening_socket_outlives_haproxy() {
    let mut site = Site::new().await;
    for victim in ["master", "worker"] {
        let (mut process, _, _) = site.serve().await;
        let worker = process.workers().await.unwrap().workers[0].pid;
        kill(if victim == "master" { process.pid() } else { worker });
        let status = tokio::time::timeout(PATIENCE, process.exited()).await.unwrap().unwrap();
        assert!(!status.success());
        until("both end with either", async || !is_alive(worker) && !is_alive(process.pid())).await;
        let waiting = tokio::spawn(get(site.address()));
        let (another, generation, _) = site.serve().await;
        assert_eq!(waiting.await.unwrap().unwrap(), format!("g{}", generation.number));
        another.stop(PATIENCE).await;
    }
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
    assert!(killed.success());
}

#[tokio::test]
async fn a_haproxy_that_ends_at_once_or_never_comes_up_is_told() {
    let mut site = Site::new().await;
    let (_, runtime) = site.activate("  bogus");
    let mut process = site.start();
    match process.ready(&runtime, PATIENCE).await.unwrap_err() {
        ProcessFault::Died { complaints, .. } => {
            assert!(complaints.len() == 1 && complaints[0].line == Some(16), "{complaints:?}");
        }
        fault => panic!("{fault:?}"),
    }
    let state = TempDir::new().unwrap();
    for (body, expected) in [
        ("echo '[ALERT] (1) : no luck today'; exit 1", "no luck today"),
        ("exit 7", "exit status: 7"),
        ("exec sleep 60", "within 300ms"),
    ] {
        let program = Program { path: script(state.path(), body), ..site.program.clone() };
        let mut process = site.start_with(&program);
        let deadline = if body.contains("sleep") { Duration::from_millis(300) } else { PATIENCE };
        let said = process.ready(&runtime, deadline).await.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        process.kill().await;
    }
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_has_an_end() {
    let mut site = Site::new().await;
    let (process, _, _) = site.serve().await;
    let worker = process.workers().await.unwrap().workers[0].pid;
    let mut open = TcpStream::connect(site.address()).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    until("it is accepted", async || {
        let sockets = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap().flatten();
        let links = sockets.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count() > 3
    })
    .await;
    let stopping = tokio::spawn(process.stop(PATIENCE));
    tokio::time::sleep(Duration::from_millis(100)).await;
    open.write_all(b"host: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("g1"), "{answer}");
    stopping.await.unwrap();
    assert!(!is_alive(worker));

    let (_, runtime) = site.activate("");
    let mut process = site.start();
    let worker = process.ready(&runtime, PATIENCE).await.unwrap().pid;
    let _idle = TcpStream::connect(site.address()).await.unwrap();
    let begun = Instant::now();
    process.stop(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < PATIENCE && !is_alive(worker));
}

#[tokio::test]
async fn what_an_earlier_run_left_is_ended_and_nothing_else() {
    let mut site = Site::new().await;
    let (process, _, _) = site.serve().await;
    let (master, worker) = (process.pid(), process.workers().await.unwrap().workers[0].pid);
    let pid_file = site.folder.path().join("master-1.pid");
    let note = std::fs::read_to_string(&pid_file).unwrap();
    // As a crash does: nobody ends it, nobody removes the note.
    std::mem::forget(process);

    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let stranger = note.replace(&format!("\"pid\":{master}"), &format!("\"pid\":{}", other.id()));
    std::fs::write(site.folder.path().join("master-9.pid"), stranger).unwrap();
    std::fs::write(site.folder.path().join("master-8.pid"), "nonsense").unwrap();
    let mut ended = end_leftovers(site.folder.path()).await.unwrap();
    ended.sort_unstable();
    let mut expected = [master, worker];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    assert!(!is_alive(master) && !is_alive(worker) && is_alive(other.id()));
    assert!(!pid_file.exists());
    assert_eq!(end_leftovers(site.folder.path()).await.unwrap(), [0; 0]);

    let mut note: serde_json::Value = serde_json::from_str(&note).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap();
    let started: u64 = stat.split(' ').nth(21).unwrap().parse().unwrap();
    (note["owner"], note["owner_started"]) = (other.id().into(), started.into());
    std::fs::write(&pid_file, note.to_string()).unwrap();
    let in_use = end_leftovers(site.folder.path()).await;
    assert!(matches!(in_use, Err(LeftoverFault::InUse { owner, .. }) if owner.unsigned_abs() == other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(end_leftovers(site.folder.path()).await.unwrap(), [0; 0]);
}
