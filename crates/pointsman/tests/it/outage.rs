//! etcd stops, loses data, goes back in time or loses its leader: traffic never stops, and every later change arrives.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{
    Api, Backend, Cluster, Etcd, Launch, Load, Pointsman, finish, free_address, get, holds, span, wait,
};

const PREFIX: &str = "/haproxy-out";

/// One served service, its etcd, and the load on it.
struct Scene {
    etcd: Etcd,
    one: Backend,
    running: Pointsman,
    load: Load,
    api: Api,
}

impl Scene {
    fn new(api: Api) -> Self {
        Self::with(api, &[])
    }

    fn with(api: Api, flags: &[&str]) -> Self {
        let (etcd, one) = (Etcd::start(), Backend::naming("one"));
        let flag = if api == Api::V2 { "2" } else { "3" };
        let scene_keys = [("services/a/domain", "a.test"), ("services/a/one", &one.instance())];
        for (key, value) in scene_keys {
            etcd.put(api, &format!("{PREFIX}/{key}"), value);
        }
        let running =
            Launch::new().args(&["--store", &etcd.url(), "--etcd-api", flag, "--id", "out"]).args(flags).start();
        running.wait_backend("a.test", "/", "one");
        let load = Load::new().keep_alive(2, running.http, "a.test").open_close(1, running.http, "a.test");
        Self { etcd, one, running, load, api }
    }

    fn put(&self, key: &str, value: &str) {
        self.etcd.put(self.api, &format!("{PREFIX}/{key}"), value);
    }

    /// Writes a service of this name and waits until it is served.
    fn arrives(&self, name: &str) {
        self.put(&format!("services/{name}/domain"), &format!("{name}.test"));
        self.put(&format!("services/{name}/one"), &self.one.instance());
        self.running.wait_backend(&format!("{name}.test"), "/", "one");
    }

    /// Waits until the loss is noticed.
    fn wait_lost(&self) {
        wait("the loss to be noticed", || self.running.metric("pointsman_store_up", &[]) == 0.0);
    }

    fn finish(self) {
        self.load.finish().assert_clean(50);
    }
}

#[test]
fn etcd_stopped_and_restarted_v2() {
    stopped_and_restarted(Api::V2);
}

#[test]
fn etcd_stopped_and_restarted_v3() {
    stopped_and_restarted(Api::V3);
}

fn stopped_and_restarted(api: Api) {
    let mut scene = Scene::new(api);
    scene.arrives("before");
    scene.etcd.kill();
    scene.wait_lost();
    let running = &scene.running;
    holds("a table is served", span(3, 30), || {
        get(running.admin, "localhost", "/readyz").is_ok_and(|r| r.status == 200)
    });
    scene.etcd.resume();
    scene.etcd.wait_up();
    scene.arrives("after");
    scene.finish();
}

#[test]
fn etcd_that_falls_silent_is_noticed_v3() {
    let scene = Scene::new(Api::V3);
    scene.etcd.signal("STOP");
    scene.wait_lost();
    scene.etcd.signal("CONT");
    scene.arrives("after");
    scene.finish();
}

#[test]
fn history_compacted_past_our_revision_v3() {
    let mut scene = Scene::new(Api::V3);
    scene.arrives("doomed");
    scene.etcd.kill();
    scene.wait_lost();
    away(&mut scene.etcd, |away, url| {
        let ctl = |arguments: &[&str]| away.etcdctl3(&[&["--endpoints", url], arguments].concat());
        ctl(&["del", "--prefix", "/haproxy-out/services/doomed/"]);
        for number in 0..20 {
            ctl(&["put", "/haproxy-out/noise", &number.to_string()]);
        }
        let status = ctl(&["get", "/haproxy-out/noise", "--write-out", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("etcdctl writes JSON");
        ctl(&["compact", "--physical", &status["header"]["revision"].to_string()]);
    });
    scene.running.wait_gone("doomed.test", "/");
    scene.arrives("after");
    scene.finish();
}

#[test]
fn history_forgotten_past_our_index_v2() {
    let mut scene = Scene::new(Api::V2);
    scene.arrives("doomed");
    scene.etcd.kill();
    scene.wait_lost();
    away(&mut scene.etcd, |away, url| {
        let ctl = |arguments: &[&str]| away.etcdctl2(&[&["--endpoints", url], arguments].concat());
        ctl(&["rm", "--recursive", "/haproxy-out/services/doomed"]);
        // etcd v2 keeps 1,000 events; a wait for an earlier one gets 401 EventIndexCleared.
        let address = url.trim_start_matches("http://").parse().expect("an address");
        let mut connection = crate::harness::Connection::open(address);
        for number in 0..1100 {
            let body = format!("value={number}");
            let kind = "Content-Type: application/x-www-form-urlencoded";
            let length = body.len();
            let head =
                format!("PUT /v2/keys/noise HTTP/1.1\r\nHost: etcd\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
            connection.send(head + &body).expect("etcd is up");
            connection.response("PUT").expect("etcd answers");
        }
    });
    scene.running.wait_gone("doomed.test", "/");
    scene.arrives("after");
    scene.finish();
}

/// Runs etcd at an address that Pointsman does not know while the work is done, then at its usual one again.
fn away(etcd: &mut Etcd, work: impl FnOnce(&Etcd, &str)) {
    let elsewhere = free_address();
    etcd.resume_at(elsewhere);
    wait("etcd elsewhere", || get(elsewhere, "etcd", "/health").is_ok_and(|r| r.text().contains("\"true\"")));
    work(etcd, &format!("http://{elsewhere}"));
    etcd.kill();
    etcd.resume();
    etcd.wait_up();
}

#[test]
fn a_new_reason_is_told_v2() {
    new_reason(Api::V2);
}

#[test]
fn a_new_reason_is_told_v3() {
    new_reason(Api::V3);
}

/// Etcd refuses connections, then it is back and refuses the password.
fn new_reason(api: Api) {
    let mut scene = Scene::with(api, &["--etcd-user", "reader:wrong"]);
    scene.running.wait_ready();
    scene.etcd.kill();
    let reason = |kind: &str| scene.running.metric("pointsman_store_info", &[&format!("reason=\"{kind}\"")]) == 1.0;
    wait("the first reason", || reason("unreachable"));
    let page = scene.running.admin_page("/readyz");
    assert!(page.starts_with("ready\nthe store is lost, serving its last keys: "), "{page}");
    let (version, grant): (_, &[&str]) = match api {
        Api::V2 => ("2", &["role", "revoke", "guest", "--path", "/*", "--readwrite"]),
        Api::V3 => ("3", &["user", "grant-role", "root", "root"]),
    };
    away(&mut scene.etcd, |_, url| {
        for words in [&["user", "add", "root:secret"][..], &["user", "add", "reader:secret"]] {
            etcdctl(version, url, words);
        }
        if api == Api::V3 {
            etcdctl(version, url, grant);
        }
        etcdctl(version, url, &["auth", "enable"]);
        if api == Api::V2 {
            etcdctl(version, url, &[&["--username", "root:secret"], grant].concat());
        }
    });
    wait("the new reason", || reason("refused"));
    let page = scene.running.admin_page("/readyz");
    assert!(page.starts_with("ready\n") && page.contains("denies access"), "{page}");
    scene.running.process.wait_log("denies access");
    let log = scene.running.process.log();
    let reasons: Vec<_> = log.lines().filter_map(|line| line.split_once("serving its last keys: ")).collect();
    let distinct: BTreeSet<_> = reasons.iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.len(), distinct.len(), "each once:\n{log}");
    scene.finish();
}

fn etcdctl(version: &str, url: &str, words: &[&str]) {
    let mut command = std::process::Command::new("etcdctl");
    finish(command.env("ETCDCTL_API", version).args(["--endpoints", url]).args(words)).ok();
}

#[test]
fn data_replaced_by_an_older_backup_v2() {
    restored(Api::V2);
}

#[test]
fn data_replaced_by_an_older_backup_v3() {
    restored(Api::V3);
}

fn restored(api: Api) {
    let mut scene = Scene::new(api);
    scene.etcd.kill();
    scene.etcd.back_up();
    scene.etcd.resume();
    scene.etcd.wait_up();
    for name in ["newer-1", "newer-2", "newer-3"] {
        scene.arrives(name);
    }
    scene.etcd.kill();
    scene.etcd.restore();
    scene.etcd.resume();
    scene.etcd.wait_up();
    scene.running.wait_gone("newer-3.test", "/");
    scene.arrives("after");
    scene.finish();
}

#[test]
fn data_wiped_v2() {
    wiped(Api::V2);
}

#[test]
fn data_wiped_v3() {
    wiped(Api::V3);
}

/// An empty store is served as empty: the program does what the keys say.
fn wiped(api: Api) {
    let mut scene = Scene::new(api);
    scene.arrives("before");
    scene.etcd.kill();
    scene.etcd.wipe();
    scene.etcd.resume();
    scene.etcd.wait_up();
    scene.running.wait_gone("before.test", "/");
    scene.arrives("after");
    let tally = scene.load.finish();
    assert!(tally.failures.iter().all(|failure| failure.contains("status 503")), "{:?}", tally.failures);
}

#[test]
fn a_dead_endpoint_among_several_changes_nothing() {
    for api in ["2", "3"] {
        let (etcd, one) = (Etcd::start(), Backend::naming("one"));
        let urls = format!("http://{},{}", free_address(), etcd.url());
        let running = Launch::new().args(&["--store", &urls, "--etcd-api", api, "--id", "out"]).start();
        let api = if api == "2" { Api::V2 } else { Api::V3 };
        etcd.put(api, &format!("{PREFIX}/services/a/domain"), "a.test");
        etcd.put(api, &format!("{PREFIX}/services/a/one"), &one.instance());
        running.wait_backend("a.test", "/", "one");
    }
}

#[test]
fn three_members_whose_leader_is_killed_twice() {
    let (mut cluster, one) = (Cluster::start(), Backend::naming("one"));
    let running = Launch::new().args(&["--store", &cluster.urls(), "--etcd-api", "3", "--id", "out"]).start();
    cluster.put(&format!("{PREFIX}/services/a/domain"), "a.test");
    cluster.put(&format!("{PREFIX}/services/a/one"), &one.instance());
    running.wait_backend("a.test", "/", "one");
    let load = Load::new().keep_alive(2, running.http, "a.test").open_close(1, running.http, "a.test");
    for round in 0..2 {
        let leader = cluster.leader();
        cluster.members[leader].kill();
        for number in 0..5 {
            let name = format!("r{round}-{number}");
            cluster.put(&format!("{PREFIX}/services/{name}/domain"), &format!("{name}.test"));
            cluster.put(&format!("{PREFIX}/services/{name}/one"), &one.instance());
            running.wait_backend(&format!("{name}.test"), "/", "one");
        }
        cluster.members[leader].resume();
        cluster.members[leader].wait_up();
    }
    wait("the store to be watched", || running.metric("pointsman_store_up", &[]) == 1.0);
    holds("it is watched", Duration::from_millis(300), || running.metric("pointsman_store_up", &[]) == 1.0);
    load.finish().assert_clean(50);
}
