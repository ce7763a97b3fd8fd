//! Trouble of the Docker daemon: not started yet, restarted, hanging. The keys follow the containers.

use std::process::Command;

use crate::harness::{Process, holds, wait};
use crate::place::{TTL, each_own};

#[test]
fn one_that_is_not_there_yet_is_waited_for() {
    each_own(|place| {
        place.docker.stop();
        let mut agent = Process::start(&mut place.agent_command());
        agent.wait_log("is out of reach, waiting for it");
        let waits = agent.log().matches("out of reach").count();
        place.docker.start(false);
        agent.wait_log("0 containers have our labels");
        place.container("web", "service=shop", &[]);
        place.wait_keys("services/shop/upstreams/web=80");
        assert_eq!(waits, 1, "said once: {}", agent.log());
    });
}

#[test]
fn one_that_starts_anew_is_taken_as_it_is() {
    each_own(|place| {
        let mut agent = place.agent();
        place.container("back", "service=shop", &["--restart", "always"]);
        place.container("gone", "service=shop", &[]);
        place.wait_keys("services/shop/upstreams/back=80, services/shop/upstreams/gone=80");
        place.docker.stop();
        agent.wait_log("keeping what was last seen");
        place.docker.start(false);
        place.wait_keys("services/shop/upstreams/back=80");
        let address = place.docker.ip(&place.named("back"), None);
        let keys = place.below(&place.prefix()).expect("etcd answers");
        assert!(keys.values().any(|key| key.value == format!("{address}:80")), "{address}: {keys:?}");
        assert!(agent.log().contains("1 container has our labels"), "{}", agent.log());
        // Like a new machine: all its data is gone, and the old machine's keys expire.
        place.docker.stop();
        place.docker.start(true);
        place.wait_keys("");
        assert!(agent.is_running());
    });
}

#[test]
fn one_that_hangs_is_caught_up_with() {
    each_own(|place| {
        let mut agent = place.agent();
        let dies = place.container("dies", "service=shop", &[]);
        place.container("stays", "service=shop", &[]);
        let both = "services/shop/upstreams/dies=80, services/shop/upstreams/stays=80";
        place.wait_keys(both);
        let process = place.docker.docker(&["inspect", "--format", "{{.State.Pid}}", &dies]);
        place.docker.signal("STOP");
        assert!(Command::new("kill").args(["-KILL", &process]).status().expect("kill is there").success());
        // Nobody reports its death.
        holds("the keys stay", TTL * 2, || place.keys().as_deref() == Some(both));
        agent.wait_log("keeping what was last seen");
        place.docker.signal("CONT");
        place.wait_keys("services/shop/upstreams/stays=80");
        place.docker.run(&["--name", &place.named("stranger"), &place.image]);
        place.container("new", "service=shop", &[]);
        place.wait_keys("services/shop/upstreams/new=80, services/shop/upstreams/stays=80");
        wait("the daemon followed", || agent.log().matches("following Docker at").count() >= 2);
    });
}
