//! Lists and watches of a healthy server.

use std::time::{Duration, Instant};

use pointsman_store::etcd3::Etcd3;

use crate::etcd::Etcd;
use crate::follower::{Follower, SOON, change_count, settings};

#[tokio::test]
async fn lists_in_pages_and_watches_on() {
    let etcd = Etcd::start();
    for block in 0..25 {
        let puts: Vec<String> = (0..100).map(|n| format!("put /x/many/{:04} v{n}", block * 100 + n)).collect();
        etcd.txn(&puts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    etcd.ctl(&["put", "/x1/services/other", "no"]);
    let mut follower = Follower::with(Etcd3::new(&settings(&[&etcd.url])).unwrap().paged(40));
    follower.until("the list", |it| it.resets == 1).await;
    assert_eq!(follower.keys.len(), 2500);
    assert_eq!(follower.revision, 27);
    etcd.ctl(&["put", "/x/many/0000", "new"]);
    follower.sees("many/0000", "new").await;
    etcd.ctl(&["del", "/x/many/", "--prefix"]);
    follower.until("all gone", |it| it.keys.is_empty()).await;
    assert_eq!(follower.updates.len(), 3, "a delete of a whole range is one update");
}

#[tokio::test]
async fn an_empty_store_is_an_empty_list() {
    let etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.until("the list", |it| it.resets == 1).await;
    assert!(follower.keys.is_empty());
    etcd.ctl(&["put", "/x/services/shop/domain", "shop.test"]);
    follower.sees("services/shop/domain", "shop.test").await;
}

#[tokio::test]
async fn a_transaction_is_one_update() {
    let etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    etcd.txn(&["put /x/a 1", "put /x/b 2", "put /y/c 3"]);
    follower.sees("b", "2").await;
    etcd.txn(&["del /x/a", "put /x/b 3", "put /x/c 4"]);
    follower.sees("c", "4").await;
    let changes: Vec<usize> = follower.updates.iter().filter_map(change_count).collect();
    assert_eq!(changes, [2, 3]);
    assert_eq!(follower.keys.get("a"), None);
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    let etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    let writer = std::sync::Arc::new(Etcd3::new(&settings(&[&etcd.url])).unwrap());
    let writes: Vec<_> = (0..500)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.put(&format!("/x/burst/{n}"), b"v").await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    follower.until("500 keys", |it| it.keys.len() == 500).await;
    assert_eq!(follower.resets, 1);
}

#[tokio::test]
async fn keys_that_cannot_be_ours_are_left_out() {
    let etcd = Etcd::start();
    etcd.ctl(&["put", "/x/folder/", "0"]);
    etcd.ctl(&["put", "/x/good", "1"]);
    let mut follower = Follower::start(&[&etcd.url]);
    follower.sees("good", "1").await;
    follower.watching().await;
    etcd.ctl(&["put", "/x//bad", "0"]);
    etcd.ctl_bytes(&[b"put", b"/x/not-utf-8/\xff", b"0"]);
    etcd.ctl(&["put", "/x/good", "2"]);
    follower.sees("good", "2").await;
    assert_eq!(follower.keys.len(), 1);
    assert_eq!(follower.updates.len(), 2);
}

#[tokio::test]
async fn the_root_is_a_prefix_too() {
    let etcd = Etcd::start();
    etcd.ctl(&["put", "/services/shop/domain", "shop.test"]);
    etcd.ctl(&["put", "elsewhere", "no"]);
    let mut everything = settings(&[&etcd.url]);
    everything.prefix = String::new();
    let mut follower = Follower::with(Etcd3::new(&everything).unwrap());
    follower.sees("services/shop/domain", "shop.test").await;
    assert_eq!(follower.keys.len(), 1);
}

#[tokio::test]
async fn a_reader_that_stops_for_long_loses_nothing() {
    let etcd = Etcd::start();
    let mut follower = Follower::start(&[&etcd.url]);
    follower.watching().await;
    let writer = Etcd3::new(&settings(&[&etcd.url])).unwrap();
    let value = vec![b'v'; 200_000];
    for n in 0..100 {
        writer.put(&format!("/x/large/{n}"), &value).await.unwrap();
    }
    // Longer than the keep-alive's interval and answer together: a full queue must not look like a dead peer.
    tokio::time::sleep(Duration::from_secs(11)).await;
    follower.until("100 keys", |it| it.keys.len() == 100).await;
    assert_eq!(follower.resets, 1);
    assert_eq!(follower.updates.len(), 101);
}

#[tokio::test]
async fn who_follows_no_more_leaves_no_watch_behind() {
    let etcd = Etcd::start();
    for _ in 0..3 {
        let mut follower = Follower::start(&[&etcd.url]);
        follower.watching().await;
        assert!(etcd.watches() >= 1);
    }
    let deadline = Instant::now() + SOON;
    while etcd.watches() > 0 {
        assert!(Instant::now() < deadline, "{} watches are still open", etcd.watches());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
