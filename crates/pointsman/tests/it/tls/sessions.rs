//! Sessions that resume at another balancer of the same prefix, and after a restart.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::certificate;
use crate::fleet::Store;
use crate::harness::{Backend, PATIENCE, Pointsman, Site, engine, finish, free_address, wait};

/// What clients do at their balancers, with the sessions that they keep in a folder.
struct Visitor(Site);

impl Visitor {
    /// Keeps a session of this version.
    fn begin(&self, at: SocketAddr, version: &str) {
        let kept = self.file(version);
        let request = r"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let options = format!("-quiet -ign_eof -connect {at} -servername a.test {version} -sess_out {kept}");
        let line = format!("printf '{request}' | timeout 20 openssl s_client {options} 2>/dev/null");
        assert!(finish(Command::new("sh").args(["-c", &line])).stdout.starts_with("HTTP/1.1 200 "));
    }

    fn resumes(&self, at: SocketAddr, version: &str) -> bool {
        let options = format!("-connect {at} -servername a.test {version} -sess_in {}", self.file(version));
        let line = format!("openssl s_client {options} </dev/null 2>&1");
        finish(Command::new("sh").args(["-c", &line])).stdout.contains("Reused, ")
    }

    /// How long a kept session can be resumed, by the server's word.
    fn life(&self, version: &str) -> String {
        let line = format!("openssl sess_id -noout -text -in {}", self.file(version));
        let said = finish(Command::new("sh").args(["-c", &line])).stdout;
        said.lines()
            .find_map(|line| line.trim().strip_prefix("TLS session ticket lifetime hint: "))
            .unwrap_or_default()
            .to_owned()
    }

    fn file(&self, version: &str) -> String {
        self.0.home().join(version).display().to_string()
    }
}

/// A balancer that serves HTTPS here, with the certificates of a folder.
#[track_caller]
fn balancer(store: &Store, certs: &Site, name: &str, at: SocketAddr) -> Pointsman {
    let running = store.launch(name).args(&["--https", &at.to_string(), "--certs"]).arg(certs.folder()).start();
    running.wait_ready();
    running.wait_backend("a.test", "/", "one");
    running
}

#[test]
fn a_session_resumes_at_every_balancer_and_after_a_restart() {
    for store in Store::each() {
        let (one, visitor) = (Backend::naming("one"), Visitor(Site::new()));
        store.run("set services/a/domain a.test").ok();
        store.run(&format!("set services/a/one {}", one.instance())).ok();
        visitor.0.put("a.pem", certificate(&visitor.0, "a", "DNS:a.test", "ec"));
        let balancer = |name: &str, at| balancer(&store, &visitor.0, name, at);
        let [first, second] = [free_address(), free_address()];
        let (mut left, right) = (balancer("left", first), balancer("right", second));
        for version in ["-tls1_2", "-tls1_3"] {
            wait("a session of one at the other", || {
                visitor.begin(first, version);
                visitor.resumes(second, version)
            });
            let hours = if engine().differs("session-life") { 6 } else { 12 };
            assert_eq!(visitor.life(version), format!("{} (seconds)", hours * 3600));
        }
        left.process.signal("TERM");
        assert_eq!(left.process.wait_exit(PATIENCE).code(), Some(0));
        drop(right);
        let _again = balancer("again", first);
        for version in ["-tls1_2", "-tls1_3"] {
            wait("a session of before the restart", || visitor.resumes(first, version));
        }
    }
}

#[test]
fn sessions_resume_wherever_tls_ends() {
    let (one, visitor, at) = (Backend::naming("one"), Visitor(Site::new()), free_address());
    let port = at.port().to_string();
    let site = Site::with(&[
        ("tcp-services/t/port", &port),
        ("tcp-services/t/tls", "terminate"),
        ("tcp-services/t/one", &one.instance()),
    ]);
    site.put("certs/a", certificate(&site, "a", "DNS:a.test", "ec"));
    let start = || {
        let running = Pointsman::serving(&site);
        wait("the port", || TcpStream::connect(at).is_ok());
        running
    };
    let mut running = start();
    let secrets = site.folder().join(".pointsman/ticket-secrets");
    wait("secrets in the store, though no --https is given", || {
        std::fs::read_dir(&secrets).is_ok_and(|files| files.count() == 2)
    });
    let count = |running: &Pointsman| running.metric("pointsman_tls_handshakes_total", &["resumed=\"true\""]);
    wait("a session with one of them", || {
        visitor.begin(at, "-tls1_3");
        visitor.resumes(at, "-tls1_3")
    });
    assert!(engine().differs("tls-faults") || count(&running) >= 1.0);
    running.process.signal("TERM");
    assert_eq!(running.process.wait_exit(PATIENCE).code(), Some(0));
    let _again = start();
    wait("a session of before the restart", || visitor.resumes(at, "-tls1_3"));
}

#[test]
fn secrets_of_tickets_are_read_by_their_owner_only_and_make_no_problem() {
    let scene = super::scene(super::CERTS, &[]);
    let folder = scene.site.folder().join(".pointsman/ticket-secrets");
    wait("secrets", || std::fs::read_dir(&folder).is_ok_and(|files| files.count() == 2));
    for file in std::fs::read_dir(&folder).expect("just there").flatten() {
        assert_eq!(file.metadata().expect("just there").permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert!(!scene.running.admin_page("/api/problems").contains("ticket"));
}
