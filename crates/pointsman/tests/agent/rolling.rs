//! Containers replaced one by one under load: no client notices.

use std::net::SocketAddr;

use crate::harness::{Load, Pointsman, get, wait};
use crate::place::{Place, each};

const SHOP: &str = "services/shop/domain=shop.test, services/shop/upstreams/web-1=80, services/shop/upstreams/web-2=80, \
                    services/shop/upstreams/web-3=80";

/// Waits until all three serve through each balancer.
#[track_caller]
fn wait_back(place: &Place, balancers: &[Pointsman]) {
    place.wait_keys(SHOP);
    for name in ["web-1", "web-2", "web-3"] {
        for balancer in balancers {
            wait(&format!("{name} to serve"), || answers(balancer.http) == name);
        }
    }
}

fn answers(balancer: SocketAddr) -> String {
    get(balancer, "shop.test", "/").map(|answer| answer.text()).unwrap_or_default()
}

fn start(place: &Place, name: &str) -> String {
    place.container(name, "service=shop domain=shop.test", &["--stop-timeout", "10"])
}

/// How one container replaces another.
#[derive(Clone, Copy)]
enum Way {
    Restart,
    StopAndStart,
    Replace,
}

fn replace(place: &Place, name: &str, way: Way) {
    let full = place.named(name);
    let docker = |words: &[&str]| drop(place.docker.docker(&[words, &[&full]].concat()));
    match way {
        Way::Restart => docker(&["restart"]),
        Way::StopAndStart => {
            docker(&["stop"]);
            docker(&["start"]);
        }
        Way::Replace => {
            docker(&["stop"]);
            docker(&["rm"]);
            start(place, name);
        }
    }
}

#[test]
fn a_service_is_replaced_container_by_container() {
    each(|place| {
        let _agent = place.agent();
        let balancers = [place.balancer("one"), place.balancer("two")];
        ["web-1", "web-2", "web-3"].iter().for_each(|name| drop(start(place, name)));
        wait_back(place, &balancers);
        let load = balancers.iter().fold(Load::new(), |load, balancer| {
            load.keep_alive(3, balancer.http, "shop.test").open_close(2, balancer.http, "shop.test")
        });
        for way in [Way::Restart, Way::StopAndStart, Way::Replace] {
            for name in ["web-1", "web-2", "web-3"] {
                replace(place, name, way);
                wait_back(place, &balancers);
                assert!(!load.has_failed(), "{:?}: {:#?}", place.api, load.finish().failures);
            }
        }
        let tally = load.finish();
        // Between a container's TERM and its removal from the balancers, nothing listens there: such a request is
        // redispatched.
        let again: f64 = balancers.iter().map(|balancer| balancer.metric("pointsman_retries_total", &[])).sum();
        println!("{:?}: {} requests, {again} of them sent again", place.api, tally.done);
        tally.assert_clean(200);
    });
}
