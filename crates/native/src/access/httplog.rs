//! HAProxy's `option httplog` and `option tcplog`, to the character (its Configuration Manual 2.6, §8.2.3 and §8.2.2). The
//! names are those that the HAProxy engine gives to listeners, services and instances.

use pointsman_table::Protocol;

use super::date;
use super::entry::LogEntry;
use super::escape;
use super::noted::HeadWords;
use super::number;

/// Writes a line without its end.
pub(super) fn write(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    let (ip, port) = entry.peer;
    number::push_ip(ip, out);
    out.push(b':');
    number::push(port, out);
    out.extend_from_slice(b" [");
    date::haproxy(entry.at, out);
    out.extend_from_slice(b"] ");
    frontend(entry, out);
    out.push(b' ');
    match entry.service {
        Some(service) => {
            out.extend_from_slice(entry.kind.tree().as_bytes());
            out.push(b':');
            escape::name(service, out);
        }
        None => frontend(entry, out),
    }
    out.push(b'/');
    match entry.instance {
        Some(instance) => escape::name(instance, out),
        None => out.extend_from_slice(b"<NOSRV>"),
    }
    match entry.kind {
        Protocol::Http => http(entry, out),
        Protocol::Tcp => tcp(entry, out),
    }
}

/// `http`, `https~` or `tcp:0.0.0.0:5432`.
fn frontend(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    match (entry.kind, entry.listener) {
        (Protocol::Http, _) => out.extend_from_slice(entry.scheme().as_bytes()),
        (Protocol::Tcp, at) => {
            out.extend_from_slice(b"tcp");
            if let Some(at) = at {
                out.push(b':');
                number::push_ip(at.ip(), out);
                out.push(b':');
                number::push(at.port(), out);
            }
        }
    }
    if entry.tls.is_some() {
        out.push(b'~');
    }
}

fn http(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    for time in [entry.head, entry.queue, entry.connect, entry.first_byte] {
        push_time(time, out);
        out.push(b'/');
    }
    number::push(entry.total, out);
    out.push(b' ');
    match status(entry) {
        Some(status) => number::push(status, out),
        None => out.extend_from_slice(b"-1"),
    }
    out.push(b' ');
    number::push(entry.bytes_out, out);
    out.extend_from_slice(b" - - ");
    out.extend_from_slice(&entry.letters);
    out.extend_from_slice(&entry.cookies);
    out.push(b' ');
    counts(entry, out);
    out.extend_from_slice(b" \"");
    match entry.words {
        Some(words) => request(entry, words, out),
        None => out.extend_from_slice(b"<BADREQ>"),
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
        out.extend_from_slice(entry.scheme().as_bytes());
        out.extend_from_slice(b"://");
        escape::haproxy(words.host(), out);
    }
    escape::haproxy(words.target(), out);
    out.push(b' ');
    out.extend_from_slice(words.protocol.as_bytes());
}

fn tcp(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    for time in [entry.queue, entry.connect] {
        push_time(time, out);
        out.push(b'/');
    }
    number::push(entry.total, out);
    out.push(b' ');
    number::push(entry.bytes_out, out);
    out.push(b' ');
    out.extend_from_slice(&entry.letters);
    out.push(b' ');
    counts(entry, out);
}

/// Connections, and requests that waited: `actconn/feconn/beconn/srvconn/retries srv_queue/backend_queue`.
fn counts(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    let open = entry.open;
    for count in [open.clients, open.clients, open.service, open.instance] {
        number::push(count, out);
        out.push(b'/');
    }
    if entry.is_redispatched {
        out.push(b'+');
    }
    number::push(entry.retries, out);
    out.extend_from_slice(b" 0/");
    number::push(open.queue, out);
}

fn push_time(time: Option<u32>, out: &mut Vec<u8>) {
    match time {
        Some(time) => number::push(time, out),
        None => out.extend_from_slice(b"-1"),
    }
}
