//! HAProxy's statistics and its socket, for the tools that people have.
//!
//! | module | tests |
//! |---|---|
//! | `likeness` | answers beside those of a real HAProxy |
//! | `tools` | hatop, the Prometheus exporter, Telegraf's rules, checks |
//! | `commands` | commands that change keys |
//! | `clients` | clients that do not read, are silent, or are many |

mod clients;
mod commands;
mod likeness;
mod tools;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Backend, Launch, Pointsman, Site, echo_tcp, free_port, get, wait};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A balancer with a socket for tools.
struct Scene {
    site: Site,
    running: Pointsman,
    socket: PathBuf,
    _web: Backend,
    tcp: u16,
}

/// Services `shop` and `db`. `more` goes to the end of `--stats-socket`.
fn scene(more: &str) -> Scene {
    let (web, tcp) = (Backend::naming("web-1"), free_port());
    let site = Site::with(&[
        ("services/shop/domain", "a.test"),
        ("services/shop/web-1", &format!("{} weight=3", web.instance())),
        ("services/shop/web-2", &format!("{} backup drain", web.instance())),
        ("services/my shop/domain", "b.test"),
        ("services/my shop/web-1", &web.instance()),
        ("tcp-services/db/port", &format!("127.0.0.1:{tcp}")),
        ("tcp-services/db/db-1", &echo_tcp("hi").to_string()),
    ]);
    let (running, socket) = serving(&site, "stats.sock", more);
    Scene { site, running, socket, _web: web, tcp }
}

/// A balancer of these keys whose socket has this name.
fn serving(site: &Site, name: &str, more: &str) -> (Pointsman, PathBuf) {
    let socket = site.home().join(name);
    let running = Launch::on(site).args(&["--stats-socket", &format!("{} {more}", socket.display())]).start();
    running.wait_ready();
    (running, socket)
}

/// Sends lines, and returns everything until the end of the connection.
#[track_caller]
fn ask(socket: &Path, lines: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a socket");
    stream.set_read_timeout(Some(ANSWER)).expect("open");
    stream.write_all(format!("{lines}\n").as_bytes()).expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{lines}: {error}: {answer}"));
    answer
}

/// Rows of CSV without quoted commas, by `pxname/svname` and the name of the column.
#[track_caller]
fn rows(csv: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = csv.lines().filter(|line| !line.is_empty());
    let header: Vec<_> = lines.next().expect("a header").trim_start_matches("# ").split(',').collect();
    let row = |line: &str| {
        let fields: Vec<_> = line.split(',').map(str::to_owned).collect();
        assert_eq!(fields.len(), header.len(), "{line}");
        let name = format!("{}/{}", fields[0], fields[1]);
        (name, header.iter().map(|name| (*name).to_owned()).zip(fields).collect())
    };
    lines.map(row).collect()
}

impl Scene {
    fn ask(&self, lines: &str) -> String {
        ask(&self.socket, lines)
    }

    /// One value of `show stat`.
    #[track_caller]
    fn stat(&self, row: &str, column: &str) -> String {
        let all = rows(&self.ask("show stat"));
        all.get(row).unwrap_or_else(|| panic!("no {row} in {:?}", all.keys()))[column].clone()
    }

    /// The value of a key below `services/shop`.
    fn key(&self, name: &str) -> String {
        let path = self.site.folder().join("services/shop").join(name);
        std::fs::read_to_string(path).expect("a key").trim().to_owned()
    }

    /// Sends requests to `shop`, and waits until they are counted.
    #[track_caller]
    fn requests(&self, targets: &[&str]) {
        for target in targets {
            get(self.running.http, "a.test", target).expect("an answer");
        }
        let count = targets.len().to_string();
        wait("the requests to be counted", || self.stat("services:shop/web-1", "stot") == count);
    }
}
