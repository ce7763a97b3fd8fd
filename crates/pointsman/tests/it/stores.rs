//! What stores do to the program: endpoints that fall silent, answers about other keys, links and open files in
//! folders, names that nobody would see, places where no store can be.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Api, Backend, Cluster, Etcd, FakeEtcd, Launch, Pointsman, Process, Site, finish, free_address, get, program_folder,
    run, wait, wait_within,
};

const BOTH: [(Api, &str); 2] = [(Api::V2, "2"), (Api::V3, "3")];
/// Longer than a lease of [`TTL`] lives without a renewal.
const LONGER: Duration = Duration::from_secs(13);
const TTL: &str = "10s";
/// Longer than a leader that was stopped needs to learn that it is none, and to end what it holds to be overdue.
const SETTLED: Duration = Duration::from_secs(3);

/// Accepts, as the kernel does for it, and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

/// `pointsman register`, of an instance whose address is its name.
fn registered(urls: &str, api: &str, name: &str) -> Process {
    let mut command = Command::new(program_folder().join("pointsman"));
    command.args(["register", "shop", "--name", name, "--address", "10.0.0.1", "--port", "1", "--check", "none"]);
    command.args(["--ttl", TTL, "--store", urls, "--prefix", "/haproxy-s", "--etcd-api", api, "--", "sleep", "600"]);
    Process::start(&mut command)
}

/// The exit code of `get`: 0 it is there, 1 it is not, 2 the store did not tell.
fn looked_up(urls: &str, api: &str, name: &str) -> Option<i32> {
    let key = format!("services/shop/upstreams/{name}");
    run(&["get", &key, "--store", urls, "--prefix", "/haproxy-s", "--etcd-api", api]).code
}

/// For longer than a lease lives, no look finds the key missing.
#[track_caller]
fn stays(urls: &str, api: &str, name: &str) {
    let start = Instant::now();
    while start.elapsed() < LONGER {
        assert_ne!(looked_up(urls, api, name), Some(1), "API {api}: lost after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the key has been there for a while. A leader that was stopped still holds the times to live from before:
/// when it goes on, etcd 3.4 may end leases that were renewed with another leader meanwhile, and the owner writes its key
/// again.
fn settles(urls: &str, api: &str, name: &str) {
    let mut since = None;
    wait_within("a key that stays", LONGER, || {
        let is_there = looked_up(urls, api, name) == Some(0);
        since = since.filter(|_| is_there).or_else(|| is_there.then(Instant::now));
        since.filter(|start: &Instant| start.elapsed() > SETTLED)
    });
}

#[test]
fn a_silent_first_endpoint_holds_nothing_up() {
    let (etcd, one) = (Etcd::start(), Backend::naming("one"));
    for (_, api) in BOTH {
        let (_listener, silent) = silent();
        let urls = format!("{silent},{}", etcd.url());
        let place = ["--store", &urls, "--prefix", "/haproxy-s", "--etcd-api", api];
        let ok = |words: &[&str]| run(&[words, &place].concat()).ok();
        let running = Launch::new().args(&place).start();
        ok(&["set", "services/shop/domain", "shop.test"]);
        ok(&["set", "services/shop/one", &one.instance()]);
        running.wait_backend("shop.test", "/", "one");
        wait("its status", || run(&[&["status"][..], &place].concat()).code == Some(0));
        ok(&["set", "services/shop/path", "/", "--wait"]);
        let _registered = registered(&urls, api, "web");
        wait("the key", || looked_up(&urls, api, "web") == Some(0));
        stays(&etcd.url(), api, "web");
        ok(&["rm", "-r", "services/shop"]);
    }
}

/// Whichever of three members stops without a word, the one that is used among them.
#[test]
fn a_member_that_stops_takes_no_lease_with_it() {
    let cluster = Cluster::start();
    let _registered = BOTH.map(|(_, api)| registered(&cluster.urls(), api, "web"));
    for (_, api) in BOTH {
        wait("the key", || looked_up(&cluster.urls(), api, "web") == Some(0));
    }
    for stopped in 0..3 {
        cluster.members[stopped].signal("STOP");
        let others = (0..3).filter(|member| *member != stopped).map(|member| cluster.members[member].url());
        let others = others.collect::<Vec<_>>().join(",");
        std::thread::scope(|scope| {
            for (_, api) in BOTH {
                scope.spawn(|| stays(&others, api, "web"));
            }
        });
        cluster.members[stopped].signal("CONT");
        cluster.members[stopped].wait_up();
        for (_, api) in BOTH {
            settles(&cluster.urls(), api, "web");
        }
    }
}

fn listed(host: &str, one: &Backend) -> String {
    let node = |key: &str, value: &str| format!(r#"{{"key":"/haproxy-f/services/a/{key}","value":"{value}"}}"#);
    let nodes = [node("domain", host), node("one", &one.instance())].join(",");
    format!(r#"{{"action":"get","node":{{"key":"/haproxy-f","dir":true,"nodes":[{nodes}]}}}}"#)
}

fn following(fake: &FakeEtcd) -> Pointsman {
    Launch::new().args(&["--store", &fake.url(), "--etcd-api", "2", "--id", "f"]).start()
}

/// An older etcd answers the next poll on a new connection: nothing was lost that would show it, and such a poll waits
/// until the old history reaches our index.
#[test]
fn an_older_etcd_between_two_polls_is_noticed_by_its_index() {
    let (one, fake) = (Backend::naming("one"), FakeEtcd::start());
    fake.list(10, &listed("new.test", &one));
    let running = following(&fake);
    running.wait_backend("new.test", "/", "one");
    fake.list(5, &listed("old.test", &one));
    fake.answer_poll(200, r#"{"action":"set","node":{"key":"/haproxy-f/x","value":"1","modifiedIndex":11}}"#);
    running.wait_backend("old.test", "/", "one");
    running.wait_gone("new.test", "/");
}

#[test]
fn an_answer_about_another_key_empties_nothing() {
    let (one, fake) = (Backend::naming("one"), FakeEtcd::start());
    let good = listed("a.test", &one);
    fake.list(10, &good);
    let mut running = following(&fake);
    running.wait_backend("a.test", "/", "one");
    let list_again = r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","index":10}"#;
    let missing = r#"{"errorCode":100,"message":"Key not found","cause":"/elsewhere","index":11}"#;
    let other = r#"{"action":"get","node":{"key":"/elsewhere","dir":true}}"#;
    let inside = r#"{"action":"get","node":{"key":"/haproxy-f/services","dir":true}}"#;
    let foreign = r#"{"action":"get","node":{"key":"/haproxy-f","dir":true,"nodes":[{"key":"/x","value":"1"}]}}"#;
    for (status, body) in [(404, missing), (200, "{}"), (200, other), (200, inside), (200, foreign)] {
        fake.list_as(status, body);
        fake.answer_poll(400, list_again);
        wait("the answer to be refused", || running.metric("pointsman_store_up", &[]) == 0.0);
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200, "{body}");
        fake.list_as(200, &good);
        wait("the store to be watched", || running.metric("pointsman_store_up", &[]) == 1.0);
    }
    let events = [("/elsewhere", 12), ("/haproxy-f/services/a", 3)];
    for (key, index) in events {
        let event = format!(r#"{{"action":"delete","node":{{"key":"{key}","dir":true,"modifiedIndex":{index}}}}}"#);
        let lists = fake.lists();
        fake.answer_poll(200, &event);
        wait("all keys to be listed again", || fake.lists() > lists);
        assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200, "{event}");
    }
    assert!(running.process.is_running());
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let (one, fake) = (Backend::naming("one"), FakeEtcd::start());
    fake.list(10, &listed("a.test", &one));
    let mut running = following(&fake);
    running.wait_backend("a.test", "/", "one");
    fake.list_without_end();
    fake.answer_poll(400, r#"{"errorCode":401,"message":"cleared","index":10}"#);
    running.process.wait_log("the response is larger than 128 MiB");
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 200);
    fake.list(10, &listed("b.test", &one));
    running.wait_backend("b.test", "/", "one");
}

/// The audit comes in minutes: every edit is seen for itself.
#[test]
fn edits_behind_links_are_served_at_once() {
    let (one, two) = (Backend::naming("one"), Backend::naming("two"));
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/b/domain", "b.test")]);
    let away = site.home().join("away");
    std::fs::create_dir_all(away.join("pool")).expect("our own folder");
    let write = |file: &str, backend: &Backend| {
        std::fs::write(away.join(file), backend.instance() + "\n").expect("our own file");
    };
    write("target", &one);
    write("pool/x", &one);
    let link = |to: &str, at: &str| {
        let at = site.folder().join(at);
        std::os::unix::fs::symlink(to, &at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    };
    link("../../../away/target", "services/a/one");
    link("../../../away/pool", "services/b/upstreams");
    let running = Pointsman::serving(&site);
    let serves = |host: &str, name: &str| running.wait_backend(host, "/", name);
    for (backend, name) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        write("target", backend);
        write("pool/x", backend);
        serves("a.test", name);
        serves("b.test", name);
        // Now the same folder is reached by two paths, and a link leads to the folder above.
        if !site.folder().join("services/c").exists() {
            site.put("services/c/domain", "c.test");
            link("../../../away/pool", "services/c/upstreams");
            link("..", "services/c/loop");
        }
        serves("c.test", name);
    }
}

/// Whoever holds a key's file open and writes it again and again, its value is served in the end.
#[test]
fn a_key_file_that_is_never_closed_is_read() {
    let (one, site) = (Backend::naming("one"), Site::new());
    site.put("services/a/one", one.instance());
    let running = Pointsman::serving(&site);
    let mut file = File::create(site.folder().join("services/a/domain")).expect("our own file");
    wait_within("the value", Duration::from_secs(120), || {
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(b"a.test\n")).expect("our own file");
        std::thread::sleep(Duration::from_millis(100));
        get(running.http, "a.test", "/").is_ok_and(|got| got.header("x-backend") == Some("one")).then_some(())
    });
}

/// No file of ours appears meanwhile, which would make `rm` fail.
#[test]
fn a_store_is_removed_beside_a_running_balancer() {
    for round in 0..20 {
        let site = Site::new();
        for number in 0..100 {
            site.put(&format!("services/s{number}/domain"), format!("s{number}.test"));
        }
        let _running = Pointsman::serving(&site);
        let place = site.folder().join(".pointsman/balancers");
        wait("its status", || !finish(Command::new("find").arg(&place).args(["-type", "f"])).stdout.is_empty());
        let removed = finish(Command::new("rm").arg("-rf").arg(site.folder()));
        assert_eq!((removed.code, removed.stderr.as_str()), (Some(0), ""), "round {round}");
    }
}

#[test]
fn names_that_nobody_would_see_are_refused() {
    let (etcd, site) = (Etcd::start(), Site::new());
    let at = |api: &'static str| {
        ["--store".to_owned(), etcd.url(), "--id".into(), "s".into(), "--etcd-api".into(), api.into()]
    };
    let check = |place: &[String], words: &[&str], want: Result<(), &str>| {
        let place: Vec<_> = place.iter().map(String::as_str).collect();
        let ended = run(&[words, &place].concat());
        match want {
            Ok(()) => assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.stderr),
            Err(why) => {
                assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.stderr);
                assert!(ended.stderr.contains(why), "{words:?}: {}", ended.stderr);
            }
        }
    };
    let hidden = Err("etcd v2 hides names that begin with an underscore");
    check(&at("2"), &["set", "services/_shop/domain", "x"], hidden);
    check(&at("2"), &["set", "services/shop/_one", "10.0.0.1"], hidden);
    check(&at("2"), &["mkdir", "_services"], hidden);
    check(&at("2"), &["register", "_shop", "--name", "a", "--check", "none"], hidden);
    check(&at("2"), &["set", "services/sh_op/domain", "x"], Ok(()));
    check(&at("2"), &["set", "/_pointsman/x", "1"], Ok(()));
    check(&at("3"), &["set", "services/_shop/domain", "x"], Ok(()));
    let folder = ["--store".to_owned(), site.folder().display().to_string()];
    for skipped in ["domain.bak", "domain~", ".domain", "domain.tmp", "domain.swp", "domain.swx", "#domain#"] {
        check(&folder, &["set", &format!("services/a/{skipped}"), "x"], Err("never read"));
    }
}

#[test]
fn a_place_where_no_store_can_be_ends_the_start() {
    let site = Site::new();
    let file = site.home().join("file");
    std::fs::write(&file, "").expect("our own file");
    let below = file.join("store");
    for (store, why) in [(&file, "this is a file"), (&below, "a part of its path is a file")] {
        let store = store.display().to_string();
        let mut running = Launch::new().arg("--store").arg(&store).start_process();
        running.wait_log(why);
        assert_eq!(running.wait_exit(Duration::from_secs(30)).code(), Some(2), "{}", running.log());
        let command = ["register", "shop", "--port", "1", "--store", &store, "--", "true"];
        let ended = run(&command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        let docker = format!("tcp://{}", free_address());
        let ended = run(&["agent", "--docker", &docker, "--store", &store]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
    // Nobody may make a folder there, not even root.
    let mut running = Launch::new().args(&["--store", "/proc/self/store"]).start_process();
    running.wait_log("cannot make the store's folder");
    assert_eq!(running.wait_exit(Duration::from_secs(30)).code(), Some(2));
}
