//! Single calls: what the commands use.

use std::io::{Read, Write};
use std::net::TcpListener;

use pointsman_store::error::StoreError;
use pointsman_store::etcd3::Etcd3;

use crate::etcd::Etcd;
use crate::follower::settings;
use crate::ports::free_port;

#[tokio::test]
async fn gets_puts_lists_and_deletes() {
    let etcd = Etcd::start();
    let store = Etcd3::new(&settings(&[&etcd.url])).unwrap();
    let probe = store.probe().await.unwrap();
    assert!(probe.version.starts_with("3."), "{probe:?}");
    assert!(!probe.holds_prefix);
    assert_eq!(store.put("/x/services/shop/domain", b"shop.test").await.unwrap(), 2);
    store.put("/x/services/shop", b"itself").await.unwrap();
    store.put("/x/services/shop2/domain", b"other").await.unwrap();
    assert!(store.probe().await.unwrap().holds_prefix);
    assert_eq!(store.get("/x/services/shop/domain").await.unwrap().as_deref(), Some(&b"shop.test"[..]));
    assert_eq!(store.get("/x/services").await.unwrap(), None);
    let listing = store.list("/x/services").await.unwrap();
    let keys: Vec<_> = listing.entries.iter().map(|(key, _)| &**key).collect();
    assert_eq!((listing.revision, keys), (4, vec!["shop", "shop/domain", "shop2/domain"]));
    assert_eq!(store.delete("/x/services/shop", true).await.unwrap(), 6);
    assert_eq!(store.get("/x/services/shop/domain").await.unwrap(), None);
    assert_eq!(store.delete("/x/services", true).await.unwrap(), 7);
    assert!(!store.probe().await.unwrap().holds_prefix);
    let nothing = store.delete("/x/services", true).await.unwrap_err();
    assert_eq!(nothing, StoreError::NoSuchKey { key: "/x/services".to_owned() });
    for bad in ["x", "/", "/x//y", "/x/"] {
        assert!(matches!(store.put(bad, b"1").await, Err(StoreError::BadKey { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_dead_first_endpoint_is_passed_over() {
    let etcd = Etcd::start();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let store = Etcd3::new(&settings(&[&dead, &etcd.url])).unwrap();
    store.put("/x/a", b"1").await.unwrap();
    let alone = Etcd3::new(&settings(&[&dead])).unwrap();
    match alone.get("/x/a").await {
        Err(StoreError::Unreachable { endpoint, why }) => {
            assert_eq!(endpoint, dead);
            assert!(why.contains("refused"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_speaks_only_http_1_is_not_supported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 24];
            let _ = stream.read_exact(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            // Closing with bytes unread would reset the connection, and the answer with it.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let error = Etcd3::new(&settings(&[&url])).unwrap().probe().await.unwrap_err();
    assert!(matches!(error, StoreError::NotSupported { .. }), "{error:?}");
    assert!(error.to_string().contains("--etcd-api 2"), "{error}");
}

#[test]
fn bad_settings_are_named() {
    let check = |urls: &[&str], want: &str| {
        let error = Etcd3::new(&settings(urls)).map(drop).unwrap_err().to_string();
        assert!(error.contains(want), "{urls:?}: {error}");
    };
    check(&[], "--store");
    check(&["ftp://etcd:2379"], "ftp://etcd:2379");
    check(&["http://good:2379", "bad url"], "bad url");
}

/// A key, its value before and after, and its revision.
fn words(past: &pointsman_store::PastChanges) -> Vec<String> {
    let value = |value: &Option<Box<[u8]>>| {
        value.as_ref().map_or("-".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
    };
    let line = |change: &pointsman_store::PastChange| {
        format!("{} {} {} {}", change.revision, change.key, value(&change.before), value(&change.after))
    };
    past.changes.iter().map(line).collect()
}

#[tokio::test]
async fn the_past_is_told_whole_and_says_where_it_begins() {
    let etcd = Etcd::start();
    let store = Etcd3::new(&settings(&[&etcd.url])).unwrap();
    store.put("/x/a", b"1").await.unwrap();
    store.put("/x/b", b"1").await.unwrap();
    store.put("/y/a", b"1").await.unwrap();
    store.put("/x/a", b"2").await.unwrap();
    store.delete("/x/b", false).await.unwrap();
    store.put("/x/ghost", b"1").await.unwrap();
    let last = store.delete("/x/ghost", false).await.unwrap();
    let past = store.past("/x", 0, 100).await.unwrap();
    let all = ["2 a - 1", "3 b - 1", "5 a 1 2", "6 b 1 -", "7 ghost - 1", "8 ghost 1 -"];
    assert_eq!((words(&past), past.begin, past.revision), (all.map(str::to_owned).into(), 0, last));
    assert_eq!(words(&store.past("/x", 5, 100).await.unwrap()), all[3..]);
    let few = store.past("/x", 0, 2).await.unwrap();
    assert_eq!((words(&few), few.begin), (all[4..].iter().map(|line| (*line).to_owned()).collect(), 6));
    assert_eq!(store.past("/x", last, 100).await.unwrap().changes, []);
    let then = store.list_at("/x", 3).await.unwrap();
    let keys: Vec<_> =
        then.entries.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value))).collect();
    assert_eq!((keys, then.revision), (vec!["a=1".to_owned(), "b=1".to_owned()], 3));
    etcd.ctl(&["compaction", "5"]);
    assert!(matches!(store.list_at("/x", 3).await, Err(StoreError::Compacted { .. })));
    let past = store.past("/x", 0, 100).await.unwrap();
    assert_eq!((words(&past), past.begin), (all[3..].iter().map(|line| (*line).to_owned()).collect(), 5));
}

#[tokio::test]
async fn what_others_wrote_meanwhile_is_not_written_over() {
    use pointsman_store::lease::Edit;
    let etcd = Etcd::start();
    let store = Etcd3::new(&settings(&[&etcd.url])).unwrap();
    store.put("/x/a", b"1").await.unwrap();
    let seen = store.list("/x").await.unwrap().revision;
    let edits: Vec<_> =
        (0..200).map(|number| Edit::Put { key: format!("/x/k{number}"), value: b"1".to_vec() }).collect();
    store.put("/y/a", b"1").await.unwrap();
    assert!(store.commit_over(&edits, "/x", seen).await.unwrap().is_some(), "a key elsewhere is no matter");
    let edits = [Edit::Put { key: "/x/a".to_owned(), value: b"2".to_vec() }];
    assert_eq!(store.commit_over(&edits, "/x", seen).await.unwrap(), None);
    assert_eq!(store.get("/x/a").await.unwrap().as_deref(), Some(&b"1"[..]));
}
