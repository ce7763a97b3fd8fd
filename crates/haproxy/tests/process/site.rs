//! What these tests share: a state folder with a HAProxy for it, connections to it, and programs of our own in its place.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pointsman_haproxy::folder::{Folder, Generation};
use pointsman_haproxy::process::{Launch, Process};
use pointsman_haproxy::program::{Program, find};
use pointsman_haproxy::runtime::Runtime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than enough on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One state folder, one listening socket, and the HAProxy for them.
pub(crate) struct Site {
    pub(crate) program: Program,
    pub(crate) folder: Folder,
    pub(crate) sockets: Vec<TcpListener>,
    _state: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let state = TempDir::new().expect("a folder");
        let sockets = vec![TcpListener::bind("127.0.0.1:0").expect("a port")];
        Self {
            program: program().await,
            folder: Folder::open(state.path()).expect("a state folder"),
            sockets,
            _state: state,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.sockets[0].local_addr().expect("bound")
    }

    /// A configuration that answers with the generation's number, with more lines at its end.
    pub(crate) fn write(&mut self, tail: &str) -> Generation {
        let generation = self.folder.next_generation();
        let Generation { number, folder, socket } = &generation;
        let (folder, socket, fd) = (folder.display(), socket.display(), self.sockets[0].as_raw_fd());
        let config = format!(
            "global
  stats socket {socket} mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 1s
frontend http
  bind fd@{fd}
  http-request return status 200 content-type text/plain string g{number} if {{ path / }}
  use_backend %[path,map_str({folder}/paths.map,b)]
backend b
  balance roundrobin
  server s1 127.0.0.1:1
  server s2 127.0.0.1:2 weight 7 disabled
{tail}
"
        );
        let files = [("haproxy.cfg", config.as_bytes(), false), ("paths.map", b"/x b\n".as_slice(), false)];
        self.folder.write(&generation, files).expect("written");
        generation
    }

    pub(crate) fn activate(&mut self, tail: &str) -> (Generation, Runtime) {
        let generation = self.write(tail);
        self.folder.activate(&generation).expect("moved in");
        let runtime = Runtime::new(&generation.socket);
        (generation, runtime)
    }

    pub(crate) fn start(&mut self) -> Process {
        let program = self.program.clone();
        self.start_with(&program)
    }

    pub(crate) fn start_with(&mut self, program: &Program) -> Process {
        let (config, (master, pid_file)) = (self.folder.config(), self.folder.master());
        let (sockets, former) = (&self.sockets, None);
        let launch = Launch { program, config: &config, master: &master, pid_file: &pid_file, sockets, former };
        Process::start(&launch).expect("started")
    }

    pub(crate) async fn serve(&mut self) -> (Process, Generation, Runtime) {
        let (generation, runtime) = self.activate("");
        let mut process = self.start();
        process.ready(&runtime, PATIENCE).await.expect("serving");
        (process, generation, runtime)
    }
}

pub(crate) async fn program() -> Program {
    let named = std::env::var_os("POINTSMAN_TEST_HAPROXY").map(PathBuf::from);
    find(named.as_deref()).await.expect("HAProxy is installed")
}

/// What it answers to a request on a connection of its own.
pub(crate) async fn get(address: SocketAddr) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await??;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

/// Connections of one request each, as fast as they go, until dropped or asked how many failed.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..8).map(|_| tokio::spawn(hammer(address, stop.clone(), done.clone()))).collect();
        Self { stop, done, tasks }
    }

    pub(crate) async fn failures(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.expect("no panic"));
        }
        (self.done.load(Ordering::Relaxed), failures)
    }
}

async fn hammer(address: SocketAddr, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match get(address).await {
            Ok(body) if body.starts_with('g') => {}
            Ok(body) => failures.push(body),
            Err(error) => failures.push(error.to_string()),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A program of our own in HAProxy's place.
pub(crate) fn script(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("haproxy");
    // Written under another name: a file open for writing cannot be run, and another test may start a child meanwhile.
    std::fs::write(folder.join("new"), format!("#!/bin/sh\n{body}\n")).expect("written");
    std::fs::set_permissions(folder.join("new"), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let copied = std::process::Command::new("cp").arg(folder.join("new")).arg(&path).status().expect("cp");
    assert!(copied.success());
    path
}
