//! The formats of a line, and which headers each needs. Writes nothing out.

use super::apache;
use super::entry::LogEntry;
use super::httplog;
use super::json::{self, JsonHeaders, LONGEST_IN_MEMORY};
use super::template::LineTemplate;

/// How a line is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// As HAProxy's `option httplog` and `option tcplog`.
    #[default]
    Httplog,
    /// One JSON object.
    Json,
    /// Apache's common log format.
    Clf,
    /// Apache's combined log format.
    Combined,
    /// A text with placeholders.
    Template(LineTemplate),
}

impl LineFormat {
    /// Whether a line tells the trace of its request.
    pub(super) fn tells_trace(&self) -> bool {
        match self {
            Self::Json => true,
            Self::Template(template) => template.tells_trace(),
            Self::Httplog | Self::Clf | Self::Combined => false,
        }
    }

    /// Parses a format's name, or a template.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "httplog" => Ok(Self::Httplog),
            "json" => Ok(Self::Json),
            "clf" => Ok(Self::Clf),
            "combined" => Ok(Self::Combined),
            _ => LineTemplate::parse(text).map(Self::Template),
        }
    }
}

/// A format, ready to write: it knows where the headers are that it needs.
#[derive(Clone, Debug)]
pub(super) enum LineWriter {
    Httplog,
    Json(JsonHeaders),
    Clf,
    Combined([usize; 2]),
    Template(LineTemplate),
}

impl LineWriter {
    /// The writer of a format. Adds the headers that it needs to those that are noted.
    pub(super) fn new(format: LineFormat, headers: &mut Vec<Box<str>>) -> Self {
        match format {
            LineFormat::Httplog => Self::Httplog,
            LineFormat::Clf => Self::Clf,
            LineFormat::Combined => Self::Combined([place_of("referer", headers), place_of("user-agent", headers)]),
            LineFormat::Json => Self::json(usize::MAX, headers),
            LineFormat::Template(template) => {
                // Its places begin at 0: it comes first.
                headers.extend(template.headers.iter().cloned());
                Self::Template(template)
            }
        }
    }

    /// The writer of lines that stay in memory.
    pub(super) fn in_memory(headers: &mut Vec<Box<str>>) -> Self {
        Self::json(LONGEST_IN_MEMORY, headers)
    }

    fn json(longest: usize, headers: &mut Vec<Box<str>>) -> Self {
        let mut place = |name: &str| place_of(name, headers);
        let (user_agent, referer) = (place("user-agent"), place("referer"));
        Self::Json(JsonHeaders { user_agent, referer, request_id: place("x-request-id"), longest })
    }

    /// Writes a line with its end.
    pub(super) fn write(&self, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Httplog => httplog::write(entry, out),
            Self::Json(headers) => json::write(entry, *headers, out),
            Self::Clf => apache::common(entry, out),
            Self::Combined(places) => apache::combined(entry, *places, out),
            Self::Template(template) => template.write(entry, out),
        }
        out.push(b'\n');
    }
}

/// The place of a header among those that are noted, of which it is one from now on.
pub(super) fn place_of(name: &str, headers: &mut Vec<Box<str>>) -> usize {
    let known = headers.iter().position(|known| known.eq_ignore_ascii_case(name));
    known.unwrap_or_else(|| {
        headers.push(name.into());
        headers.len() - 1
    })
}
