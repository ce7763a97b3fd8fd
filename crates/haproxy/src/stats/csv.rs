//! Reads HAProxy's CSV statistics (Management Guide, section 9.1). Columns are found by name, as they differ between
//! versions. Sums nothing up.

use std::borrow::Cow;
use std::time::Duration;

use pointsman_engine::live::SetApart;
use thiserror::Error;

/// Why an answer is not statistics.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It does not begin as statistics do.
    #[error("HAProxy answered {0:?} instead of statistics")]
    NoHeader(String),
    /// A required column is missing.
    #[error("HAProxy's statistics have no column {0}")]
    NoColumn(&'static str),
}

/// The subject of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Frontend,
    Backend,
    Server,
}

/// A counter, by the place of its column's name in [`COUNTERS`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// For a server: every attempt to send it work.
    Sessions,
    Requests,
    BytesIn,
    BytesOut,
    RequestErrors,
    /// Refused by rules.
    DeniedRequests,
    DeniedResponses,
    ConnectErrors,
    ResponseErrors,
    Retries,
    Redispatches,
    ClientAborts,
    ServerAborts,
    Connections,
    /// Bytes of bodies before they were compressed.
    CompressIn,
    /// The same bytes after.
    CompressOut,
    /// The first of five classes.
    Responses,
}

/// Columns that count, in the order of [`Field`].
const COUNTERS: [&str; 21] = [
    "stot", "req_tot", "bin", "bout", "ereq", "dreq", "dresp", "econ", "eresp", "wretr", "wredis", "cli_abrt",
    "srv_abrt", "conn_tot", "comp_in", "comp_out", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx",
];

/// One row's counters; 0 where a version has no such column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; COUNTERS.len()]);

impl Counts {
    pub(super) fn get(&self, field: Field) -> u64 {
        self.0[field as usize]
    }

    pub(super) fn responses(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.0[Field::Responses as usize + class])
    }

    /// 5xx.
    pub(super) fn errors(&self) -> u64 {
        self.responses()[4]
    }

    pub(super) fn add(&mut self, new: &Self) {
        self.0.iter_mut().zip(new.0).for_each(|(sum, new)| *sum += new);
    }

    /// The increase since `before`. If a counter fell, all began again: the server was deleted and added anew.
    pub(super) fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return *self };
        let began_again = self.0.iter().zip(before.0).any(|(now, before)| *now < before);
        let zero = Self::default();
        let base = if began_again { &zero } else { before };
        Self(std::array::from_fn(|at| self.0[at] - base.0[at]))
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) kind: Kind,
    pub(super) proxy: Cow<'a, str>,
    pub(super) server: Cow<'a, str>,
    pub(super) address: Cow<'a, str>,
    /// Sessions now.
    pub(super) current: u64,
    /// Requests that wait for room now.
    pub(super) queued: u64,
    /// For a server: why it gets no work.
    pub(super) apart: Option<SetApart>,
    pub(super) counts: Counts,
}

/// The rows of frontends, backends and servers.
pub(super) fn rows(text: &str) -> Result<Vec<Row<'_>>, Unreadable> {
    let text = text.trim_start();
    let no_header = || Unreadable::NoHeader(text.lines().next().unwrap_or_default().chars().take(80).collect());
    let (header, mut rest) = record(text.strip_prefix("# ").ok_or_else(no_header)?);
    let columns = StatColumns::new(&header)?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (fields, after) = record(rest);
        rows.extend(columns.row(fields));
        rest = after;
    }
    Ok(rows)
}

/// The place of each column.
struct StatColumns {
    proxy: usize,
    server: usize,
    kind: usize,
    current: usize,
    queued: Option<usize>,
    status: usize,
    /// Seconds since the status changed, and what the last check said, in HAProxy's words and in the system's.
    changed: Option<usize>,
    said: [Option<usize>; 2],
    address: Option<usize>,
    counters: [Option<usize>; COUNTERS.len()],
}

impl StatColumns {
    fn new(header: &[Cow<'_, str>]) -> Result<Self, Unreadable> {
        let find = |name: &str| header.iter().position(|have| have == name);
        let must = |name: &'static str| find(name).ok_or(Unreadable::NoColumn(name));
        Ok(Self {
            proxy: must("pxname")?,
            server: must("svname")?,
            kind: must("type")?,
            current: must("scur")?,
            queued: find("qcur"),
            status: must("status")?,
            changed: find("lastchg"),
            said: ["check_desc", "last_chk"].map(find),
            address: find("addr"),
            counters: COUNTERS.map(find),
        })
    }

    /// `None`: an empty line, or another kind of row.
    fn row<'a>(&self, mut fields: Vec<Cow<'a, str>>) -> Option<Row<'a>> {
        let kind = match fields.get(self.kind).map(|kind| &**kind) {
            Some("0") => Kind::Frontend,
            Some("1") => Kind::Backend,
            Some("2") => Kind::Server,
            _ => return None,
        };
        let mut take = |at: usize| fields.get_mut(at).map(std::mem::take).unwrap_or_default();
        Some(Row {
            kind,
            counts: Counts(self.counters.map(|at| at.map_or(0, |at| number(&take(at))))),
            current: number(&take(self.current)),
            queued: self.queued.map_or(0, |at| number(&take(at))),
            apart: apart(&take(self.status), self.changed.map(&mut take), self.said.map(|at| at.map(&mut take))),
            proxy: take(self.proxy),
            server: take(self.server),
            address: self.address.map(&mut take).unwrap_or_default(),
        })
    }
}

/// `DOWN 1/2`, `MAINT (resolution)`; but not `UP`, `UP 1/3`, `DRAIN`, `NOLB`, `no check`.
fn apart(status: &str, changed: Option<Cow<'_, str>>, said: [Option<Cow<'_, str>>; 2]) -> Option<SetApart> {
    let state = match status {
        down if down.starts_with("DOWN") => "down",
        maintenance if maintenance.starts_with("MAINT") => "maintenance",
        _ => return None,
    };
    let said: Vec<_> = said.into_iter().flatten().filter(|words| !words.is_empty()).collect();
    let age = Duration::from_secs(changed.map_or(0, |changed| number(&changed)));
    Some(SetApart { state, age, why: said.join(": ") })
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// Splits one record off.
fn record(text: &str) -> (Vec<Cow<'_, str>>, &str) {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = field(rest);
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (fields, after.strip_prefix('\n').unwrap_or(after)),
        }
    }
}

/// Splits one field off. Within quotes a quote is doubled, and any other byte stands for itself (RFC 4180 §2).
fn field(text: &str) -> (Cow<'_, str>, &str) {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (field, after) = text.split_at(text.find([',', '\n']).unwrap_or(text.len()));
        return (field.into(), after);
    };
    let mut field = String::new();
    loop {
        let (part, after) = rest.split_once('"').unwrap_or((rest, ""));
        field += part;
        let Some(next) = after.strip_prefix('"') else { return (field.into(), after) };
        field.push('"');
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&[&str]]) {
        let (mut rest, mut records) = (text, Vec::new());
        while !rest.is_empty() {
            let (fields, after) = record(rest);
            records.push(fields);
            rest = after;
        }
        assert_eq!(records, expected, "{text:?}");
    }

    #[test]
    fn records() {
        check("a,b\nc\n", &[&["a", "b"], &["c"]]);
        check("a,,\n\nb", &[&["a", "", ""], &[""], &["b"]]);
        check("\"a,b\",\"say \"\"hi\"\"\",\"\"\n\"x\ny\",z", &[&["a,b", "say \"hi\"", ""], &["x\ny", "z"]]);
        check("\"never closed,\n", &[&["never closed,\n"]]);
        check("\"a\"b,c\n", &[&["a"], &["b", "c"]]);
    }

    #[test]
    fn what_is_no_statistics() {
        let wrong = |text: &str| rows(text).map(|rows| rows.len());
        assert_eq!(wrong(""), Err(Unreadable::NoHeader(String::new())));
        assert_eq!(wrong("Unknown command\nhelp\n"), Err(Unreadable::NoHeader("Unknown command".into())));
        assert_eq!(wrong("# pxname,svname\n"), Err(Unreadable::NoColumn("type")));
        assert_eq!(wrong("# pxname,svname,type,scur,status\na,b\na,b,3,0,\na,b,2,0,UP\n\n"), Ok(1));
    }

    #[test]
    fn what_is_new() {
        let counts = |first, second| {
            let mut counts = Counts::default();
            counts.0[..2].copy_from_slice(&[first, second]);
            counts
        };
        assert_eq!(counts(5, 5).since(None), counts(5, 5));
        assert_eq!(counts(5, 5).since(Some(&counts(3, 5))), counts(2, 0));
        assert_eq!(counts(1, 7).since(Some(&counts(3, 5))), counts(1, 7));
    }
}
