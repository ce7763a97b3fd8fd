//! A start without the store: the snapshot in `--state` is served, says how old it is, and gives way to the store. A damaged
//! one is never served.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{Api, Backend, Etcd, Launch, PATIENCE, Pointsman, Site, free_address, get, long, run, wait};

const PREFIX: &str = "/haproxy-snap";

/// The path of the snapshot, once there is one.
fn snapshot(state: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(state.join("memory")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "snapshot"))
}

/// Waits until the snapshot holds this text.
fn wait_kept(state: &Path, text: &str) {
    let holds = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(text);
    wait(&format!("{text} in the snapshot"), || {
        snapshot(state).and_then(|path| fs::read(path).ok()).is_some_and(holds)
    });
}

fn is_ready(running: &Pointsman) -> bool {
    get(running.admin, "localhost", "/readyz").is_ok_and(|answer| answer.status == 200)
}

/// etcd with a service `a.test`, and where a balancer keeps its state.
struct Scene {
    etcd: Etcd,
    one: Backend,
    api: Api,
    site: Site,
}

impl Scene {
    fn new(api: Api) -> Self {
        let scene = Self { etcd: Etcd::start(), one: Backend::naming("one"), api, site: Site::new() };
        scene.service("a");
        scene
    }

    fn service(&self, name: &str) {
        self.put(&format!("services/{name}/domain"), &format!("{name}.test"));
        self.put(&format!("services/{name}/one"), &self.one.instance());
    }

    fn put(&self, key: &str, value: &str) {
        self.etcd.put(self.api, &format!("{PREFIX}/{key}"), value);
    }

    fn state(&self) -> PathBuf {
        self.site.home().join("state")
    }

    fn start(&self) -> Pointsman {
        let number = if self.api == Api::V2 { "2" } else { "3" };
        let flags = ["--store", &self.etcd.url(), "--etcd-api", number, "--id", "snap", "--name", "s"];
        Launch::new().args(&flags).state(self.state()).start()
    }

    /// Has a balancer serve this, and kills it and etcd once it has a snapshot.
    fn served_and_dead(&mut self) {
        let mut running = self.start();
        running.wait_backend("a.test", "/", "one");
        wait_kept(&self.state(), "a.test");
        running.process.kill();
        self.etcd.kill();
    }
}

#[test]
fn a_start_without_etcd_serves_the_snapshot_v2() {
    started_without(Api::V2);
}

#[test]
fn a_start_without_etcd_serves_the_snapshot_v3() {
    started_without(Api::V3);
}

fn started_without(api: Api) {
    let mut scene = Scene::new(api);
    scene.service("doomed");
    // Etcd and the service's keys change while the balancer is away.
    let mut running = scene.start();
    running.wait_backend("doomed.test", "/", "one");
    wait_kept(&scene.state(), "doomed.test");
    running.process.kill();
    scene.etcd.kill();
    let path = snapshot(&scene.state()).expect("it is there");
    assert_eq!(fs::metadata(&path).expect("readable").permissions().mode() & 0o777, 0o600);
    let then = SystemTime::now() - Duration::from_secs(100);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(then)).expect("our own file");
    let began = Instant::now();
    let running = scene.start();
    running.wait_backend("a.test", "/", "one");
    // A HAProxy that was left behind answers even before.
    running.wait_ready();
    let took = began.elapsed();
    assert!(took < if long() { Duration::from_secs(1) } else { PATIENCE }, "{took:?}");
    let ready = running.admin_page("/readyz");
    assert!(ready.starts_with("ready\nserving the snapshot of revision "), "{ready}");
    assert!(ready.contains("the store was not read yet: cannot reach etcd") && ready.contains("s old"), "{ready}");
    let age = running.metric("pointsman_snapshot_age_seconds", &[]);
    assert!((100.0..1000.0).contains(&age), "{age}");
    assert!(running.admin_page("/api/table").contains("\"snapshot\":{\"revision\":"));
    assert!(running.process.log().contains("serving the snapshot of revision"));
    let elsewhere = free_address();
    scene.etcd.resume_at(elsewhere);
    let ask = |path: &str| get(elsewhere, "etcd", path);
    wait("etcd elsewhere", || ask("/health").is_ok_and(|answer| answer.text().contains("\"true\"")));
    away(&scene, &format!("http://{elsewhere}"));
    scene.etcd.kill();
    scene.etcd.resume();
    running.wait_gone("doomed.test", "/");
    running.wait_backend("new.test", "/", "one");
    running.wait_backend("a.test", "/", "one");
    assert_eq!(running.admin_page("/readyz"), "ready\n");
    assert_eq!(running.metric("pointsman_snapshot_age_seconds", &[]), 0.0);
    assert!(!running.admin_page("/api/table").contains("\"snapshot\""));
    wait_kept(&scene.state(), "new.test");
}

/// Removes a service and writes another, at an address that the balancer does not know.
fn away(scene: &Scene, url: &str) {
    let instance = scene.one.instance();
    let ctl = |arguments: &[&str]| match scene.api {
        Api::V2 => scene.etcd.etcdctl2(&[&["--endpoints", url], arguments].concat()),
        Api::V3 => scene.etcd.etcdctl3(&[&["--endpoints", url], arguments].concat()),
    };
    match scene.api {
        Api::V2 => ctl(&["rm", "--recursive", "/haproxy-snap/services/doomed"]),
        Api::V3 => ctl(&["del", "--prefix", "/haproxy-snap/services/doomed"]),
    };
    let put = if scene.api == Api::V2 { "set" } else { "put" };
    ctl(&[put, "/haproxy-snap/services/new/domain", "new.test"]);
    ctl(&[put, "/haproxy-snap/services/new/one", &instance]);
}

#[test]
fn a_damaged_snapshot_is_said_and_never_served() {
    let mut scene = Scene::new(Api::V3);
    scene.served_and_dead();
    let path = snapshot(&scene.state()).expect("it is there");
    let good = fs::read(&path).expect("readable");
    let at = good.len() / 2;
    let flipped = good.iter().enumerate().map(|(here, byte)| if here == at { byte ^ 4 } else { *byte }).collect();
    let replaced = |from: &str, to: &str| {
        let place = good.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is in there");
        [&good[..place], to.as_bytes(), &good[place + from.len()..]].concat()
    };
    for (bytes, why) in [
        (good[..at].to_vec(), "its checksum is wrong, so it is damaged"),
        (flipped, "its checksum is wrong, so it is damaged"),
        (replaced("pointsman snapshot 1", "pointsman snapshot 9"), "its format is 9, this version knows 1"),
        (Vec::new(), "it is cut short"),
        (b"services/a/domain = a.test\n".to_vec(), "it is no snapshot"),
    ] {
        fs::write(&path, bytes).expect("our own file");
        let mut running = scene.start();
        running.wait_listed("state", &["the snapshot cannot be used", why]);
        running.process.wait_log(why);
        assert!(!is_ready(&running) && !path.exists() && path.with_extension("snapshot.bad").exists(), "{why}");
        running.process.kill();
    }
    // The snapshot of another prefix under this name, and then a good one.
    scene.etcd.resume();
    scene.etcd.wait_up();
    let other = scene.site.home().join("other");
    let other_flags = ["--store", &scene.etcd.url(), "--etcd-api", "3", "--id", "other", "--name", "o"];
    let mut running = Launch::new().args(&other_flags).state(&other).start();
    wait("readiness", || is_ready(&running));
    wait("its snapshot", || snapshot(&other).is_some());
    running.process.kill();
    scene.etcd.kill();
    fs::copy(snapshot(&other).expect("it is there"), &path).expect("our own file");
    let mut running = scene.start();
    running.wait_listed("state", &["it is of another store or prefix"]);
    assert!(!is_ready(&running));
    running.process.kill();
    fs::write(&path, &good).expect("our own file");
    let running = scene.start();
    running.wait_backend("a.test", "/", "one");
}

/// A wipe between the end of a balancer and its next start is held as well.
#[test]
fn what_was_wiped_before_the_start_is_held() {
    let scene = Scene::new(Api::V3);
    (0..12).for_each(|number| scene.put(&format!("services/a/i{number}"), &scene.one.instance()));
    let mut running = scene.start();
    running.wait_backend("a.test", "/", "one");
    wait_kept(&scene.state(), "services/a/i9");
    running.process.kill();
    scene.etcd.etcdctl3(&["del", "--prefix", PREFIX]);
    let running = scene.start();
    running.wait_problem("held", &["13 of 13 instances"]);
    running.wait_backend("a.test", "/", "one");
    // And over the next start, too.
    drop(running);
    let running = scene.start();
    running.wait_problem("held", &["13 of 13 instances"]);
    running.wait_backend("a.test", "/", "one");
}

/// Killed at any moment of a burst of changes, it serves again at once, though etcd is silent.
#[test]
fn a_kill_in_a_burst_leaves_a_snapshot() {
    let scene = Scene::new(Api::V3);
    let mut running = scene.start();
    running.wait_backend("a.test", "/", "one");
    wait_kept(&scene.state(), "a.test");
    let mut slowest = Duration::ZERO;
    for round in 0..if long() { 100 } else { 5 } {
        let began = Instant::now();
        let lasts = Duration::from_millis(differing(round) % 1500);
        for number in 0.. {
            scene.put(&format!("services/b{}/domain", number % 40), &format!("b{number}.test"));
            if began.elapsed() >= lasts {
                break;
            }
        }
        running.process.kill();
        scene.etcd.signal("STOP");
        let began = Instant::now();
        running = scene.start();
        running.wait_backend("a.test", "/", "one");
        running.wait_ready();
        slowest = slowest.max(began.elapsed());
        assert!(running.admin_page("/readyz").contains("serving the snapshot"), "round {round}");
        scene.etcd.signal("CONT");
        wait("etcd to be followed", || running.metric("pointsman_store_up", &[]) == 1.0);
    }
    assert!(slowest < if long() { Duration::from_secs(1) } else { PATIENCE }, "{slowest:?}");
    eprintln!("the slowest start took {slowest:?}");
}

/// A number that differs from round to round.
fn differing(round: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9).wrapping_add(round) >> 7
}

#[test]
fn a_folder_that_is_gone_is_served_from_the_snapshot() {
    let (one, home) = (Backend::naming("one"), Site::new());
    let state = home.home().join("state");
    let site = Site::new();
    for number in 0..12 {
        site.put(&format!("services/a/i{number}"), one.instance());
    }
    site.put("services/a/domain", "a.test");
    let start = || {
        let folder = site.folder().display().to_string();
        Launch::new().args(&["--store", &folder, "--prefix", "/"]).state(&state).start()
    };
    let mut running = start();
    running.wait_backend("a.test", "/", "one");
    wait_kept(&state, "a.test");
    running.process.kill();
    // As an unmounted one: it is not made, or it would look empty.
    let elsewhere = site.home().join("elsewhere");
    fs::rename(site.folder(), &elsewhere).expect("our own folder");
    let mut running = start();
    running.wait_backend("a.test", "/", "one");
    running.wait_ready();
    let ready = running.admin_page("/readyz");
    assert!(ready.contains("serving the snapshot") && ready.contains("there is no such folder; mount it"), "{ready}");
    assert!(!site.folder().exists() && running.metric("pointsman_store_up", &[]) == 0.0);
    fs::write(elsewhere.join("services/a/domain"), "b.test").expect("our own file");
    fs::rename(&elsewhere, site.folder()).expect("our own folder");
    running.wait_backend("b.test", "/", "one");
    assert_eq!(running.admin_page("/readyz"), "ready\n");
    wait_kept(&state, "b.test");
    running.process.kill();
    // One that was made anew, and is empty.
    fs::rename(site.folder(), site.home().join("elsewhere")).expect("our own folder");
    fs::create_dir(site.folder()).expect("our own folder");
    let running = start();
    running.wait_problem("held", &["12 of 12 instances"]);
    running.wait_backend("b.test", "/", "one");
}

/// An end right after a release: what was let in is what the next start serves.
#[test]
fn an_end_within_a_second_of_a_release_leaves_the_snapshot_of_now() {
    let mut scene = Scene::new(Api::V3);
    scene.service("b");
    (0..12).for_each(|number| scene.put(&format!("services/a/i{number}"), &scene.one.instance()));
    let mut running = scene.start();
    running.wait_backend("a.test", "/", "one");
    running.wait_backend("b.test", "/", "one");
    scene.etcd.etcdctl3(&["del", "--prefix", &format!("{PREFIX}/services/a/")]);
    running.wait_problem("held", &["13 of 14 instances"]);
    wait_kept(&scene.state(), "services/a/i9");
    wait("its status", || run(&["guard", "--store", &scene.etcd.url(), "--id", "snap"]).code == Some(1));
    let released = run(&["guard", "release", "--store", &scene.etcd.url(), "--id", "snap"]);
    assert_eq!(released.code, Some(0), "{released:?}");
    running.end();
    let kept = fs::read(snapshot(&scene.state()).expect("it is there")).expect("readable");
    let text = String::from_utf8_lossy(&kept);
    assert!(text.contains("b.test") && !text.contains("a.test"), "{text}");
    scene.etcd.kill();
    let running = scene.start();
    running.wait_backend("b.test", "/", "one");
    running.wait_gone("a.test", "/");
}

#[test]
fn what_is_no_file_in_its_place_keeps_nobody_from_starting() {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    let state = site.home().join("state");
    let mut running = Launch::on(&site).state(&state).start();
    running.wait_ready();
    wait_kept(&state, "a.test");
    running.end();
    let kept = snapshot(&state).expect("it is there");
    for path in ["snapshot", "json", "journal", "lock"].map(|end| kept.with_extension(end)) {
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is installed");
        assert!(made.success());
    }
    let running = Launch::on(&site).state(&state).start();
    running.wait_ready();
    running.wait_listed("state", &["no regular file"]);
}
