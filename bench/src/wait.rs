//! How long a response takes whose head and body an instance writes separately, with Nagle's algorithm on, as Python's
//! `http.server` and many others do: its kernel keeps the body back until the head is acknowledged.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use crate::options::Options;
use crate::peers::{self, HOST, HttpReuse, Peer, Workplace};
use crate::report::{Report, median};
use crate::talk::Talk;

/// Requests on one kept connection.
const ASKED: usize = 30;
/// The longest median wait through Pointsman, milliseconds: a delayed acknowledgement takes 40.
const TARGET: f64 = 2.0;

/// Measures the wait through each proxy.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(error) = measure_all(options, report) {
        report.fail("wait", &error);
    }
}

fn measure_all(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("wait")?;
    let to = start()?;
    let keys = place.path().join("keys");
    peers::write_service(&keys, "bench", HOST, &[to])?;
    let ours = peers::pointsman("Pointsman", &options.pointsman, &keys)?;
    report.hold("head and body written separately: Pointsman", wait(&ours)?, "ms", TARGET);
    for peer in [peers::nginx(to, &place)?, peers::haproxy(to, &place, HttpReuse::Safe)?] {
        report.note(format!("head and body written separately: {}", peer.name), wait(&peer)?, "ms");
    }
    Ok(())
}

/// The median wait for a response, milliseconds.
fn wait(peer: &Peer) -> io::Result<f64> {
    let mut talk = Talk::to(peer.address)?;
    let mut waits = Vec::new();
    for _ in 0..ASKED {
        let start = Instant::now();
        talk.ask(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))?;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(waits))
}

/// Starts the instance. It ends with the bench.
fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
            stream.write_all(b"hello")?;
        }
        line.clear();
    }
    Ok(())
}
