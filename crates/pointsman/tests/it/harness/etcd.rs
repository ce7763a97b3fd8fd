//! Real etcd 3.4 with both APIs: one member or three, stopped, killed, moved, backed up and restored.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::client::{Connection, Response};
use super::process::{Finished, Process, finish};
use super::{free_address, turn, wait, wait_within};

/// One of etcd's two key spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// HTTP, directories.
    V2,
    /// gRPC, flat.
    V3,
}

/// One etcd member.
pub(crate) struct Etcd {
    home: TempDir,
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    cluster: String,
    process: Option<Process>,
}

impl Etcd {
    /// A new, healthy server. Retries if another process has taken its port meanwhile.
    #[track_caller]
    pub(crate) fn start() -> Self {
        turn::shared();
        for _ in 0..5 {
            let mut etcd = Self::member("solo", free_address());
            etcd.cluster = etcd.as_initial();
            etcd.resume();
            if etcd.is_up_or_ended() {
                return etcd;
            }
        }
        panic!("no port for etcd");
    }

    fn member(name: &str, client: SocketAddr) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        Self { home, name: name.to_owned(), client, peer: free_address(), cluster: String::new(), process: None }
    }

    fn as_initial(&self) -> String {
        format!("{}=http://{}", self.name, self.peer)
    }

    /// Its client URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Starts it with its existing data.
    pub(crate) fn resume(&mut self) {
        self.resume_at(self.client);
    }

    /// Starts it with its existing data, at another client address, where no client looks for it.
    pub(crate) fn resume_at(&mut self, client: SocketAddr) {
        let mut command = Command::new("etcd");
        let (client, peer) = (format!("http://{client}"), format!("http://{}", self.peer));
        command.args(["--name", &self.name, "--enable-v2", "--data-dir"]).arg(self.home.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.cluster, "--initial-cluster-state", "new"]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        // What a process has written outlives its death: only a machine's needs more, and its disk is not what is tested.
        command.arg("--unsafe-no-fsync");
        self.process = Some(Process::start(command.env_remove("ETCDCTL_API")));
    }

    fn is_up_or_ended(&mut self) -> bool {
        let mut process = self.process.take().expect("just started");
        let up = wait_within("etcd", Duration::from_secs(30), || {
            if !process.is_running() {
                return Some(false);
            }
            is_healthy(self.client).then_some(true)
        });
        self.process = Some(process);
        up
    }

    /// Waits until it answers.
    #[track_caller]
    pub(crate) fn wait_up(&self) {
        wait("etcd to answer", || is_healthy(self.client));
    }

    /// Kills it, like a machine that loses power.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends a signal: `STOP` makes it silent without closing anything, `CONT` resumes it.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// Copies its data to a folder beside it. The server must be stopped.
    pub(crate) fn back_up(&self) {
        assert!(self.process.is_none(), "the data is in use");
        copy_tree(&self.home.path().join("data"), &self.home.path().join("backup"));
    }

    /// Replaces its data with the copy. The server must be stopped.
    pub(crate) fn restore(&self) {
        assert!(self.process.is_none(), "the data is in use");
        self.wipe();
        copy_tree(&self.home.path().join("backup"), &self.home.path().join("data"));
    }

    /// Deletes its data, so that it starts as a new cluster.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.home.path().join("data")).expect("it has data");
    }

    /// Writes a key quickly: over its own connection, without a process per key.
    #[track_caller]
    pub(crate) fn put(&self, api: Api, key: &str, value: &str) {
        Writer::to(self, api).put(key, value);
    }

    /// Deletes a key.
    #[track_caller]
    pub(crate) fn delete(&self, api: Api, key: &str) {
        Writer::to(self, api).delete(key);
    }

    /// `etcdctl` with the v2 API, as users of the image run it.
    #[track_caller]
    pub(crate) fn etcdctl2(&self, arguments: &[&str]) -> String {
        etcdctl(&self.url(), "2", arguments).ok()
    }

    /// `etcdctl` with the v3 API.
    #[track_caller]
    pub(crate) fn etcdctl3(&self, arguments: &[&str]) -> String {
        etcdctl(&self.url(), "3", arguments).ok()
    }
}

/// Writes many keys over one connection.
pub(crate) struct Writer {
    api: Api,
    host: String,
    connection: Connection,
}

impl Writer {
    /// Connects to this member.
    #[track_caller]
    pub(crate) fn to(etcd: &Etcd, api: Api) -> Self {
        Self { api, host: etcd.client.to_string(), connection: Connection::open(etcd.client) }
    }

    /// Writes a key.
    #[track_caller]
    pub(crate) fn put(&mut self, key: &str, value: &str) {
        let (method, path, body) = match self.api {
            Api::V2 => ("PUT", format!("/v2/keys{key}"), format!("value={}", form_encoded(value))),
            Api::V3 => ("POST", "/v3/kv/put".to_owned(), json(&[("key", key), ("value", value)])),
        };
        self.send(method, &path, &body);
    }

    /// Deletes a key.
    #[track_caller]
    pub(crate) fn delete(&mut self, key: &str) {
        match self.api {
            Api::V2 => self.send("DELETE", &format!("/v2/keys{key}"), ""),
            Api::V3 => self.send("POST", "/v3/kv/deleterange", &json(&[("key", key)])),
        };
    }

    #[track_caller]
    fn send(&mut self, method: &str, path: &str, body: &str) -> Response {
        let response = self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(response.status < 300, "{method} {path}: {}{}", response.head, response.text());
        response
    }

    fn try_send(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        let (host, length) = (&self.host, body.len());
        let kind = "application/x-www-form-urlencoded";
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n");
        self.connection.send(format!("{head}Content-Length: {length}\r\n\r\n{body}"))?;
        self.connection.response(method)
    }
}

/// Three members of one cluster.
pub(crate) struct Cluster {
    /// The members.
    pub(crate) members: Vec<Etcd>,
}

impl Cluster {
    /// Starts three, and waits until all of them serve.
    #[track_caller]
    pub(crate) fn start() -> Self {
        turn::shared();
        let mut members: Vec<_> = ["one", "two", "three"].map(|name| Etcd::member(name, free_address())).into();
        let cluster = members.iter().map(Etcd::as_initial).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.resume();
        }
        members.iter().for_each(Etcd::wait_up);
        Self { members }
    }

    /// Every client URL, comma separated.
    pub(crate) fn urls(&self) -> String {
        self.members.iter().map(Etcd::url).collect::<Vec<_>>().join(",")
    }

    /// The leader's index among the members.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        wait_within("a leader", Duration::from_secs(20), || self.members.iter().position(is_leader))
    }

    /// Writes a key through any live member, with retries.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: &str) {
        let what = format!("{key} to be written");
        let endpoints = self.urls();
        wait(&what, || etcdctl(&endpoints, "3", &["put", key, value]).code == Some(0));
    }
}

/// Runs etcdctl against these endpoints.
#[track_caller]
fn etcdctl(endpoints: &str, api: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new("etcdctl");
    finish(command.env("ETCDCTL_API", api).args(["--endpoints", endpoints]).args(arguments))
}

fn is_leader(member: &Etcd) -> bool {
    let Ok(connection) = Connection::try_open(member.client) else {
        return false;
    };
    let mut writer = Writer { api: Api::V3, host: member.client.to_string(), connection };
    let Ok(status) = writer.try_send("POST", "/v3/maintenance/status", "{}") else {
        return false;
    };
    let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap_or_default();
    status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
}

fn is_healthy(client: SocketAddr) -> bool {
    super::get(client, "etcd", "/health").is_ok_and(|answer| answer.text().contains("\"true\""))
}

fn json(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("\"{name}\":\"{}\"", STANDARD.encode(value))).collect();
    format!("{{{}}}", fields.join(","))
}

fn form_encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = finish(Command::new("cp").arg("-a").arg("--").arg(from).arg(to));
    copied.ok();
}
