//! The HAProxy that the program drives, from outside: its processes, and its runtime socket as an operator finds it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::pointsman::Pointsman;
use super::process::is_called;
use super::wait_within;

/// Deadline for the socket's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Whether this process is a running HAProxy.
pub(crate) fn is_haproxy(id: u32) -> bool {
    is_called(id, "haproxy")
}

impl Pointsman {
    /// Every HAProxy process below it: the master first, then workers, the newest last.
    pub(crate) fn haproxies(&self) -> Vec<u32> {
        self.process.descendants().into_iter().filter(|id| is_haproxy(*id)).collect()
    }

    /// The master, once it has a worker.
    #[track_caller]
    pub(crate) fn master(&self) -> u32 {
        self.wait_pair().0
    }

    /// The newest worker.
    #[track_caller]
    pub(crate) fn worker(&self) -> u32 {
        self.wait_pair().1
    }

    fn wait_pair(&self) -> (u32, u32) {
        wait_within("a master and a worker of HAProxy", super::PATIENCE, || match self.haproxies()[..] {
            [master, .., worker] => Some((master, worker)),
            _ => None,
        })
    }

    /// The number of reloads so far.
    pub(crate) fn reloads(&self) -> f64 {
        self.metric("pointsman_haproxy_reloads_total", &[])
    }

    /// Sends the newest worker a command behind the program's back, and returns its answer.
    #[track_caller]
    pub(crate) fn meddle(&self, state: &Path, command: &str) -> String {
        let worker = format!("Pid: {}\n", self.worker());
        let of_worker = |path: &PathBuf| ask(path, "show info").is_some_and(|info| info.contains(&worker));
        let socket = sockets(state).into_iter().find(of_worker).expect("the worker has a socket below --state");
        ask(&socket, command).expect("it just answered")
    }
}

/// Every socket in a folder, at any depth.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_socket() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn ask(socket: &Path, command: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.write_all(format!("{command}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
