//! Containers that take no work, for a while or for good: stopping, paused, unhealthy.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Connection, get_ok, holds, wait};
use crate::place::{container, each};

#[test]
fn one_that_is_told_to_stop_finishes_its_work() {
    each(|place| {
        let _agent = place.agent();
        let balancer = place.balancer("one");
        let web = place.container("web", "service=shop domain=shop.test", &[]);
        balancer.wait_answer("shop.test", "/", 200, "web");
        let alone = "services/shop/domain=shop.test, services/shop/upstreams/web=80";
        place.wait_keys(alone);
        for signal in ["HUP", "USR1"] {
            place.docker.docker(&["kill", "--signal", signal, &web]);
        }
        holds("HUP is no end", Duration::from_millis(500), || place.keys().as_deref() == Some(alone));
        let mut slow = balancer.connect();
        slow.send("GET /slow?ms=9000 HTTP/1.1\r\nHost: shop.test\r\n\r\n").expect("open");
        place.docker.wait_web(&web);
        let settings = "services/shop/domain=shop.test, services/shop/upstreams/other=80, services/shop/upstreams/web";
        place.container("other", "service=shop domain=shop.test", &[]);
        place.wait_keys(&format!("{settings}=80"));
        balancer.wait_answer("shop.test", "/", 200, "other");
        let mut stop = place.docker.command();
        let mut stop = stop.args(["stop", "-t", "30", &web]).stdout(Stdio::null()).spawn().expect("docker is there");
        place.wait_keys(&format!("{settings}=80 weight=0"));
        // The balancer follows a moment later. Until then either container answers.
        let answer = || get_ok(balancer.http, "shop.test", "/").text();
        wait("no new work", || (0..20).all(|_| answer() == "other"));
        assert!(stop.try_wait().expect("ours").is_none(), "it works on");
        let answer = slow.response("GET").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "web"));
        assert!(stop.wait().expect("ours").success());
        place.wait_keys("services/shop/domain=shop.test, services/shop/upstreams/other=80");
    });
}

#[test]
fn one_that_is_paused_gets_no_work() {
    each(|place| {
        let _agent = place.agent();
        let web = place.container("web", "service=shop weight=5", &[]);
        place.wait_keys("services/shop/upstreams/web=80 weight=5");
        place.docker.docker(&["pause", &web]);
        place.wait_keys("services/shop/upstreams/web=80 weight=0");
        place.docker.docker(&["unpause", &web]);
        place.wait_keys("services/shop/upstreams/web=80 weight=5");
        // It got its stop signal while paused, so it is stopping when it resumes.
        place.docker.docker(&["restart", "-t", "5", &web]);
        place.wait_keys("services/shop/upstreams/web=80 weight=5");
    });
}

#[test]
fn one_gets_work_when_its_health_check_passes() {
    each(|place| {
        let check = "HEALTHCHECK --interval=500ms --timeout=5s --retries=1 CMD [\"/web\", \"check\", \
                     \"http://127.0.0.1/health\"]";
        let image = place.docker.build_web("checked", check);
        let _agent = place.agent();
        let labels = format!("id={} service=shop", place.id());
        // At first nothing listens where the check asks.
        let slow = place.docker.build_web("unready", &check.replace("127.0.0.1/", "127.0.0.1:81/"));
        let unready = container(&place.docker, &slow, "unready", &labels, &["--health-start-period", "60s"]);
        place.wait_keys("services/shop/upstreams/unready=80 weight=0");
        place.docker.docker(&["rm", "--force", &unready]);
        place.wait_keys("");
        let web = container(&place.docker, &image, "web", &labels, &[]);
        place.wait_keys("services/shop/upstreams/web=80");
        let address = format!("{}:80", place.docker.ip(&web, None)).parse().expect("an address");
        let say = |path: &str| {
            let mut open = Connection::open(address);
            assert_eq!(open.request("GET", "web", path).expect("an answer").status, 200);
        };
        wait("it listens", || Connection::try_open(address).is_ok());
        say("/sick");
        place.wait_keys("services/shop/upstreams/web=80 weight=0");
        say("/well");
        place.wait_keys("services/shop/upstreams/web=80");
    });
}
