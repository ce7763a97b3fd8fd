//! The image: the walk-through of the image that it replaces, and its contents.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::docker::{Docker, Thing};
use crate::root;
use crate::support::{Finished, Running, backend, finish, get, long, skip, wait};

/// The documented size, in bytes.
const LARGEST: u64 = 15_000_000;
/// Frequent health checks, so that tests need not wait.
const IMPATIENT: &[&str] = &["--health-interval", "500ms", "--health-start-period", "0s"];

/// The daemon, in the long form: the image's program is built as it is shipped, which takes minutes.
fn daemon() -> Option<Arc<Docker>> {
    if !long() {
        skip("the image is built in the long form, POINTSMAN_LONG=1");
        return None;
    }
    Docker::get()
}

/// etcd with both APIs, on the usual port of an address that only this test uses.
struct Etcd {
    ip: IpAddr,
    _process: Running,
    _home: TempDir,
}

impl Etcd {
    fn start(ip: IpAddr) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let (client, peer) = (format!("http://{ip}:2379"), format!("http://{ip}:2380"));
        let mut command = Command::new("etcd");
        command.env_remove("ETCDCTL_API").args(["--enable-v2", "--data-dir"]).arg(home.path());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd is there");
        let etcd = Self { ip, _process: Running(child), _home: home };
        wait("etcd", 30, || (etcd.try_ctl(&["ls", "/"]).code == Some(0)).then_some(()));
        etcd
    }

    fn try_ctl(&self, arguments: &[&str]) -> Finished {
        let endpoint = format!("http://{}:2379", self.ip);
        finish(Command::new("etcdctl").env("ETCDCTL_API", "2").args(["--endpoints", &endpoint]).args(arguments))
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str]) {
        self.try_ctl(arguments).ok();
    }
}

/// The address on this machine where the container's port 80 is published.
#[track_caller]
fn published(docker: &Docker, container: &Thing<'_>) -> SocketAddr {
    let line = docker.run(&["port", &container.name, "80/tcp"]);
    let first = line.lines().next().unwrap_or_default();
    first.trim().parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[track_caller]
fn wait_status(address: SocketAddr, host: &str, status: u16) {
    let what = format!("{status} for {host}");
    wait(&what, 20, || get(address, host).filter(|answer| answer.0 == status));
}

#[test]
fn the_walk_through_of_the_image_that_it_replaces() {
    let Some(docker) = daemon() else { return };
    let (network, gateway) = docker.network();
    let etcd = Etcd::start(gateway);
    let container = docker.container(
        &[
            IMPATIENT,
            &["-e", "HAPROXY-ID=haproxy-1", "-e", &format!("ETCD_NODE={gateway}"), "-p", "127.0.0.1::80"],
            &["--network", &network.name, docker.image()],
        ]
        .concat(),
    );
    let (address, app) = (published(&docker, &container), backend(gateway));
    etcd.ctl(&["mkdir", "/haproxy-haproxy-1/services"]);
    etcd.ctl(&["mkdir", "/haproxy-haproxy-1/services/myapp"]);
    etcd.ctl(&["set", "/haproxy-haproxy-1/services/myapp/domain", "example.org"]);
    etcd.ctl(&["set", "/haproxy-haproxy-1/services/myapp/port", &app.port().to_string()]);
    etcd.ctl(&["set", "/haproxy-haproxy-1/services/myapp/myapp-1", &gateway.to_string()]);
    wait_status(address, "example.org", 200);
    assert_eq!(get(address, "example.org"), Some((200, "hello".to_owned())));
    assert_eq!(get(address, "other.example.org").map(|answer| answer.0), Some(503));
    container.wait_health("healthy");
    etcd.ctl(&["rm", "--recursive", "/haproxy-haproxy-1/services/myapp"]);
    wait_status(address, "example.org", 503);
    assert_eq!(container.exec(&["/pointsman", "health"]).ok(), "ready");
    runs_as_nobody_in_particular(&docker, &container);
    ends_in_order(&docker, &container);
}

fn runs_as_nobody_in_particular(docker: &Docker, container: &Thing<'_>) {
    let top = docker.run(&["top", &container.name, "-o", "pid,uid,gid,args"]);
    let program = top.lines().find(|line| line.contains("/pointsman run")).unwrap_or_default();
    let words: Vec<_> = program.split_whitespace().collect();
    assert_eq!(words[1..3], ["65532", "65532"], "{top}");
}

fn ends_in_order(docker: &Docker, container: &Thing<'_>) {
    docker.run(&["stop", "--time", "30", &container.name]);
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "0");
    assert!(container.log().contains("draining: finishing open requests and connections, then exiting"));
}

#[test]
fn it_is_small_and_says_what_it_is() {
    let Some(docker) = daemon() else { return };
    let image = docker.image();
    let of = |format: &str| docker.run(&["image", "inspect", "--format", format, image]);
    let size: u64 = of("{{.Size}}").parse().expect("a number");
    assert!(size < LARGEST, "the image is {size} bytes");
    assert_eq!(of("{{.Config.User}}"), "65532:65532");
    assert_eq!(of("{{json .Config.Entrypoint}} {{json .Config.Cmd}}"), r#"["/pointsman"] ["run"]"#);
    assert_eq!(of(r#"{{index .Config.Labels "org.opencontainers.image.version"}}"#), env!("CARGO_PKG_VERSION"));
    assert!(of("{{json .Config.Healthcheck.Test}}").contains(r#""/pointsman","health""#));
}

#[test]
fn it_needs_no_right_at_all() {
    let Some(docker) = daemon() else { return };
    let bare: &[&str] = &["--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    let keys = &["--read-only", "--tmpfs", "/var/lib/pointsman:uid=65532,gid=65532"];
    let container = docker.container(&[IMPATIENT, bare, keys, &["-p", "127.0.0.1::80", docker.image()]].concat());
    container.wait_health("healthy");
    serves_a_key(&docker, &container);
}

#[test]
fn a_volume_of_its_own_can_be_written() {
    let Some(docker) = daemon() else { return };
    let container = docker
        .container(&[IMPATIENT, &["--volume", "/var/lib/pointsman", "-p", "127.0.0.1::80", docker.image()]].concat());
    container.wait_health("healthy");
    serves_a_key(&docker, &container);
}

#[test]
fn a_store_out_of_reach_is_not_healthy() {
    let Some(docker) = daemon() else { return };
    let nobody = ["-e", "ETCD_NODE=127.0.0.1", "-e", "HAPROXY-ID=h", "--health-retries", "1"];
    let container = docker.container(&[IMPATIENT, &nobody, &[docker.image()]].concat());
    container.wait_health("unhealthy");
    let said = container.inspect("{{json .State.Health.Log}}");
    assert!(said.contains("the store was not read yet"), "{said}");
}

#[test]
fn with_a_haproxy_beside_it() {
    let Some(docker) = daemon() else { return };
    let Some(tar) = root::tar() else { return };
    let haproxy = haproxy_image(&docker, &tar);
    let container = docker.container(&[IMPATIENT, &["-p", "127.0.0.1::80", haproxy]].concat());
    container.wait_health("healthy");
    serves_a_key(&docker, &container);
    let top = docker.run(&["top", &container.name, "-o", "pid,uid,args"]);
    let owners =
        top.lines().filter(|line| line.contains("haproxy -W")).filter_map(|line| line.split_whitespace().nth(1));
    assert_eq!(owners.collect::<Vec<_>>(), ["65532"; 2], "{top}");
    assert!(container.log().contains("HAProxy 2."));
    ends_in_order(&docker, &container);
}

fn haproxy_image(docker: &Docker, tar: &Path) -> &'static str {
    const NAME: &str = "pointsman-under-test-haproxy";
    docker.import(tar, root::IMAGE);
    let program = format!("POINTSMAN={}", docker.image());
    let base = format!("BASE={}", root::IMAGE);
    let arguments = ["--file", "packaging/docker/Dockerfile.haproxy", "--tag", NAME];
    let build = ["build", "--quiet", "--build-arg", &program, "--build-arg", &base];
    docker.replacing(NAME, docker.command("docker").args(build).args(arguments).arg("packaging/docker"));
    NAME
}

/// With the directory store; `pointsman set` writes the keys inside the container.
#[track_caller]
fn serves_a_key(docker: &Docker, container: &Thing<'_>) {
    let gateway = container.inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}");
    let app = backend(gateway.parse().expect("the address of this machine there"));
    for (key, value) in [("services/a/domain", "a.test"), ("services/a/one", &app.to_string())] {
        container.exec(&["/pointsman", "set", key, value]).ok();
    }
    wait_status(published(docker, container), "a.test", 200);
}
