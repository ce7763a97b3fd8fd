//! HAProxy's `option httplog` and `option tcplog`, to the character (its Configuration Manual 2.6, §8.2.3 and §8.2.2). The
//! names are those that the HAProxy engine gives to listeners, services and instances.

use std::io::Write as _;

use pointsman_table::{Protocol, plain_name};

use super::date;
use super::entry::LogEntry;
use super::escape;
use super::noted::HeadWords;

/// Writes a line without its end. A vector takes all, so that no write of this file fails.
pub(super) fn write(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    let (ip, port) = entry.peer;
    let _ = write!(out, "{ip}:{port} [");
    date::haproxy(entry.at, out);
    out.extend(b"] ");
    let frontend = frontend(entry);
    let _ = write!(out, "{frontend} ");
    match entry.service {
        Some(service) => {
            let _ = write!(out, "{}:{}/", entry.kind.tree(), plain_name(service));
        }
        None => {
            let _ = write!(out, "{frontend}/");
        }
    }
    match entry.instance {
        Some(instance) => out.extend(plain_name(instance).bytes()),
        None => out.extend(b"<NOSRV>"),
    }
    match entry.kind {
        Protocol::Http => http(entry, out),
        Protocol::Tcp => tcp(entry, out),
    }
}

/// `http`, `https~` or `tcp:0.0.0.0:5432`.
fn frontend(entry: &LogEntry<'_>) -> String {
    let tls = if entry.tls.is_some() { "~" } else { "" };
    match (entry.kind, entry.listener) {
        (Protocol::Http, _) => format!("{}{tls}", entry.scheme()),
        (Protocol::Tcp, Some(at)) => format!("tcp:{}:{}{tls}", at.ip(), at.port()),
        (Protocol::Tcp, None) => format!("tcp{tls}"),
    }
}

fn http(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    for time in [entry.head, entry.queue, entry.connect, entry.first_byte] {
        push_time(time, out);
        out.push(b'/');
    }
    let _ = write!(out, "{} ", entry.total);
    match status(entry) {
        Some(status) => write!(out, "{status}"),
        None => write!(out, "-1"),
    }
    .unwrap_or_default();
    let [who, at] = entry.letters.map(char::from);
    let [came, set] = entry.cookies.map(char::from);
    let _ = write!(out, " {} - - {who}{at}{came}{set} ", entry.bytes_out);
    counts(entry, out);
    out.extend(b" \"");
    match entry.words {
        Some(words) => request(entry, words, out),
        None => out.extend(b"<BADREQ>"),
    }
    out.push(b'"');
}

/// A client that left got none; HAProxy writes the one that it would have got.
fn status(entry: &LogEntry<'_>) -> Option<u16> {
    let unsent = match entry.letters {
        [b'C', b'Q' | b'C'] => Some(503),
        [b'C', b'H' | b'R'] => Some(400),
        _ => None,
    };
    entry.status.or(unsent)
}

/// `GET /cart HTTP/1.1`. Of HTTP/2, the target is absolute.
fn request(entry: &LogEntry<'_>, words: &HeadWords, out: &mut Vec<u8>) {
    escape::haproxy(words.method(), out);
    out.push(b' ');
    if words.protocol == "HTTP/2.0" && words.target() != b"*" {
        let _ = write!(out, "{}://", entry.scheme());
        escape::haproxy(words.host(), out);
    }
    escape::haproxy(words.target(), out);
    let _ = write!(out, " {}", words.protocol);
}

fn tcp(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    for time in [entry.queue, entry.connect] {
        push_time(time, out);
        out.push(b'/');
    }
    let [who, at] = entry.letters.map(char::from);
    let _ = write!(out, "{} {} {who}{at} ", entry.total, entry.bytes_out);
    counts(entry, out);
}

/// Connections, and requests that waited: `actconn/feconn/beconn/srvconn/retries srv_queue/backend_queue`.
fn counts(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    let open = entry.open;
    let plus = if entry.is_redispatched { "+" } else { "" };
    let (clients, service, instance, queue) = (open.clients, open.service, open.instance, open.queue);
    let _ = write!(out, "{clients}/{clients}/{service}/{instance}/{plus}{} 0/{queue}", entry.retries);
}

fn push_time(time: Option<u32>, out: &mut Vec<u8>) {
    match time {
        Some(time) => write!(out, "{time}"),
        None => write!(out, "-1"),
    }
    .unwrap_or_default();
}
