//! What the stores' tests share: a follower whose keys can be waited for, and a real etcd.
#![allow(dead_code, reason = "each test target uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

#[path = "../../../pointsman/tests/support/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pointsman_store::{Api, Condition, Location, Store, StoreSettings, Update};
use pointsman_table::Change;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use ports::free_port;
use tokio::time::timeout;

/// For anything that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn settings(location: Location, api: Api, prefix: &str) -> StoreSettings {
    StoreSettings {
        location,
        api,
        prefix: prefix.to_owned(),
        user: None,
        ca: None,
        identity: None,
        audit: Duration::from_secs(180),
    }
}

/// A store being followed, and what it has told.
pub(crate) struct Followed {
    pub(crate) keys: BTreeMap<String, String>,
    pub(crate) resets: usize,
    pub(crate) revision: u64,
    /// Every change in order: `key=value`, `-key`, `-key/`.
    pub(crate) log: Vec<String>,
    updates: mpsc::Receiver<Update>,
    pub(crate) condition: watch::Receiver<Condition>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    pub(crate) fn start(settings: StoreSettings) -> Self {
        let (to, updates) = mpsc::channel(16);
        let (state, condition) = watch::channel(Condition::Connecting { error: None });
        let task = tokio::spawn(async move {
            let store = Store::open(&settings).expect("settings");
            store.follow(to, state).await;
        });
        Self { keys: BTreeMap::new(), resets: 0, revision: 0, log: Vec::new(), updates, condition, task }
    }

    /// Takes updates until the keys are these, written `key=value key=value`.
    pub(crate) async fn until(&mut self, want: &str) {
        let want: Vec<&str> = want.split_whitespace().collect();
        self.until_keys(&format!("{want:?}"), |keys| shown(keys) == want).await;
    }

    pub(crate) async fn until_keys(&mut self, what: &str, done: impl Fn(&BTreeMap<String, String>) -> bool) {
        let deadline = Instant::now() + SOON;
        while self.resets == 0 || !done(&self.keys) {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.updates.recv()).await {
                Ok(Some(update)) => self.take(update),
                Ok(None) => panic!("the follower ended"),
                Err(_) => panic!("waiting for {what}\n   have {:?}\n   {:?}", shown(&self.keys), self.state()),
            }
        }
    }

    /// Takes whatever comes within this time.
    pub(crate) async fn drain(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(update)) = timeout(end.saturating_duration_since(Instant::now()), self.updates.recv()).await {
            self.take(update);
        }
    }

    pub(crate) async fn until_condition(&mut self, what: &str, done: impl Fn(&Condition) -> bool) -> Duration {
        let start = Instant::now();
        let seen = timeout(SOON, self.condition.wait_for(|now| done(now))).await.is_ok_and(|seen| seen.is_ok());
        assert!(seen, "waiting for {what}, have {:?}", self.state());
        start.elapsed()
    }

    pub(crate) async fn until_watching(&mut self) -> Duration {
        self.until_condition("watching", |now| matches!(now, Condition::Watching { .. })).await
    }

    pub(crate) async fn until_lost(&mut self) -> Duration {
        self.until_condition("lost", |now| matches!(now, Condition::Lost { .. })).await
    }

    pub(crate) fn state(&self) -> Condition {
        self.condition.borrow().clone()
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Reset { revision, entries } => {
                self.resets += 1;
                self.revision = revision;
                self.keys = entries.into_iter().map(|(key, value)| (key.into(), text(&value))).collect();
            }
            Update::Changes { revision, changes } => {
                assert!(revision > self.revision, "revision {revision} after {}", self.revision);
                self.revision = revision;
                changes.into_iter().for_each(|change| self.apply(change));
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put { key, value } => {
                self.log.push(format!("{key}={}", text(&value)));
                self.keys.insert(key.into(), text(&value));
            }
            Change::Delete { key } => {
                self.log.push(format!("-{key}"));
                self.keys.remove(&*key);
            }
            Change::DeleteTree { key } => {
                self.log.push(format!("-{key}/"));
                self.keys
                    .retain(|known, _| !key.is_empty() && *known != *key && !known.starts_with(&format!("{key}/")));
            }
        }
    }
}

fn shown(keys: &BTreeMap<String, String>) -> Vec<String> {
    keys.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// A real etcd of our own.
pub(crate) struct Etcd {
    child: Option<Child>,
    pub(crate) port: u16,
    peer: u16,
    pub(crate) data: TempDir,
    flags: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Etcd {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut etcd = Self {
            child: None,
            port: free_port(),
            peer: free_port(),
            data: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        etcd.run();
        etcd
    }

    /// With the v2 API.
    pub(crate) fn v2() -> Self {
        Self::start(&["--enable-v2"])
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it on its ports and data, and waits until it answers.
    pub(crate) fn run(&mut self) {
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let child = Command::new("etcd")
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(self.data.path().join("etcd"))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
        let deadline = Instant::now() + SOON;
        while !self.is_healthy() {
            assert!(Instant::now() < deadline, "etcd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_healthy(&self) -> bool {
        let health = Command::new("curl").args(["-sf", "-m1", &format!("{}/health", self.url())]).output().unwrap();
        String::from_utf8_lossy(&health.stdout).contains("true")
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("running").id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// `etcdctl` with API 2.
    pub(crate) fn ctl(&self, line: &str) -> String {
        self.etcdctl("2", line)
    }

    pub(crate) fn ctl3(&self, line: &str) -> String {
        self.etcdctl("3", line)
    }

    fn etcdctl(&self, api: &str, line: &str) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", api)
            .args(["--endpoints", &self.url()])
            .args(line.split_whitespace())
            .output()
            .expect("etcdctl is installed");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "etcdctl {line}: {out}{err}");
        out.into_owned()
    }

    /// Many requests of one client over one connection, as a script would: `curl` reads them from a file.
    pub(crate) fn script(&self, requests: &[(String, String)]) {
        let file = self.data.path().join("script");
        let lines: Vec<String> = requests
            .iter()
            .map(|(key, value)| {
                let url = format!("{}/v2/keys{key}", self.url());
                format!("url = \"{url}\"\nrequest = PUT\ndata = \"value={value}\"\noutput = /dev/null")
            })
            .collect();
        std::fs::write(&file, lines.join("\nnext\n")).unwrap();
        run("curl", &["-s", "-K", file.to_str().unwrap()]);
    }
}

pub(crate) fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

/// A shell line in a folder.
pub(crate) fn sh(folder: &Path, line: &str) {
    let status = Command::new("sh").args(["-ec", line]).current_dir(folder).status().unwrap();
    assert!(status.success(), "{line}");
}
