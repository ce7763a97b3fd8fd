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
