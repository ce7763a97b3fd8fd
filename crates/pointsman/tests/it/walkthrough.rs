//! The commands and key layouts of the older systems, unchanged, with real etcd and both of its APIs.

use crate::harness::{Api, Backend, Etcd, Launch, Pointsman, echo_tcp, free_port, get, wait};

/// The prefix of `HAPROXY-ID=haproxy-1`.
const PREFIX: &str = "/haproxy-haproxy-1";

fn image(etcd: &Etcd, api: &str) -> Pointsman {
    let launch = Launch::new().args(&["--store", &etcd.url(), "--etcd-api", api]);
    launch.env("HAPROXY-ID", "haproxy-1").start()
}

#[test]
fn the_image_s_own_commands_with_the_v2_api() {
    let (etcd, one, two) = (Etcd::start(), Backend::naming("one"), Backend::naming("two"));
    etcd.etcdctl2(&["mkdir", "/haproxy-haproxy-1/services"]);
    etcd.etcdctl2(&["mkdir", "/haproxy-haproxy-1/tcp-services"]);
    let running = image(&etcd, "auto");
    running.wait_ready();
    running.wait_gone("example.org", "/");
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/myapp/domain", "example.org"]);
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/myapp/port", &one.address().port().to_string()]);
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/myapp/myapp-1", "127.0.0.1"]);
    running.wait_backend("example.org", "/", "one");
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/ghost/domain", "ghost.example.org"]);
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/ghost/ghost-1", &two.instance()]);
    running.wait_backend("ghost.example.org", "/", "two");
    etcd.etcdctl2(&["rm", "/haproxy-haproxy-1/services/ghost/ghost-1"]);
    running.wait_gone("ghost.example.org", "/");
    etcd.etcdctl2(&["rm", "--recursive", "/haproxy-haproxy-1/services/myapp"]);
    running.wait_gone("example.org", "/");
    etcd.etcdctl2(&["rm", "/haproxy-haproxy-1/services/ghost/domain"]);
    etcd.etcdctl2(&["rmdir", "/haproxy-haproxy-1/services/ghost"]);
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/late/domain", "late.org"]);
    etcd.etcdctl2(&["set", "/haproxy-haproxy-1/services/late/late-1", &two.instance()]);
    running.wait_backend("late.org", "/", "two");
}

#[test]
fn the_same_keys_with_the_v3_api() {
    let (etcd, one, two) = (Etcd::start(), Backend::naming("one"), Backend::naming("two"));
    let running = image(&etcd, "auto");
    running.wait_ready();
    etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/myapp/domain", "example.org"]);
    etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/myapp/port", &one.address().port().to_string()]);
    etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/myapp/myapp-1", "127.0.0.1"]);
    running.wait_backend("example.org", "/", "one");
    etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/myapp/myapp-1", &two.instance()]);
    running.wait_backend("example.org", "/", "two");
    etcd.etcdctl3(&["del", "/haproxy-haproxy-1/services/myapp/myapp-1"]);
    running.wait_gone("example.org", "/");
    etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/myapp/myapp-2", &one.instance()]);
    running.wait_backend("example.org", "/", "one");
    etcd.etcdctl3(&["del", "--prefix", "/haproxy-haproxy-1/services/myapp/"]);
    running.wait_gone("example.org", "/");
}

#[test]
fn a_prefix_that_is_the_beginning_of_another_takes_nothing_from_it() {
    let (etcd, one, two) = (Etcd::start(), Backend::naming("one"), Backend::naming("two"));
    let running = image(&etcd, "3");
    running.wait_ready();
    etcd.put(Api::V3, "/haproxy-haproxy-10/services/other/domain", "other.org");
    etcd.put(Api::V3, "/haproxy-haproxy-10/services/other/other-1", &two.instance());
    etcd.put(Api::V3, "/haproxy-haproxy-1/services/mine/domain", "mine.org");
    etcd.put(Api::V3, "/haproxy-haproxy-1/services/mine/mine-1", &one.instance());
    running.wait_backend("mine.org", "/", "one");
    running.wait_gone("other.org", "/");
}

#[test]
fn tcp_services_with_the_v2_api() {
    tcp_services(Api::V2, "2");
}

#[test]
fn tcp_services_with_the_v3_api() {
    tcp_services(Api::V3, "3");
}

fn tcp_services(api: Api, flag: &str) {
    let (etcd, port) = (Etcd::start(), free_port());
    let running = image(&etcd, flag);
    running.wait_ready();
    let key = |name: &str| format!("{PREFIX}/tcp-services/db/{name}");
    etcd.put(api, &key("port"), &port.to_string());
    etcd.put(api, &key("db-1"), &echo_tcp("first ").to_string());
    wait("the TCP service", || greets(port, b"first "));
    etcd.put(api, &key("db-1"), &echo_tcp("second").to_string());
    wait("the other instance", || greets(port, b"second"));
    etcd.delete(api, &key("port"));
    etcd.delete(api, &key("db-1"));
    wait("the port to close", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

fn greets(port: u16, text: &[u8]) -> bool {
    use std::io::Read as _;
    let mut greeting = vec![0; text.len()];
    let read = |mut stream: std::net::TcpStream| stream.read_exact(&mut greeting);
    std::net::TcpStream::connect(("127.0.0.1", port)).and_then(read).is_ok() && greeting == text
}

#[test]
fn kontena_s_layout() {
    let (etcd, site, api) = (Etcd::start(), Backend::naming("site"), Backend::naming("api"));
    let port = free_port();
    let running = Launch::new().args(&["--store", &etcd.url(), "--prefix", "/kontena/haproxy/lb"]).start();
    for (key, value) in [
        ("services/site/virtual_hosts", "www.kontena.test,kontena.test"),
        ("services/site/balance", "leastconn"),
        ("services/site/upstreams/site-1", &site.instance()),
        ("services/api/virtual_hosts", "www.kontena.test"),
        ("services/api/virtual_path", "/api"),
        ("services/api/upstreams/api-1", &api.instance()),
        ("services/kept/virtual_path", "/kept"),
        ("services/kept/keep_virtual_path", "true"),
        ("services/kept/upstreams/kept-1", &api.instance()),
        ("tcp-services/db/external_port", &port.to_string()),
        ("tcp-services/db/upstreams/db-1", &echo_tcp("kontena").to_string()),
    ] {
        etcd.etcdctl2(&["set", &format!("/kontena/haproxy/lb/{key}"), value]);
    }
    running.wait_answer("www.kontena.test", "/", 200, "site /\n");
    running.wait_answer("kontena.test", "/api/x", 200, "site /api/x\n");
    running.wait_answer("www.kontena.test", "/api/x?y=1", 200, "api /x?y=1\n");
    running.wait_answer("www.kontena.test", "/api", 200, "api /\n");
    running.wait_answer("any.test", "/kept/x", 200, "api /kept/x\n");
    wait("the TCP service", || greets(port, b"kontena"));
}

#[test]
fn the_ancestor_s_layout() {
    let (etcd, web, shop) = (Etcd::start(), Backend::naming("web"), Backend::naming("shop"));
    let (first, second) = (free_port(), free_port());
    let running = Launch::new().args(&["--store", &etcd.url(), "--prefix", "/haproxy-discover"]).start();
    for (key, value) in [
        ("services/web/domain", "ancestor.test"),
        ("services/web/upstreams/web-1", &*web.instance()),
        ("services/shop/domain", "ancestor.test"),
        ("services/shop/url_reg", "^/Shop(/|$)"),
        ("services/shop/upstreams/shop-1", &shop.instance()),
        ("services/either/domain", "either.test"),
        ("services/either/url_reg", "^/either"),
        ("services/either/match", "any"),
        ("services/either/upstreams/either-1", &shop.instance()),
        ("tcp-services/mail/ports", &format!("{first},127.0.0.1:{second}")),
        ("tcp-services/mail/upstreams/mail-1", &echo_tcp("mail").to_string()),
    ] {
        etcd.etcdctl2(&["set", &format!("/haproxy-discover/{key}"), value]);
    }
    running.wait_answer("ancestor.test", "/", 200, "web /\n");
    running.wait_answer("ANCESTOR.test:80", "/sHOP/cart", 200, "shop /sHOP/cart\n");
    running.wait_answer("ancestor.test", "/shopping", 200, "web /shopping\n");
    running.wait_answer("either.test", "/", 200, "shop /\n");
    running.wait_answer("nobody.test", "/either", 200, "shop /either\n");
    wait("the first port", || greets(first, b"mail"));
    wait("the second port", || greets(second, b"mail"));
}

#[test]
fn the_later_version_s_layout() {
    let (etcd, all, api) = (Etcd::start(), Backend::naming("all"), Backend::naming("api"));
    let (port, inside) = (free_port(), echo_tcp("inside"));
    let running = image(&etcd, "auto");
    for (key, value) in [
        ("services/all/domain", "later.test"),
        ("services/all/upstreams/all-1", &*all.instance()),
        ("services/api/domain", "later.test"),
        ("services/api/url_beg", "/api,/v1"),
        ("services/api/upstreams/api-1", &api.instance()),
        ("tcp-services/db/external_port", &port.to_string()),
        ("tcp-services/db/internal_port", &inside.port().to_string()),
        ("tcp-services/db/upstreams/db-1", "127.0.0.1"),
    ] {
        etcd.etcdctl3(&["put", &format!("{PREFIX}/{key}"), value]);
    }
    running.wait_answer("later.test", "/", 200, "all /\n");
    running.wait_answer("later.test", "/apix", 200, "api /apix\n");
    running.wait_answer("later.test", "/v1/x", 200, "api /v1/x\n");
    wait("the TCP service", || greets(port, b"inside"));
}

#[test]
fn an_etcd_that_comes_late_is_waited_for() {
    let (mut etcd, one) = (Etcd::start(), Backend::naming("one"));
    etcd.put(Api::V3, &format!("{PREFIX}/services/a/domain"), "a.test");
    etcd.put(Api::V3, &format!("{PREFIX}/services/a/a-1"), &one.instance());
    etcd.kill();
    let mut running = image(&etcd, "auto");
    running.process.wait_log(etcd.url().trim_start_matches("http://"));
    assert_eq!(get(running.admin, "localhost", "/readyz").expect("admin answers").status, 503);
    assert_eq!(get(running.admin, "localhost", "/healthz").expect("admin answers").status, 200);
    etcd.resume();
    running.wait_backend("a.test", "/", "one");
    running.wait_ready();
}
