//! What a balancer keeps over a restart, in `--state` and beside its status in the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Api, Backend, Etcd, Launch, Pointsman, Site, run, wait};

/// The state file's text, once it is there.
fn kept(state: &Path) -> String {
    file(state).and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
}

fn file(state: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(state.join("memory")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "json"))
}

/// Stops it without any farewell.
fn kill(mut running: Pointsman) {
    running.process.kill();
}

/// A service of etcd v3, good once and bad now.
#[test]
fn last_good_settings_survive_a_restart() {
    let (etcd, one, two) = (Etcd::start(), Backend::naming("one"), Backend::naming("two"));
    let home = Site::new();
    let state = home.home().join("state");
    let put = |key: &str, value: &str| etcd.put(Api::V3, &format!("/haproxy-r/{key}"), value);
    let flags = ["--store", &etcd.url(), "--id", "r", "--name", "r"];
    let start = || Launch::new().args(&flags).state(&state).start();
    put("services/shop/domain", "shop.test");
    put("services/shop/one", &one.instance());
    put("config/timeout/server", "7s");
    let running = start();
    running.wait_backend("shop.test", "/", "one");
    put("services/shop/port", "eighty");
    put("config/timeout/server", "soon");
    running.wait_problem("bad_value", &["/haproxy-r/services/shop/port", "eighty", "last good settings, of revision"]);
    wait("the state to be written", || kept(&state).contains("shop.test") && kept(&state).contains("7s"));
    let mode = fs::metadata(file(&state).expect("it is there")).expect("readable").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The instances follow the store, while the balancer is away too.
    kill(running);
    etcd.delete(Api::V3, "/haproxy-r/services/shop/one");
    put("services/shop/two", &two.instance());
    let running = start();
    running.wait_backend("shop.test", "/", "two");
    running.wait_problem("bad_value", &["services/shop/port", "the last good settings, of revision"]);
    assert!(running.admin_page("/api/table").contains("\"last_good\":"));
    assert_eq!(running.metric("pointsman_last_good_services", &[]), 1.0);
    let line = "services/shop is served with its last good settings, of revision";
    wait("status to say so", || run(&["status", "--store", &etcd.url(), "--id", "r"]).stdout.contains(line));
    let state_flag = state.display().to_string();
    let check = run(&["check", "--store", &etcd.url(), "--id", "r", "--state", &state_flag]);
    assert!(check.stdout.contains("the last good settings, of revision"), "{check:?}");
    assert!(check.stderr.contains(line), "{check:?}");
    let json = run(&["check", "--json", "--store", &etcd.url(), "--id", "r", "--state", &state_flag]).stdout;
    assert!(json.contains("\"last_good\"") && json.contains("\"shop\""), "{json}");
    let blind = run(&["check", "--store", &etcd.url(), "--id", "r", "--state", "/nonexistent"]);
    assert!(!blind.stdout.contains("the last good settings"), "{blind:?}");
    // Mended, and then deleted.
    put("services/shop/port", "80");
    wait("the mending", || running.metric("pointsman_last_good_services", &[]) == 0.0);
    etcd.etcdctl3(&["del", "--prefix", "/haproxy-r/services/shop"]);
    running.wait_gone("shop.test", "/");
    wait("it to be forgotten", || !kept(&state).contains("shop.test"));
}

#[test]
fn a_state_that_cannot_be_used_or_written_is_a_warning() {
    let one = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &one.instance())]);
    let state = site.home().join("state");
    let running = Launch::on(&site).start();
    running.wait_backend("a.test", "/", "one");
    wait("the state to be written", || kept(&state).contains("a.test"));
    assert_eq!(running.metric("pointsman_state_kept", &[]), 1.0);
    kill(running);
    let path = file(&state).expect("it is there");
    let whole = fs::read(&path).expect("readable");
    fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    let running = Launch::on(&site).start();
    running.wait_backend("a.test", "/", "one");
    let log = running.process.log();
    assert!(log.contains("cannot be used") && log.contains(".json.bad"), "{log}");
    wait("a new one", || kept(&state).contains("a.test"));
    kill(running);
    // A file where the folder should be.
    fs::remove_dir_all(state.join("memory")).expect("our own folder");
    fs::write(state.join("memory"), "").expect("our own folder");
    let running = Launch::on(&site).args(&["--name", "n"]).start();
    running.wait_backend("a.test", "/", "one");
    running.wait_problem("state", &["--state", "cannot write"]);
    assert_eq!(running.metric("pointsman_state_kept", &[]), 0.0);
    let folder = site.folder().display().to_string();
    wait("status to say so", || run(&["status", "--store", &folder, "--prefix", "/"]).stdout.contains("cannot write"));
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", one.instance());
    running.wait_backend("b.test", "/", "one");
    // One line for what is kept of bad keys, one for the snapshot, and one for the journal.
    wait("all lines", || running.process.log().matches("cannot write").count() == 3);
    assert_eq!(running.metric("pointsman_problems", &["\"state\""]), 3.0);
}

/// v2 is served; a key in v3 is reported, and changes nothing, not even after a restart and without the state.
#[test]
fn a_key_in_the_other_api_is_a_problem_and_changes_nothing() {
    let (etcd, one) = (Etcd::start(), Backend::naming("one"));
    let home = Site::new();
    etcd.put(Api::V2, "/haproxy-r/services/a/domain", "a.test");
    etcd.put(Api::V2, "/haproxy-r/services/a/one", &one.instance());
    let flags = ["--store", &etcd.url(), "--id", "r", "--name", "r"];
    let start = |state: &str| {
        let running = Launch::new().args(&flags).state(home.home().join(state)).start();
        running.wait_backend("a.test", "/", "one");
        running
    };
    let running = start("state");
    wait("the state to be written", || kept(&home.home().join("state")).contains("\"etcd_api\": \"2\""));
    etcd.put(Api::V3, "/haproxy-r/services/b/domain", "b.test");
    running.wait_problem("two_apis", &["v3 holds keys", "v2 is in use", "--etcd-api"]);
    let ask = |command: &str| run(&[command, "--store", &etcd.url(), "--id", "r"]).stdout;
    wait("status to say so", || ask("status").contains("v3 holds keys"));
    assert!(ask("check").contains("two apis"), "{}", ask("check"));
    kill(running);
    for state in ["state", "another"] {
        kill(start(state));
    }
    // Told by the state alone.
    etcd.etcdctl2(&["rm", "--recursive", "/_pointsman"]);
    let running = start("state");
    running.wait_problem("two_apis", &["v3 holds keys"]);
    etcd.etcdctl3(&["del", "/haproxy-r/services/b/domain"]);
    wait("the problem to go", || !running.admin_page("/api/problems").contains("two_apis"));
}

/// v3 is empty for a while: forgotten keys of v2 stay forgotten.
#[test]
fn an_api_that_is_empty_for_a_while_stays_in_use() {
    let (etcd, one, old) = (Etcd::start(), Backend::naming("one"), Backend::naming("old"));
    etcd.put(Api::V3, "/haproxy-r/services/a/domain", "a.test");
    etcd.put(Api::V3, "/haproxy-r/services/a/one", &one.instance());
    etcd.put(Api::V2, "/haproxy-r/services/a/domain", "a.test");
    etcd.put(Api::V2, "/haproxy-r/services/a/one", &old.instance());
    let running = Launch::new().args(&["--store", &etcd.url(), "--id", "r"]).start();
    running.wait_backend("a.test", "/", "one");
    running.wait_problem("two_apis", &["v2 holds keys", "v3 is in use"]);
    etcd.etcdctl3(&["del", "--prefix", "/haproxy-r/"]);
    running.wait_gone("a.test", "/");
    let emptied = Instant::now();
    while emptied.elapsed().as_secs() < 3 {
        running.wait_gone("a.test", "/");
    }
    etcd.put(Api::V3, "/haproxy-r/services/a/domain", "a.test");
    etcd.put(Api::V3, "/haproxy-r/services/a/one", &one.instance());
    running.wait_backend("a.test", "/", "one");
}

/// Neither API holds keys: the first write decides, for the balancer and for later edits. It is watched for: a look once a
/// second would take a second each time, as each write comes just after a look.
#[test]
fn the_first_write_decides() {
    for api in [Api::V2, Api::V3] {
        let soonest = (0..3).map(|_| first_write(api)).min().expect("three");
        println!("{api:?}: the first key is in the table {soonest:?} after its write");
        assert!(soonest < Duration::from_millis(500), "{api:?}: {soonest:?}");
    }
}

/// How long the first key takes into the table.
fn first_write(api: Api) -> Duration {
    let (etcd, one) = (Etcd::start(), Backend::naming("one"));
    let running = Launch::new().args(&["--store", &etcd.url(), "--id", "r"]).start();
    running.wait_ready();
    etcd.put(api, "/haproxy-r/services/a/domain", "a.test");
    let written = Instant::now();
    wait("the first key", || running.metric("pointsman_table_services", &[]) == 1.0);
    let taken = written.elapsed();
    wait("status in that API", || run(&["status", "--store", &etcd.url(), "--id", "r"]).code == Some(0));
    let set = run(&["set", "--store", &etcd.url(), "--id", "r", "services/a/one", &one.instance(), "--wait"]);
    assert_eq!(set.code, Some(0), "{set:?}");
    running.wait_backend("a.test", "/", "one");
    taken
}
