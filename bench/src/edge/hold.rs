//! Memory that clients of HTTP/2 hold who ask for much and take nearly nothing (CVE-2026-49975): all windows are at 0, and
//! each is opened by a byte a second. Beside them, another client makes requests.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::frames::{PREFACE, SETTINGS, WINDOW_UPDATE, frame, get};
use super::proxies::{self, EdgeProxy};
use super::secure::{Secure, client, connect};
use crate::drive::resident;
use crate::options::{Options, Visit};
use crate::peers::{HOST, Workplace};
use crate::report::Report;
use crate::sys::{self, Epoll, Interest};
use crate::talk::Talk;

/// Connections that hold.
const CONNECTIONS: usize = 100;
/// Requests on each.
const STREAMS: u32 = 128;
/// Bytes of an answer's body: more than a proxy should read ahead, and little enough for the kernel.
const BODY: usize = 32 * 1024;
/// Between two bytes of a stream.
const DRIP: Duration = Duration::from_secs(1);
/// Turns for which it is held.
const TURNS: u32 = 4;
/// For a proxy to read, at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of the other client.
const PAUSE: Duration = Duration::from_millis(50);
/// Memory that all of them take, at most, MB.
const MEMORY: f64 = 64.0;
/// The slowest answer to the other client, at most, milliseconds.
const SLOWEST: f64 = 1_000.0;
/// `SETTINGS_INITIAL_WINDOW_SIZE` = 0 (RFC 9113 §6.5.2).
const CLOSED: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// Measures it.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(error) = measure_all(options, report) {
        report.fail("hold", &error);
    }
}

fn measure_all(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("hold")?;
    proxies::prepare(&place)?;
    let (to, span) = (instance()?, options.turn * TURNS);
    let proxies = proxies::all(options, to, &place)?;
    for proxy in &proxies {
        let name = proxy.peer.name;
        match held(proxy, span) {
            Ok(Held { grown, slowest }) if name == "Pointsman" => {
                report.hold(format!("hold, 100 of 128 streams: {name}"), grown, "MB", MEMORY);
                report.hold(format!("hold, slowest answer beside it: {name}"), slowest, "ms", SLOWEST);
            }
            Ok(Held { grown, slowest }) => {
                report.note(format!("hold, 100 of 128 streams: {name}"), grown, "MB");
                report.note(format!("hold, slowest answer beside it: {name}"), slowest, "ms");
            }
            Err(error) => report.fail(&format!("hold: {name}"), &error),
        }
    }
    Ok(())
}

/// What a proxy did meanwhile.
struct Held {
    /// The most memory more than before, MB.
    grown: f64,
    /// Milliseconds.
    slowest: f64,
}

fn held(proxy: &EdgeProxy, span: Duration) -> io::Result<Held> {
    let (http1, http2) = (Arc::new(client("http/1.1", Visit::First)?), Arc::new(client("h2", Visit::First)?));
    let mut other = Talk::over(connect(proxy.secure, HOST, &http1)?);
    ask(&mut other)?;
    let before = resident(proxy.peer.id())?;
    let barrier = Arc::new(Barrier::new(CONNECTIONS + 1));
    let holders: Vec<_> = (0..CONNECTIONS).map(|_| holder(proxy.secure, &http2, &barrier, span)).collect();
    barrier.wait();
    let (start, mut most, mut slowest) = (Instant::now(), before, Duration::ZERO);
    while start.elapsed() < span {
        slowest = slowest.max(ask(&mut other)?);
        most = most.max(resident(proxy.peer.id())?);
        thread::sleep(PAUSE);
    }
    for holder in holders {
        holder.join().map_err(|_| io::Error::other("a thread ended"))??;
    }
    Ok(Held { grown: (most - before) as f64 / 1e6, slowest: slowest.as_secs_f64() * 1e3 })
}

/// One request of the other client; the time until its answer was whole.
fn ask(other: &mut Talk<Secure>) -> io::Result<Duration> {
    let start = Instant::now();
    match other.ask(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))? {
        200 => Ok(start.elapsed()),
        status => Err(io::Error::other(format!("the answer was {status}"))),
    }
}

/// A client that holds. A proxy may cut it off: that is no error.
fn holder(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    barrier: &Arc<Barrier>,
    span: Duration,
) -> JoinHandle<io::Result<()>> {
    let (client, barrier) = (Arc::clone(client), Arc::clone(barrier));
    thread::spawn(move || {
        let begun = begin(address, &client);
        barrier.wait();
        let (mut stream, end) = (begun?, Instant::now() + span);
        while Instant::now() < end && drip(&mut stream).is_ok() {
            take(&mut stream, (Instant::now() + DRIP).min(end));
        }
        Ok(())
    })
}

/// Opens a connection with all requests.
fn begin(address: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut stream = connect(address, HOST, client)?;
    stream.sock.set_write_timeout(Some(PATIENCE))?;
    let mut sent = [PREFACE, &frame(SETTINGS, 0, 0, &CLOSED)?].concat();
    for number in 0..STREAMS {
        sent.extend(get(2 * number + 1)?);
    }
    stream.write_all(&sent)?;
    Ok(stream)
}

/// Opens every window by a byte, and that of the connection by as many.
fn drip(stream: &mut Secure) -> io::Result<()> {
    let mut sent = frame(WINDOW_UPDATE, 0, 0, &STREAMS.to_be_bytes())?;
    for number in 0..STREAMS {
        sent.extend(frame(WINDOW_UPDATE, 0, 2 * number + 1, &1_u32.to_be_bytes())?);
    }
    stream.write_all(&sent)
}

/// Reads what comes until then.
fn take(stream: &mut Secure, until: Instant) {
    let mut piece = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.sock.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut piece) {
            Ok(1..) => {}
            // The end, or the time.
            Ok(0) | Err(_) => return thread::sleep(until.saturating_duration_since(Instant::now())),
        }
    }
}

/// Starts an instance whose answers are longer than what is taken of them. It ends with the bench.
fn instance() -> io::Result<SocketAddr> {
    let listener = sys::listen((Ipv4Addr::LOCALHOST, 0).into())?;
    let (address, mut epoll) = (listener.local_addr()?, Epoll::new()?);
    epoll.add(&listener, Interest::Read)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n");
    let answer = [head.as_bytes(), &[b'x'; BODY]].concat();
    thread::spawn(move || -> io::Result<()> {
        let (mut clients, mut ready) = (Vec::<Option<Asking>>::new(), Vec::new());
        loop {
            epoll.wait(&mut ready)?;
            for &fd in &ready {
                match clients.get_mut(fd).and_then(Option::as_mut).map(|client| client.step(&epoll, &answer)) {
                    Some(Ok(())) => {}
                    Some(Err(_)) => clients[fd] = None,
                    None => accept(&listener, &epoll, &mut clients)?,
                }
            }
        }
    });
    Ok(address)
}

fn accept(listener: &std::net::TcpListener, epoll: &Epoll, clients: &mut Vec<Option<Asking>>) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        epoll.add(&stream, Interest::Read)?;
        let fd = usize::try_from(stream.as_raw_fd()).map_err(io::Error::other)?;
        if clients.len() <= fd {
            clients.resize_with(fd + 1, || None);
        }
        clients[fd] = Some(Asking { stream, written: None });
    }
    Ok(())
}

/// A connection to the instance. Requests come in one piece, and have no body.
struct Asking {
    stream: TcpStream,
    /// Bytes of the answer that are written; `None`: nothing was asked.
    written: Option<usize>,
}

impl Asking {
    fn step(&mut self, epoll: &Epoll, answer: &[u8]) -> io::Result<()> {
        let mut at = match self.written {
            Some(at) => at,
            None if self.stream.read(&mut [0; 4096])? == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            None => 0,
        };
        while at < answer.len() {
            match self.stream.write(&answer[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.written = Some(at);
                    return epoll.change(&self.stream, Interest::Write);
                }
                Err(error) => return Err(error),
            }
        }
        self.written = None;
        epoll.change(&self.stream, Interest::Read)
    }
}
