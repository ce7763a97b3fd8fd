//! Endpoints that accept connections and never answer, or have no leader: whatever one of them does, the others serve.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

mod support;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pointsman_store::lease::{Claim, Edit, LeaseOutcome, Owner};
use pointsman_store::{Api, Location, Store, StoreSettings};
use support::{Etcd, Followed, SOON, free_port, settings};
use tempfile::TempDir;
use tokio::time::timeout;

const PREFIX: &str = "/haproxy-haproxy-1";
const BOTH: [Api; 2] = [Api::V2, Api::V3];

/// Accepts, as the kernel does for it, and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A member of a cluster of three whose others have died.
struct Leaderless {
    members: Vec<Child>,
    url: String,
    _data: TempDir,
}

impl Leaderless {
    fn start() -> Self {
        let (data, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port(), free_port()]);
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<_> = ports.iter().map(|port| format!("m{port}={}", at(*port))).collect();
        let member = |port: &u16, url: &str| {
            let peer = at(*port);
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{port}"), "--enable-v2", "--unsafe-no-fsync"]);
            command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command
                .args(["--initial-cluster", &cluster.join(","), "--data-dir"])
                .arg(data.path().join(port.to_string()));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let url = at(free_port());
        let urls = [url.clone(), at(free_port()), at(free_port())];
        let members = ports.iter().zip(&urls).map(|(port, url)| member(port, url)).collect();
        let mut cluster = Self { members, url, _data: data };
        cluster.wait_leader("200");
        cluster.members.drain(1..).for_each(end);
        cluster.wait_leader("503");
        cluster
    }

    /// Waits for this answer to the question who leads.
    fn wait_leader(&self, status: &str) {
        let url = format!("{}/v2/members/leader", self.url);
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let asked =
                Command::new("curl").args(["-s", "-m2", "-o", "/dev/null", "-w", "%{http_code}", &url]).output();
            let said = String::from_utf8(asked.unwrap().stdout).unwrap();
            if said == status {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "waiting for {status} from {url}, have {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn end(mut member: Child) {
    let _ = member.kill();
    let _ = member.wait();
}

impl Drop for Leaderless {
    fn drop(&mut self) {
        self.members.drain(..).for_each(end);
    }
}

fn at(urls: &[&str], api: Api) -> StoreSettings {
    settings(Location::Etcd(urls.iter().map(|url| (*url).to_owned()).collect()), api, PREFIX)
}

/// Every operation, with the useless endpoint first: each succeeds.
async fn serves(useless: &str, etcd: &Etcd, api: Api) {
    let key = format!("{PREFIX}/services/a/domain");
    let settings = at(&[useless, &etcd.url()], api);
    let new = || Store::open(&settings).unwrap();
    new().put(&key, b"x").await.unwrap();
    assert_eq!(new().get(&key).await.unwrap().as_deref(), Some(&b"x"[..]));
    assert_eq!(new().list(PREFIX).await.unwrap().entries.len(), 1);
    let store = new();
    store.amend(&key, |_| Some(b"y".to_vec())).await.unwrap();
    let owner = Owner::new("agent", &format!("{api:?}{useless}"));
    let lease = store.lease(&owner, Duration::from_secs(5), Claim::First).await.unwrap().unwrap();
    let put = Edit::Put { key: format!("{PREFIX}/services/a/one"), value: b"z".to_vec() };
    let put = lease.apply(&[put]).await;
    assert!(matches!(put[..], [Ok(LeaseOutcome::Done(_))]), "{put:?}");
    assert_eq!(lease.renew().await.unwrap(), LeaseOutcome::Done(0));
    let mut followed = Followed::start(settings.clone());
    followed.until_keys("both keys", |keys| keys.contains_key("services/a/domain")).await;
    lease.release().await.unwrap();
    new().delete(&key, false).await.unwrap();
    followed.until("").await;
}

#[tokio::test]
async fn a_silent_first_endpoint_holds_nothing_up() {
    let etcd = Etcd::v2();
    for api in BOTH {
        let (_listener, url) = silent();
        serves(&url, &etcd, api).await;
    }
}

#[tokio::test]
async fn a_leaderless_first_endpoint_holds_nothing_up() {
    let (etcd, leaderless) = (Etcd::v2(), Leaderless::start());
    for api in BOTH {
        serves(&leaderless.url, &etcd, api).await;
    }
}

/// Three of four are silent: each costs a new store a quarter of a second, not the several seconds of a deadline.
#[tokio::test]
async fn many_silent_endpoints_are_passed_over() {
    let etcd = Etcd::v2();
    for api in BOTH {
        let (_listeners, silent): (Vec<_>, Vec<_>) = (0..3).map(|_| silent()).unzip();
        let alive = etcd.url();
        let urls = [&silent[0], &silent[1], &silent[2], &alive].map(String::as_str);
        let rounds = async {
            for round in 0..10 {
                let store = Store::open(&at(&urls, api)).unwrap();
                store.put(&format!("{PREFIX}/services/a/{round}"), b"x").await.unwrap();
            }
        };
        timeout(Duration::from_secs(60), rounds).await.expect("each in time");
        let mut followed = Followed::start(at(&urls, api));
        followed.until_keys("10 keys", |keys| keys.len() == 10).await;
        Store::open(&at(&urls, api)).unwrap().delete(&format!("{PREFIX}/services"), true).await.unwrap();
    }
}
