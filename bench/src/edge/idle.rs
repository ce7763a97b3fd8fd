//! Memory of a TLS connection that waits after its first request, over HTTP/1.1 and HTTP/2. Only memory of the process
//! counts, not the kernel's; each figure is of a fresh process.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::frames::{ACK, DATA, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, get, read_frame};
use super::proxies::{self, EdgeProxy};
use super::secure::{Secure, client, connect};
use crate::held::each_begun;
use crate::options::{Options, Visit};
use crate::peers::{HOST, Workplace};
use crate::report::Report;
use crate::talk::Talk;

/// A protocol, and the most memory that a connection may take, bytes.
const KINDS: [(&str, &str, f64); 2] =
    [("idle, TLS", "http/1.1", 12.0 * 1024.0), ("idle, HTTP/2 over TLS", "h2", 16.0 * 1024.0)];

/// Measures both.
///
/// # Errors
/// If a proxy does not start, or does not answer.
pub(super) fn measure(options: &Options, to: SocketAddr, place: &Workplace, report: &mut Report) -> io::Result<()> {
    for (name, protocol, most) in KINDS {
        if options.pointsman.exists() {
            let ours = proxies::pointsman(&options.pointsman, to, place)?;
            report.hold(format!("{name}: Pointsman"), each(&ours, protocol)?, "B", most);
        }
        report.note(format!("{name}: HAProxy"), each(&proxies::haproxy(to, place)?, protocol)?, "B");
        report.note(format!("{name}: nginx"), each(&proxies::nginx(to, place)?, protocol)?, "B");
    }
    Ok(())
}

fn each(proxy: &EdgeProxy, protocol: &str) -> io::Result<f64> {
    let client = Arc::new(client(protocol, Visit::First)?);
    let begin = match protocol {
        "h2" => begin_http2,
        _ => begin_http1,
    };
    each_begun(&proxy.peer, || begin(proxy.secure, &client))
}

fn begin_http1(address: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut talk = Talk::over(connect(address, HOST, client)?);
    match talk.ask(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))? {
        200 => Ok(talk.into_inner()),
        status => Err(io::Error::other(format!("the answer was {status}"))),
    }
}

/// One GET on stream 1, read to its end.
fn begin_http2(address: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut stream = connect(address, HOST, client)?;
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[])?);
    sent.extend(get(1)?);
    stream.write_all(&sent)?;
    loop {
        let (kind, flags) = read_frame(&mut stream)?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])?)?,
            HEADERS | DATA if flags & END_STREAM != 0 => return Ok(stream),
            _ => {}
        }
    }
}
