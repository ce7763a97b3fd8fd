//! The agent against a real Docker daemon: its view of the containers, and trouble of the daemon.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

#[path = "support/docker.rs"]
mod docker;

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use docker::{Docker, wait};
use pointsman::agent::docker::{Containers, DockerSettings, follow};
use pointsman::agent::{AgentDefaults, Container, Health, State, wanted};
use pointsman::settings::DockerHost;
use pointsman_store::Condition;
use tokio::sync::watch;

/// Follows a daemon on its own thread, until the receiver is dropped.
fn followed(docker: &Docker) -> watch::Receiver<Containers> {
    followed_at(docker.host())
}

fn followed_at(host: &str) -> watch::Receiver<Containers> {
    let settings = DockerSettings {
        deadline: Duration::from_secs(2),
        ping: Duration::from_millis(300),
        ..DockerSettings::new(DockerHost::parse(host).unwrap())
    };
    let (out, view) = watch::channel(Containers::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(follow(settings, out)));
    wait("the daemon is followed", || matches!(view.borrow().condition, Condition::Watching { .. }));
    view
}

/// The test's containers: name without the test's prefix, state, and `weight=0` for a container without new work.
fn seen(docker: &Docker, view: &watch::Receiver<Containers>) -> String {
    let describe = |container: &Container| {
        let name = container.name.strip_prefix(&format!("{}-", docker.run)).unwrap_or(&container.name).to_owned();
        let state = match (container.state, container.health) {
            (State::Paused, _) => " paused",
            (_, Health::Starting) => " starting",
            (_, Health::Unhealthy) => " unhealthy",
            (_, Health::Healthy) => " healthy",
            (_, Health::None) => "",
        };
        format!("{name}{state}{}", if container.stopping { " stopping" } else { "" })
    };
    let view = view.borrow();
    let ours = view.containers.values().filter(|container| container.name.starts_with(&docker.run));
    let mut lines: Vec<_> = ours.map(describe).collect();
    lines.sort();
    lines.join(", ")
}

#[track_caller]
fn wait_seen(docker: &Docker, view: &watch::Receiver<Containers>, expected: &str) {
    let begin = Instant::now();
    while seen(docker, view) != expected {
        assert!(begin.elapsed() < Duration::from_secs(20), "seen: {}; expected: {expected}", seen(docker, view));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a container of `web` with one of our labels; returns its name.
#[track_caller]
fn run(docker: &Docker, image: &str, name: &str, args: &[&str]) -> String {
    let name = format!("{}-{name}", docker.run);
    docker.run(&[&["--name", &name, "--label", "pointsman.enable=true"], args, &[image]].concat())
}

#[test]
fn containers_come_and_go() {
    let Some(docker) = Docker::get() else { return };
    let image = docker.build_web("web", "");
    let before = run(&docker, &image, "before", &[]);
    let view = followed(&docker);
    wait_seen(&docker, &view, "before");
    let web = run(&docker, &image, "web", &[]);
    docker.run(&[&image]);
    wait_seen(&docker, &view, "before, web");
    docker.docker(&["pause", &web]);
    wait_seen(&docker, &view, "before, web paused");
    docker.docker(&["unpause", &web]);
    wait_seen(&docker, &view, "before, web");
    docker.docker(&["rename", &web, &format!("{}-shop", docker.run)]);
    wait_seen(&docker, &view, "before, shop");
    docker.docker(&["rm", "--force", &before]);
    wait_seen(&docker, &view, "shop");
    docker.docker(&["restart", "-t", "5", &web]);
    wait_seen(&docker, &view, "shop");
    docker.docker(&["kill", &web]);
    wait_seen(&docker, &view, "");
    docker.docker(&["start", &web]);
    wait_seen(&docker, &view, "shop");
}

#[test]
fn one_that_is_told_to_stop_takes_no_new_work() {
    let Some(docker) = Docker::get() else { return };
    let image = docker.build_web("web", "");
    let view = followed(&docker);
    let web = run(&docker, &image, "web", &[]);
    let other = run(&docker, &image, "other", &["--stop-signal", "SIGWINCH"]);
    wait_seen(&docker, &view, "other, web");
    docker.wait_web(&web);
    // Keeps a request open for a while.
    let mut work = TcpStream::connect((docker.ip(&web, None), 80)).unwrap();
    std::io::Write::write_all(&mut work, b"GET /slow?ms=2000 HTTP/1.1\r\n\r\n").unwrap();
    for signal in ["HUP", "USR1", "WINCH"] {
        docker.docker(&["kill", "--signal", signal, &web]);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(seen(&docker, &view), "other, web");
    let stop = docker.command().args(["stop", "-t", "10", &web]).stdout(Stdio::null()).spawn().unwrap();
    wait_seen(&docker, &view, "other, web stopping");
    // An agent that starts now knows it too.
    assert_eq!(seen(&docker, &followed(&docker)), "other, web stopping");
    assert!(stop.wait_with_output().unwrap().status.success());
    wait_seen(&docker, &view, "other");
    docker.docker(&["start", &web]);
    wait_seen(&docker, &view, "other, web");
    // The container defines its own stop signal.
    docker.docker(&["kill", "--signal", "WINCH", &other]);
    wait_seen(&docker, &view, "other stopping, web");
}

#[test]
fn health_checks_are_heeded() {
    let Some(docker) = Docker::get() else { return };
    let check =
        "HEALTHCHECK --interval=500ms --timeout=2s --retries=1 CMD [\"/web\", \"check\", \"http://127.0.0.1/health\"]";
    let image = docker.build_web("checked", check);
    let view = followed(&docker);
    let web = run(&docker, &image, "web", &[]);
    wait_seen(&docker, &view, "web healthy");
    let ask = |path: &str| {
        let mut stream = TcpStream::connect((docker.ip(&web, None), 80)).unwrap();
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        std::io::Read::read(&mut stream, &mut [0; 100]).unwrap();
    };
    ask("/sick");
    wait_seen(&docker, &view, "web unhealthy");
    ask("/well");
    wait_seen(&docker, &view, "web healthy");
}

#[test]
fn networks_ports_and_labels_become_keys() {
    let Some(docker) = Docker::get() else { return };
    let image = docker.build_web("web", "EXPOSE 80\nLABEL pointsman.service=shop");
    let view = followed(&docker);
    let network = docker.network("back");
    let web = run(&docker, &image, "web", &["--env", "KONTENA_LB_BALANCE=first", "--publish", "127.0.0.1::80"]);
    let name = format!("{}-web", docker.run);
    wait_seen(&docker, &view, "web");
    let keys = |defaults: &AgentDefaults| {
        let view = view.borrow();
        let ours = view.containers.values().filter(|container| container.name == name);
        let (wanted, complaints) = wanted(ours, defaults);
        let instances = wanted.values().flat_map(|wanted| &wanted.instances);
        let mut lines: Vec<_> = instances.map(|(key, value)| format!("{key}={value}")).collect();
        lines.extend(complaints.iter().map(ToString::to_string));
        lines.join("\n")
    };
    let defaults = AgentDefaults { prefix: Some(String::new()), node: "n".to_owned(), ..AgentDefaults::default() };
    let key = format!("services/shop/upstreams/n-{name}");
    assert_eq!(keys(&defaults), format!("{key}={}:80", docker.ip(&web, None)));
    assert_eq!(view.borrow().containers[&web].env["KONTENA_LB_BALANCE"], "first");
    let published = docker.docker(&["port", &web, "80/tcp"]);
    let host = Some("127.0.0.1".parse().unwrap());
    assert_eq!(keys(&AgentDefaults { host, ..defaults.clone() }), format!("{key}={published}"));
    let host = Some("192.0.2.1".parse().unwrap());
    assert!(keys(&AgentDefaults { host, ..defaults.clone() }).contains("no address"), "{}", keys(&defaults));
    docker.docker(&["network", "connect", &network, &web]);
    wait("two networks", || keys(&defaults).contains("no address: it is attached to"));
    let named = AgentDefaults { network: Some(network.clone()), ..defaults.clone() };
    assert_eq!(keys(&named), format!("{key}={}:80", docker.ip(&web, Some(&network))));
    docker.docker(&["network", "disconnect", "bridge", &web]);
    wait("one network", || keys(&defaults) == format!("{key}={}:80", docker.ip(&web, Some(&network))));
    let host = run(&docker, &image, "host", &["--network", "host", "--env", "PORT=0"]);
    wait("the machine's network", || view.borrow().containers.get(&host).is_some_and(|c| c.host_network));
}

#[test]
fn one_that_is_gone_at_once_leaves_nothing() {
    let Some(docker) = Docker::get() else { return };
    let image = docker.build_web("web", "");
    let view = followed(&docker);
    for _ in 0..5 {
        docker.run(&["--rm", "--label", "pointsman.enable=true", &image, "exit"]);
    }
    let stays = run(&docker, &image, "stays", &[]);
    for _ in 0..20 {
        docker.docker(&["kill", "--signal", "HUP", &stays]);
    }
    wait_seen(&docker, &view, "stays");
    let label = format!("pointsman-test={}", docker.run);
    wait("those that ended are not seen", || {
        let view = view.borrow();
        view.containers
            .values()
            .filter(|c| c.labels.contains_key("pointsman-test") && label.ends_with(&c.labels["pointsman-test"]))
            .count()
            == 1
    });
}

/// Relays bytes between TCP and the daemon's socket; returns the address, and the connections, which can be cut.
fn relay(docker: &Docker) -> (String, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let socket = docker.host().strip_prefix("unix://").unwrap().to_owned();
    let connections = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&connections);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let daemon = UnixStream::connect(&socket).unwrap();
            all.lock().unwrap().push(client.try_clone().unwrap());
            let (mut up, mut back) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(std::io::copy(&mut up, &mut &daemon));
                daemon.shutdown(std::net::Shutdown::Write)
            });
            std::thread::spawn(move || {
                drop(std::io::copy(&mut back, &mut &client));
                client.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    (format!("tcp://{address}"), connections)
}

#[test]
fn a_connection_may_be_cut() {
    let Some(docker) = Docker::get().filter(|docker| docker.host().starts_with("unix://")) else { return };
    let image = docker.build_web("web", "");
    let (host, connections) = relay(&docker);
    let mut view = followed_at(&host);
    let web = run(&docker, &image, "web", &[]);
    run(&docker, &image, "other", &[]);
    wait_seen(&docker, &view, "other, web");
    for round in 0..3 {
        view.mark_unchanged();
        connections
            .lock()
            .unwrap()
            .drain(..)
            .for_each(|connection| drop(connection.shutdown(std::net::Shutdown::Both)));
        // Changes during the interruption are seen afterwards.
        docker.docker(&[["kill", "start", "pause"][round], &web]);
        wait_seen(&docker, &view, ["other", "other, web", "other, web paused"][round]);
        wait("it is followed again", || matches!(view.borrow().condition, Condition::Watching { .. }));
        assert!(view.has_changed().unwrap());
    }
}

#[test]
fn the_daemon_may_be_away() {
    let Some(mut docker) = Docker::own() else { return };
    let image = docker.build_web("web", "");
    let view = followed(&docker);
    let id = view.borrow().daemon.clone();
    assert_eq!(id, docker.docker(&["info", "--format", "{{.ID}}"]));
    assert_eq!(view.borrow().node, docker.docker(&["info", "--format", "{{.Name}}"]));
    run(&docker, &image, "web", &["--restart", "always"]);
    wait_seen(&docker, &view, "web");
    // Frozen: accepts connections but answers nothing.
    docker.signal("STOP");
    wait("a frozen daemon is noticed", || matches!(view.borrow().condition, Condition::Lost { .. }));
    assert_eq!(seen(&docker, &view), "web");
    docker.signal("CONT");
    wait("it is back", || matches!(view.borrow().condition, Condition::Watching { .. }));
    assert_eq!(seen(&docker, &view), "web");
    // Ended, with its containers. The daemon starts them again.
    docker.stop();
    wait("an ended daemon is noticed", || matches!(view.borrow().condition, Condition::Lost { .. }));
    docker.start(false);
    wait("it is back", || matches!(view.borrow().condition, Condition::Watching { .. }));
    wait_seen(&docker, &view, "web");
    assert_eq!(view.borrow().daemon, id);
    // Another daemon at the same address.
    docker.stop();
    docker.start(true);
    wait("another daemon is another", || !["", &id].contains(&view.borrow().daemon.as_str()));
    assert_eq!(view.borrow().daemon, docker.docker(&["info", "--format", "{{.ID}}"]));
    assert_eq!(seen(&docker, &view), "");
}

#[test]
fn a_daemon_that_is_not_there_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("unix://{}", folder.path().join("no.sock").display());
    let (out, view) = watch::channel(Containers::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = DockerSettings::new(DockerHost::parse(&host).unwrap());
    let follower = std::thread::spawn(move || runtime.block_on(follow(settings, out)));
    let error = |view: &Containers| match &view.condition {
        Condition::Connecting { error: Some(error) } => error.to_string(),
        _ => String::new(),
    };
    wait("it says why", || error(&view.borrow()).contains("no.sock"));
    assert_eq!(view.borrow().daemon, "");
    drop(view);
    follower.join().unwrap();
}
