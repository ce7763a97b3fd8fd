//! The messages to the service manager, read from a socket like systemd's.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::{Launch, PATIENCE, Site, free_address, wait, wait_within};

/// A service manager's socket.
struct Manager {
    home: Site,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let home = Site::new();
        let socket = UnixDatagram::bind(home.home().join("notify")).expect("a socket in our own folder");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        Self { home, socket }
    }

    /// Its path, for the environment.
    fn path(&self) -> String {
        self.home.home().join("notify").to_string_lossy().into_owned()
    }

    /// The next message, if one arrives soon.
    fn heard(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for a message with these texts; returns all messages until then.
    #[track_caller]
    fn wait(&self, texts: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        wait_within(&format!("{texts:?} in a message"), PATIENCE, || {
            all.extend(self.heard());
            let last: &String = all.last()?;
            texts.iter().all(|text| last.contains(text)).then_some(())
        });
        all
    }
}

#[test]
fn ready_comes_with_the_first_table_and_stopping_with_term() {
    let (manager, site) = (Manager::new(), Site::with(&[("services/a/domain", "a.test")]));
    let mut running = Launch::on(&site).env("NOTIFY_SOCKET", &manager.path()).start();
    manager.wait(&["READY=1", "STATUS=serving 1 service, 0 instances at revision "]);
    running.wait_ready();
    // The bad value first: a table between the two would serve b, and keep its last good settings.
    site.put("services/b/port", "nonsense");
    site.put("services/b/domain", "b.test");
    let changes = manager.wait(&["STATUS=serving 1 service, 0 instances at revision ", ", 1 problem"]);
    assert!(!changes.concat().contains("READY"), "{changes:?}");
    running.process.signal("HUP");
    manager.wait(&["RELOADING=1", "MONOTONIC_USEC="]);
    manager.wait(&["READY=1"]);
    running.process.signal("TERM");
    manager.wait(&["STOPPING=1", "STATUS=draining"]);
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(manager.heard(), None, "nothing after the end");
}

#[test]
fn an_upgrade_names_the_new_main_process() {
    let (manager, site) = (Manager::new(), Site::with(&[("services/a/domain", "a.test")]));
    let mut running = Launch::on(&site).env("NOTIFY_SOCKET", &manager.path()).start();
    manager.wait(&["READY=1"]);
    let mut successor = Launch::on(&site).args(&["--takeover"]).env("NOTIFY_SOCKET", &manager.path()).start();
    let mut heard = manager.wait(&[&format!("MAINPID={}", successor.process.id())]);
    heard.extend(manager.wait(&["READY=1"]));
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    assert!(!heard.concat().contains("STOPPING"), "the service goes on: {heard:?}");
    successor.process.signal("TERM");
    manager.wait(&["STOPPING=1"]);
    successor.process.wait_exit(PATIENCE);
}

#[test]
fn a_balancer_that_waits_for_its_store_is_not_ready() {
    let (manager, nobody) = (Manager::new(), format!("http://{}", free_address()));
    let mut waiting =
        Launch::new().args(&["--store", &nobody, "--id", "n"]).env("NOTIFY_SOCKET", &manager.path()).start();
    let mut heard = manager.wait(&["STATUS=waiting for the store: "]);
    // A reload ends with "ready", which would be premature here.
    waiting.process.signal("HUP");
    waiting.process.wait_log("read the settings again");
    waiting.process.signal("TERM");
    waiting.process.wait_exit(PATIENCE);
    heard.extend(std::iter::from_fn(|| manager.heard()));
    assert!(!heard.concat().contains("READY=1"), "{heard:?}");
}

#[test]
fn signs_of_life_come_as_often_as_they_are_wanted() {
    let (manager, site) = (Manager::new(), Site::new());
    let launch = Launch::on(&site).env("NOTIFY_SOCKET", &manager.path());
    let _running = launch.env("WATCHDOG_USEC", "400000").start();
    for _ in 0..5 {
        manager.wait(&["WATCHDOG=1"]);
    }
}

#[test]
fn a_manager_that_does_not_read_stops_nothing() {
    let (manager, site) = (Manager::new(), Site::with(&[("services/a/domain", "a.test")]));
    let writer = UnixDatagram::unbound().expect("a socket");
    writer.set_nonblocking(true).expect("a socket");
    while writer.send_to(b"STATUS=full", manager.path()).is_ok() {}
    let mut running = Launch::on(&site).env("NOTIFY_SOCKET", &manager.path()).env("WATCHDOG_USEC", "400000").start();
    running.wait_ready();
    site.put("services/b/domain", "b.test");
    wait("the change", || running.admin_page("/api/table").contains("b.test"));
    running.process.signal("TERM");
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
}
