//! Lines of a template: text with placeholders. Bytes from clients are escaped as in `httplog`.

use std::io::Write as _;

use pointsman_table::{Piece, Placeholder, pieces};

use super::date;
use super::entry::LogEntry;
use super::escape;

/// What a placeholder of a template stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogField {
    Time,
    Status,
    Bytes,
    BytesIn,
    Duration,
    HeadTime,
    QueueTime,
    ConnectTime,
    FirstByteTime,
    Fault,
    Termination,
    Retries,
    Protocol,
    Listener,
    Revision,
    TraceId,
    /// A placeholder that headers and addresses have too.
    Said(Placeholder),
    /// A header, by its place among those that are noted.
    Header(usize),
}

const FIELDS: [(&str, LogField); 16] = [
    ("time", LogField::Time),
    ("status", LogField::Status),
    ("bytes", LogField::Bytes),
    ("bytes_in", LogField::BytesIn),
    ("duration", LogField::Duration),
    ("head_time", LogField::HeadTime),
    ("queue_time", LogField::QueueTime),
    ("connect_time", LogField::ConnectTime),
    ("first_byte_time", LogField::FirstByteTime),
    ("fault", LogField::Fault),
    ("termination", LogField::Termination),
    ("retries", LogField::Retries),
    ("protocol", LogField::Protocol),
    ("listener", LogField::Listener),
    ("revision", LogField::Revision),
    ("trace_id", LogField::TraceId),
];

/// A line with placeholders. Those that name headers have their places in `headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTemplate {
    pieces: Box<[Piece<LogField>]>,
    pub(super) headers: Vec<Box<str>>,
}

impl LineTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// It holds a control character, an unknown placeholder, a brace without its counterpart, or no placeholder.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("control characters cannot be logged".into());
        }
        let mut pieces = pieces(text, parse_name)?;
        if !pieces.iter().any(|piece| matches!(piece, Piece::Placeholder(_))) {
            return Err(format!(
                "{text:?} is no format; write httplog, json, clf, combined, or a text with placeholders such as {{status}}"
            ));
        }
        let mut headers = Vec::new();
        for piece in &mut pieces {
            let Piece::Placeholder(field) = piece else { continue };
            let name: Box<str> = match field {
                LogField::Said(Placeholder::Header(name)) => std::mem::take(name),
                LogField::Said(Placeholder::RequestId) => "x-request-id".into(),
                _ => continue,
            };
            *field = LogField::Header(headers.len());
            headers.push(name);
        }
        Ok(Self { pieces, headers })
    }

    /// Whether a line tells the trace of its request.
    pub(super) fn tells_trace(&self) -> bool {
        self.pieces.contains(&Piece::Placeholder(LogField::TraceId))
    }

    /// Writes a line without its end. What is not known is `-`. A vector takes all, so that no write of this file fails.
    pub(super) fn write(&self, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend(text.bytes()),
                Piece::Placeholder(field) => {
                    let before = out.len();
                    field.write(entry, out);
                    if out.len() == before && *field != LogField::Said(Placeholder::Query) {
                        out.push(b'-');
                    }
                }
            }
        }
    }
}

fn parse_name(name: &str) -> Result<LogField, String> {
    if let Some((_, field)) = FIELDS.into_iter().find(|(known, _)| *known == name) {
        return Ok(field);
    }
    let more = || format!("; lines of the log also have {}", FIELDS.map(|(known, _)| known).join(", "));
    Placeholder::parse(name, 0).map(LogField::Said).map_err(|error| error + &more())
}

impl LogField {
    fn write(&self, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, number: Option<u64>| {
            number.map(|number| write!(out, "{number}")).unwrap_or(Ok(())).unwrap_or_default();
        };
        match self {
            Self::Time => date::rfc3339(entry.at, out),
            Self::Status => number(out, entry.status.map(u64::from)),
            Self::Bytes => number(out, Some(entry.bytes_out)),
            Self::BytesIn => number(out, Some(entry.bytes_in)),
            Self::Duration => number(out, Some(entry.total.into())),
            Self::HeadTime => number(out, entry.head.map(u64::from)),
            Self::QueueTime => number(out, entry.queue.map(u64::from)),
            Self::ConnectTime => number(out, entry.connect.map(u64::from)),
            Self::FirstByteTime => number(out, entry.first_byte.map(u64::from)),
            Self::Fault => out.extend(entry.fault_name().unwrap_or_default().bytes()),
            Self::Termination => out.extend(entry.letters),
            Self::Retries => number(out, Some(entry.retries.into())),
            Self::Protocol => out.extend(entry.protocol().bytes()),
            Self::Listener => entry.listener.map_or((), |at| write!(out, "{at}").unwrap_or_default()),
            Self::Revision => number(out, Some(entry.revision)),
            Self::TraceId if entry.trace_id == 0 => {}
            Self::TraceId => write!(out, "{:032x}", entry.trace_id).unwrap_or_default(),
            Self::Header(place) => escape::haproxy(entry.header(*place), out),
            Self::Said(placeholder) => said(placeholder, entry, out),
        }
    }
}

fn said(placeholder: &Placeholder, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
    match placeholder {
        Placeholder::ClientIp => write!(out, "{}", entry.client).unwrap_or_default(),
        Placeholder::ClientPort => write!(out, "{}", entry.client_port()).unwrap_or_default(),
        Placeholder::Host => escape::haproxy(&host_name(entry), out),
        Placeholder::Port => entry.listener.map_or((), |at| write!(out, "{}", at.port()).unwrap_or_default()),
        Placeholder::Scheme => out.extend(entry.scheme().bytes()),
        Placeholder::Method => escape::haproxy(entry.method(), out),
        Placeholder::Path => escape::haproxy(entry.path(), out),
        Placeholder::Query => escape::haproxy(entry.query(), out),
        Placeholder::Uri => escape::haproxy(entry.target(), out),
        Placeholder::Service => escape::haproxy(entry.service.unwrap_or_default().as_bytes(), out),
        Placeholder::Instance => escape::haproxy(entry.instance.unwrap_or_default().as_bytes(), out),
        Placeholder::TlsVersion => out.extend(entry.tls.unwrap_or_default().bytes()),
        // Of headers, the line has the place; there is no expression with groups.
        Placeholder::RequestId | Placeholder::Header(_) | Placeholder::Capture(_) => {}
    }
}

fn host_name(entry: &LogEntry<'_>) -> Vec<u8> {
    let host = String::from_utf8_lossy(entry.host());
    pointsman_table::host_name(&host).to_ascii_lowercase().into_bytes()
}
