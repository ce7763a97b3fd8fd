//! A worker with its table and clock, its clients, and its instances behind Unix sockets. All run on one thread, so a test
//! knows when nothing moves any more and never waits for time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pointsman_engine::live::Registry;
use pointsman_table::{KeySet, Limits as KeyLimits, Table, compile};
use socket2::{Domain, SockAddr, Socket, Type};

use super::frames::{self, Frame};
use super::ledger;
use super::peer::{Found, Peer};
use super::resets;
use crate::access::Observed;
use crate::net::buffer::{Input, Size};
use crate::net::deadline::TICK;
use crate::net::peer::Ends;
use crate::net::stream::Stream;
use crate::passwords::Passwords;
use crate::worker::{Common, Counted, Limits, Worker};
use crate::{serve, tcp};

/// The address that clients come from (RFC 5737).
const CLIENT: Ends = Ends {
    client: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 1),
    local: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80)),
};
/// How many connections may wait until an instance accepts them.
const BACKLOG: i32 = 8;
/// How many turns of the scheduler everything may take to settle; if it takes more, some task spins.
const ROUNDS: u32 = 1_000_000;

/// A folder for the sockets of a world, removed with it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pointsman-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        // A killed process may have left one behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that an exchange needs: a worker, clients and instances.
#[derive(Debug)]
pub(super) struct World {
    pub(super) worker: Rc<Worker>,
    pub(super) registry: Arc<Registry>,
    table: Arc<Table>,
    /// The coarse clock, milliseconds.
    clock: u64,
    /// How often the tasks of the engine were polled.
    polls: Rc<Cell<u64>>,
    folder: Folder,
    /// Instances by their letter; `None`: nobody listens.
    instances: BTreeMap<char, Option<UnixListener>>,
    pub(super) peers: BTreeMap<String, Peer>,
    /// Bytes of our own responses that clients got.
    pub(super) own: usize,
    /// Connections that keep an instance's queue full.
    fillers: Vec<UnixStream>,
    /// TCP ports with a full queue.
    stalled: Vec<(TcpListener, TcpStream)>,
}

impl World {
    pub(super) fn new(keys: &str) -> Self {
        fastrand::seed(7);
        resets::clear();
        let registry = Arc::new(Registry::new(1, crate::FAULTS));
        let passwords = Arc::new(Passwords::new().expect("random bytes"));
        let common = Common {
            limits: Limits { descriptors: 1000, workers: 1 },
            observed: Observed::default(),
            passwords,
            wishes: pointsman_engine::cert_wishes::queue().0,
        };
        let worker = Worker::new(0, Arc::clone(&registry), common);
        let mut world = Self {
            worker,
            registry,
            table: Table::empty(),
            clock: 0,
            polls: Rc::default(),
            folder: Folder::new(),
            instances: BTreeMap::new(),
            peers: BTreeMap::new(),
            own: 0,
            fillers: Vec::new(),
            stalled: Vec::new(),
        };
        world.take(keys);
        world
    }

    /// Takes a table into use. Keys are written as `s/a={a}; config/timeout/server=2s`: `s/` is an HTTP service, which
    /// takes every request if no rule is set, `t/` is a TCP service. `{a}` is the address of instance a, which listens
    /// from then on; `{stalled}` is one that neither takes a connection nor refuses it.
    pub(super) fn take(&mut self, keys: &str) {
        let mut key_set = KeySet::default();
        key_set.reset(self.table.revision() + 1, self.entries(keys));
        let compiled = compile(&key_set, Some(&self.table), &KeyLimits::default());
        assert_eq!(compiled.problems, [], "{keys}");
        self.table = compiled.table;
        self.worker.take(Arc::clone(&self.table), None);
    }

    /// Keys in full, with a rule and a port where there are none.
    fn entries(&mut self, keys: &str) -> Vec<(Box<str>, Box<[u8]>)> {
        let mut entries: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
        for line in keys.split(';').map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').expect("a key has a value");
            let key = match key.split_once('/') {
                Some(("s", rest)) => format!("services/s/{rest}"),
                Some(("t", rest)) => format!("tcp-services/t/{rest}"),
                _ => key.to_owned(),
            };
            entries.push((key.into(), self.with_paths(value).into_bytes().into()));
        }
        let has = |prefix: &str| entries.iter().any(|(key, _)| key.starts_with(prefix));
        let needs_rule = has("services/s/") && !has("services/s/domain") && !has("services/s/virtual_path");
        let needs_port = has("tcp-services/t/");
        entries.extend(needs_rule.then(|| ("services/s/default".into(), (*b"true").into())));
        entries.extend(needs_port.then(|| ("tcp-services/t/port".into(), (*b"9000").into())));
        entries
    }

    /// A value with the addresses of instances filled in.
    fn with_paths(&mut self, value: &str) -> String {
        let mut value = value.to_owned();
        for letter in 'a'..='d' {
            if value.contains(&format!("{{{letter}}}")) {
                let path = self.path(letter);
                self.instances.entry(letter).or_insert_with(|| Some(listen(&path)));
                value = value.replace(&format!("{{{letter}}}"), &format!("unix:{}", path.display()));
            }
        }
        if value.contains("{stalled}") {
            let listener = stalled();
            let address = listener.0.local_addr().unwrap().to_string();
            self.stalled.push(listener);
            value = value.replace("{stalled}", &address);
        }
        value
    }

    fn path(&self, letter: char) -> PathBuf {
        self.folder.0.join(letter.to_string())
    }

    /// Stops an instance's listener.
    pub(super) fn stop_listening(&mut self, letter: char) {
        self.instances.insert(letter, None);
    }

    /// Fills an instance's queue: it takes no further connection.
    pub(super) fn fill_queue(&mut self, letter: char) {
        let address = SockAddr::unix(self.path(letter)).unwrap();
        loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&address) {
                Ok(()) => self.fillers.push(socket.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot fill the queue: {error}"),
            }
        }
    }

    /// Lets every task run until nothing moves any more. What one side sends into a Unix socket is there for the other at
    /// once, so three turns of the scheduler in which no task ran mean that none will.
    pub(super) async fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            let before = self.polls.get();
            tokio::task::yield_now().await;
            quiet = if self.polls.get() == before { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("the tasks never rest");
    }

    /// Moves the coarse clock, a tick at a time.
    pub(super) async fn pass(&mut self, milliseconds: u64) {
        let until = self.clock + milliseconds;
        while self.clock < until {
            self.clock = until.min(self.clock + TICK.as_millis() as u64);
            self.worker.tick(self.registry.epoch() + Duration::from_millis(self.clock));
            self.settle().await;
        }
    }

    /// Begins to drain the worker.
    pub(super) fn drain(&self) {
        self.worker.begin_drain();
        self.worker.timers.wake_all();
    }

    /// The peer of this name. A client connects when it is first named: `p` to `v` speak HTTP, `w` to `z` use the TCP
    /// service. `a2` is the second connection that instance a accepts.
    pub(super) fn peer(&mut self, name: &str) -> Result<&mut Peer, String> {
        if !self.peers.contains_key(name) {
            let stream = match name.as_bytes() {
                [b'w'..=b'z'] => self.client(true),
                [b'p'..=b'v'] => self.client(false),
                [letter, _] => self.accept(char::from(*letter))?,
                _ => return Err(format!("nobody is called {name}")),
            };
            self.peers.insert(name.to_owned(), Peer::new(stream));
        }
        Ok(self.peers.get_mut(name).expect("it was put there"))
    }

    /// Connects the peer of this name, unless it is known; returns whether it was new.
    pub(super) fn is_new(&mut self, name: &str) -> Result<bool, String> {
        let known = self.peers.contains_key(name);
        self.peer(name).map(|_| !known)
    }

    fn accept(&mut self, letter: char) -> Result<UnixStream, String> {
        let listener = self.instances.get(&letter).and_then(Option::as_ref);
        let listener = listener.ok_or_else(|| format!("{letter} does not listen"))?;
        listener.accept().map(|(stream, _)| stream).map_err(|_| "it got no connection".into())
    }

    /// A client connects, and is served as a listener's connections are.
    fn client(&mut self, tcp_service: bool) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(far).unwrap());
        let counted = Counted::new(&self.worker);
        if tcp_service {
            let view = self.worker.view();
            let live = self.worker.service(&view, view.table.tcp()[0].1).unwrap();
            self.start(Box::pin(tcp::serve(counted, stream, Input::new(Size::Page), CLIENT, live)));
        } else if self.worker.excess() > 0 && !self.worker.make_room() {
            self.start(Box::pin(serve::turn_away(counted, stream, CLIENT)));
        } else {
            self.start(Box::pin(serve::serve(counted, stream, CLIENT)));
        }
        near
    }

    /// Starts a task of the engine, and counts its polls.
    fn start(&self, mut task: Pin<Box<dyn Future<Output = ()>>>) {
        let polls = Rc::clone(&self.polls);
        let counted = poll_fn(move |context| {
            polls.set(polls.get() + 1);
            task.as_mut().poll(context)
        });
        drop(tokio::task::spawn_local(counted));
    }

    /// Sends all bytes; an error if the other side does not take them.
    pub(super) async fn send(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        match self.send_some(name, bytes).await? {
            count if count == bytes.len() => Ok(()),
            count => Err(format!("only {count} of {} bytes were taken", bytes.len())),
        }
    }

    /// Sends for as long as the other side takes it; returns how many bytes it took.
    pub(super) async fn send_some(&mut self, name: &str, bytes: &[u8]) -> Result<usize, String> {
        let mut sent = 0;
        while sent < bytes.len() {
            let mut count = self.peer(name)?.send(&bytes[sent..])?;
            if count == 0 {
                self.settle().await;
                count = self.peer(name)?.send(&bytes[sent..])?;
            }
            if count == 0 {
                break;
            }
            sent += count;
        }
        Ok(sent)
    }

    /// Receives frames, and compares their texts; returns how many bytes of bodies there were.
    pub(super) async fn expect_frames(&mut self, name: &str, expected: &[String]) -> Result<usize, String> {
        let (mut got, mut bodies) = (Vec::new(), 0);
        while got.len() < expected.len() {
            let Some((text, body)) = self.receive_frame(name).await? else { break };
            bodies += body;
            got.push(text);
            if got.last() != expected.get(got.len() - 1) {
                break;
            }
        }
        if got == expected {
            return Ok(bodies);
        }
        Err(format!("got  {}\n    not  {}", shown(got.join(" ; ").as_bytes()), shown(expected.join(" ; ").as_bytes())))
    }

    /// Receives frames until this one comes.
    pub(super) async fn await_frame(&mut self, name: &str, expected: &str) -> Result<(), String> {
        let mut last = String::new();
        while last != expected {
            let frame = self.receive_frame(name).await?;
            last = frame.ok_or_else(|| format!("the last frame was {}", shown(last.as_bytes())))?.0;
        }
        Ok(())
    }

    /// Receives a frame; returns its text, and how many bytes of a body it has.
    async fn receive_frame(&mut self, name: &str) -> Result<Option<(String, usize)>, String> {
        let header = self.receive(name, frames::HEADER).await?;
        if header.len() < frames::HEADER {
            self.peer(name)?.seen -= header.len();
            return Ok(None);
        }
        let (mut frame, length) = Frame::begin(&header);
        frame.payload = self.receive(name, length).await?;
        let body = if frame.kind == 0 { length } else { 0 };
        let peer = self.peer(name)?;
        // What is counted of HTTP/2 is the bodies.
        peer.seen -= frames::HEADER + length - body;
        Ok(Some((frame.text(&mut peer.decoder), body)))
    }

    async fn receive(&mut self, name: &str, most: usize) -> Result<Vec<u8>, String> {
        let mut got = Vec::with_capacity(most);
        while got.len() < most {
            let mut more = self.peer(name)?.read(most - got.len())?;
            if more.is_empty() {
                self.settle().await;
                more = self.peer(name)?.read(most - got.len())?;
            }
            if more.is_empty() {
                break;
            }
            got.extend(more);
        }
        Ok(got)
    }

    /// Receives exactly these bytes.
    pub(super) async fn expect(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let got = self.receive(name, bytes.len()).await?;
        if got == bytes { Ok(()) } else { Err(format!("got  {}\n    not  {}", shown(&got), shown(bytes))) }
    }

    /// The other side ended this connection, by a reset or not, and sent nothing more.
    pub(super) fn ended(&mut self, name: &str, cut: bool) -> Result<(), String> {
        let path = self.path_to(name);
        if self.peer(name)?.is_closed() {
            return if resets::take(path) == cut { Ok(()) } else { Err("that is not how it ended".into()) };
        }
        let found = self.peer(name)?.look()?;
        let noted = match found {
            Found::End | Found::Torn => resets::take(path),
            Found::Nothing | Found::Bytes(_) => return Err(self.unexpected(name, found)),
        };
        self.peer(name)?.ended = true;
        match noted || found == Found::Torn {
            was_cut if was_cut == cut => Ok(()),
            true => Err("it was cut, not closed".into()),
            false => Err("it was closed, not cut".into()),
        }
    }

    /// The connection is open, and nothing came.
    pub(super) fn is_quiet(&mut self, name: &str) -> Result<(), String> {
        match self.peer(name)?.look()? {
            Found::Nothing => Ok(()),
            found => Err(self.unexpected(name, found)),
        }
    }

    fn unexpected(&mut self, name: &str, found: Found) -> String {
        let read = self.peers.get_mut(name).map(|peer| {
            peer.read(match found {
                Found::Bytes(count) => count,
                Found::Nothing | Found::End | Found::Torn => 0,
            })
        });
        let bytes = read.and_then(Result::ok).unwrap_or_default();
        format!("{name}: {found:?} {}", shown(&bytes))
    }

    /// The path of this peer's instance; clients have none.
    fn path_to(&self, name: &str) -> Option<PathBuf> {
        let letter = name.chars().next().filter(|_| name.len() == 2)?;
        Some(self.path(letter))
    }

    /// Checks that everyone is at rest and that the counts are as stated. Then the clients leave, which counts nothing.
    pub(super) async fn finish(mut self, counted: &str) -> Result<(), String> {
        self.settle().await;
        let open = self.peers.iter().filter(|(_, peer)| !peer.is_closed() && !peer.ended);
        let open: Vec<_> = open.map(|(name, _)| name.clone()).collect();
        for name in open {
            self.is_quiet(&name).map_err(|wrong| format!("in the end {wrong}"))?;
        }
        let listening: Vec<_> = self.instances.iter().filter(|(_, listener)| listener.is_some()).collect();
        let letters: Vec<_> = listening.into_iter().map(|(letter, _)| *letter).collect();
        for letter in letters {
            if self.fillers.is_empty() && self.accept(letter).is_ok() {
                return Err(format!("{letter} got one more connection"));
            }
        }
        match resets::clear() {
            0 => {}
            count => return Err(format!("{count} more connections were cut")),
        }
        ledger::check(&self, counted)?;
        self.peers.iter_mut().filter(|(name, _)| name.len() == 1).for_each(|(_, peer)| peer.leave());
        self.pass(2_200).await;
        ledger::check(&self, counted)?;
        match self.registry.open() {
            0 => Ok(()),
            count => Err(format!("{count} clients are still served")),
        }
    }
}

fn listen(path: &Path) -> UnixListener {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
    socket.listen(BACKLOG).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// A TCP port with a full queue: a connection there is neither taken nor refused.
fn stalled() -> (TcpListener, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let filler = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, filler)
}

/// Bytes as rows write them, cut short.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 400;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).replace("\r\n", "|");
    if bytes.len() > MOST { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}
