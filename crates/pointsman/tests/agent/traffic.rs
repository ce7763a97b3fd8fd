//! From labels to traffic, and back to nothing.

use std::net::{Ipv4Addr, SocketAddr};

use crate::docker::Docker;
use crate::harness::{Api, Etcd, Launch, Process, Site, free_port, get, wait};
use crate::place::{NODE, Place, TTL, container, each, program};

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Checks with `etcdctl` that a key has a lease.
#[track_caller]
fn assert_ends(place: &Place, key: &str) {
    let key = format!("{}/{key}", place.prefix());
    match place.api {
        Api::V2 => {
            let said = place.etcd.etcdctl2(&["--output", "extended", "get", &key]);
            let ttl = said.lines().find_map(|line| line.strip_prefix("TTL: ")).and_then(|ttl| ttl.parse::<u64>().ok());
            assert!(ttl.is_some_and(|ttl| (1..=TTL.as_secs()).contains(&ttl)), "{said}");
        }
        Api::V3 => {
            let said = place.etcd.etcdctl3(&["get", &key, "--write-out", "json"]);
            let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            assert!(said["kvs"][0]["lease"].as_i64().is_some_and(|lease| lease > 0), "{said}");
        }
    }
}

#[test]
fn labels_become_traffic_over_http_and_tcp() {
    each(|place| {
        let _agent = place.agent();
        let balancer = place.balancer("one");
        let port = free_port();
        let shop = place.container("shop-1", "service=shop domain=shop.test balance=leastconn", &["--expose", "80"]);
        let settings = "services/shop/balance=leastconn, services/shop/domain=shop.test";
        place.wait_keys(&format!("{settings}, services/shop/upstreams/shop-1=80"));
        assert_ends(place, "services/shop/domain");
        assert_ends(place, &format!("services/shop/upstreams/{NODE}-{}", place.named("shop-1")));
        balancer.wait_answer("shop.test", "/", 200, "shop-1");
        let second = place.container("shop-2", "service=shop domain=shop.test balance=leastconn weight=3", &[]);
        place.wait_keys(&format!(
            "{settings}, services/shop/upstreams/shop-1=80, services/shop/upstreams/shop-2=80 weight=3"
        ));
        balancer.wait_answer("shop.test", "/", 200, "shop-2");
        // Each container that ends takes only its own keys; the last one takes all, also for TCP.
        place.docker.docker(&["stop", "-t", "5", &shop]);
        place.wait_keys(&format!("{settings}, services/shop/upstreams/shop-2=80 weight=3"));
        balancer.wait_answer("shop.test", "/", 200, "shop-2");
        let db = place.container("db", &format!("service=db mode=tcp port={port} internal_port=80"), &[]);
        place.docker.docker(&["rm", "--force", &second]);
        place.wait_keys(&format!("tcp-services/db/port={port}, tcp-services/db/upstreams/db=80"));
        balancer.wait_gone("shop.test", "/");
        wait("TCP", || get(here(port), "db", "/").is_ok_and(|answer| answer.status == 200 && answer.text() == "db"));
        place.docker.docker(&["kill", &db]);
        place.wait_keys("");
        wait("no TCP", || get(here(port), "db", "/").is_err());
    });
}

#[test]
fn a_container_has_several_services() {
    each(|place| {
        let _agent = place.agent();
        let balancer = place.balancer("one");
        let port = free_port();
        let labels = format!("shop.domain=shop.test admin.domain=admin.test raw.mode=tcp raw.port={port} weight=2");
        let all = place.container("all", &labels, &["--expose", "80"]);
        place.wait_keys(&format!(
            "services/admin/domain=admin.test, services/shop/domain=shop.test, tcp-services/raw/port={port}, \
             services/admin/upstreams/all=80 weight=2, services/shop/upstreams/all=80 weight=2, \
             tcp-services/raw/upstreams/all=80 weight=2"
        ));
        balancer.wait_answer("shop.test", "/", 200, "all");
        balancer.wait_answer("admin.test", "/", 200, "all");
        wait("TCP", || get(here(port), "raw", "/").is_ok_and(|answer| answer.text() == "all"));
        place.docker.docker(&["stop", "-t", "5", &all]);
        place.wait_keys("");
    });
}

/// Kontena's agent left the instances of TCP services behind; this agent does not.
#[test]
fn what_kontena_linked_is_served() {
    each(|place| {
        let _agent = place.agent();
        let prefix = format!("/kontena/haproxy/{}", place.id());
        let balancer = place.balancer_at("one", &["--prefix", &prefix]);
        let port = free_port();
        let lb = format!("io.kontena.load_balancer.name={}", place.id());
        let run = |name: &str, words: &[&str]| {
            let (full, variable) = (place.named(name), format!("NAME={name}"));
            let service = format!("io.kontena.service.name={name}");
            let own = ["--name", &full, "--env", &variable, "--label", &lb, "--label", &service];
            place.docker.run(&[&own, words, &[&place.image]].concat())
        };
        let web = run("web", &["--env", "KONTENA_LB_VIRTUAL_HOSTS=web.test,www.test", "--env", "KONTENA_LB_COOKIE="]);
        let port_variable = format!("KONTENA_LB_EXTERNAL_PORT={port}");
        let internal = "io.kontena.load_balancer.internal_port=80";
        let db = run("db", &["--env", "KONTENA_LB_MODE=tcp", "--env", &port_variable, "--label", internal]);
        balancer.wait_answer("www.test", "/", 200, "web");
        wait("TCP", || get(here(port), "db", "/").is_ok_and(|answer| answer.text() == "db"));
        let keys = || place.below(&prefix).unwrap_or_default().into_keys().collect::<Vec<_>>();
        let (web_name, db_name) = (place.named("web"), place.named("db"));
        let mut expected = [
            "services/web/balance".to_owned(),
            "services/web/cookie".to_owned(),
            "services/web/virtual_hosts".to_owned(),
            format!("services/web/upstreams/{web_name}"),
            "tcp-services/db/balance".to_owned(),
            "tcp-services/db/external_port".to_owned(),
            format!("tcp-services/db/upstreams/{db_name}"),
        ];
        expected.sort();
        // Not every store shows an empty value, as the cookie's.
        let named = |key: &String| !key.ends_with("/cookie");
        let expected: Vec<_> = expected.into_iter().filter(named).collect();
        wait("Kontena's keys", || keys().into_iter().filter(named).collect::<Vec<_>>() == expected);
        place.docker.docker(&["kill", &web]);
        balancer.wait_gone("www.test", "/");
        place.docker.docker(&["rm", "--force", &db]);
        wait("nothing", || keys().is_empty());
    });
}

#[test]
fn a_folder_is_a_store_too() {
    let Some(docker) = Docker::get() else { return };
    let image = docker.build_web("web", "");
    // Takes its turn with the other tests.
    let (_etcd, site) = (Etcd::start(), Site::new());
    let mut command = program("agent");
    command.arg("--store").arg(site.folder()).args(["--docker", docker.host(), "--node", NODE]);
    let mut agent = Process::start(&mut command);
    agent.wait_log("keeping ");
    let id = docker.run.clone();
    let below = site.folder().join(format!("haproxy-{id}"));
    std::fs::create_dir_all(&below).expect("a folder");
    let balancer = Launch::new().arg("--store").arg(&below).args(&["--prefix", "/"]).start();
    let web = container(&docker, &image, "web", &format!("id={id} service=shop domain=shop.test"), &[]);
    balancer.wait_answer("shop.test", "/", 200, "web");
    docker.docker(&["stop", "-t", "5", &web]);
    balancer.wait_gone("shop.test", "/");
    wait("no file", || !below.join("services/shop/domain").exists());
    // In a folder, only one agent of a daemon runs at a time; the next one takes over its keys.
    let web = container(&docker, &image, "again", &format!("id={id} service=shop domain=shop.test"), &[]);
    balancer.wait_answer("shop.test", "/", 200, "again");
    agent.kill();
    docker.docker(&["rm", "--force", &web]);
    let mut agent = Process::start(&mut command);
    agent.wait_log("keeping ");
    wait("no file", || !below.join("services/shop/domain").exists());
}
