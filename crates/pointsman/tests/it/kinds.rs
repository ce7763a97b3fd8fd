//! Third-party clients and servers work through the program.

use crate::harness::{
    Backend, Pointsman, Site, finish, get_ok, h2load, nginx, node_client, node_server, python_client, python_server,
    wrk,
};

fn in_front_of(instance: &str) -> (Pointsman, Site) {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", instance)]);
    (Pointsman::serving(&site), site)
}

#[test]
fn wrk_and_h2load() {
    let backend = Backend::naming("one");
    let (running, _site) = in_front_of(&backend.instance());
    assert!(wrk(running.http, "a.test") > 100);
    assert_eq!(h2load(running.http, "a.test"), 500);
}

#[test]
fn curl() {
    let backend = Backend::naming("one");
    let (running, _site) = in_front_of(&backend.instance());
    let url = |path: &str| format!("http://{}{path}", running.http);
    let curl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("curl");
        finish(command.args(["-sS", "--fail", "-H", "Host: a.test"]).args(arguments)).ok()
    };
    assert_eq!(curl(&[&url("/x")]), "one /x\n");
    assert_eq!(
        curl(&[
            "-T",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            &url("/count"),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}"
        ]),
        "200"
    );
    assert_eq!(curl(&["--http1.0", &url("/x")]), "one /x\n");
    assert!(curl(&["-I", &url("/bytes/100")]).to_ascii_lowercase().contains("content-length: 100"));
    assert_eq!(curl(&[&url("/1"), &url("/2"), "-w", "%{num_connects} "]), "one /1\n1 one /2\n0 ");
}

#[test]
fn python_and_node_clients() {
    let backend = Backend::naming("one");
    let (running, _site) = in_front_of(&backend.instance());
    assert_eq!(python_client(running.http, "a.test"), "200 5000\n200 70000 true\n");
    assert_eq!(node_client(running.http, "a.test"), "200 5000\n200 70000 true\n");
}

#[test]
fn nginx_as_backend() {
    let home = Site::new();
    let server = nginx(&home);
    let (running, _site) = in_front_of(&server.address.to_string());
    assert_eq!(get_ok(running.http, "a.test", "/x?y").text(), "nginx /x?y\n");
    assert!(wrk(running.http, "a.test") > 100);
}

#[test]
fn python_as_backend() {
    let home = Site::new();
    let server = python_server(&home);
    let (running, _site) = in_front_of(&server.address.to_string());
    for _ in 0..20 {
        assert_eq!(get_ok(running.http, "a.test", "/hello").text(), "python\n");
    }
}

#[test]
fn node_as_backend() {
    let server = node_server();
    let (running, _site) = in_front_of(&server.address.to_string());
    assert_eq!(get_ok(running.http, "a.test", "/x").text(), "node /x\n");
    assert_eq!(h2load(running.http, "a.test"), 500);
}
