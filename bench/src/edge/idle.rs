//! Memory of a TLS connection that waits after its first request, over HTTP/1.1 and HTTP/2. Only memory of the process
//! counts, not the kernel's; each figure is of a fresh process.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

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

/// Frames of HTTP/2 (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// Flags of frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One GET on stream 1, read to its end.
fn begin_http2(address: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut stream = connect(address, HOST, client)?;
    // `:method` GET, `:scheme` https and `:path` / of the static table, and an `:authority` (RFC 7541 §6).
    let length = u8::try_from(HOST.len()).map_err(io::Error::other)?;
    let head = [&[0x82, 0x87, 0x84, 0x41, length], HOST.as_bytes()].concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[])?);
    sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)?);
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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat())
}

/// Reads a frame; its kind and its flags.
fn read_frame(stream: &mut Secure) -> io::Result<(u8, u8)> {
    let mut head = [0_u8; 9];
    stream.read_exact(&mut head)?;
    let [high, middle, low, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, high, middle, low]);
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut payload)?;
    Ok((kind, flags))
}
