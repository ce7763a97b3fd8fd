//! The directory store with real files, shells and editors' ways of saving.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_store::lease::Edit;
use pointsman_store::{Api, Condition, Location, Made, Store, StoreError, StoreSettings};
use support::{Followed, settings, sh};
use tempfile::TempDir;

const PREFIX: &str = "/haproxy-haproxy-1";

fn at(root: &Path) -> StoreSettings {
    settings(Location::Directory(root.to_owned()), Api::Auto, PREFIX)
}

/// A store with the prefix's folder in it.
fn store() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("haproxy-haproxy-1");
    fs::create_dir(&folder).unwrap();
    (root, folder)
}

#[tokio::test]
async fn follows_each_command_of_a_shell() {
    let (root, folder) = store();
    let mut followed = Followed::start(at(root.path()));
    followed.until("").await;
    for (command, keys) in [
        ("mkdir -p services/a && echo example.org > services/a/domain", "services/a/domain=example.org"),
        ("printf x.org > services/a/domain", "services/a/domain=x.org"),
        ("echo y >> services/a/domain", "services/a/domain=x.orgy"),
        ("echo z > .new && mv .new services/a/domain", "services/a/domain=z"),
        (
            "echo z > services/a/domain~; echo z > services/a/.domain.swp; echo w > services/a/domain",
            "services/a/domain=w",
        ),
        ("mv services/a services/b", "services/b/domain=w"),
        ("echo v > services/b/domain", "services/b/domain=v"),
        ("mkdir services/a && mv services/b/domain services/a/domain", "services/a/domain=v"),
        ("ln services/a/domain services/a/1", "services/a/1=v services/a/domain=v"),
        ("ln -s domain services/a/2", "services/a/1=v services/a/2=v services/a/domain=v"),
        ("rm services/a/1", "services/a/2=v services/a/domain=v"),
        ("rm -rf services/a", ""),
        (
            "mkdir -p x/services/c/upstreams; echo 1 > x/services/c/upstreams/1; mv x/services/c services/",
            "services/c/upstreams/1=1",
        ),
        ("rm -r services; echo file > services", "services=file"),
        ("rm services; mkdir services; echo 1 > services/1", "services/1=1"),
        (": > services/1", "services/1="),
        ("sed -i s/^$/2/ services/1; echo 3 > services/1", "services/1=3"),
        ("chmod 600 services/1; touch services/1; echo 4 > services/1", "services/1=4"),
        ("rm -r ../haproxy-haproxy-1", ""),
        ("mkdir -p ../haproxy-haproxy-1/services; echo 5 > ../haproxy-haproxy-1/services/1", "services/1=5"),
    ] {
        let within = if folder.exists() { folder.as_path() } else { root.path() };
        sh(within, &command.replace("../haproxy-haproxy-1", folder.to_str().unwrap()));
        followed.until(keys).await;
    }
    assert_eq!(followed.resets, 1);
}

/// A value that is written in place is never seen empty or in part, whichever way it is saved.
#[tokio::test]
async fn saving_never_flickers() {
    let (root, folder) = store();
    sh(&folder, "mkdir a; echo v0 > a/domain");
    let mut followed = Followed::start(at(root.path()));
    followed.until("a/domain=v0").await;
    let vim = "mv a/domain a/domain~; (sleep 0.1; echo VALUE; sleep 0.1) > a/domain; rm a/domain~";
    let ways = [
        "echo VALUE > a/domain",
        "(sleep 0.1; printf VALUE; sleep 0.1) > a/domain",
        "ln -f a/domain a/.old; echo VALUE > .new; mv .new a/domain",
        "sed -i s/.*/VALUE/ a/domain",
        "cp a/domain a/domain.tmp; echo VALUE > a/domain.tmp; mv a/domain.tmp a/domain",
        "python3 -c 'open(\"a/domain\", \"w\").write(\"VALUE\")'",
        vim,
    ];
    for (n, way) in ways.iter().enumerate() {
        let value = format!("v{}", n + 1);
        let line = way.replace("VALUE", &value);
        let folder = folder.clone();
        let saved = tokio::task::spawn_blocking(move || sh(&folder, &line));
        followed.until(&format!("a/domain={value}")).await;
        saved.await.unwrap();
    }
    let want: Vec<String> = (1..=ways.len()).map(|n| format!("a/domain=v{n}")).collect();
    assert_eq!(followed.log, want);
}

#[tokio::test]
async fn keeps_up_with_a_burst() {
    let (root, folder) = store();
    let mut followed = Followed::start(at(root.path()));
    followed.until("").await;
    let writer = tokio::task::spawn_blocking(move || {
        for n in 0..1000 {
            let service = folder.join(format!("services/s{}", n / 3));
            fs::create_dir_all(&service).unwrap();
            fs::write(service.join(format!("k{n}")), format!("{n}\n")).unwrap();
        }
    });
    followed.until_keys("1000 keys", |keys| keys.len() == 1000).await;
    writer.await.unwrap();
    assert!(followed.keys.iter().all(|(key, value)| key.ends_with(&format!("/k{value}"))));
}

/// Folders that are made and filled faster than they can be watched.
#[tokio::test]
async fn new_folders_are_not_missed() {
    let (root, folder) = store();
    let mut followed = Followed::start(at(root.path()));
    followed.until("").await;
    let writer = tokio::task::spawn_blocking(move || {
        sh(&folder, "for n in $(seq 100); do mkdir -p a$n/b/c/d; echo $n > a$n/b/c/d/e; echo $n > a$n/f; done");
        sh(&folder, "for n in $(seq 50); do mv a$n b$n; rm -r a$((n + 50)); done");
    });
    followed
        .until_keys("50 moved pairs", |keys| {
            keys.len() == 100
                && (1..=50).all(|n| ["b/c/d/e", "f"].iter().all(|key| keys.contains_key(&format!("b{n}/{key}"))))
        })
        .await;
    writer.await.unwrap();
}

/// More events than the kernel's queue takes, while nobody looks.
#[tokio::test]
async fn an_overflow_loses_nothing() {
    let (root, folder) = store();
    sh(&folder, "mkdir a b; echo 0 > a/k; echo 0 > b/k");
    let mut followed = Followed::start(at(root.path()));
    followed.until("a/k=0 b/k=0").await;
    followed.drain(Duration::from_millis(100)).await;
    // The follower shares this thread. Each write is at least three events; the queue takes 16,384 by default.
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    for n in 0..limit / 2 {
        fs::write(folder.join(if n % 2 == 0 { "a/x" } else { "a/k" }), n.to_string()).unwrap();
    }
    sh(&folder, "rm -r b; echo 1 > b; mkdir -p c/d; echo 1 > c/d/k; echo 1 > a/k; echo 1 > a/x");
    followed.until("a/k=1 a/x=1 b=1 c/d/k=1").await;
    sh(&folder, "echo 2 > c/d/k");
    followed.until("a/k=1 a/x=1 b=1 c/d/k=2").await;
}

#[tokio::test]
async fn a_missing_store_is_made_when_asked_and_a_missing_prefix_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("not/yet");
    let mut followed = Followed::start(at(&root));
    followed.until_condition("an error", |now| matches!(now, Condition::Connecting { error: Some(_) })).await;
    assert!(!root.exists(), "who follows a folder does not make it: it may not be mounted");
    Store::open(&at(&root)).and_then(|store| store.make_place()).unwrap();
    followed.until("").await;
    sh(&root, "mkdir -p haproxy-haproxy-1/services; echo 1 > haproxy-haproxy-1/services/1");
    followed.until("services/1=1").await;
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let root = home.path().join("file/store");
    let mut followed = Followed::start(at(&root));
    followed.until_condition("an error", |now| matches!(now, Condition::Connecting { error: Some(_) })).await;
    sh(home.path(), "rm file; mkdir -p file/store/haproxy-haproxy-1; echo 1 > file/store/haproxy-haproxy-1/1");
    followed.until("1=1").await;
}

#[tokio::test]
async fn a_store_that_vanishes_is_served_on() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    sh(home.path(), "mkdir -p store/haproxy-haproxy-1/a; echo 1 > store/haproxy-haproxy-1/a/k");
    let mut followed = Followed::start(at(&root));
    followed.until("a/k=1").await;
    sh(home.path(), "mv store away");
    followed.until_lost().await;
    followed.drain(Duration::from_millis(200)).await;
    assert!(followed.log.is_empty(), "{:?}", followed.log);
    sh(home.path(), "echo 2 > away/haproxy-haproxy-1/a/k; mv away store");
    followed.until("a/k=2").await;
    followed.until_watching().await;
    sh(
        home.path(),
        "mkdir -p other/haproxy-haproxy-1; echo 3 > other/haproxy-haproxy-1/b; mv store old; mv other store",
    );
    followed.until("b=3").await;
    sh(home.path(), "echo 4 > store/haproxy-haproxy-1/b");
    followed.until("b=4").await;
}

/// As a ConfigMap is mounted: keys are links through a link that is swapped.
#[tokio::test]
async fn follows_a_swapped_link() {
    let (root, folder) = store();
    sh(&folder, "mkdir -p s/.v1; echo 1 > s/.v1/domain; ln -s .v1 s/..data; ln -s ..data/domain s/domain");
    let mut followed = Followed::start(at(root.path()));
    followed.until("s/domain=1").await;
    sh(&folder, "mkdir s/.v2; echo 2 > s/.v2/domain; ln -s .v2 s/..tmp; mv -T s/..tmp s/..data; rm -r s/.v1");
    followed.until("s/domain=2").await;
}

#[tokio::test]
async fn what_cannot_be_read_keeps_its_last_value() {
    let (root, folder) = store();
    sh(&folder, "mkdir s; echo 1 > s/a; echo 1 > s/b; mkfifo s/pipe; ln -s . s/loop");
    let mut followed = Followed::start(at(root.path()));
    followed.until("s/a=1 s/b=1").await;
    sh(&folder, "head -c 2000000 /dev/zero > s/a; echo 2 > s/b");
    followed.until("s/a=1 s/b=2").await;
    sh(&folder, "echo 3 > s/a");
    followed.until("s/a=3 s/b=2").await;
}

/// What inotify cannot see, such as a folder renamed above the end of a link, is found by the audit.
#[tokio::test]
async fn the_audit_finds_what_was_not_seen() {
    let (root, folder) = store();
    let away = tempfile::tempdir().unwrap();
    sh(away.path(), "mkdir -p now/a next/a; echo 1 > now/a/target; echo 2 > next/a/target");
    sh(&folder, &format!("ln -s {}/now/a/target k", away.path().display()));
    let mut settings = at(root.path());
    settings.audit = Duration::from_millis(500);
    let mut followed = Followed::start(settings);
    followed.until("k=1").await;
    sh(away.path(), "mv now before; mv next now");
    followed.until("k=2").await;
}

/// However the end of a link, or a link on the way to it, is changed; the audit comes in minutes.
#[tokio::test]
async fn follows_what_links_lead_to() {
    let (root, folder) = store();
    let away = tempfile::tempdir().unwrap();
    sh(
        away.path(),
        "mkdir v1 v2 shared; echo 1 > v1/k; echo 2 > v2/k; ln -s v1 now; echo 1 > target; echo 1 > shared/x",
    );
    let to = |name: &str| format!("{}/{name}", away.path().display());
    sh(&folder, &format!("ln -s {} k; mkdir s; ln -s {} s/far; ln -s ../k s/twice", to("target"), to("now/k")));
    sh(&folder, &format!("mkdir a b; ln -s {} a/shared; ln -s {} b/shared", to("shared"), to("shared")));
    let mut followed = Followed::start(at(root.path()));
    let keys = |target: &str, far: &str, shared: &str| {
        format!("a/shared/x={shared} b/shared/x={shared} k={target} s/far={far} s/twice={target}")
    };
    followed.until(&keys("1", "1", "1")).await;
    for (line, want) in [
        ("echo 2 > target", keys("2", "1", "1")),
        ("echo 3 > target.tmp; mv target.tmp target", keys("3", "1", "1")),
        ("(sleep 0.1; printf 4; sleep 0.1) > target", keys("4", "1", "1")),
        ("mv target target~; (sleep 0.1; echo 5) > target; rm target~", keys("5", "1", "1")),
        ("ln -s v2 next; mv -T next now", keys("5", "2", "1")),
        ("echo 3 > v2/k", keys("5", "3", "1")),
        ("echo 2 > shared/x", keys("5", "3", "2")),
        ("mv shared/x shared/x~; (sleep 0.1; echo 3) > shared/x; rm shared/x~", keys("5", "3", "3")),
        ("mv shared old; mkdir shared; echo 4 > shared/x", keys("5", "3", "4")),
        ("echo 5 > shared/x", keys("5", "3", "5")),
    ] {
        sh(away.path(), line);
        followed.until(&want).await;
    }
    let flickers: Vec<_> = followed.log.iter().filter(|told| told.starts_with("-k") || told.ends_with("k=")).collect();
    assert!(flickers.is_empty(), "{:?}", followed.log);
    sh(away.path(), "rm target; rm -r v2");
    followed.until("a/shared/x=5 b/shared/x=5").await;
    sh(away.path(), "mkdir v2; echo 4 > v2/k; echo 6 > target");
    followed.until(&keys("6", "4", "5")).await;
}

/// A link to a folder above makes no second path, however it comes, and takes no events from the first one.
#[tokio::test]
async fn a_folder_reached_by_two_paths_loses_no_edit() {
    let (root, folder) = store();
    sh(&folder, "mkdir -p s/a; echo 1 > s/a/k");
    let mut followed = Followed::start(at(root.path()));
    followed.until("s/a/k=1").await;
    for (line, want) in [
        ("ln -s .. s/a/loop; echo 2 > s/a/k", "s/a/k=2"),
        ("echo 3 > s/a/k", "s/a/k=3"),
        ("ln -s a s/b", "s/a/k=3 s/b/k=3"),
        ("echo 4 > s/a/k", "s/a/k=4 s/b/k=4"),
        ("echo 5 > s/b/k", "s/a/k=5 s/b/k=5"),
        ("mkdir s/a/d; echo 1 > s/a/d/x", "s/a/d/x=1 s/a/k=5 s/b/d/x=1 s/b/k=5"),
        ("rm s/b; echo 6 > s/a/k; echo 2 > s/a/d/x", "s/a/d/x=2 s/a/k=6"),
        ("ln -s a s/b; mv s/a s/c; ln -sfn c s/b", "s/b/d/x=2 s/b/k=6 s/c/d/x=2 s/c/k=6"),
        ("echo 7 > s/c/k", "s/b/d/x=2 s/b/k=7 s/c/d/x=2 s/c/k=7"),
    ] {
        sh(&folder, line);
        followed.until(want).await;
    }
    assert_eq!(followed.resets, 1);
}

/// Keys of certificates are in such files.
#[tokio::test]
async fn what_only_its_owner_may_read_stays_so() {
    let (root, _folder) = store();
    let made = Store::open(&at(root.path())).unwrap();
    let key = format!("{PREFIX}/certs/secret");
    let file = root.path().join(&key[1..]);
    let rights = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert!(made.create(&key, b"1").await.unwrap());
    assert_eq!(rights(), 0o600);
    made.amend(&key, |_| Some(b"2".to_vec())).await.unwrap();
    assert_eq!(rights(), 0o600);
    made.commit(&[Edit::Put { key: key.clone(), value: b"3".to_vec() }]).await.unwrap();
    assert_eq!((rights(), fs::read(&file).unwrap()), (0o600, b"3\n".to_vec()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    made.put(&key, b"4").await.unwrap();
    assert_eq!(rights(), 0o640);
}

#[tokio::test]
async fn edits() {
    let (root, folder) = store();
    let store = Store::open(&at(root.path())).unwrap();
    let mut followed = Followed::start(at(root.path()));
    followed.until("").await;
    let key = "/haproxy-haproxy-1/services/a/domain";
    assert_eq!(store.get(key).await, Ok(None));
    store.put(key, b"x").await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("services/a/domain")).unwrap(), "x\n");
    followed.until("services/a/domain=x").await;
    store.put(key, b"two\nlines\n").await.unwrap();
    assert_eq!(store.get(key).await, Ok(Some(b"two\nlines\n".to_vec())));
    store.put(key, b"").await.unwrap();
    assert_eq!(store.get(key).await, Ok(Some(Vec::new())));
    followed.until("services/a/domain=").await;
    for bad in ["/haproxy-haproxy-1/../x", "/a//b", "/a/./b", "a", "/", "/a/", "/a\0b", "/a/.b", "/a/b~", "/a/b.tmp"] {
        assert!(matches!(store.put(bad, b"x").await, Err(StoreError::BadKey { .. })), "{bad:?}");
    }
    let directory = "/haproxy-haproxy-1/services";
    assert!(matches!(store.put(directory, b"x").await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.get(directory).await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.delete(directory, false).await, Err(StoreError::BadKey { .. })));
    assert!(matches!(store.delete("/nowhere", true).await, Err(StoreError::NoSuchKey { .. })));
    assert_eq!(store.mkdir("/haproxy-haproxy-1/tcp-services").await, Ok(Made::Directory));
    let listing = store.list(PREFIX).await.unwrap();
    assert_eq!(listing.directories, ["services", "services/a", "tcp-services"].map(Box::from));
    assert_eq!(&*listing.entries[0].0, "services/a/domain");
    store.delete(directory, true).await.unwrap();
    followed.until("").await;
    assert!(store.list(PREFIX).await.unwrap().entries.is_empty());
    assert!(store.list("/nowhere").await.unwrap().entries.is_empty());
}
