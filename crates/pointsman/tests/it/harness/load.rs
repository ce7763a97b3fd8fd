//! Load that runs beside a test: checks every byte, keeps every failure.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::backend::pattern;
use super::client::{Connection, get, websocket};
use super::engine::engine;

/// Running clients. [`Load::finish`] stops them and returns their results.
#[derive(Default)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    done: AtomicU64,
    closed: Arc<AtomicU64>,
    failures: Mutex<Vec<String>>,
}

/// The clients' results.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Exchanges completed.
    pub(crate) done: u64,
    /// Kept connections that were closed gracefully.
    pub(crate) closed: u64,
    /// All failures.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Fails the test unless enough was done, nothing failed, and no kept connection was closed.
    #[track_caller]
    pub(crate) fn assert_clean(&self, at_least: u64) {
        self.assert_served(at_least);
        assert!(self.closed == 0 || engine().differs("closed-at-reload"), "{} connections closed", self.closed);
    }

    /// Fails the test unless enough was done and nothing failed.
    #[track_caller]
    pub(crate) fn assert_served(&self, at_least: u64) {
        let first: Vec<_> = self.failures.iter().take(5).collect();
        assert!(self.failures.is_empty(), "{} of {} failed: {first:#?}", self.failures.len(), self.done);
        assert!(self.done >= at_least, "only {} exchanges", self.done);
    }
}

impl Load {
    /// No clients yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds clients that send one request after another, each on one connection.
    pub(crate) fn keep_alive(self, clients: usize, address: SocketAddr, host: &str) -> Self {
        (0..clients).fold(self, |load, number| {
            let (host, mut connection, closed) = (host.to_owned(), None, Arc::clone(&load.shared.closed));
            load.client("keep-alive", move || {
                std::thread::sleep(Duration::from_millis(1));
                let open: &mut Connection = match &mut connection {
                    Some(open) => open,
                    none => none.insert(Connection::try_open(address)?),
                };
                let response = open.request("GET", &host, &format!("/bytes/{}", 100 + number))?;
                if response.closes() {
                    connection = None;
                    closed.fetch_add(1, Ordering::AcqRel);
                }
                check_bytes(response, 100 + number)
            })
        })
    }

    /// Adds clients that open a connection for every request.
    pub(crate) fn open_close(self, clients: usize, address: SocketAddr, host: &str) -> Self {
        (0..clients).fold(self, |load, _| {
            let host = host.to_owned();
            load.client("open-close", move || {
                std::thread::sleep(Duration::from_millis(2));
                check_bytes(get(address, &host, "/bytes/300")?, 300)
            })
        })
    }

    /// Adds a client that downloads for this long, checks every byte, and starts again.
    pub(crate) fn download(self, address: SocketAddr, host: &str, span: Duration) -> Self {
        let (host, target) = (host.to_owned(), format!("/drip/{}", span.as_millis()));
        self.client("download", move || {
            let response = get(address, &host, &target)?;
            let total = response.trailer("x-total").and_then(|total| total.parse().ok());
            check_bytes(response, total.ok_or_else(|| io::Error::other("no total at the end"))?)
        })
    }

    /// Adds a client with an upgraded connection that checks every echoed byte.
    pub(crate) fn tunnel(self, address: SocketAddr, host: &str) -> Self {
        let (host, mut open) = (host.to_owned(), None);
        self.client("tunnel", move || {
            let (stream, sent) = match &mut open {
                Some(open) => open,
                none => none.insert((upgraded(address, &host)?, 0)),
            };
            echo_once(stream, sent)
        })
    }

    /// Adds a client with a TCP connection to an echo that checks every echoed byte.
    pub(crate) fn stream(self, address: SocketAddr) -> Self {
        let mut open = None;
        self.client("TCP stream", move || {
            let (stream, sent) = match &mut open {
                Some(open) => open,
                none => none.insert((timed(TcpStream::connect(address)?)?, 0)),
            };
            echo_once(stream, sent)
        })
    }

    /// Adds a client that repeats this exchange until it is stopped or fails.
    fn client(mut self, kind: &'static str, mut exchange: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::spawn(move || {
            while !shared.stopped.load(Ordering::Acquire) {
                if let Err(error) = exchange() {
                    shared.failures.lock().expect("no panic while held").push(format!("{kind}: {error}"));
                    return;
                }
                shared.done.fetch_add(1, Ordering::AcqRel);
            }
        }));
        self
    }

    /// The number of completed exchanges.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Acquire)
    }

    /// Whether anything has failed so far.
    pub(crate) fn has_failed(&self) -> bool {
        !self.shared.failures.lock().expect("no panic while held").is_empty()
    }

    /// Lets every client finish its exchange, and returns the results.
    pub(crate) fn finish(self) -> Tally {
        self.shared.stopped.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().expect("clients do not panic");
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().expect("no panic while held"));
        let (done, closed) = (self.shared.done.load(Ordering::Acquire), self.shared.closed.load(Ordering::Acquire));
        Tally { done, closed, failures }
    }
}

fn check_bytes(response: super::Response, count: usize) -> io::Result<()> {
    let intact = response.body == pattern(0, count);
    if response.status == 200 && intact {
        return Ok(());
    }
    let (status, length) = (response.status, response.body.len());
    Err(io::Error::other(format!("status {status}, {length} bytes of {count}: {}", response.head)))
}

fn upgraded(address: SocketAddr, host: &str) -> io::Result<TcpStream> {
    let mut connection = Connection::try_open(address)?;
    connection.send(websocket("/tunnel", host))?;
    let head = connection.read_head()?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(io::Error::other(head));
    }
    timed(connection.stream().try_clone()?)
}

fn timed(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo_once(stream: &mut TcpStream, sent: &mut usize) -> io::Result<()> {
    std::thread::sleep(Duration::from_millis(2));
    let piece = pattern(*sent, 700);
    stream.write_all(&piece)?;
    let mut back = vec![0; piece.len()];
    stream.read_exact(&mut back)?;
    *sent += piece.len();
    if back == piece { Ok(()) } else { Err(io::Error::other(format!("other bytes came back before {sent}"))) }
}
