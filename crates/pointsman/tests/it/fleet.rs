//! Several balancers of one id: what they say of themselves, waiting for all of them, draining an instance everywhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{
    Api, Backend, Connection, Etcd, Finished, Launch, Load, PATIENCE, Pointsman, Process, Site, free_address, get,
    program_folder, run, wait,
};

const ID: &str = "haproxy-1";
/// A request that is answered without end, until the backend lets it go.
const HOLD: &str = "GET /hold HTTP/1.1\r\nHost: shop.test\r\n\r\n";

/// A store of one kind, and how commands reach it.
pub(crate) struct Store {
    pub(crate) flags: Vec<String>,
    pub(crate) etcd: Option<Etcd>,
    _site: Option<Site>,
}

impl Store {
    pub(crate) fn etcd(api: Api) -> Self {
        let etcd = Etcd::start();
        let api = if api == Api::V2 { "2" } else { "3" };
        Self { flags: flags(&["--store", &etcd.url(), "--id", ID, "--etcd-api", api]), etcd: Some(etcd), _site: None }
    }

    pub(crate) fn folder() -> Self {
        let site = Site::new();
        let folder = site.folder().display().to_string();
        Self { flags: flags(&["--store", &folder, "--id", ID]), etcd: None, _site: Some(site) }
    }

    pub(crate) fn each() -> [Self; 3] {
        [Self::folder(), Self::etcd(Api::V2), Self::etcd(Api::V3)]
    }

    /// Sets a key to a value of any form.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: &str) {
        let flags = self.flags.iter().map(String::as_str);
        let all: Vec<&str> = ["set", key, value].into_iter().chain(flags).collect();
        assert_eq!(run(&all).code, Some(0), "{key}");
    }

    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Finished {
        let words = line.split(' ').map(str::to_owned);
        let all: Vec<String> = words.chain(self.flags.iter().cloned()).collect();
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn launch(&self, name: &str) -> Launch {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Launch::new().args(&flags).args(&["--name", name, "--workers", "1"])
    }

    #[track_caller]
    pub(crate) fn balancer(&self, name: &str) -> Pointsman {
        let running = self.launch(name).start();
        running.wait_ready();
        running
    }

    /// Waits until so many balancers have told their status.
    #[track_caller]
    pub(crate) fn wait_members(&self, count: usize) {
        wait(&format!("{count} balancers"), || self.run("status").stdout.matches("serving").count() == count);
    }
}

fn flags(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// That a command says no, and these words.
#[track_caller]
pub(crate) fn assert_no(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(words.iter().all(|word| finished.stderr.contains(word)), "{words:?} in {finished:?}");
}

#[test]
fn a_change_is_waited_for_in_every_store() {
    for store in Store::each() {
        assert_no(&store.run("wait"), &["no balancer of /haproxy-haproxy-1 in ", &store.flags[1], " is live"]);
        assert_no(&store.run("status"), &["no balancer of /haproxy-haproxy-1 in ", &store.flags[1], " is live"]);
        let (one, two) = (store.balancer("one"), store.balancer("two"));
        store.wait_members(2);
        let backend = Backend::naming("web");
        store.run("set services/shop/domain shop.test --wait").ok();
        store.run(&format!("set services/shop/web {} --wait", backend.instance())).ok();
        for balancer in [&one, &two] {
            assert_eq!(get(balancer.http, "shop.test", "/").expect("it serves").status, 200);
        }
        let waited = store.run("rm services/shop/web --wait=10s");
        assert_eq!(waited.code, Some(0), "{waited:?}");
        assert!(waited.stderr.contains("2 balancers are "), "{waited:?}");
        for balancer in [&one, &two] {
            assert_eq!(get(balancer.http, "shop.test", "/").expect("it serves").status, 503);
        }
        store.run("wait").ok();
        let elsewhere = store.run("set /elsewhere/x y --wait");
        assert!(elsewhere.code == Some(2) && elsewhere.stderr.contains("is not below"), "{elsewhere:?}");
        // A problem is told by whoever has it.
        let forced = store.run("set services/shop/port eighty --force --wait");
        assert_no(&forced, &["2 balancers are ", "the change is a problem", "on 2 balancers: ", "services/shop/port"]);
        let status = store.run("status").ok();
        assert_eq!(status.matches("services/shop/port").count(), 2, "{status}");
    }
}

#[test]
fn an_instance_is_drained_everywhere() {
    for store in Store::each() {
        let (one, two) = (store.balancer("one"), store.balancer("two"));
        store.wait_members(2);
        let (web, other) = (Backend::naming("web"), Backend::naming("other"));
        store.run("set services/shop/domain shop.test").ok();
        store.run(&format!("set services/shop/upstreams/web {} --wait", web.instance())).ok();
        let mut download = one.connect();
        download.send(HOLD).expect("open");
        wait("the download to run", || web.whole() > 0);
        store.run(&format!("set services/shop/other {} --wait", other.instance())).ok();
        assert_no(&store.run("drain shop/web --wait=2s"), &["one still has 1 request to shop/web"]);
        let status = store.run("status").ok();
        assert!(status.contains("one: services/shop/web takes no new work, 1 request open"), "{status}");
        assert!(status.contains("two: services/shop/web takes no new work, 0 requests open"), "{status}");
        for balancer in [&one, &two] {
            for _ in 0..6 {
                let answer = get(balancer.http, "shop.test", "/").expect("it serves");
                assert_eq!(answer.header("x-backend"), Some("other"));
            }
        }
        web.let_go();
        let response = download.response("GET").expect("the whole download");
        assert!(response.trailer("x-total").is_some());
        store.run("drain shop/web --wait").ok();
        store.run("undrain shop/web --wait").ok();
        one.wait_backend("shop.test", "/", "web");
        assert_eq!(store.run("get services/shop/upstreams/web").ok().trim(), web.instance());
        assert_no(&store.run("drain shop/nobody"), &["there is no such instance"]);
        // One that is deleted while it works is told of too.
        let mut download = two.connect();
        download.send(HOLD).expect("open");
        wait("the download to run", || two.metric("pointsman_active", &["\"shop\""]) >= 1.0);
        store.run("rm services/shop/upstreams/web --wait").ok();
        store.run("rm services/shop/other --wait").ok();
        let said = || store.run("status").stdout;
        wait("work of one that is gone", || said().contains("takes no new work, 1 request open"));
        [&web, &other].iter().for_each(|backend| backend.let_go());
        assert!(download.response("GET").expect("the whole download").trailer("x-total").is_some());
        wait("its end", || !said().contains("open"));
    }
}

#[test]
fn a_balancer_that_ends_no_longer_counts() {
    let store = Store::etcd(Api::V3);
    let (mut one, mut two) = (store.balancer("one"), store.balancer("two"));
    store.wait_members(2);
    one.process.signal("TERM");
    one.process.wait_exit(PATIENCE);
    store.wait_members(1);
    store.run("set services/a/domain a.test --wait").ok();
    // One that disappears without signing off fails the wait: it may still serve without the store.
    two.process.kill();
    assert_no(&store.run("set services/a/domain b.test --wait"), &["disappeared without signing off", "two"]);
    assert_no(&store.run("wait"), &["no balancer"]);
}

#[test]
fn one_that_starts_anew_takes_its_name_back_and_two_of_a_name_do_not_fight() {
    for store in Store::each() {
        let mut before = store.balancer("one");
        store.wait_members(1);
        before.process.kill();
        let mut after = store.balancer("one");
        wait("its status", || {
            let set = store.run("set services/a/domain a.test --wait=5s");
            set.code == Some(0) && set.stderr.contains("1 balancer is")
        });
        if store.flags[1].starts_with("http") {
            let _second = store.balancer("one");
            after.process.wait_log("another balancer has the name one");
            store.wait_members(2);
        }
        drop(after);
    }
}

/// Many balancers may only read: they serve, and say that nobody can know of them.
#[test]
fn a_balancer_that_may_only_read_serves_all_the_same() {
    let etcd = Etcd::start();
    for line in [
        "user add root:secret",
        "role add reading",
        "role grant-permission reading --prefix=true read /haproxy-haproxy-1/",
        "user add reader:secret",
        "user grant-role reader reading",
        "user grant-role root root",
        "put /haproxy-haproxy-1/services/shop/domain shop.test",
        "auth enable",
    ] {
        etcd.etcdctl3(&line.split(' ').collect::<Vec<_>>());
    }
    let store = |user: &str| flags(&["--store", &etcd.url(), "--id", ID, "--etcd-api", "3", "--etcd-user", user]);
    let reader = store("reader:secret");
    let mut reading = Launch::new().args(&reader.iter().map(String::as_str).collect::<Vec<_>>()).start();
    reading.wait_ready();
    reading.wait_gone("shop.test", "/");
    reading.process.wait_log("the status of this balancer cannot be written");
    assert_eq!(reading.metric("pointsman_status_kept", &[]), 0.0);
    let root = store("root:secret");
    let status = run(&[&["status"], &root.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    assert_no(&status, &["no balancer"]);
}

/// Passes bytes on to a server until it is frozen: then it is silent, and closes nothing.
struct Frozen {
    address: SocketAddr,
    frozen: Arc<AtomicBool>,
}

impl Frozen {
    fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let frozen = Arc::new(AtomicBool::new(false));
        let (server, ice) = (server.trim_start_matches("http://").to_owned(), frozen.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                // Else small messages would wait for each other.
                [&client, &server].iter().for_each(|stream| stream.set_nodelay(true).expect("open"));
                let (a, b) = (client.try_clone().expect("open"), server.try_clone().expect("open"));
                for (from, to) in [(client, server), (b, a)] {
                    let ice = ice.clone();
                    std::thread::spawn(move || pass(from, to, &ice));
                }
            }
        });
        Self { address, frozen }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, ice: &AtomicBool) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        while ice.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}

/// How long they take is a row of the bench: `pointsman-bench fleet`.
#[test]
fn twenty_balancers_are_waited_for_and_whoever_is_late_is_named() {
    let store = Store::etcd(Api::V3);
    let url = store.flags[1].clone();
    let frozen = Frozen::before(&url);
    let cut_off = format!("http://{}", frozen.address);
    let mut balancers: Vec<_> = (0..19).map(|number| store.launch(&format!("b{number}")).start()).collect();
    let off = ["--store", &cut_off, "--id", ID, "--etcd-api", "3", "--name", "cut-off", "--workers", "1"];
    balancers.push(Launch::new().args(&off).start());
    balancers.iter().for_each(Pointsman::wait_ready);
    store.wait_members(20);
    let backend = Backend::naming("web");
    store.run(&format!("set services/a/web {}", backend.instance())).ok();
    (0..CHANGES).for_each(|number| waited_for(&store, &balancers, number));

    balancers[3].process.signal("STOP");
    let late = store.run(&format!("set services/a/domain late.test --wait={BEFORE_LOST}"));
    assert_no(&late, &["not every balancer", "b3 is still at"]);
    assert_eq!(late.stderr.lines().count(), 2, "only that one: {late:?}");
    balancers[3].process.signal("CONT");
    store.run("wait").ok();

    frozen.frozen.store(true, Ordering::Release);
    let late = store.run(&format!("set services/a/domain cut.test --wait={BEFORE_LOST}"));
    assert_no(&late, &["cut-off is still at"]);
    assert_eq!(late.stderr.lines().count(), 2, "only that one: {late:?}");
    let lost = store.run("set services/a/domain lost.test --wait=1m");
    assert_no(&lost, &["disappeared without signing off", "cut-off"]);
    store.run("set services/a/domain there.test --wait").ok();
    frozen.frozen.store(false, Ordering::Release);
    store.wait_members(20);
}

/// Changes that twenty balancers are waited for.
const CHANGES: usize = 20;
/// Sooner than a silent balancer counts as disappeared: its lease was renewed at most 4 s ago, of 10 s.
const BEFORE_LOST: &str = "4s";

/// Once the command has ended every balancer serves the change, and none the one before.
#[track_caller]
fn waited_for(store: &Store, balancers: &[Pointsman], number: usize) {
    let (now, before) = (format!("a{number}.test"), format!("a{}.test", number.wrapping_sub(1)));
    let waited = store.run(&format!("set services/a/domain {now} --wait"));
    assert!(waited.code == Some(0) && waited.stderr.contains("20 balancers are at"), "{waited:?}");
    for balancer in balancers {
        for (host, status) in [(&now, 200), (&before, 503)] {
            assert_eq!(get(balancer.http, host, "/").expect("it serves").status, status, "{host}");
        }
    }
}

/// The text of a fenced block of a page, the first that has these words.
fn block(page: &str, words: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(path).expect("the page");
    let blocks = text.split("```").skip(1).step_by(2);
    let block =
        blocks.map(|block| block.split_once('\n').map_or("", |(_, rest)| rest)).find(|block| block.contains(words));
    block.unwrap_or_else(|| panic!("{page} has no block with {words}")).to_owned()
}

/// The deploy script of the documentation, word for word, with a `systemctl` that restarts real servers.
#[test]
fn the_documented_deploy_replaces_every_instance_without_a_failed_request() {
    let store = Store::etcd(Api::V3);
    let (one, two) = (store.balancer("one"), store.balancer("two"));
    store.wait_members(2);
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    store.run("set services/shop/domain shop.test").ok();
    let fleet = Servers::start(&["web-1", "web-2", "web-3"]);
    for (name, address) in fleet.addresses() {
        store.run(&format!("set services/shop/upstreams/{name} {address}")).ok();
    }
    store.run("wait").ok();
    std::fs::write(at("deploy.sh"), block("fleet.md", "#!/bin/sh")).expect("written");
    std::fs::write(
        at("systemctl"),
        "#!/bin/sh\necho \"$2\" >\"$0.new\"\nmv \"$0.new\" \"$0.asked\"\nwhile [ -e \"$0.asked\" ]; do sleep 0.02; done\n",
    )
    .expect("written");
    let asked = at("systemctl.asked");
    let mode = std::process::Command::new("chmod").arg("+x").arg(at("systemctl")).status();
    assert!(mode.expect("chmod is there").success());
    let load = [&one, &two].into_iter().fold(Load::new(), |load, balancer| {
        load.keep_alive(4, balancer.http, "shop.test").open_close(2, balancer.http, "shop.test")
    });
    let path =
        format!("{}:{}:{}", home.path().display(), program_folder().display(), std::env::var("PATH").expect("set"));
    let mut deploy = Process::start(
        std::process::Command::new("sh")
            .arg(at("deploy.sh"))
            .arg("shop")
            .env("PATH", path)
            .env("POINTSMAN_STORE", &store.flags[1])
            .env("POINTSMAN_ID", ID)
            .env("POINTSMAN_ETCD_API", "3"),
    );
    let mut restarted = Vec::new();
    while deploy.is_running() {
        if let Ok(unit) = std::fs::read_to_string(&asked) {
            let name = unit.trim().trim_start_matches("shop@").to_owned();
            fleet.restart(&name);
            std::fs::remove_file(&asked).expect("ours");
            restarted.push(name);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(deploy.wait_exit(PATIENCE).success(), "{}", deploy.log());
    assert_eq!(restarted, ["web-1", "web-2", "web-3"], "{}", deploy.log());
    load.finish().assert_served(200);
}

/// Backends at fixed addresses, each of which can be ended and started anew.
struct Servers {
    running: std::sync::Mutex<Vec<(String, SocketAddr, Option<Backend>)>>,
}

impl Servers {
    fn start(names: &[&str]) -> Self {
        let start = |name: &&str| {
            let address = free_address();
            ((*name).to_owned(), address, Some(Backend::at(name, address)))
        };
        Self { running: std::sync::Mutex::new(names.iter().map(start).collect()) }
    }

    fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let running = self.running.lock().expect("no panic while held");
        running.iter().map(|(name, address, _)| (name.clone(), *address)).collect()
    }

    /// Ends it at once, with whatever it does; then starts another one there.
    fn restart(&self, wanted: &str) {
        let mut running = self.running.lock().expect("no panic while held");
        let (name, address, backend) =
            running.iter_mut().find(|(name, ..)| name == wanted).unwrap_or_else(|| panic!("no server {wanted}"));
        if let Some(old) = backend.take() {
            old.close_connections();
        }
        wait("the port to be free", || Connection::try_open(*address).is_err());
        *backend = Some(Backend::at(name, *address));
    }
}
