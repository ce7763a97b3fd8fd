//! Which etcd API is chosen, against servers that have one or both.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod support;

use std::time::{Duration, Instant};

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

/// The API that the store remembers, as soon as it does.
async fn until_remembered(etcd: &Etcd, api: &str) {
    let start = Instant::now();
    let key = "/_pointsman/haproxy-haproxy-1/etcd-api";
    let open = |api| Store::open(&StoreSettings { api, ..auto(etcd) }).unwrap();
    let stores = (open(Api::V2), open(Api::V3));
    let expected = |of: &str| Ok((of == api).then(|| api.as_bytes().to_vec()));
    loop {
        let (v2, v3) = (stores.0.get(key).await, stores.1.get(key).await);
        if (v2.clone(), v3.clone()) == (expected("v2"), expected("v3")) {
            return;
        }
        assert!(start.elapsed() < support::SOON, "{api} is not remembered: {v2:?} {v3:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_held_decides_and_stays() {
    let etcd = Etcd::v2();
    etcd.ctl3(&format!("put {KEY} three"));
    followed(&etcd, "services/a/domain=three", "v3").await;
    etcd.ctl(&format!("set {KEY} two"));
    // Remembered by the store: v3 holds nothing now, and is followed all the same.
    let mut v3 = followed(&etcd, "services/a/domain=three", "v3").await;
    until_remembered(&etcd, "v3").await;
    etcd.ctl3(&format!("del {KEY}"));
    v3.until("").await;
    v3.drain(Duration::from_millis(2500)).await;
    assert!(v3.keys.is_empty(), "forgotten keys come to life: {:?}", v3.keys);
    let mut again = followed(&etcd, "", "v3").await;
    etcd.ctl3(&format!("put {KEY} back"));
    again.until("services/a/domain=back").await;
    // Edits go there too, whatever v2 holds.
    etcd.ctl3(&format!("del {KEY}"));
    Store::open(&auto(&etcd)).unwrap().put(KEY, b"x").await.unwrap();
    again.until("services/a/domain=x").await;
}

#[tokio::test]
async fn one_key_in_v3_does_not_end_what_v2_serves() {
    let etcd = Etcd::v2();
    etcd.ctl(&format!("set {KEY} two"));
    let first = followed(&etcd, "services/a/domain=two", "v2").await;
    until_remembered(&etcd, "v2").await;
    etcd.ctl3(&format!("put {KEY} three"));
    drop(first);
    followed(&etcd, "services/a/domain=two", "v2").await;
    let store = Store::open(&auto(&etcd)).unwrap();
    assert_eq!(store.get(KEY).await, Ok(Some(b"two".to_vec())));
    assert_eq!(store.ignored_now().await, Ok(Some(Api::V3)));
    // Told by the process itself, where the store remembers nothing.
    etcd.ctl("rm --recursive /_pointsman/haproxy-haproxy-1");
    assert_eq!(store.get(KEY).await, Ok(Some(b"three".to_vec())));
    let told = Store::open(&auto(&etcd)).unwrap().remembering(Some(Api::V2));
    assert_eq!(told.get(KEY).await, Ok(Some(b"two".to_vec())));
    // By an operator.
    for (api, expected) in [(Api::V3, "v3"), (Api::V2, "v2")] {
        Store::remember(&StoreSettings { api, ..auto(&etcd) }).await.unwrap();
        until_remembered(&etcd, expected).await;
    }
}

/// The figure is printed; the deadline is generous.
#[tokio::test]
async fn the_first_write_decides_at_once() {
    for api in ["v2", "v3"] {
        let etcd = Etcd::v2();
        let mut followed = followed(&etcd, "", "v3").await;
        let settled = StoreSettings { api: if api == "v2" { Api::V2 } else { Api::V3 }, ..auto(&etcd) };
        let writer = Store::open(&settled).unwrap();
        writer.list(PREFIX).await.unwrap();
        let start = Instant::now();
        writer.put(KEY, b"x").await.unwrap();
        followed.until("services/a/domain=x").await;
        let took = start.elapsed();
        println!("the first write, in {api}: followed after {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        until_via(&mut followed, api).await;
        // From then on it is one follower like any other.
        writer.put(KEY, b"y").await.unwrap();
        followed.until("services/a/domain=y").await;
        writer.delete(KEY, false).await.unwrap();
        followed.until("").await;
    }
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
    followed.drain(Duration::from_millis(2500)).await;
    assert_eq!(followed.keys["services/a/domain"], "two");
    // Nor is one that held some.
    etcd.ctl("rm --recursive /haproxy-haproxy-1");
    followed.until("").await;
    followed.drain(Duration::from_millis(2500)).await;
    assert!(followed.keys.is_empty());
    etcd.ctl(&format!("set {KEY} again"));
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
