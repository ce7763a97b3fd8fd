//! Problems with keys: what is wrong, and what is expected. A problem is data: listed, counted and logged, never
//! thrown.

use std::fmt::{Display, Formatter, Result};

use crate::keys::is_secret;
use crate::names::{Protocol, ServiceName};
use crate::shown::shown;

/// Longest value shown, in bytes: a problem is one line, and there may be thousands.
const LONGEST_VALUE: usize = 256;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// The full key, prefix included: `/haproxy-haproxy-1/services/shop/port`.
    pub key: Box<str>,
    /// The value as written; `None` where there is none or it is secret.
    pub value: Option<Box<str>>,
    /// Which kind.
    pub kind: ProblemKind,
    /// The service it belongs to, if any.
    pub service: Option<(Protocol, ServiceName)>,
    /// What is wrong and what is expected, in one sentence.
    pub advice: Box<str>,
}

impl Problem {
    /// A problem with a setting of the program, which is no key: `--haproxy-template`.
    pub fn of_setting(kind: ProblemKind, setting: &str, advice: impl Into<Box<str>>) -> Self {
        Self { key: format!("--{setting}").into(), value: None, kind, service: None, advice: advice.into() }
    }
}

/// The kinds of problem, each with its own name in metrics and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no such key.
    UnknownKey,
    /// A value that its key does not allow. The service keeps its last good form; without one, it is not served.
    BadValue,
    /// An instance that cannot be used; it is left out.
    BadInstance,
    /// The service has no rule: no request can reach it.
    NoRule,
    /// A split or mirror names a service that gets no requests from this one: it is not served, or asks for more.
    NoTarget,
    /// Another service has the same rule and goes first.
    Shadowed,
    /// Another service already listens on this port.
    PortTaken,
    /// The service, or all services together, would listen on more addresses than descriptors allow.
    TooManyPorts,
    /// The instance is one of our own listening or admin addresses.
    Loop,
    /// An instance's host name does not resolve. It keeps its last addresses; without any, it is left out.
    Unresolved,
    /// The instance is where the settings permit none; it is left out.
    Denied,
    /// A key that this engine does not honour.
    Unsupported,
    /// The listening address cannot be bound. Found by the engine, which retries.
    Listen,
    /// HAProxy rejects the key's value. The service keeps the form that HAProxy accepted, or is not served.
    Rejected,
    /// The engine cannot use a table: HAProxy is dead or too old, its template is wrong, the disk is full.
    Engine,
    /// Both APIs of etcd hold keys below the prefix; those of one are not served. Found by the store.
    TwoApis,
    /// A certificate expires within days. Found by whoever has a clock.
    ExpiresSoon,
    /// A certificate that has expired, or is not valid yet. It is served all the same. Found by whoever has a clock.
    NotValid,
    /// A service wants a certificate by ACME and has none, or none that is new. Found by whoever asks for it, too.
    NoCertificate,
    /// The balancer's own files cannot be written. Found by what keeps them, which retries.
    State,
    /// Keys that were taken away, too many at once, are served on. Found by the guard.
    Held,
}

impl ProblemKind {
    /// The name in metrics, pages and logs: `bad_value`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::BadValue => "bad_value",
            Self::BadInstance => "bad_instance",
            Self::NoRule => "no_rule",
            Self::NoTarget => "no_target",
            Self::Shadowed => "shadowed",
            Self::PortTaken => "port_taken",
            Self::TooManyPorts => "too_many_ports",
            Self::Loop => "loop",
            Self::Unresolved => "unresolved",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Listen => "listen",
            Self::Rejected => "rejected",
            Self::Engine => "engine",
            Self::TwoApis => "two_apis",
            Self::ExpiresSoon => "expires_soon",
            Self::NotValid => "not_valid",
            Self::NoCertificate => "no_certificate",
            Self::State => "state",
            Self::Held => "held",
        }
    }
}

/// The kind in words: `bad value`.
impl Display for ProblemKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut words = self.as_str().split('_');
        f.write_str(words.next().unwrap_or_default())?;
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

/// One plain line: `/haproxy-x/services/shop/port = "eighty": bad value: expected a port between 1 and 65535`.
impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write_problem(f, &self.key, self.value.as_deref(), self.kind.as_str(), &self.advice)
    }
}

/// Writes the line of a problem from its parts. `kind`: its name, `bad_value`.
///
/// # Errors
/// The formatter fails.
pub fn write_problem(f: &mut Formatter<'_>, key: &str, value: Option<&str>, kind: &str, advice: &str) -> Result {
    write!(f, "{}", shown(key))?;
    if let Some(value) = value {
        write!(f, " = {value:?}")?;
    }
    write!(f, ": {}: {}", shown(&kind.replace('_', " ")), shown(advice))
}

/// Collects the problems of one service or tree. Knows its path, so that callers give relative keys.
pub(crate) struct Report<'a> {
    prefix: &'a str,
    place: KeyScope<'a>,
    /// Whether no value may be shown.
    secret: bool,
    problems: Vec<Problem>,
}

/// Where the keys are.
enum KeyScope<'a> {
    Service(Protocol, &'a ServiceName),
    /// The tree's name; empty for the prefix itself.
    Tree(&'a str),
}

impl<'a> Report<'a> {
    /// Problems with the keys of one service.
    pub(crate) fn of_service(prefix: &'a str, protocol: Protocol, name: &'a ServiceName) -> Self {
        Self { prefix, place: KeyScope::Service(protocol, name), secret: false, problems: Vec::new() }
    }

    /// Problems with keys that belong to no service, below `tree`; empty for the prefix itself.
    pub(crate) fn of_tree(prefix: &'a str, tree: &'a str) -> Self {
        Self { prefix, place: KeyScope::Tree(tree), secret: false, problems: Vec::new() }
    }

    /// The same, and no value is ever shown.
    pub(crate) fn hiding_values(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Adds one; `key` is below the place, empty for the place itself; `value` is `None` when there is none.
    pub(crate) fn add(&mut self, kind: ProblemKind, key: &str, value: Option<&str>, advice: impl Into<Box<str>>) {
        let (directory, service) = match self.place {
            KeyScope::Service(protocol, name) => (format!("/{protocol}/{name}"), Some((protocol, name.clone()))),
            KeyScope::Tree("") => (String::new(), None),
            KeyScope::Tree(tree) => (format!("/{tree}"), None),
        };
        let slash = if key.is_empty() { "" } else { "/" };
        let hidden = value.filter(|value| self.secret || is_secret(key, value));
        let advice = match hidden {
            Some(value) => without_quotes(kind, value, advice.into()),
            None => advice.into(),
        };
        let value = value.filter(|_| hidden.is_none()).map(shorten);
        let key = format!("{}{directory}{slash}{key}", self.prefix);
        let key = if key.is_empty() { "/".into() } else { key.into() };
        self.problems.push(Problem { key, value, kind, service, advice });
    }

    /// The collected problems.
    pub(crate) fn finish(self) -> Box<[Problem]> {
        self.problems.into()
    }
}

/// The advice without anything that it may quote of a secret value: text in quotes, an address, and HAProxy's message.
fn without_quotes(kind: ProblemKind, value: &str, advice: Box<str>) -> Box<str> {
    let host = value.split([' ', ':']).next().unwrap_or_default();
    match kind {
        ProblemKind::Rejected => match advice.split_once(": ") {
            Some((what, _)) => format!("{what}; the message may quote the value, which is secret").into(),
            None => advice,
        },
        ProblemKind::Unresolved | ProblemKind::Denied if !host.is_empty() => advice.replace(host, "(hidden)").into(),
        _ => match (advice.find('"'), advice.rfind('"')) {
            (Some(first), Some(last)) => format!("{}(hidden){}", &advice[..first], &advice[last + 1..]).into(),
            _ => advice,
        },
    }
}

fn shorten(value: &str) -> Box<str> {
    let value = value.trim();
    if value.len() <= LONGEST_VALUE {
        return value.into();
    }
    let end = (0..=LONGEST_VALUE).rev().find(|&at| value.is_char_boundary(at)).unwrap_or_default();
    format!("{}…", &value[..end]).into()
}
