//! Memory of a client connection that waits: idle, in half a head, in a slow upload, an event stream, a WebSocket. Only
//! memory of the process counts, not the kernel's; each figure is of a fresh process.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::drive::{anonymous, resident};
use crate::options::Options;
use crate::peers::{self, HOST, HttpReuse, Peer, Workplace};
use crate::report::Report;

/// Connections of one kind.
const COUNT: usize = 1_000;
/// How long a proxy has to come to rest.
const REST: Duration = Duration::from_millis(1_500);
/// Resident memory at the start, MB.
const START: f64 = 10.5;

/// A kind of connection, and the most memory that one may take, bytes.
struct Kind {
    name: &'static str,
    sent: &'static str,
    /// The client waits for the beginning of an answer.
    answered: bool,
    most: f64,
}

const KINDS: [Kind; 5] = [
    Kind { name: "idle", sent: "GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n", answered: true, most: 1_500.0 },
    Kind { name: "half a head", sent: "GET / HTTP/1.1\r\nHost: bench.te", answered: false, most: 4_000.0 },
    Kind {
        name: "WebSocket",
        sent: "GET /ws HTTP/1.1\r\nHost: bench.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        answered: true,
        most: 8_000.0,
    },
    Kind {
        name: "slow upload",
        sent: "POST /slow HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 1000000\r\n\r\nslow",
        answered: false,
        most: 12_000.0,
    },
    Kind {
        name: "event stream",
        sent: "GET /events HTTP/1.1\r\nHost: bench.test\r\n\r\n",
        answered: true,
        most: 12_000.0,
    },
];

/// Measures every kind.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(error) = measure_all(options, report) {
        report.fail("held", &error);
    }
}

fn measure_all(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("held")?;
    let to = start()?;
    let keys = place.path().join("keys");
    peers::write_service(&keys, "bench", HOST, &[to])?;
    let ours = || peers::pointsman("Pointsman", &options.pointsman, &keys);
    for kind in &KINDS {
        report.hold(format!("{}: Pointsman", kind.name), each(&ours()?, kind)?, "B", kind.most);
        report.note(format!("{}: HAProxy", kind.name), each(&peers::haproxy(to, &place, HttpReuse::Safe)?, kind)?, "B");
        if kind.name != "WebSocket" {
            report.note(format!("{}: nginx", kind.name), each(&peers::nginx(to, &place)?, kind)?, "B");
        }
    }
    report.hold("resident at the start", at_start(&ours()?)?, "MB", START);
    Ok(())
}

/// Resident memory of a proxy that has come to rest, MB.
///
/// # Errors
/// If it has ended.
pub(crate) fn at_start(peer: &Peer) -> io::Result<f64> {
    thread::sleep(REST);
    Ok(resident(peer.id())? as f64 / f64::from(1 << 20))
}

/// Bytes that an idle connection takes.
///
/// # Errors
/// If the proxy does not answer.
pub(crate) fn idle(peer: &Peer) -> io::Result<f64> {
    each(peer, &KINDS[0])
}

/// Bytes that a connection of this kind takes.
fn each(peer: &Peer, kind: &Kind) -> io::Result<f64> {
    each_begun(peer, || begin(peer.address, kind))
}

/// Bytes that a connection takes that begins like this.
///
/// # Errors
/// If one does not.
pub(crate) fn each_begun<T>(peer: &Peer, begin: impl Fn() -> io::Result<T>) -> io::Result<f64> {
    drop((0..10).map(|_| begin()).collect::<io::Result<Vec<_>>>()?);
    thread::sleep(REST);
    let before = of(peer)?;
    let held = (0..COUNT).map(|_| begin()).collect::<io::Result<Vec<_>>>()?;
    thread::sleep(REST);
    let grown = of(peer)?.saturating_sub(before);
    drop(held);
    Ok(grown as f64 / COUNT as f64)
}

fn of(peer: &Peer) -> io::Result<u64> {
    peer.workers()?.into_iter().map(anonymous).sum()
}

fn begin(address: SocketAddr, kind: &Kind) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(kind.sent.as_bytes())?;
    if kind.answered {
        stream.read_exact(&mut [0; 64])?;
    }
    Ok(stream)
}

/// Starts the instance. It ends with the bench.
fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let answering = |stream| thread::Builder::new().stack_size(64 << 10).spawn(move || drop(answer(stream)));
    thread::spawn(move || listener.incoming().flatten().map(answering).for_each(drop));
    Ok(address)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 10, stream.try_clone()?);
    let (mut line, mut path) = (String::new(), String::new());
    while input.read_line(&mut line)? > 0 {
        if let Some(found) = line.strip_suffix(" HTTP/1.1\r\n").and_then(|line| line.split(' ').nth(1)) {
            path = found.to_owned();
        } else if line == "\r\n" {
            respond(&mut stream, &path)?;
        }
        line.clear();
    }
    Ok(())
}

fn respond(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    stream.write_all(match path {
        "/ws" => {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        }
        "/events" => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n"
        }
        "/slow" => b"",
        _ => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\r\n12345678901234567890",
    })
}
