//! A client that opens connections, makes one request on each, and leaves: the program's own command `shake`, pinned to
//! the core of the clients. Counts; what it costs the proxy is measured elsewhere.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};

use super::secure::{Secure, client, connect, forget};
use crate::options::{Shaking, Visit};
use crate::peers::OTHER_CORE;
use crate::talk::Talk;

/// Connections at once.
const THREADS: usize = 8;

/// Runs the client in a process of its own; returns its connections.
///
/// # Errors
/// If any of them failed, or began in another way.
pub(crate) fn count(address: SocketAddr, host: &str, visit: Visit, span: Duration) -> io::Result<u64> {
    let mut command = Command::new("taskset");
    command.args(["-c", OTHER_CORE]).arg(std::env::current_exe()?).arg("shake");
    command.args([&address.to_string(), host, visit.word(), &span.as_millis().to_string()]);
    let output = command.output()?;
    let count = String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|_| output.status.success());
    let why = || format!("handshakes with {address}: {}", String::from_utf8_lossy(&output.stderr).trim());
    count.ok_or_else(|| io::Error::other(why()))
}

/// Is that process.
pub(crate) fn run(shaking: &Shaking) -> ExitCode {
    match shake(shaking).and_then(|count| writeln!(io::stdout(), "{count}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn shake(shaking: &Shaking) -> io::Result<u64> {
    let end = Instant::now() + shaking.span;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| visits(shaking, end))).collect();
        let counts = clients.into_iter().map(|client| client.join().map_err(|_| io::Error::other("a thread ended"))?);
        counts.sum()
    })
}

/// One connection after the other.
fn visits(shaking: &Shaking, end: Instant) -> io::Result<u64> {
    let mut client = client("http/1.1", shaking.visit)?;
    if shaking.visit == Visit::Resumed {
        // Brings the first tickets.
        visit(shaking, &Arc::new(client.clone()))?;
    }
    let mut count = 0;
    while Instant::now() < end {
        if shaking.visit != Visit::Resumed {
            forget(&mut client);
        }
        let kind = visit(shaking, &Arc::new(client.clone()))?;
        if (kind == Some(HandshakeKind::Resumed)) != (shaking.visit == Visit::Resumed) {
            return Err(io::Error::other(format!("a handshake was {kind:?}")));
        }
        count += 1;
    }
    Ok(count)
}

/// One connection with one request.
fn visit(shaking: &Shaking, client: &Arc<ClientConfig>) -> io::Result<Option<HandshakeKind>> {
    let host = &shaking.host;
    let mut talk = Talk::over(connect(shaking.address, host, client)?);
    match talk.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))? {
        200 => leave(talk.into_inner()),
        status => Err(io::Error::other(format!("the answer was {status}"))),
    }
}

/// Ends a connection as clients do.
fn leave(mut stream: Secure) -> io::Result<Option<HandshakeKind>> {
    let kind = stream.conn.handshake_kind();
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(kind)
}
