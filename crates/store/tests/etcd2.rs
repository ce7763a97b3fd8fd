//! etcd v2 against a real etcd and the real `etcdctl`.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman_store::lease::{Claim, Edit, LeaseOutcome, Owner};
use pointsman_store::{Api, Condition, Location, Made, Store, StoreError, StoreSettings};
use support::{Etcd, Followed, free_port, run, settings, sh};

const PREFIX: &str = "/haproxy-haproxy-1";

fn v2(etcd: &Etcd) -> StoreSettings {
    settings(Location::Etcd(vec![etcd.url()]), Api::V2, PREFIX)
}

#[tokio::test]
async fn follows_each_command_of_etcdctl() {
    let etcd = Etcd::v2();
    let mut followed = Followed::start(v2(&etcd));
    followed.until("").await;
    for (command, keys) in [
        ("mkdir /haproxy-haproxy-1/services", ""),
        ("set /haproxy-haproxy-1/services/a/domain example.org", "services/a/domain=example.org"),
        ("set /elsewhere/x 1", "services/a/domain=example.org"),
        ("set /haproxy-haproxy-11/services/x/domain 1", "services/a/domain=example.org"),
        ("set /haproxy-haproxy-1/services/a/1 10.0.0.1:80", "services/a/1=10.0.0.1:80 services/a/domain=example.org"),
        ("update /haproxy-haproxy-1/services/a/1 :81", "services/a/1=:81 services/a/domain=example.org"),
        ("mk /haproxy-haproxy-1/services/b/1 :82", "services/a/1=:81 services/a/domain=example.org services/b/1=:82"),
        ("rm /haproxy-haproxy-1/services/a/1", "services/a/domain=example.org services/b/1=:82"),
        ("rm --recursive /haproxy-haproxy-1/services/a", "services/b/1=:82"),
        ("rm /haproxy-haproxy-1/services/b/1", ""),
        ("rmdir /haproxy-haproxy-1/services/b", ""),
        ("setdir /haproxy-haproxy-1/services/c", ""),
        ("set /haproxy-haproxy-1/services/c/1 :83 --swap-with-value :0", "!"),
        ("set /haproxy-haproxy-1/services/c/1 :83", "services/c/1=:83"),
        ("set /haproxy-haproxy-1/services/c/1 :84 --swap-with-value :83", "services/c/1=:84"),
        ("setdir /haproxy-haproxy-1/services/c/1", ""),
        ("set /haproxy-haproxy-1/services/c/1/x 1", "services/c/1/x=1"),
        ("set /haproxy-haproxy-1/services/c/y 2 --ttl 1", "services/c/1/x=1 services/c/y=2"),
        ("set /elsewhere/x 2", "services/c/1/x=1"),
        ("rm --recursive /haproxy-haproxy-1", ""),
        ("set /haproxy-haproxy-1/services/d/1 :85", "services/d/1=:85"),
    ] {
        if keys != "!" {
            etcd.ctl(command);
            followed.until(keys).await;
        }
    }
    assert_eq!(followed.resets, 1);
}

/// An audit ends the wait for room in the channel, here for 16; what waited is told all the same.
#[tokio::test]
async fn nothing_is_lost_while_nobody_takes_updates() {
    let etcd = Etcd::v2();
    let mut followed = Followed::start(StoreSettings { audit: Duration::from_millis(100), ..v2(&etcd) });
    followed.until("").await;
    for number in 0..17 {
        etcd.ctl(&format!("set {PREFIX}/services/a/{number} :80"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    followed.until_keys("17 keys", |keys| keys.len() == 17).await;
}

#[tokio::test]
async fn a_removed_parent_empties_the_prefix() {
    let etcd = Etcd::v2();
    etcd.ctl("set /kontena/haproxy/lb/services/a/domain x");
    let mut settings = v2(&etcd);
    settings.prefix = "/kontena/haproxy/lb".to_owned();
    let mut followed = Followed::start(settings);
    followed.until("services/a/domain=x").await;
    etcd.ctl("rm --recursive /kontena");
    followed.until("").await;
    etcd.ctl("set /kontena/haproxy/lb/services/b/domain y");
    followed.until("services/b/domain=y").await;
}

#[tokio::test]
async fn the_root_is_a_prefix_too() {
    let etcd = Etcd::v2();
    etcd.ctl("set /services/a/domain x");
    let mut settings = v2(&etcd);
    settings.prefix = String::new();
    let mut followed = Followed::start(settings);
    followed.until("services/a/domain=x").await;
    etcd.ctl("set /services/b/domain y");
    followed.until("services/a/domain=x services/b/domain=y").await;
    etcd.ctl("rm --recursive /services");
    followed.until("").await;
}

/// 200 services of three keys each, written back to back: all are told; what was told by itself, and
/// not by a list because it was far behind, in order.
#[tokio::test]
async fn keeps_up_with_a_burst() {
    let etcd = Etcd::v2();
    let mut followed = Followed::start(v2(&etcd));
    followed.until("").await;
    let keys: Vec<(String, String)> = (0..200)
        .flat_map(|n| ["domain", "port", "one"].map(|key| (format!("{PREFIX}/services/s{n}/{key}"), format!("v{n}"))))
        .collect();
    let want: Vec<String> = keys.iter().map(|(key, value)| format!("{}={value}", &key[PREFIX.len() + 1..])).collect();
    let script = tokio::task::spawn_blocking(move || {
        etcd.script(&keys);
        etcd
    });
    followed.until_keys("600 keys", |keys| keys.len() == 600).await;
    let _etcd = script.await.unwrap();
    let mut rest = want.iter();
    for told in &followed.log {
        assert!(rest.any(|next| next == told), "{told} out of order");
    }
    assert!(want.iter().map(|pair| pair.split_once('=').unwrap()).all(|(key, value)| followed.keys[key] == value));
}

#[tokio::test]
async fn a_cleared_history_is_listed_again() {
    let etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    let mut followed = Followed::start(v2(&etcd));
    followed.until("services/a/domain=x").await;
    let elsewhere: Vec<_> = (0..1100).map(|n| (format!("/elsewhere/k{}", n % 7), n.to_string())).collect();
    // A poll that is pending does not need the history.
    followed.drain(Duration::from_millis(300)).await;
    etcd.script(&elsewhere);
    etcd.ctl("set /haproxy-haproxy-1/services/b/domain y");
    followed.until("services/a/domain=x services/b/domain=y").await;
    assert_eq!(followed.resets, 1);
    // The follower shares this thread: the pending poll gets the first change, the next one asks for what is gone.
    etcd.ctl("set /haproxy-haproxy-1/services/c/domain z");
    etcd.ctl("rm --recursive /haproxy-haproxy-1/services/a");
    etcd.script(&elsewhere);
    followed.until("services/b/domain=y services/c/domain=z").await;
    assert_eq!(followed.resets, 2);
}

#[tokio::test]
async fn outlives_etcd() {
    let mut etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    let mut followed = Followed::start(v2(&etcd));
    followed.until("services/a/domain=x").await;
    for n in 0..2 {
        etcd.kill();
        followed.until_lost().await;
        etcd.run();
        etcd.ctl(&format!("set /haproxy-haproxy-1/services/a/domain x{n}"));
        followed.until(&format!("services/a/domain=x{n}")).await;
        followed.until_watching().await;
    }
}

#[tokio::test]
async fn waits_for_an_etcd_that_is_down() {
    let mut etcd = Etcd::v2();
    etcd.kill();
    let mut followed = Followed::start(v2(&etcd));
    followed.until_condition("an error", |now| matches!(now, Condition::Connecting { error: Some(_) })).await;
    etcd.run();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    followed.until("services/a/domain=x").await;
}

#[tokio::test]
async fn notices_silence() {
    let etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    let mut followed = Followed::start(v2(&etcd));
    followed.until("services/a/domain=x").await;
    etcd.signal("-STOP");
    followed.until_lost().await;
    etcd.signal("-CONT");
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain y");
    followed.until("services/a/domain=y").await;
}

#[tokio::test]
async fn takes_a_restored_backup_whole() {
    let mut etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/old/domain x");
    let mut followed = Followed::start(v2(&etcd));
    followed.until("services/old/domain=x").await;
    etcd.kill();
    sh(etcd.data.path(), "cp -a etcd backup");
    etcd.run();
    for n in 0..10 {
        etcd.ctl(&format!("set /haproxy-haproxy-1/services/new/domain y{n}"));
    }
    etcd.ctl("rm --recursive /haproxy-haproxy-1/services/old");
    followed.until("services/new/domain=y9").await;
    etcd.kill();
    sh(etcd.data.path(), "rm -rf etcd; mv backup etcd");
    etcd.run();
    followed.until("services/old/domain=x").await;
    etcd.ctl("set /haproxy-haproxy-1/services/next/domain z");
    followed.until("services/next/domain=z services/old/domain=x").await;
}

#[tokio::test]
async fn any_endpoint_may_be_dead() {
    let etcd = Etcd::v2();
    let mut settings = v2(&etcd);
    let dead = format!("http://127.0.0.1:{}", free_port());
    settings.location = Location::Etcd(vec![dead, etcd.url()]);
    let store = Store::open(&settings).unwrap();
    store.put("/haproxy-haproxy-1/services/a/domain", b"x").await.unwrap();
    let mut followed = Followed::start(settings);
    followed.until("services/a/domain=x").await;
    assert_eq!(followed.state(), Condition::Watching { via: format!("etcd v2 at {}", etcd.url()) });
}

#[tokio::test]
async fn a_quiet_audit_tells_nothing() {
    let etcd = Etcd::v2();
    let mut settings = v2(&etcd);
    settings.audit = Duration::from_millis(30);
    let mut followed = Followed::start(settings);
    followed.until("").await;
    for n in 0..30 {
        etcd.ctl(&format!("set /haproxy-haproxy-1/services/a/domain x{n}"));
        etcd.ctl(&format!("set /elsewhere/k {n}"));
        // One that is far behind lists, and rightly tells it.
        followed.until(&format!("services/a/domain=x{n}")).await;
    }
    assert_eq!((followed.resets, followed.log.len()), (1, 30));
}

#[tokio::test]
async fn authenticates() {
    let etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    let url = etcd.url();
    for (path, body) in [
        ("users/root", r#"{"user":"root","password":"secret"}"#),
        ("users/lb", r#"{"user":"lb","password":"p:w"}"#),
        ("roles/reader", r#"{"role":"reader","permissions":{"kv":{"read":["/haproxy-haproxy-1*"],"write":[]}}}"#),
        ("users/lb", r#"{"user":"lb","grant":["reader"]}"#),
        ("enable", ""),
    ] {
        run("curl", &["-sf", "-o", "/dev/null", "-XPUT", &format!("{url}/v2/auth/{path}"), "-d", body]);
    }
    let guest = r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    let roles = format!("{url}/v2/auth/roles/guest");
    run("curl", &["-sf", "-u", "root:secret", "-o", "/dev/null", "-XPUT", &roles, "-d", guest]);

    let with = |user: Option<(&str, &str)>| {
        let mut settings = v2(&etcd);
        settings.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        settings
    };
    for user in [None, Some(("lb", "wrong"))] {
        let error = Store::open(&with(user)).unwrap().list(PREFIX).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    }
    let good = with(Some(("lb", "p:w")));
    let store = Store::open(&good).unwrap();
    assert!(matches!(store.put("/haproxy-haproxy-1/x", b"1").await, Err(StoreError::Refused { .. })));
    let mut followed = Followed::start(good);
    followed.until("services/a/domain=x").await;
    let root = Store::open(&with(Some(("root", "secret")))).unwrap();
    root.put("/haproxy-haproxy-1/services/a/domain", b"y").await.unwrap();
    followed.until("services/a/domain=y").await;
}

#[tokio::test]
async fn edits() {
    let etcd = Etcd::v2();
    let store = Store::open(&v2(&etcd)).unwrap();
    let key = "/haproxy-haproxy-1/services/a b/x%y&z=é";
    let value = "a=b&c d+é\n%41".as_bytes();
    assert_eq!(store.get(key).await, Ok(None));
    let first = store.put(key, value).await.unwrap();
    assert_eq!(store.get(key).await, Ok(Some(value.to_vec())));
    assert!(store.put(key, b"").await.unwrap() > first);
    assert_eq!(store.get(key).await, Ok(Some(Vec::new())));
    assert!(matches!(store.delete("/haproxy-haproxy-1/services", false).await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.get("/haproxy-haproxy-1/services").await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.put("/haproxy-haproxy-1/services", b"x").await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.put("/haproxy-haproxy-1/../x", b"x").await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.delete("/nowhere", true).await, Err(StoreError::NoSuchKey { .. })));
    assert_eq!(store.mkdir("/haproxy-haproxy-1/tcp-services").await, Ok(Made::Directory));
    assert_eq!(store.mkdir("/haproxy-haproxy-1/tcp-services").await, Ok(Made::Directory));
    let listing = store.list(PREFIX).await.unwrap();
    assert_eq!(listing.directories, ["services", "services/a b", "tcp-services"].map(Box::from));
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(&*listing.entries[0].0, "services/a b/x%y&z=é");
    store.delete("/haproxy-haproxy-1/services", true).await.unwrap();
    store.delete("/haproxy-haproxy-1", true).await.unwrap();
    assert!(store.list(PREFIX).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn an_etcd_without_v2_is_named() {
    let etcd = Etcd::start(&[]);
    let error = Store::open(&v2(&etcd)).unwrap().list(PREFIX).await.unwrap_err();
    assert!(matches!(error, StoreError::NotSupported { .. }), "{error:?}");
}

/// Nobody's deep tree makes the listing fail.
#[tokio::test]
async fn a_deep_tree_is_survived() {
    let etcd = Etcd::v2();
    etcd.ctl("set /haproxy-haproxy-1/services/a/domain x");
    etcd.ctl(&format!("set /haproxy-haproxy-1/deep{} y", "/d".repeat(150)));
    let mut followed = Followed::start(v2(&etcd));
    followed.until("services/a/domain=x").await;
}

/// An etcd v2 that takes everything, until it refuses the lease's record. Lists what it was asked.
fn failing_on_records(fails: Arc<AtomicBool>, asked: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let lines: Vec<_> = lines.map(|line| line.to_ascii_lowercase()).collect();
            let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            let Some(request) = lines.first() else { continue };
            let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap();
            let key = path.trim_start_matches("/v2/keys");
            let (status, answer) = if request.starts_with("get") {
                ("404 Not Found", format!(r#"{{"errorCode":100,"message":"Key not found","cause":"{key}","index":1}}"#))
            } else if fails.load(Ordering::SeqCst) && !key.contains("services") {
                ("500 Internal", r#"{"errorCode":300,"message":"Raft Internal Error","cause":"","index":1}"#.to_owned())
            } else {
                let node = format!(r#"{{"key":"{key}","value":"x","modifiedIndex":7,"createdIndex":1,"ttl":5}}"#);
                ("200 OK", format!(r#"{{"action":"update","node":{node}}}"#))
            };
            asked.lock().unwrap().push(format!("{request} {}", String::from_utf8_lossy(&body)));
            let length = answer.len();
            let head = format!("HTTP/1.1 {status}\r\nX-Etcd-Index: 7\r\nConnection: close\r\nContent-Length: {length}");
            let _ = write!(stream, "{head}\r\n\r\n{answer}");
        }
    });
    url
}

#[tokio::test]
async fn keys_are_refreshed_though_the_record_is_not() {
    let (fails, asked) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
    let url = failing_on_records(fails.clone(), asked.clone());
    let store = Store::open(&settings(Location::Etcd(vec![url]), Api::V2, PREFIX)).unwrap();
    let lease = store.lease(&Owner::new("agent", "one"), Duration::from_secs(5), Claim::First).await.unwrap().unwrap();
    let put = Edit::Put { key: format!("{PREFIX}/services/a/one"), value: b"x".to_vec() };
    let put = lease.apply(&[put]).await;
    assert!(matches!(put[..], [Ok(LeaseOutcome::Done(_))]), "{put:?}");
    fails.store(true, Ordering::SeqCst);
    assert!(matches!(lease.renew().await, Err(StoreError::Failed { .. })));
    let asked = asked.lock().unwrap();
    let is_refresh = |asked: &&String| asked.contains("/services/a/one") && asked.contains("refresh=true");
    assert_eq!(asked.iter().filter(is_refresh).count(), 1, "{asked:?}");
}
