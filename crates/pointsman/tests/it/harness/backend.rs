//! An HTTP/1.1 backend in this process: answers with its name, does what the path says, and keeps every byte it
//! receives.
//!
//! | path | answer |
//! |---|---|
//! | `/head` | the request head as it arrived |
//! | `/bytes/N`, `/chunks/N` | N bytes of [`pattern`], by length or chunked with a trailer |
//! | `/drip/MS` | chunks of the pattern, one every 5 ms |
//! | `/hold` | the same, until [`Backend::let_go`] |
//! | `/wait/MS` | its name, after that time |
//! | `/status/CODE` | that status |
//! | `/count` | the number of body bytes, and whether they are the pattern |
//! | an upgrade | 101, then an echo |
//! | anything else, with `X-Tell` | the head and the beginning of the body as received |
//! | anything else | its name and the target |
//!
//! `X-Answer` of a request is header lines of the answer, `;;` between them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes kept per connection.
const KEEP: usize = 256 * 1024;
/// Bytes of one drip.
const DRIP: usize = 4096;
/// Bytes of a request's body in a report.
const TELL: usize = 1024;

/// A running backend; its connections are cut on drop.
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    name: String,
    stopped: AtomicBool,
    connections: Mutex<Vec<Peer>>,
    /// Bytes received on all connections.
    bytes: AtomicUsize,
    /// Requests read to the end of their bodies.
    whole: AtomicUsize,
    /// How many times held answers were let go.
    let_go: AtomicUsize,
}

struct Peer {
    /// Removed with the connection: an open-close load leaves thousands behind.
    stream: Arc<Mutex<Option<TcpStream>>>,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Backend {
    /// A backend that answers with this name, on its own port.
    pub(crate) fn naming(name: &str) -> Self {
        Self::at(name, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// A backend at this address.
    #[track_caller]
    pub(crate) fn at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("backend at {address}: {error}"));
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as an instance's value.
    pub(crate) fn instance(&self) -> String {
        self.address.to_string()
    }

    /// The number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().expect("no panic while held").len()
    }

    /// Every byte received, one row per connection (only the beginning of long ones).
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        let connections = self.shared.connections.lock().expect("no panic while held");
        connections.iter().map(|peer| peer.received.lock().expect("no panic while held").clone()).collect()
    }

    /// The number of bytes received on all connections.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Acquire)
    }

    /// The number of complete requests, bodies included.
    pub(crate) fn whole(&self) -> usize {
        self.shared.whole.load(Ordering::Acquire)
    }

    /// Ends every answer to `/hold`, in good order.
    pub(crate) fn let_go(&self) {
        self.shared.let_go.fetch_add(1, Ordering::AcqRel);
    }

    /// Closes all its connections, like an instance that closes idle ones.
    pub(crate) fn close_connections(&self) {
        for peer in self.shared.connections.lock().expect("no panic while held").iter() {
            if let Some(stream) = &*peer.stream.lock().expect("no panic while held") {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // A connection of our own wakes the accepting thread, which drops the listener.
        let _ = TcpStream::connect(self.address);
        self.close_connections();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || drop(serve(stream, &shared)));
    }
}

fn serve(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let received = Arc::new(Mutex::new(Vec::new()));
    let open = Arc::new(Mutex::new(Some(stream.try_clone()?)));
    let peer = Peer { stream: Arc::clone(&open), received: Arc::clone(&received) };
    shared.connections.lock().expect("no panic while held").push(peer);
    let served = exchanges(stream, received, shared);
    *open.lock().expect("no panic while held") = None;
    served
}

fn exchanges(stream: TcpStream, received: Arc<Mutex<Vec<u8>>>, shared: &Arc<Shared>) -> io::Result<()> {
    let output = stream.try_clone()?;
    let input = BufReader::new(Tee { stream, received, shared: Arc::clone(shared) });
    let mut exchange = Exchange { shared, input, output, lines: String::new() };
    while exchange.one()? {}
    exchange.output.shutdown(Shutdown::Both)
}

/// Reads a socket and keeps the bytes.
struct Tee {
    stream: TcpStream,
    received: Arc<Mutex<Vec<u8>>>,
    shared: Arc<Shared>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.shared.bytes.fetch_add(count, Ordering::AcqRel);
        let mut received = self.received.lock().expect("no panic while held");
        let room = KEEP.saturating_sub(received.len());
        received.extend_from_slice(&buffer[..count.min(room)]);
        Ok(count)
    }
}

struct Exchange<'s> {
    shared: &'s Shared,
    input: BufReader<Tee>,
    output: TcpStream,
    /// Header lines of the answer.
    lines: String,
}

impl Exchange<'_> {
    /// Answers one request; `false` when the connection is done.
    fn one(&mut self) -> io::Result<bool> {
        let Some(head) = self.head()? else {
            return Ok(false);
        };
        if field(&head, "upgrade").is_some() {
            self.shared.whole.fetch_add(1, Ordering::AcqRel);
            self.upgrade(&head)?;
            return Ok(false);
        }
        if field(&head, "expect").is_some() {
            self.output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = self.body(&head)?;
        let lines = field(&head, "x-answer").into_iter().flat_map(|lines| lines.split(";;"));
        self.lines = lines.map(|line| format!("{}\r\n", line.trim())).collect();
        self.shared.whole.fetch_add(1, Ordering::AcqRel);
        self.answer(&head, &body)?;
        Ok(!field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
    }

    fn head(&mut self) -> io::Result<Option<String>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.input.read_until(b'\n', &mut head)? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(String::from_utf8_lossy(&head).into_owned()))
    }

    /// Reads the body and computes its summary.
    fn body(&mut self, head: &str) -> io::Result<Body> {
        let mut body = Body { count: 0, intact: true, start: Vec::new() };
        if field(head, "transfer-encoding").is_some() {
            while let Some(size) = self.chunk_size()? {
                body.read(&mut self.input, size)?;
                self.input.read_line(&mut String::new())?;
            }
        } else if let Some(length) = field(head, "content-length") {
            body.read(&mut self.input, length.parse().map_err(io::Error::other)?)?;
        }
        Ok(body)
    }

    fn chunk_size(&mut self) -> io::Result<Option<usize>> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        if size > 0 {
            return Ok(Some(size));
        }
        while line != "\r\n" {
            line.clear();
            self.input.read_line(&mut line)?;
        }
        Ok(None)
    }

    fn answer(&mut self, head: &str, body: &Body) -> io::Result<()> {
        let method = head.split(' ').next().unwrap_or_default();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, number) = target.rsplit_once('/').unwrap_or((target, ""));
        let number: u64 = number.parse().unwrap_or(0);
        match path {
            "/bytes" => self.sized(method, 200, &pattern(0, count(number))),
            "/chunks" => self.chunks(count(number)),
            "/drip" => {
                let start = Instant::now();
                self.drip(|| start.elapsed() >= Duration::from_millis(number))
            }
            "/status" => {
                self.sized(method, number as u16, if [204, 304].contains(&number) { b"" } else { b"as asked\n" })
            }
            "/wait" => {
                std::thread::sleep(Duration::from_millis(number));
                self.named(method, target)
            }
            _ if target == "/hold" => {
                let (shared, before) = (self.shared, self.shared.let_go.load(Ordering::Acquire));
                self.drip(|| shared.let_go.load(Ordering::Acquire) > before)
            }
            _ if target == "/head" => self.sized(method, 200, head.as_bytes()),
            _ if target == "/count" => self.sized(method, 200, format!("{} {}\n", body.count, body.intact).as_bytes()),
            _ if field(head, "x-tell").is_some() => self.sized(method, 200, &[head.as_bytes(), &body.start].concat()),
            _ => self.named(method, target),
        }
    }

    fn named(&mut self, method: &str, target: &str) -> io::Result<()> {
        let text = format!("{} {target}\n", self.shared.name);
        self.sized(method, 200, text.as_bytes())
    }

    fn sized(&mut self, method: &str, status: u16, body: &[u8]) -> io::Result<()> {
        let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let mut message =
            format!("HTTP/1.1 {status} Told\r\nX-Backend: {}\r\n{length}{}\r\n", self.shared.name, self.lines)
                .into_bytes();
        if method != "HEAD" {
            message.extend_from_slice(body);
        }
        self.output.write_all(&message)
    }

    fn chunked_head(&mut self) -> io::Result<()> {
        let coding = "Transfer-Encoding: chunked\r\n";
        let head = format!("HTTP/1.1 200 OK\r\nX-Backend: {}\r\n{coding}{}\r\n", self.shared.name, self.lines);
        self.output.write_all(head.as_bytes())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut message = format!("{:x}\r\n", bytes.len()).into_bytes();
        message.extend_from_slice(bytes);
        message.extend_from_slice(b"\r\n");
        self.output.write_all(&message)
    }

    fn chunks(&mut self, total: usize) -> io::Result<()> {
        self.chunked_head()?;
        let body = pattern(0, total);
        for piece in body.chunks(10_000) {
            self.chunk(piece)?;
        }
        self.output.write_all(format!("0\r\nX-Total: {total}\r\n\r\n").as_bytes())
    }

    fn drip(&mut self, is_over: impl Fn() -> bool) -> io::Result<()> {
        self.chunked_head()?;
        let mut sent = 0;
        while !is_over() {
            self.chunk(&pattern(sent, DRIP))?;
            sent += DRIP;
            std::thread::sleep(Duration::from_millis(5));
        }
        self.output.write_all(format!("0\r\nX-Total: {sent}\r\n\r\n").as_bytes())
    }

    fn upgrade(&mut self, head: &str) -> io::Result<()> {
        let protocol = field(head, "upgrade").unwrap_or_default();
        let accept = field(head, "sec-websocket-key").map(accepted).unwrap_or_default();
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n{accept}\r\n");
        self.output.write_all(answer.as_bytes())?;
        io::copy(&mut self.input, &mut self.output)?;
        self.output.shutdown(Shutdown::Write)
    }
}

/// The response to a key (RFC 6455 §4.2.2).
fn accepted(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    format!("Sec-WebSocket-Accept: {}\r\n", STANDARD.encode(digest))
}

struct Body {
    count: usize,
    intact: bool,
    /// Its beginning.
    start: Vec<u8>,
}

impl Body {
    fn read(&mut self, input: &mut impl Read, mut left: usize) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let room = left.min(buffer.len());
            let count = input.read(&mut buffer[..room])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.intact &= buffer[..count] == pattern(self.count, count);
            let room = TELL.saturating_sub(self.start.len());
            self.start.extend_from_slice(&buffer[..count.min(room)]);
            self.count += count;
            left -= count;
        }
        Ok(())
    }
}

/// The period of the pattern for bodies. It divides no power of two, so a lost, doubled or moved piece shows.
const PERIOD: usize = 251;

/// A piece of the pattern. Copied a period at a time: a client that computes tens of megabytes byte by byte is too slow
/// for the time limits under test.
pub(crate) fn pattern(from: usize, count: usize) -> Vec<u8> {
    let start = from % PERIOD;
    let period: Vec<u8> = (0..PERIOD).map(|place| ((start + place) % PERIOD) as u8).collect();
    let mut piece = period.repeat(count.div_ceil(PERIOD));
    piece.truncate(count);
    piece
}

fn count(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
