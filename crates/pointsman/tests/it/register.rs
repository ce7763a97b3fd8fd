//! `pointsman register`: an instance as long as a command runs, drained before the command is told to end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    Etcd, Launch, Load, PATIENCE, Pointsman, Process, Site, free_port, get, program_folder, run, wait,
};

/// A server that takes a while to listen, answers /slow late, and exits with 7 on TERM.
const SERVER: &str = "
import http.server, signal, sys, time, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.path == '/up' and os.path.exists(sys.argv[2]):
            self.send_error(503)
            return
        if self.path.startswith('/slow'):
            time.sleep(1.5)
        size = int(self.path.rsplit('/', 1)[1]) if '/bytes/' in self.path else 2
        body = bytes(range(256)) * 4 if size > 2 else b'ok'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body[:size])))
        self.end_headers()
        self.wfile.write(body[:size])
    def log_message(self, *_):
        pass
def told(name):
    def handle(*_):
        print('told', name, flush=True)
        if name == 'TERM':
            sys.exit(7)
    return handle
for name in ('TERM', 'HUP', 'USR1'):
    signal.signal(getattr(signal, 'SIG' + name), told(name))
time.sleep(0.3)
print('listening', flush=True)
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

/// A store, a balancer that follows it, and the address of commands.
struct Scene {
    flags: Vec<String>,
    balancer: Pointsman,
    etcd: Option<Etcd>,
    site: Site,
    port: u16,
}

impl Scene {
    fn with(etcd: Option<(Etcd, &str)>) -> Self {
        let site = Site::new();
        let (store, api) = match &etcd {
            Some((etcd, api)) => (etcd.url(), *api),
            None => (site.folder().display().to_string(), "auto"),
        };
        let words = ["--store", &store, "--prefix", "/p", "--etcd-api", api];
        let flags: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let balancer = Launch::new().args(&words).start();
        balancer.wait_ready();
        let scene = Self { flags, balancer, etcd: etcd.map(|(etcd, _)| etcd), site, port: free_port() };
        scene.run(&["set", "services/shop/domain", "shop.test"]);
        wait("its status", || scene.run_any(&["status"]).0 == Some(0));
        scene
    }

    fn each() -> [Self; 3] {
        [Self::with(None), Self::with(Some((Etcd::start(), "2"))), Self::with(Some((Etcd::start(), "3")))]
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        run(&[words, &self.flags()].concat()).ok()
    }

    fn run_any(&self, words: &[&str]) -> (Option<i32>, String) {
        let finished = run(&[words, &self.flags()].concat());
        (finished.code, finished.stdout + &finished.stderr)
    }

    fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }

    fn broken(&self) -> std::path::PathBuf {
        self.site.home().join("broken")
    }

    /// Registers the server, with additional flags.
    fn register(&self, more: &[&str]) -> Process {
        let mut command = Command::new(program_folder().join("pointsman"));
        let port = self.port.to_string();
        command.arg("register").arg("shop").args(["--name", "web", "--port", &port]).args(self.flags()).args(more);
        command.args(["--", "python3", "-c", SERVER, &port]).arg(self.broken());
        Process::start(command.stdin(Stdio::null()))
    }

    fn key(&self) -> Option<String> {
        let (code, text) = self.run_any(&["get", "services/shop/upstreams/web"]);
        (code == Some(0)).then(|| text.trim().to_owned())
    }

    #[track_caller]
    fn wait_key(&self, value: Option<&str>) {
        wait(&format!("the key to be {value:?}"), || self.key().as_deref() == value);
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

#[test]
fn a_command_is_registered_when_it_is_ready_and_drained_before_it_ends() {
    for scene in Scene::each() {
        let mut wrapper = scene.register(&["--check", "/up"]);
        wrapper.wait_log("listening");
        scene.wait_key(Some(&scene.address()));
        scene.balancer.wait_answer("shop.test", "/", 200, "ok");
        wrapper.signal("HUP");
        wrapper.wait_log("told HUP");
        let (http, slow) = (scene.balancer.http, Instant::now());
        let request = std::thread::spawn(move || get(http, "shop.test", "/slow"));
        wait("the request to be at work", || scene.balancer.metric("pointsman_active", &["\"shop\""]) >= 1.0);
        wrapper.signal("TERM");
        scene.wait_key(Some(&format!("{} weight=0", scene.address())));
        scene.balancer.wait_gone("shop.test", "/");
        assert_eq!(request.join().expect("no panic").expect("an answer").status, 200);
        let status = wrapper.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(7), "{}", wrapper.log());
        assert!(slow.elapsed() >= Duration::from_millis(1500) && wrapper.log().contains("told TERM"));
        scene.wait_key(None);
    }
}

#[test]
fn what_is_not_ready_gets_no_work() {
    let scene = Scene::with(Some((Etcd::start(), "3")));
    let _wrapper = scene.register(&["--check", "/up"]);
    scene.wait_key(Some(&scene.address()));
    std::fs::write(scene.broken(), "").expect("written");
    scene.wait_key(Some(&format!("{} weight=0", scene.address())));
    std::fs::remove_file(scene.broken()).expect("ours");
    scene.wait_key(Some(&scene.address()));
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let scene = Scene::with(None);
    let mut wrapper = scene.register(&["--drain", "1m"]);
    scene.wait_key(Some(&scene.address()));
    scene.balancer.wait_answer("shop.test", "/", 200, "ok");
    let mut open = scene.balancer.connect();
    open.send("GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n").expect("open");
    wait("the request to be at work", || scene.balancer.metric("pointsman_active", &["\"shop\""]) >= 1.0);
    wrapper.signal("TERM");
    wrapper.wait_log("draining");
    wrapper.signal("TERM");
    wrapper.wait_log("told TERM");
    assert_eq!(wrapper.wait_exit(PATIENCE).code(), Some(7));
    scene.wait_key(None);
}

/// The wrapper dies with its command, as when a machine loses power.
#[test]
fn the_key_of_one_that_dies_ends_and_one_that_starts_anew_takes_over() {
    for scene in Scene::each() {
        let mut wrapper = scene.register(&["--ttl", "3s"]);
        scene.wait_key(Some(&scene.address()));
        kill_all(&mut wrapper);
        let mut again = scene.register(&["--ttl", "3s"]);
        again.wait_log("registered services/shop/upstreams/web");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            assert_eq!(scene.key(), Some(scene.address()), "{}", again.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        kill_all(&mut again);
        scene.wait_key(None);
    }
}

fn kill_all(wrapper: &mut Process) {
    let children = wrapper.descendants();
    wrapper.kill();
    children.iter().for_each(|child| crate::harness::signal(*child, "KILL"));
}

#[test]
fn another_instance_of_the_same_name_is_left_alone() {
    for scene in Scene::each() {
        scene.run(&["set", "services/shop/upstreams/web", "10.0.0.9:80"]);
        let mut wrapper = scene.register(&[]);
        wrapper.wait_log("taken");
        assert_eq!(scene.key().as_deref(), Some("10.0.0.9:80"));
        scene.run(&["rm", "services/shop/upstreams/web"]);
        scene.wait_key(Some(&scene.address()));
        // An operator's `drain` stays, and so does the key's lease.
        scene.run(&["drain", "shop/web", "--wait"]);
        assert_eq!(scene.key(), Some(format!("{} drain", scene.address())));
        scene.run(&["undrain", "shop/web", "--wait"]);
        assert_eq!(scene.key(), Some(scene.address()));
    }
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    for api in ["2", "3"] {
        let mut scene = Scene::with(Some((Etcd::start(), api)));
        let mut etcd = scene.etcd.take().expect("it has one");
        etcd.kill();
        let mut wrapper = scene.register(&["--ttl", "2s"]);
        wrapper.wait_log("cannot register: ");
        wrapper.wait_log("listening");
        etcd.resume();
        etcd.wait_up();
        scene.wait_key(Some(&scene.address()));
        // Down for longer than the lease lives.
        etcd.kill();
        std::thread::sleep(Duration::from_secs(5));
        etcd.resume();
        etcd.wait_up();
        scene.wait_key(Some(&scene.address()));
        wrapper.signal("TERM");
        assert_eq!(wrapper.wait_exit(PATIENCE).code(), Some(7), "{}", wrapper.log());
    }
}

#[test]
fn it_ends_as_its_command_does() {
    let site = Site::new();
    let store = site.folder().display().to_string();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 41"], 41),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let finished = run(&[&["register", "shop", "--store", &store, "--"], command].concat());
        assert_eq!(finished.code, Some(code), "{command:?} {finished:?}");
    }
    assert_eq!(run(&["register", "a/b", "--store", &store, "--", "true"]).code, Some(2));
}

#[test]
fn without_a_command_the_key_stays_until_it_is_removed() {
    let scene = Scene::with(Some((Etcd::start(), "3")));
    let port = scene.port.to_string();
    let with = |more: &[&str]| {
        let words = [&["register", "shop", "--name", "web", "--address", "127.0.0.1", "--port", &port], more].concat();
        scene.run_any(&words)
    };
    let (code, text) = with(&["--timeout", "300ms"]);
    assert!(code == Some(1) && text.contains("not registered"), "{text}");
    let broken = scene.broken();
    let mut server = Process::start(Command::new("python3").args(["-c", SERVER, &port]).arg(broken));
    assert_eq!(with(&["--check", "/up"]).0, Some(0));
    server.wait_log("listening");
    assert_eq!(scene.key(), Some(scene.address()));
    scene.balancer.wait_answer("shop.test", "/", 200, "ok");
    let load = Load::new().keep_alive(2, scene.balancer.http, "shop.test");
    let (code, text) = with(&["--remove"]);
    assert!(code == Some(0) && text.contains("1 balancer is done with shop/web"), "{text}");
    assert_eq!(scene.key(), None);
    drop(load);
    assert_eq!(with(&["--remove"]).0, Some(0), "removed is removed");
}

#[test]
fn it_says_why_it_does_not_register_yet() {
    let scene = Scene::with(None);
    std::fs::write(scene.broken(), "").expect("written");
    let mut wrapper = scene.register(&["--check", "/up"]);
    wrapper.wait_log("not registered yet: the check http://127.0.0.1:");
    wrapper.wait_log("fails: it answers with status 503");
    assert_eq!(scene.key(), None);
    std::fs::remove_file(scene.broken()).expect("ours");
    scene.wait_key(Some(&scene.address()));
    let lines = wrapper.log().lines().filter(|line| line.contains("not registered yet")).count();
    assert!((1..=3).contains(&lines), "each reason once: {}", wrapper.log());

    // Without a command, and with nobody there.
    let port = free_port().to_string();
    let words = ["register", "shop", "--name", "x", "--address", "127.0.0.1", "--port", &port, "--timeout", "900ms"];
    let (code, text) = scene.run_any(&words);
    assert!(code == Some(1) && text.contains("not registered yet: the check tcp://127.0.0.1:"), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn a_check_that_hangs_is_told_too() {
    let scene = Scene::with(None);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x", silent.local_addr().expect("bound"));
    let mut wrapper = scene.register(&["--check", &url]);
    wrapper.wait_log(&format!("not registered yet: the check {url} fails: no answer yet"));
}
