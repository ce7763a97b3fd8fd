//! Which etcd API is chosen, against servers that have one or both.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod support;

use pointsman_store::{Api, Condition, Location, Made, Store, StoreError, StoreSettings};
use support::{Etcd, Followed, settings};

const PREFIX: &str = "/haproxy-haproxy-1";
const KEY: &str = "/haproxy-haproxy-1/services/a/domain";

fn auto(etcd: &Etcd) -> StoreSettings {
    settings(Location::Etcd(vec![etcd.url()]), Api::Auto, PREFIX)
}

async fn followed(etcd: &Etcd, keys: &str, api: &str) -> Followed {
    let mut followed = Followed::start(auto(etcd));
    followed.until(keys).await;
    until_via(&mut followed, api).await;
    followed
}

async fn until_via(followed: &mut Followed, api: &str) {
    let done = |now: &Condition| matches!(now, Condition::Watching { via } if via.contains(api));
    followed.until_condition(api, done).await;
}

#[tokio::test]
async fn what_is_held_decides() {
    let etcd = Etcd::v2();
    etcd.ctl3(&format!("put {KEY} three"));
    followed(&etcd, "services/a/domain=three", "v3").await;
    etcd.ctl(&format!("set {KEY} two"));
    followed(&etcd, "services/a/domain=three", "v3").await;
    etcd.ctl3(&format!("del {KEY}"));
    followed(&etcd, "services/a/domain=two", "v2").await;
}

#[tokio::test]
async fn a_server_of_one_api_is_taken_as_it_is() {
    let etcd = Etcd::start(&[]);
    let mut followed = followed(&etcd, "", "v3").await;
    etcd.ctl3(&format!("put {KEY} x"));
    followed.until("services/a/domain=x").await;
}

/// Nobody holds the prefix at first: the one that comes to hold it is followed.
#[tokio::test]
async fn a_prefix_made_later_is_found_in_either() {
    let etcd = Etcd::v2();
    let mut followed = followed(&etcd, "", "v3").await;
    etcd.ctl("mkdir /haproxy-haproxy-1/services");
    until_via(&mut followed, "v2").await;
    etcd.ctl(&format!("set {KEY} two"));
    followed.until("services/a/domain=two").await;
    // One that holds keys is not left for another that comes to hold some.
    etcd.ctl3(&format!("put {KEY} three"));
    followed.drain(std::time::Duration::from_millis(2500)).await;
    assert_eq!(followed.keys["services/a/domain"], "two");
    etcd.ctl("rm --recursive /haproxy-haproxy-1");
    followed.until("services/a/domain=three").await;
    until_via(&mut followed, "v3").await;
    etcd.ctl3(&format!("del {KEY}"));
    followed.until("").await;
    etcd.ctl3(&format!("put {KEY} again"));
    followed.until("services/a/domain=again").await;
}

#[tokio::test]
async fn waits_for_a_server() {
    let mut etcd = Etcd::v2();
    etcd.ctl(&format!("set {KEY} two"));
    etcd.kill();
    let mut followed = Followed::start(auto(&etcd));
    followed.until_condition("an error", |now| matches!(now, Condition::Connecting { error: Some(_) })).await;
    etcd.run();
    followed.until("services/a/domain=two").await;
}

#[tokio::test]
async fn edits_go_where_the_prefix_is() {
    let etcd = Etcd::v2();
    let store = Store::open(&auto(&etcd)).unwrap();
    assert_eq!(store.mkdir(PREFIX).await, Ok(Made::Nothing));
    store.put(KEY, b"x").await.unwrap();
    assert_eq!(etcd.ctl3(&format!("get --print-value-only {KEY}")), "x\n");
    assert_eq!(store.get(KEY).await, Ok(Some(b"x".to_vec())));
    assert!(matches!(store.delete(PREFIX, false).await, Err(StoreError::BadKey { .. })));
    store.delete(PREFIX, true).await.unwrap();
    assert!(matches!(store.delete(PREFIX, true).await, Err(StoreError::NoSuchKey { .. })));
    etcd.ctl(&format!("mkdir {PREFIX}"));
    store.put(KEY, b"y").await.unwrap();
    assert_eq!(etcd.ctl(&format!("get {KEY}")), "y\n");
    assert_eq!(store.list(PREFIX).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_folder_needs_no_api() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(Location::Directory(folder.path().to_owned()), Api::V3, PREFIX)).unwrap();
    store.put(KEY, b"x").await.unwrap();
    assert_eq!(store.get(KEY).await, Ok(Some(b"x".to_vec())));
}
