//! One Docker daemon, one store, and the programs between them. Keys are read as other programs see them, never through
//! the program under test.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::docker::Docker;
use crate::harness::{Api, Connection, Etcd, Launch, PATIENCE, Pointsman, Process, wait};

/// The usual `--ttl` of the agents.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// The agents' `--node`.
pub(crate) const NODE: &str = "node-1";

/// The environment of a test.
pub(crate) struct Place {
    pub(crate) docker: Docker,
    pub(crate) etcd: Etcd,
    pub(crate) api: Api,
    /// The image of `web`.
    pub(crate) image: String,
    /// The agents' `--ttl`.
    pub(crate) ttl: Duration,
}

/// A key in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) value: String,
    /// Whether it expires.
    pub(crate) ends: bool,
}

/// Runs the test with both APIs of etcd in parallel, because a test mostly waits.
pub(crate) fn each(test: impl Fn(&mut Place) + Sync) {
    both(|api| with(Docker::get(), api, &test));
}

/// Runs the test with both APIs of etcd, each with its own Docker daemon.
pub(crate) fn each_own(test: impl Fn(&mut Place) + Sync) {
    both(|api| with(Docker::own(), api, &test));
}

fn both(test: impl Fn(Api) + Sync) {
    std::thread::scope(|scope| {
        scope.spawn(|| test(Api::V2));
        scope.spawn(|| test(Api::V3));
    });
}

/// Runs the test with one API of etcd.
pub(crate) fn with(docker: Option<Docker>, api: Api, test: impl Fn(&mut Place)) {
    // The reason has been printed already.
    let Some(docker) = docker else { return };
    let image = docker.build_web("web", "");
    test(&mut Place { docker, etcd: Etcd::start(), api, image, ttl: TTL });
}

/// `pointsman` with this command and an empty environment.
pub(crate) fn program(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["POINTSMAN", "HAPROXY", "ETCD", "KONTENA", "DOCKER", "RUST_LOG"].iter().any(|lead| text.starts_with(lead)) {
            program.env_remove(&name);
        }
    }
    program.arg(command);
    program
}

impl Place {
    /// The balancer's id, unique to the test, because other tests run containers on the same daemon.
    pub(crate) fn id(&self) -> &str {
        &self.docker.run
    }

    /// Starts a container of `web` with our labels, such as `service=shop domain=shop.test`; returns its id.
    #[track_caller]
    pub(crate) fn container(&self, name: &str, labels: &str, args: &[&str]) -> String {
        container(&self.docker, &self.image, name, &format!("id={} {labels}", self.id()), args)
    }

    /// The container's full name in Docker.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.docker.run)
    }

    fn store(&self) -> [String; 4] {
        let api = if self.api == Api::V2 { "2" } else { "3" };
        ["--store".to_owned(), self.etcd.url(), "--etcd-api".to_owned(), api.to_owned()]
    }

    /// The command line of an agent for this daemon.
    pub(crate) fn agent_command(&self) -> Command {
        self.agent_of(&self.docker, NODE)
    }

    /// The command line of an agent for a daemon, on a machine of this name.
    pub(crate) fn agent_of(&self, docker: &Docker, node: &str) -> Command {
        let mut command = program("agent");
        command.args(self.store()).args(["--docker", docker.host(), "--node", node]);
        command.args(["--ttl", &format!("{}s", self.ttl.as_secs())]);
        command
    }

    /// Starts an agent for this daemon and waits until its keys are written.
    #[track_caller]
    pub(crate) fn agent(&self) -> Process {
        let mut agent = Process::start(&mut self.agent_command());
        agent.wait_log("keeping ");
        agent
    }

    /// Starts a balancer that follows the agent's keys.
    #[track_caller]
    pub(crate) fn balancer(&self, name: &str) -> Pointsman {
        self.balancer_at(name, &["--id", self.id()])
    }

    #[track_caller]
    pub(crate) fn balancer_at(&self, name: &str, place: &[&str]) -> Pointsman {
        let store = self.store();
        let store: Vec<&str> = store.iter().map(String::as_str).collect();
        let running = Launch::new().args(&store).args(place).args(&["--name", name, "--workers", "1"]).start();
        running.wait_ready();
        running
    }

    /// All keys below a prefix, relative to it; `None` if the store does not answer.
    pub(crate) fn below(&self, prefix: &str) -> Option<BTreeMap<String, Key>> {
        let all = match self.api {
            Api::V2 => read2(&self.etcd.url()),
            Api::V3 => read3(&self.etcd.url()),
        };
        let below =
            |(key, value): (String, Key)| Some((key.strip_prefix(prefix)?.strip_prefix('/')?.to_owned(), value));
        Some(all?.into_iter().filter_map(below).collect())
    }

    /// The balancer's keys on one line, with instances by container name and without their addresses:
    /// `services/shop/domain=shop.test, services/shop/upstreams/web=80`.
    pub(crate) fn keys(&self) -> Option<String> {
        Some(self.line(self.below(&self.prefix())?))
    }

    fn line(&self, keys: BTreeMap<String, Key>) -> String {
        let own = format!("{NODE}-{}-", self.docker.run);
        let described = keys.into_iter().map(|(key, Key { value, .. })| match key.rsplit_once("upstreams/") {
            Some((folder, name)) => {
                let (name, (_, port)) =
                    (name.strip_prefix(&own).unwrap_or(name), value.split_once(':').unwrap_or_default());
                format!("{folder}upstreams/{name}={port}")
            }
            None => format!("{key}={value}"),
        });
        let (settings, instances): (Vec<_>, Vec<_>) = described.partition(|line| !line.contains("upstreams/"));
        [settings, instances].concat().join(", ")
    }

    pub(crate) fn prefix(&self) -> String {
        format!("/haproxy-{}", self.id())
    }

    /// Waits until the balancer's keys are as expected.
    #[track_caller]
    pub(crate) fn wait_keys(&self, expected: &str) {
        self.wait_settled(expected, Duration::ZERO);
    }

    /// Waits until the balancer's keys are as expected, and have been for this long.
    #[track_caller]
    pub(crate) fn wait_settled(&self, expected: &str, span: Duration) {
        let (start, mut since) = (Instant::now(), None);
        loop {
            let keys = self.keys();
            if keys.as_deref() != Some(expected) {
                since = None;
                assert!(start.elapsed() < PATIENCE, "{:?}: after {PATIENCE:?} {keys:?}, not {expected:?}", self.api);
            } else if since.get_or_insert_with(Instant::now).elapsed() >= span {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Records every change of the balancer's keys from now on.
    #[track_caller]
    pub(crate) fn watch(&self) -> Watch {
        let mut command = Command::new("etcdctl");
        command.args(["--endpoints", &self.etcd.url()]).arg("watch");
        let prefix = self.prefix();
        match self.api {
            Api::V2 => command.env("ETCDCTL_API", "2").args(["--recursive", "--forever", &prefix]),
            Api::V3 => command.env("ETCDCTL_API", "3").args(["--prefix", &prefix]),
        };
        self.marked(Process::start(&mut command), &format!("{prefix}/config/mark"))
    }

    /// Returns the watch once it has reported this key, which is then deleted again.
    #[track_caller]
    fn marked(&self, process: Process, mark: &str) -> Watch {
        wait("the watch to begin", || {
            self.etcd.put(self.api, mark, "x");
            process.log().contains(mark)
        });
        self.etcd.delete(self.api, mark);
        Watch { process, mark: mark.to_owned() }
    }
}

/// A record of changes to the balancer's keys.
pub(crate) struct Watch {
    process: Process,
    mark: String,
}

impl Watch {
    /// The changes so far: `PUT` or `DELETE` and the key.
    pub(crate) fn happened(&self) -> Vec<String> {
        let log = self.process.log();
        let mut lines = log.lines().map(str::trim).peekable();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            match line.split_once("] ") {
                Some((action, key)) if action.starts_with('[') => {
                    let kind = if action.contains("elete") || action == "[expire" { "DELETE" } else { "PUT" };
                    found.push(format!("{kind} {key}"));
                }
                _ if line == "PUT" || line == "DELETE" => {
                    found.push(format!("{line} {}", lines.peek().copied().unwrap_or_default()));
                }
                _ => {}
            }
        }
        found.retain(|line| !line.ends_with(&self.mark));
        found
    }

    #[track_caller]
    pub(crate) fn assert_nothing_deleted(&self) {
        let deleted: Vec<_> = self.happened().into_iter().filter(|line| line.starts_with("DELETE")).collect();
        assert!(deleted.is_empty(), "{deleted:#?}");
    }
}

/// Starts a container of an image with our labels, written without `pointsman.`; returns its id.
#[track_caller]
pub(crate) fn container(docker: &Docker, image: &str, name: &str, labels: &str, args: &[&str]) -> String {
    let (full, variable) = (format!("{}-{name}", docker.run), format!("NAME={name}"));
    let labels: Vec<_> = labels.split_whitespace().map(|label| format!("pointsman.{label}")).collect();
    let mut words = vec!["--name", full.as_str(), "--env", variable.as_str()];
    labels.iter().for_each(|label| words.extend(["--label", label.as_str()]));
    words.extend_from_slice(args);
    // Arguments after the image's name go to its program.
    match words.iter().position(|word| *word == "--") {
        Some(place) => words[place] = image,
        None => words.push(image),
    }
    docker.run(&words)
}

fn ask(url: &str, method: &str, path: &str, body: &str) -> Option<Value> {
    let host = url.strip_prefix("http://")?;
    let mut connection = Connection::try_open(host.parse().ok()?).ok()?;
    connection.stream().set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let length = body.len();
    connection
        .send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"))
        .ok()?;
    serde_json::from_slice(&connection.response(method).ok()?.body).ok()
}

fn read2(url: &str) -> Option<BTreeMap<String, Key>> {
    let answer = ask(url, "GET", "/v2/keys/?recursive=true", "")?;
    let (mut found, mut left) = (BTreeMap::new(), vec![answer.get("node")?.clone()]);
    while let Some(node) = left.pop() {
        left.extend(node["nodes"].as_array().cloned().unwrap_or_default());
        if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
            found.insert(key.to_owned(), Key { value: value.to_owned(), ends: node["ttl"].is_number() });
        }
    }
    Some(found)
}

fn read3(url: &str) -> Option<BTreeMap<String, Key>> {
    let body = format!("{{\"key\":\"{}\",\"range_end\":\"{}\"}}", STANDARD.encode("/"), STANDARD.encode("0"));
    let answer = ask(url, "POST", "/v3/kv/range", &body)?;
    answer.get("header")?;
    let text = |value: &Value| Some(String::from_utf8_lossy(&STANDARD.decode(value.as_str()?).ok()?).into_owned());
    let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
    let read = keys.iter().map(|kv| {
        let (key, value) = (text(&kv["key"])?, text(&kv["value"]).unwrap_or_default());
        Some((key, Key { value, ends: kv["lease"].is_string() }))
    });
    read.collect()
}
