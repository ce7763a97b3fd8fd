//! The control experiment: the harness's clients, backends and stores among themselves, without the program.

use std::time::Duration;

use crate::harness::{
    Api, Backend, Cluster, Connection, Etcd, Load, Site, echo_tcp, finish, get_ok, h2load, nginx, node_client,
    node_server, pattern, python_client, python_server, wait, wrk,
};

#[test]
fn clients_and_backend_agree() {
    let backend = Backend::naming("one");
    let mut connection = Connection::open(backend.address());
    for (target, body) in [("/bytes/1000", pattern(0, 1000)), ("/chunks/30000", pattern(0, 30_000))] {
        assert!(connection.request("GET", "a", target).expect("kept").body == body, "{target}");
    }
    assert!(connection.request("HEAD", "a", "/bytes/9").expect("kept").body.is_empty());
    assert_eq!(connection.request("GET", "a", "/status/204").expect("kept").status, 204);
    connection
        .send("POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\0\x01\r\n0\r\n\r\n")
        .expect("kept");
    assert_eq!(connection.response("POST").expect("kept").text(), "2 true\n");
    assert_eq!((backend.connections(), backend.whole()), (1, 5));
    assert_eq!(backend.received().concat().len(), backend.bytes());
}

#[test]
fn loads_run_clean_without_a_proxy() {
    let (backend, echo) = (Backend::naming("one"), echo_tcp(""));
    let address = backend.address();
    let load = Load::new()
        .keep_alive(2, address, "a")
        .open_close(2, address, "a")
        .download(address, "a", Duration::from_millis(300))
        .tunnel(address, "a")
        .stream(echo);
    wait("some exchanges", || load.done() > 200);
    load.finish().assert_clean(200);
}

#[test]
fn a_load_tells_what_failed() {
    let backend = Backend::naming("one");
    let load = Load::new().keep_alive(1, backend.address(), "a");
    wait("some exchanges", || load.done() > 5);
    drop(backend);
    wait("the failure", || load.has_failed());
    assert_eq!(load.finish().failures.len(), 1);
}

#[test]
fn other_makes_of_client_and_server() {
    let (backend, site) = (Backend::naming("one"), Site::new());
    assert!(wrk(backend.address(), "a") > 100);
    assert_eq!(h2load(backend.address(), "a"), 500);
    assert_eq!(python_client(backend.address(), "a"), "200 5000\n200 70000 true\n");
    assert_eq!(node_client(backend.address(), "a"), "200 5000\n200 70000 true\n");
    assert_eq!(get_ok(nginx(&site).address, "a", "/x").text(), "nginx /x\n");
    assert_eq!(get_ok(python_server(&site).address, "a", "/hello").text(), "python\n");
    assert_eq!(get_ok(node_server().address, "a", "/x").text(), "node /x\n");
    finish(std::process::Command::new("curl").arg(format!("http://{}/", backend.address()))).ok();
}

#[test]
fn etcd_is_written_stopped_and_restored() {
    let mut etcd = Etcd::start();
    etcd.put(Api::V2, "/dir/two", "a b&c");
    etcd.put(Api::V3, "/dir/three", "a b&c");
    assert_eq!(etcd.etcdctl2(&["get", "/dir/two"]), "a b&c\n");
    assert_eq!(etcd.etcdctl3(&["get", "--print-value-only", "/dir/three"]), "a b&c\n");
    etcd.kill();
    etcd.back_up();
    etcd.resume();
    etcd.wait_up();
    etcd.put(Api::V3, "/dir/three", "later");
    etcd.delete(Api::V2, "/dir/two");
    etcd.kill();
    etcd.restore();
    etcd.resume();
    etcd.wait_up();
    assert_eq!(etcd.etcdctl2(&["get", "/dir/two"]), "a b&c\n");
    assert_eq!(etcd.etcdctl3(&["get", "--print-value-only", "/dir/three"]), "a b&c\n");
}

#[test]
fn a_cluster_elects_another_leader() {
    let mut cluster = Cluster::start();
    let first = cluster.leader();
    cluster.members[first].kill();
    cluster.put("/a", "b");
    assert_ne!(cluster.leader(), first);
}
