//! Apache's common and combined log formats (its manual, "Log Files").

use super::date;
use super::entry::LogEntry;
use super::escape;
use super::number;

/// `%h %l %u %t "%r" %>s %b`.
pub(super) fn common(entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    number::push_ip(entry.client, out);
    out.extend_from_slice(b" - - [");
    date::apache(entry.at, out);
    out.extend(b"] \"");
    match entry.words {
        Some(words) => {
            escape::apache(words.method(), out);
            out.push(b' ');
            escape::apache(words.target(), out);
            out.push(b' ');
            out.extend_from_slice(words.protocol.as_bytes());
        }
        None => out.push(b'-'),
    }
    out.extend(b"\" ");
    push_number(entry.status.map(u64::from), out);
    out.push(b' ');
    push_number(Some(entry.bytes_out).filter(|bytes| *bytes > 0), out);
}

/// The same with `"%{Referer}i" "%{User-Agent}i"`, by their places among the headers that are noted.
pub(super) fn combined(entry: &LogEntry<'_>, [referer, user_agent]: [usize; 2], out: &mut Vec<u8>) {
    common(entry, out);
    for place in [referer, user_agent] {
        out.extend(b" \"");
        match entry.header(place) {
            b"" => out.push(b'-'),
            value => escape::apache(value, out),
        }
        out.push(b'"');
    }
}

fn push_number(number: Option<u64>, out: &mut Vec<u8>) {
    match number {
        Some(number) => number::push(number, out),
        None => out.push(b'-'),
    }
}
