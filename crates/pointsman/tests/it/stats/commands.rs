//! Commands that change servers: they are edits of keys.

use super::{Scene, ask, scene, serving};
use crate::harness::{Api, Backend, Etcd, Launch, Site, get, wait};

impl Scene {
    /// Sends a command that has nothing to say.
    #[track_caller]
    fn done(&self, command: &str) {
        assert_eq!(self.ask(command), "\n", "{command}");
    }
}

#[test]
fn states_are_the_word_drain_in_the_key() {
    let scene = scene("level admin");
    let before = scene.key("web-1");
    for (off, on) in [
        ("set server services:shop/web-1 state drain", "set server services:shop/web-1 state ready"),
        ("set server services:shop/web-1 state maint", "enable server shop/web-1"),
        ("disable server services:shop/web-1", "enable server services:shop/web-1"),
    ] {
        scene.done(off);
        assert_eq!(scene.key("web-1"), format!("{before} drain"), "{off}");
        // It is served before the answer comes.
        assert_eq!(scene.stat("services:shop/web-1", "status"), "DRAIN", "{off}");
        scene.done(off);
        scene.done(on);
        assert_eq!(scene.key("web-1"), before, "{on}");
        assert_ne!(scene.stat("services:shop/web-1", "status"), "DRAIN", "{on}");
    }
    scene.done("disable server services:my:20shop/web-1");
    assert_eq!(scene.stat("services:my:20shop/web-1", "status"), "DRAIN");
    scene.done("disable server db/db-1");
    assert_eq!(scene.stat("tcp-services:db/db-1", "status"), "DRAIN");
}

#[test]
fn weights_are_written_and_shares_are_of_the_first() {
    let scene = scene("level admin");
    let weight = || scene.ask("get weight services:shop/web-1");
    assert_eq!(weight(), "3 (initial 3)\n\n");
    for (command, key, expected) in [
        ("set server services:shop/web-1 weight 0%", 0, "0 (initial 3)\n\n"),
        ("set server services:shop/web-1 weight 100%", 3, "3 (initial 3)\n\n"),
        ("set weight services:shop/web-1 200%", 6, "6 (initial 3)\n\n"),
        ("set weight services:shop/web-1 7", 7, "7 (initial 3)\n\n"),
    ] {
        scene.done(command);
        assert!(scene.key("web-1").ends_with(&format!(" weight={key}")), "{command}: {}", scene.key("web-1"));
        assert_eq!(
            (weight(), scene.stat("services:shop/web-1", "weight")),
            (expected.into(), key.to_string()),
            "{command}"
        );
    }
    // Somebody else says what it is from now on.
    let address = scene.key("web-1").split(' ').next().expect("an address").to_owned();
    scene.site.put("services/shop/web-1", format!("{address} weight=20"));
    wait("the other weight", || weight() == "20 (initial 20)\n\n");
    scene.done("set weight services:shop/web-1 50%");
    assert_eq!(weight(), "10 (initial 20)\n\n");
}

#[test]
fn only_admins_change_keys() {
    for (level, commands) in [
        (
            "",
            &["set server services:shop/web-1 state drain", "disable server shop/web-1", "set weight shop/web-1 0"][..],
        ),
        ("level operator", &["enable server shop/web-1"]),
        ("level user", &["set server shop/web-1 weight 9", "show errors"]),
    ] {
        let scene = scene(level);
        let before = scene.key("web-1");
        for command in commands {
            assert_eq!(scene.ask(command), "Permission denied\n\n", "{level}: {command}");
        }
        assert_eq!(scene.key("web-1"), before);
        assert!(scene.ask("show stat").starts_with("# pxname"), "{level}");
    }
}

#[test]
fn a_change_is_for_every_balancer_and_survives() {
    let (etcd, backend) = (Etcd::start(), Backend::naming("one"));
    etcd.put(Api::V3, "/p/services/a/domain", "a.test");
    etcd.put(Api::V3, "/p/services/a/upstreams/one", &backend.instance());
    let site = Site::new();
    let start = |name: &str| {
        let socket = site.home().join(name);
        let line = format!("{} level admin", socket.display());
        let launch = Launch::new().args(&["--store", &etcd.url(), "--prefix", "/p", "--stats-socket", &line]);
        let running = launch.start();
        running.wait_ready();
        (running, socket)
    };
    let ((first, socket), (_second, other)) = (start("1"), start("2"));
    assert_eq!(get(first.http, "a.test", "/").expect("an answer").status, 200);
    assert_eq!(ask(&socket, "disable server services:a/one"), "\n");
    let key = etcd.etcdctl3(&["get", "/p/services/a/upstreams/one", "--print-value-only"]);
    assert_eq!(key.trim(), format!("{} drain", backend.instance()));
    wait("the other balancer", || ask(&other, "show stat services:a 4 1").contains(",DRAIN,"));
    drop(first);
    let (_again, socket) = start("1");
    assert!(ask(&socket, "show stat services:a 4 1").contains(",DRAIN,"));
}

#[test]
fn a_store_that_is_gone_is_told() {
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())]);
    let (running, socket) = serving(&site, "stats.sock", "level admin");
    std::fs::remove_file(site.folder().join("services/a/one")).expect("our own key");
    let answer = ask(&socket, "disable server services:a/one");
    assert!(answer.contains("no key of this server") || answer.contains("No such server"), "{answer}");
    assert!(running.process.log().contains("stats socket: "), "{}", running.process.log());
}
