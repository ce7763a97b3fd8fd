//! Starts, freezes, kills and replaces real etcd servers. Each has its own ports and folder, and dies with its handle.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;

/// One etcd server.
pub(crate) struct Etcd {
    pub(crate) url: String,
    args: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
    /// More arguments for etcdctl: certificates, user.
    pub(crate) ctl: Vec<String>,
}

/// Where it is to listen, and what it is to be told.
pub(crate) struct Plan {
    pub(crate) scheme: &'static str,
    pub(crate) args: Vec<String>,
    pub(crate) ctl: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { scheme: "http", args: Vec::new(), ctl: Vec::new() }
    }
}

impl Etcd {
    /// A single server, ready.
    pub(crate) fn start() -> Self {
        Self::with(Plan::default())
    }

    /// A single server as planned, ready.
    pub(crate) fn with(plan: Plan) -> Self {
        let mut etcd = Self::planned(&plan, free_port(), free_port(), &[]);
        etcd.restart();
        etcd
    }

    /// Three servers of one cluster, ready.
    pub(crate) fn cluster() -> Vec<Self> {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let peers: Vec<u16> = ports.iter().map(|(_, peer)| *peer).collect();
        let start = |(client, peer): &(u16, u16)| Self::planned(&Plan::default(), *client, *peer, &peers);
        let mut members: Vec<Self> = ports.iter().map(start).collect();
        members.iter_mut().for_each(Self::spawn);
        members.iter().for_each(Self::wait_ready);
        members
    }

    fn planned(plan: &Plan, client: u16, peer: u16, peers: &[u16]) -> Self {
        let url = format!("{}://127.0.0.1:{client}", plan.scheme);
        let peers = if peers.is_empty() { &[peer] } else { peers };
        let cluster: Vec<String> = peers.iter().map(|port| format!("m{port}=http://127.0.0.1:{port}")).collect();
        let mut args = vec![
            format!("--name=m{peer}"),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster={}", cluster.join(",")),
            "--log-level=error".to_owned(),
        ];
        args.extend(plan.args.iter().cloned());
        Self { url, args, folder: TempDir::new().unwrap(), child: None, ctl: plan.ctl.clone() }
    }

    /// Its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it, with the data that it has.
    pub(crate) fn restart(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts it with the data that it has, for clients at another port.
    pub(crate) fn restart_at(&mut self, port: u16) {
        let url = format!("http://127.0.0.1:{port}");
        let old = std::mem::replace(&mut self.url, url.clone());
        self.args.iter_mut().filter(|arg| arg.contains("client-urls")).for_each(|arg| *arg = arg.replace(&old, &url));
        self.restart();
    }

    /// Its port for clients.
    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Whether it leads its cluster.
    pub(crate) fn leads(&self) -> bool {
        self.child.is_some() && self.ctl(&["endpoint", "status"]).split(", ").nth(4) == Some("true")
    }

    /// Watches that are open, as its metrics say.
    pub(crate) fn watches(&self) -> usize {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let found = page.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        found.expect("the metric").parse().unwrap()
    }

    /// The same with one more argument, which it keeps.
    pub(crate) fn restart_with(&mut self, arg: &str) {
        self.args.push(arg.to_owned());
        self.restart();
    }

    fn spawn(&mut self) {
        let mut command = Command::new("etcd");
        command.args(&self.args).arg("--unsafe-no-fsync").arg("--data-dir").arg(self.data());
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.try_ctl(&["get", "--consistency=l", "no-such-key"]).0 {
            assert!(Instant::now() < deadline, "etcd at {} does not start", self.url);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal, such as `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// `etcdctl`, which must succeed; what it printed.
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let (ok, said) = self.try_ctl(args);
        assert!(ok, "etcdctl {args:?}: {said}");
        said
    }

    /// The same with arguments that need not be UTF-8.
    pub(crate) fn ctl_bytes(&self, args: &[&[u8]]) {
        let args = args.iter().map(|arg| OsStr::from_bytes(arg));
        assert!(self.command(&[]).args(args).status().unwrap().success());
    }

    /// One transaction: a line of etcdctl's for each operation.
    pub(crate) fn txn(&self, operations: &[&str]) {
        use std::io::Write;
        let mut child = self.command(&["txn"]).stdin(Stdio::piped()).spawn().unwrap();
        // Comparisons, a blank line, what to do if they hold, a blank line, what to do else, a blank line.
        let script = format!("\n{}\n\n\n", operations.join("\n"));
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    fn try_ctl(&self, args: &[&str]) -> (bool, String) {
        let out = self.command(args).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.url).arg("--command-timeout=2s");
        command.args(&self.ctl).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A copy of a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
