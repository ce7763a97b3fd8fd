//! Servers that die, freeze, forget, go back in time, or lose their leader.

use std::fs;
use std::time::{Duration, Instant};

use pointsman_store::Condition;
use pointsman_store::etcd3::Etcd3;

use crate::etcd::{Etcd, Plan, copy};
use crate::follower::{Follower, SOON, change_count, settings};
use crate::ports::free_port;

#[tokio::test]
async fn waits_for_a_server_that_is_not_there_yet() {
    let mut etcd = Etcd::start();
    etcd.ctl(&["put", "/x/a", "1"]);
    etcd.kill();
    let mut follower = Follower::start(&[&etcd.url]);
    let said = follower.condition("an error", |it| matches!(it, Condition::Connecting { error: Some(_) })).await;
    assert!(format!("{said:?}").contains(&etcd.url), "{said:?}");
    etcd.restart();
    follower.sees("a", "1").await;
}

#[tokio::test]
async fn resumes_after_a_restart_without_reading_everything() {
    let mut etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    etcd.ctl(&["put", "/x/a", "1"]);
    follower.sees("a", "1").await;
    etcd.kill();
    follower.lost().await;
    etcd.restart();
    etcd.ctl(&["put", "/x/b", "2"]);
    follower.sees("b", "2").await;
    // The audit after a resumed watch finds nothing wrong.
    tokio::time::sleep(Duration::from_secs(2)).await;
    etcd.ctl(&["put", "/x/c", "3"]);
    follower.sees("c", "3").await;
    assert_eq!(follower.resets, 1);
}

#[tokio::test]
async fn reads_everything_after_a_compaction() {
    let mut etcd = Etcd::start();
    etcd.ctl(&["put", "/x/gone", "1"]);
    let mut follower = Follower::start(&[&etcd.url]);
    follower.sees("gone", "1").await;
    follower.watching().await;
    etcd.kill();
    follower.lost().await;
    let home = etcd.port();
    etcd.restart_at(free_port());
    etcd.ctl(&["del", "/x/gone"]);
    etcd.ctl(&["put", "/x/a", "1"]);
    etcd.ctl(&["compaction", "4"]);
    etcd.kill();
    etcd.restart_at(home);
    follower.sees("a", "1").await;
    assert_eq!((follower.resets, follower.keys.len()), (2, 1));
    etcd.ctl(&["put", "/x/b", "2"]);
    follower.sees("b", "2").await;
}

#[tokio::test]
async fn transactions_stay_whole_in_a_long_answer() {
    let args = vec!["--max-request-bytes=10000".to_owned()];
    let mut etcd = Etcd::with(Plan { args, ..Plan::default() });
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    etcd.kill();
    follower.lost().await;
    let home = etcd.port();
    etcd.restart_at(free_port());
    for n in 0..20 {
        let value = n.to_string().repeat(500);
        etcd.txn(&["a", "b", "c", "d"].map(|key| format!("put /x/{key} {value}")).each_ref().map(String::as_str));
    }
    etcd.kill();
    etcd.restart_at(home);
    follower.sees("d", &"19".repeat(500)).await;
    let sizes: Vec<usize> = follower.updates[1..].iter().filter_map(change_count).collect();
    assert_eq!(sizes, [4; 20]);
}

#[tokio::test]
async fn notices_a_frozen_server_and_goes_on_when_it_thaws() {
    let etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    etcd.signal("STOP");
    follower.lost().await;
    etcd.signal("CONT");
    etcd.ctl(&["put", "/x/a", "1"]);
    follower.sees("a", "1").await;
}

#[tokio::test]
async fn leaves_a_frozen_server_for_another() {
    let members = Etcd::cluster();
    let frozen = &members[follower_member(&members)];
    let mut follower = Follower::start(&[&frozen.url]);
    follower.watching().await;
    drop(follower);
    frozen.signal("STOP");
    let alive = members.iter().find(|member| member.url != frozen.url).unwrap();
    alive.ctl(&["put", "/x/a", "1"]);
    let mut follower = Follower::start(&[&frozen.url, &alive.url]);
    follower.sees("a", "1").await;
    frozen.signal("CONT");
}

#[tokio::test]
async fn an_older_backup_is_read_whole() {
    let mut etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    etcd.ctl(&["put", "/x/kept", "old"]);
    let backup = back_up(&mut etcd);
    for n in 0..20 {
        etcd.ctl(&["put", "/x/kept", &format!("new{n}")]);
    }
    etcd.ctl(&["put", "/x/forgotten", "1"]);
    follower.sees("forgotten", "1").await;
    follower.watching().await;
    restore(&mut etcd, backup.path());
    follower.sees("kept", "old").await;
    assert_eq!(follower.keys.len(), 1);
    etcd.ctl(&["put", "/x/later", "1"]);
    follower.sees("later", "1").await;
}

/// The hard one: same cluster id, and a revision beyond ours, so nothing in the headers shows it.
#[tokio::test]
async fn an_older_backup_that_has_grown_past_us_is_found_by_the_audit() {
    let mut etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    etcd.ctl(&["put", "/x/kept", "old"]);
    let backup = back_up(&mut etcd);
    etcd.ctl(&["put", "/x/kept", "new"]);
    etcd.ctl(&["put", "/x/forgotten", "1"]);
    follower.sees("forgotten", "1").await;
    follower.watching().await;
    etcd.kill();
    follower.lost().await;
    let home = etcd.port();
    fs::remove_dir_all(etcd.data()).unwrap();
    copy(&backup.path().join("data"), &etcd.data());
    etcd.restart_at(free_port());
    etcd.ctl(&["put", "/x/same", "elsewhere"]);
    for n in 0..20 {
        etcd.ctl(&["put", "/x/other", &n.to_string()]);
    }
    etcd.kill();
    etcd.restart_at(home);
    follower.sees("same", "elsewhere").await;
    follower.until("the truth", |it| it.keys.len() == 3 && it.keys["kept"] == "old").await;
    etcd.ctl(&["put", "/x/later", "1"]);
    follower.sees("later", "1").await;
}

#[tokio::test]
async fn another_cluster_is_read_whole() {
    let mut etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    etcd.ctl(&["put", "/x/a", "1"]);
    follower.sees("a", "1").await;
    follower.watching().await;
    etcd.kill();
    follower.lost().await;
    fs::remove_dir_all(etcd.data()).unwrap();
    etcd.restart_with("--initial-cluster-token=another");
    for n in 0..5 {
        etcd.ctl(&["put", "/x/b", &n.to_string()]);
    }
    follower.sees("b", "4").await;
    follower.until("the new cluster's keys", |it| it.keys.len() == 1).await;
}

#[tokio::test]
async fn a_cluster_that_loses_its_leader_loses_no_change() {
    let mut members = Etcd::cluster();
    let urls: Vec<String> = members.iter().map(|member| member.url.clone()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut follower = Follower::start(&urls);
    follower.watching().await;
    for round in ["1", "2"] {
        let leader = leader(&members);
        members[leader].kill();
        let writer = members.iter().find(|member| member.url != urls[leader]).unwrap();
        put_when_possible(&writer.url, round).await;
        follower.sees("a", round).await;
        members[leader].restart();
    }
    follower.until("both keys", |it| it.keys.len() == 1).await;
}

#[tokio::test]
async fn the_regular_audit_leaves_a_busy_tree_alone() {
    let etcd = Etcd::start();
    let mut often = settings(&[&etcd.url]);
    often.audit = Duration::from_millis(100);
    let store = Etcd3::new(&often).unwrap();
    let mut follower = Follower::with(Etcd3::new(&often).unwrap());
    follower.watching().await;
    for n in 0..1500 {
        store.put(&format!("/x/{}", n % 7), n.to_string().as_bytes()).await.unwrap();
        if n % 3 == 0 {
            store.delete(&format!("/x/{}", n % 5), false).await.unwrap();
        }
    }
    store.put("/x/end", b"1").await.unwrap();
    follower.sees("end", "1").await;
    assert_eq!(follower.resets, 1);
}

fn back_up(etcd: &mut Etcd) -> tempfile::TempDir {
    let backup = tempfile::tempdir().unwrap();
    etcd.kill();
    copy(&etcd.data(), &backup.path().join("data"));
    etcd.restart();
    backup
}

fn restore(etcd: &mut Etcd, backup: &std::path::Path) {
    etcd.kill();
    fs::remove_dir_all(etcd.data()).unwrap();
    copy(&backup.join("data"), &etcd.data());
    etcd.restart();
}

fn leader(members: &[Etcd]) -> usize {
    members.iter().position(Etcd::leads).expect("one member leads")
}

fn follower_member(members: &[Etcd]) -> usize {
    members.iter().position(|member| !member.leads()).expect("two members follow")
}

async fn put_when_possible(url: &str, value: &str) {
    let store = Etcd3::new(&settings(&[url])).unwrap();
    let deadline = Instant::now() + SOON;
    while let Err(error) = store.put("/x/a", value.as_bytes()).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
