//! Agents that end, return and meet others: each key has one owner at a time, without a gap between two owners.

use std::time::Duration;

use crate::docker::Docker;
use crate::harness::{Api, Load, PATIENCE, Process, holds, wait};
use crate::place::{Place, TTL, Watch, container, each, with};

/// Beyond the life of a lease: what was to end has ended by then.
const SLACK: Duration = Duration::from_secs(2);

const SHOP: &str = "services/shop/domain=shop.test, services/shop/upstreams/web=80";

#[track_caller]
fn shop(place: &Place) -> String {
    place.container("web", "service=shop domain=shop.test", &[])
}

#[test]
fn keys_of_a_killed_agent_end_in_time() {
    each(|place| {
        let mut agent = place.agent();
        shop(place);
        place.wait_keys(SHOP);
        agent.kill();
        place.wait_keys("");
        // The keys that it left have no owner; the next agent starts from nothing.
        let _agent = place.agent();
        place.wait_keys(SHOP);
    });
}

#[test]
fn an_agent_that_comes_back_leaves_no_gap() {
    each(|place| {
        // A start may take seconds on a busy machine; keys must outlive it.
        place.ttl = TTL * 3;
        let mut agent = place.agent();
        let balancer = place.balancer("one");
        let web = shop(place);
        place.wait_keys(SHOP);
        balancer.wait_answer("shop.test", "/", 200, "web");
        place.docker.wait_web(&web);
        let watch = place.watch();
        let load = Load::new().keep_alive(2, balancer.http, "shop.test").open_close(1, balancer.http, "shop.test");
        agent.kill();
        let mut agent = place.agent();
        // Longer than the first one's keys would have lived.
        holds("the keys stay", place.ttl + SLACK, || place.keys().as_deref() == Some(SHOP));
        agent.signal("TERM");
        assert!(agent.wait_exit(PATIENCE).success());
        assert_eq!(place.keys().as_deref(), Some(SHOP), "they outlive it");
        let _agent = place.agent();
        holds("the keys stay", place.ttl + SLACK, || place.keys().as_deref() == Some(SHOP));
        watch.assert_nothing_deleted();
        load.finish().assert_clean(200);
    });
}

#[test]
fn an_agent_that_comes_back_removes_what_ended_meanwhile() {
    each(|place| {
        place.ttl = TTL * 3;
        let mut agent = place.agent();
        let web = shop(place);
        place.container("stays", "service=shop domain=shop.test", &[]);
        let rest = "services/shop/domain=shop.test, services/shop/upstreams/stays=80";
        place.wait_keys(&format!("{rest}, services/shop/upstreams/web=80"));
        let watch = place.watch();
        agent.kill();
        place.docker.docker(&["kill", &web]);
        let _agent = place.agent();
        place.wait_keys(rest);
        let deleted: Vec<_> = watch.happened().into_iter().filter(|line| line.starts_with("DELETE")).collect();
        assert!(deleted.len() == 1 && deleted[0].ends_with("-web"), "{deleted:?}");
    });
}

/// Asserts that the keys did not change, except that they were there.
#[track_caller]
fn assert_peace(watch: &Watch, span: Duration, place: &Place) {
    let before = watch.happened().len();
    holds("the keys stay", span, || place.keys().as_deref() == Some(SHOP));
    let happened = watch.happened();
    assert_eq!(happened.len(), before, "{:?}", &happened[before..]);
}

#[test]
fn two_agents_of_a_daemon_do_not_fight() {
    each(|place| {
        let mut first = place.agent();
        shop(place);
        place.wait_keys(SHOP);
        let watch = place.watch();
        let mut second = place.agent();
        first.wait_log("standing by");
        assert_peace(&watch, TTL * 2, place);
        assert!(first.is_running() && second.is_running());
        watch.assert_nothing_deleted();
    });
}

/// The standby agent takes over once the other's keys have ended.
fn taken_over(place: &Place) {
    let mut first = place.agent();
    shop(place);
    place.wait_keys(SHOP);
    let mut second = place.agent();
    first.wait_log("standing by");
    second.kill();
    place.container("xtra", "service=shop domain=shop.test", &[]);
    place.wait_keys(&format!("{SHOP}, services/shop/upstreams/xtra=80"));
}

#[test]
fn one_that_stands_by_takes_over() {
    with(Docker::get(), Api::V2, |place| taken_over(place));
}

#[test]
fn one_that_stands_by_takes_over_with_etcd_v3() {
    with(Docker::get(), Api::V3, |place| taken_over(place));
}

#[test]
fn agents_of_two_machines_share_a_service() {
    each(|place| {
        let Some(other) = Docker::own() else { return };
        let image = other.build_web("web", "");
        let _agent = place.agent();
        let mut command = place.agent_of(&other, "node-2");
        let mut second = Process::start(&mut command);
        second.wait_log("keeping ");
        let balancer = place.balancer("one");
        let web = shop(place);
        place.wait_keys(SHOP);
        let labels = format!("id={} service=shop domain=shop.test name=far", place.id());
        let far = container(&other, &image, "web", &labels, &[]);
        let both = "services/shop/domain=shop.test, services/shop/upstreams/far=80, services/shop/upstreams/web=80";
        place.wait_keys(both);
        // The setting was there already, with the wanted value: no reason to complain.
        second.wait_log("keeping 1 key");
        balancer.wait_answer("shop.test", "/", 200, "web");
        // The agent that wrote the settings ends; the other one takes them over.
        place.docker.docker(&["rm", "--force", &web]);
        let rest = "services/shop/domain=shop.test, services/shop/upstreams/far=80";
        place.wait_keys(rest);
        holds("they stay", Duration::from_millis(500), || place.keys().as_deref() == Some(rest));
        shop(place);
        place.wait_keys(both);
        // They belong to the second one, so they end when it dies.
        assert!(!second.log().contains("WARN"));
        second.kill();
        place.wait_keys(SHOP);
        let mut second = Process::start(&mut command);
        second.wait_log("keeping ");
        place.wait_keys(both);
        other.docker(&["rm", "--force", &far]);
        place.wait_keys(SHOP);
        assert!(!second.log().contains("WARN"));
    });
}

#[test]
fn a_key_that_somebody_else_wrote_is_left_alone() {
    each(|place| {
        let agent = place.agent();
        let key = format!("{}/services/shop/upstreams/by-hand", place.prefix());
        place.etcd.put(place.api, &key, "10.9.8.7:99");
        place.container("web", "service=shop domain=shop.test name=by-hand", &[]);
        let taken =
            || agent.log().lines().any(|line| line.contains("WARN") && line.contains(&key) && line.contains("taken"));
        wait("a complaint", taken);
        let theirs = "services/shop/domain=shop.test, services/shop/upstreams/by-hand=99";
        place.wait_keys(theirs);
        holds("it stays", TTL + SLACK, || place.keys().as_deref() == Some(theirs));
        place.etcd.delete(place.api, &key);
        place.wait_keys(&theirs.replace("99", "80"));
        wait("no complaint", || agent.log().contains(&format!("no longer a problem: {key}")));
    });
}

#[test]
fn a_container_has_its_key_for_as_long_as_it_runs() {
    each(|place| {
        let _agent = place.agent();
        for number in 0..5 {
            let id = place.container("web", &format!("service=shop{number}"), &[]);
            place.wait_keys(&format!("services/shop{number}/upstreams/web=80"));
            place.docker.docker(&["rm", "--force", &id]);
            place.wait_keys("");
        }
    });
}
