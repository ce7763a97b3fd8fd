//! One JSON object a line. A member whose value is not known is left out.

use std::fmt::Display;
use std::io::Write as _;

use pointsman_table::Protocol;

use super::date;
use super::entry::LogEntry;
use super::escape;

/// The most of a text that is told to readers without a log file, bytes: their lines stay in memory.
pub(super) const LONGEST_IN_MEMORY: usize = 1_024;

/// Where the headers are among those that are noted, and the most of a text that is told, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonHeaders {
    pub(super) user_agent: usize,
    pub(super) referer: usize,
    pub(super) request_id: usize,
    pub(super) longest: usize,
}

/// An object under construction. A vector takes all, so that no write of this file fails.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// The most of a text in it, bytes.
    longest: usize,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        let comma = if self.out.last() == Some(&b'{') { "" } else { "," };
        let _ = write!(self.out, "{comma}\"{name}\":");
    }

    fn number(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.name(name);
            let _ = write!(self.out, "{value}");
        }
    }

    /// A text of ours, without letters that need escaping.
    fn plain(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.name(name);
            let _ = write!(self.out, "\"{value}\"");
        }
    }

    fn text(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.name(name);
            self.out.push(b'"');
            escape::json(&value[..value.len().min(self.longest)], self.out);
            self.out.push(b'"');
        }
    }
}

/// Writes a line without its end.
pub(super) fn write(entry: &LogEntry<'_>, headers: JsonHeaders, out: &mut Vec<u8>) {
    out.extend(b"{\"time\":\"");
    date::rfc3339(entry.at, out);
    out.push(b'"');
    let mut object = Object { out, longest: headers.longest };
    let kind = if entry.kind == Protocol::Http { "http" } else { "tcp" };
    object.plain("kind", Some(kind));
    object.plain("client", Some(entry.client));
    object.number("client_port", Some(entry.client_port()).filter(|port| *port > 0));
    object.plain("listener", entry.listener);
    object.plain("tls", entry.tls);
    object.text("method", entry.method());
    object.text("host", entry.host());
    object.text("path", entry.path());
    object.text("query", entry.query().strip_prefix(b"?").unwrap_or_default());
    object.text("protocol", entry.protocol().as_bytes());
    object.text("user", entry.user.as_bytes());
    object.text("service", entry.service.unwrap_or_default().as_bytes());
    object.text("instance", entry.instance.unwrap_or_default().as_bytes());
    object.number("revision", Some(entry.revision));
    object.plain("fault", entry.fault_name());
    object.plain("termination", Some(entry.letters).filter(|letters| *letters != *b"--").map(termination));
    object.text("request_id", entry.header(headers.request_id));
    object.plain("trace_id", Some(entry.trace_id).filter(|id| *id > 0).map(|id| format!("{id:032x}")));
    object.number("status", entry.status);
    object.number("bytes_in", Some(entry.bytes_in));
    object.number("bytes_out", Some(entry.bytes_out));
    object.number("head_ms", entry.head);
    object.number("queue_ms", entry.queue);
    object.number("connect_ms", entry.connect);
    object.number("first_byte_ms", entry.first_byte);
    object.number("total_ms", Some(entry.total));
    object.number("retries", Some(entry.retries));
    object.text("user_agent", entry.header(headers.user_agent));
    object.text("referer", entry.header(headers.referer));
    out.push(b'}');
}

fn termination(letters: [u8; 2]) -> String {
    letters.map(char::from).iter().collect()
}
