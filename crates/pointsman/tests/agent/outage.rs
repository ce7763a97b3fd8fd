//! The store or the agent is unavailable for a while: the keys are right again, and stay right.

use std::time::Instant;

use crate::harness::{Process, holds, wait};
use crate::place::{Place, TTL, each};

const BEFORE: &str = "services/shop/domain=shop.test, services/shop/upstreams/one=80, services/shop/upstreams/two=80";
const AFTER: &str = "services/shop/domain=shop.test, services/shop/upstreams/new=80, services/shop/upstreams/two=80";

fn shop(place: &Place, name: &str) -> String {
    place.container(name, "service=shop domain=shop.test", &[])
}

/// Ends a container and starts another one during the outage, for longer than keys live.
fn meanwhile(place: &Place, agent: &mut Process, one: &str) {
    let start = Instant::now();
    place.docker.docker(&["kill", one]);
    shop(place, "new");
    let left = (TTL + TTL / 2).saturating_sub(start.elapsed());
    holds("the agent waits", left, || agent.is_running());
}

/// An outage: its beginning and its end.
fn outage(begin: impl Fn(&mut Place) + Sync, end: impl Fn(&mut Place) + Sync) {
    each(|place| {
        let mut agent = place.agent();
        let one = shop(place, "one");
        shop(place, "two");
        place.wait_keys(BEFORE);
        begin(place);
        meanwhile(place, &mut agent, &one);
        end(place);
        wait("the store to answer", || place.keys().is_some());
        place.wait_settled(AFTER, TTL * 2);
    });
}

#[test]
fn a_store_that_stood_still() {
    outage(|place| place.etcd.signal("STOP"), |place| place.etcd.signal("CONT"));
}

#[test]
fn a_store_that_was_killed() {
    outage(|place| place.etcd.kill(), |place| place.etcd.resume());
}

#[test]
fn a_store_that_lost_everything() {
    let end = |place: &mut Place| {
        place.etcd.wipe();
        place.etcd.resume();
    };
    outage(|place| place.etcd.kill(), end);
}

#[test]
fn a_store_that_is_away_when_the_agent_starts() {
    each(|place| {
        place.etcd.kill();
        let mut agent = Process::start(&mut place.agent_command());
        agent.wait_log("waiting for the store");
        shop(place, "web");
        place.etcd.resume();
        wait("the store to answer", || place.keys().is_some());
        place.wait_keys("services/shop/domain=shop.test, services/shop/upstreams/web=80");
    });
}

/// As on a machine that was suspended.
#[test]
fn an_agent_that_stood_still() {
    each(|place| {
        let agent = place.agent();
        let one = shop(place, "one");
        shop(place, "two");
        place.wait_keys(BEFORE);
        agent.signal("STOP");
        place.docker.docker(&["kill", &one]);
        shop(place, "new");
        place.wait_keys("");
        agent.signal("CONT");
        place.wait_settled(AFTER, TTL * 2);
    });
}
