//! Reads the rows of the both-engines test. Knows their grammar; starts and sends nothing.
//!
//! ```text
//! # a comment
//! == title                            a section, which starts without keys
//! service NAME | key=value | ...      an HTTP service with one instance, a backend of the same name
//! bare NAME | key=value | ...         an HTTP service without an instance
//! tcp NAME | key=value | ...          a TCP service with one instance, an echo that sends its name first
//! KEY = VALUE                         a key; `@name` in it is a backend's address, `@@name` an echo's, `%name` a port
//! rm KEY                              removes a key, or everything below it
//! METHOD HOST TARGET [| ...] => ...   a request and its outcome; host `-` means none, `GET/1.0` an older version
//! 20x GET HOST TARGET => ...          the same, 20 times on one connection; `{n}` counts
//! wait GET HOST TARGET => ...         the same, repeated until it comes true
//! hold METHOD HOST TARGET             a request that stays open while the next rows run
//! connect %name [| send TEXT] => ...  a TCP connection
//! ```
//!
//! Parts of a request: `Name: value`, `body TEXT`, `chunks TEXT`. Expected: `STATUS [WHO [PATH]]`, then the message at
//! the instance (`name: value`, `!name`, `gets BODY`) and at the client (`< name: value`, `< !name`, `says TEXT`). WHO is
//! a backend, `-` for none; for several requests `same`, `every a,b`, or `a=5 b=15`. The outcome of a TCP connection is
//! the text read, `closed`, or `refused`. `~NAME` at the end names HAProxy's difference in docs/engines.md: with
//! `~NAME STATUS...` only the status is checked and must be one of these; with `~NAME` alone everything but the messages
//! is checked.

/// A section, which begins with `==` and an empty store.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) steps: Vec<Step>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Step {
    /// The file and the line, for failures.
    pub(crate) place: String,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Put(Vec<(String, String)>),
    Remove(String),
    Ask(Ask, Expected),
    Wait(Ask, Expected),
    Hold(Ask),
    Connect { port: String, send: String, expected: String },
}

/// A request, sent once or several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) times: usize,
    pub(crate) method: String,
    pub(crate) version: String,
    pub(crate) host: Option<String>,
    pub(crate) target: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Body {
    #[default]
    None,
    Sized(String),
    Chunked(String),
}

/// The expected outcome.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) who: Who,
    pub(crate) path: Option<String>,
    pub(crate) checks: Vec<Check>,
    /// HAProxy's difference, if any.
    pub(crate) differs: Option<Difference>,
}

/// A difference by its name, and HAProxy's statuses, if they differ.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) name: String,
    pub(crate) statuses: Vec<u16>,
}

/// The expected backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    One(String),
    Same,
    Every(Vec<String>),
    Counts(Vec<(String, usize)>),
}

/// A further expectation.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Got(String, String),
    NotGot(String),
    Body(String),
    Sent(String, String),
    NotSent(String),
    Says(String),
}

/// Every section of a file.
pub(crate) fn sections(file: &str, text: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{file}:{number}: {line}");
        match line.trim() {
            "" => {}
            line if line.starts_with('#') => {}
            line if line.starts_with("== ") => sections.push(Section { steps: Vec::new() }),
            line => {
                let action = action(line).unwrap_or_else(|| panic!("no such row: {place}"));
                let section: &mut Section = sections.last_mut().expect("a file begins with a section");
                section.steps.push(Step { place, action });
            }
        }
    }
    sections
}

fn action(line: &str) -> Option<Action> {
    if let Some((left, right)) = line.split_once(" => ") {
        return exchange(left, right);
    }
    let (word, rest) = line.split_once(' ')?;
    match word {
        "service" => Some(Action::Put(service(rest, "services", Some("@")))),
        "bare" => Some(Action::Put(service(rest, "services", None))),
        "tcp" => Some(Action::Put(service(rest, "tcp-services", Some("@@")))),
        "rm" => Some(Action::Remove(rest.to_owned())),
        "hold" => ask(rest).map(Action::Hold),
        key => {
            let value = rest.trim().strip_prefix('=')?;
            Some(Action::Put(vec![(key.to_owned(), value.trim().to_owned())]))
        }
    }
}

fn service(rest: &str, tree: &str, instance: Option<&str>) -> Vec<(String, String)> {
    let mut fields = rest.split(" | ");
    let name = fields.next().unwrap_or_default().trim();
    let pair = |field: &str| {
        let (key, value) = field.split_once('=').unwrap_or_else(|| panic!("not a key and a value: {field}"));
        (format!("{tree}/{name}/{}", key.trim()), value.trim().to_owned())
    };
    let one = instance.map(|mark| (format!("{tree}/{name}/one"), format!("{mark}{name}")));
    fields.map(pair).chain(one).collect()
}

fn exchange(left: &str, right: &str) -> Option<Action> {
    if let Some(rest) = left.strip_prefix("connect ") {
        let (port, send) = rest.split_once(" | send ").unwrap_or((rest, ""));
        let port = port.trim().trim_start_matches('%');
        return Some(Action::Connect { port: port.into(), send: send.into(), expected: right.into() });
    }
    match left.strip_prefix("wait ") {
        Some(left) => Some(Action::Wait(ask(left)?, expected(right)?)),
        None => Some(Action::Ask(ask(left)?, expected(right)?)),
    }
}

fn ask(text: &str) -> Option<Ask> {
    let mut parts = text.split(" | ").map(str::trim);
    let mut words = parts.next()?.split_whitespace().peekable();
    let count = |word: &&str| word.strip_suffix('x')?.parse().ok();
    let times = words.peek().and_then(count);
    words.next_if(|_| times.is_some());
    let (method, version) = words.next().map(|word| word.split_once('/').unwrap_or((word, "1.1")))?;
    let host = words.next().filter(|host| *host != "-").map(str::to_owned);
    let target = words.next()?.to_owned();
    let (mut headers, mut body) = (Vec::new(), Body::None);
    for part in parts {
        match part.split_once(' ') {
            Some(("body", text)) => body = Body::Sized(text.to_owned()),
            Some(("chunks", text)) => body = Body::Chunked(text.to_owned()),
            _ => headers.push(part.to_owned()),
        }
    }
    let (method, version) = (method.to_owned(), version.to_owned());
    Some(Ask { times: times.unwrap_or(1), method, version, host, target, headers, body })
}

fn expected(text: &str) -> Option<Expected> {
    let (text, differs) = match text.split_once(" ~") {
        Some((text, difference)) => (text, Some(Difference::of(difference.trim())?)),
        None => (text, None),
    };
    let mut parts = text.split(" | ").map(str::trim);
    let mut words = parts.next()?.split_whitespace();
    let status = words.next()?.parse().ok()?;
    let words: Vec<_> = words.collect();
    let (who, path) = who(&words);
    Some(Expected { status, who, path, checks: parts.map(check).collect(), differs })
}

impl Difference {
    fn of(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let name = words.next()?.to_owned();
        let statuses = words.map(|status| status.parse().ok()).collect::<Option<_>>()?;
        Some(Self { name, statuses })
    }
}

fn who(words: &[&str]) -> (Who, Option<String>) {
    let counts = words.iter().map(|word| {
        let (name, count) = word.split_once('=')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    match words {
        [] | ["-"] => (Who::Nobody, None),
        ["same"] => (Who::Same, None),
        ["every", names] => (Who::Every(names.split(',').map(str::to_owned).collect()), None),
        _ if counts.clone().all(|count| count.is_some()) => (Who::Counts(counts.flatten().collect()), None),
        [name, path @ ..] => (Who::One((*name).to_owned()), path.first().map(|path| (*path).to_owned())),
    }
}

fn check(text: &str) -> Check {
    if let Some(rest) = text.strip_prefix("< ") {
        return match rest.strip_prefix('!') {
            Some(name) => Check::NotSent(name.to_ascii_lowercase()),
            None => header(rest, Check::Sent),
        };
    }
    match (text.strip_prefix('!'), text.split_once(' ')) {
        (Some(name), _) => Check::NotGot(name.to_ascii_lowercase()),
        (None, Some(("gets", body))) => Check::Body(body.to_owned()),
        (None, Some(("says", words))) => Check::Says(words.to_owned()),
        _ => header(text, Check::Got),
    }
}

fn header(text: &str, check: fn(String, String) -> Check) -> Check {
    let (name, value) = text.split_once(':').unwrap_or_else(|| panic!("nothing to check: {text}"));
    check(name.trim().to_ascii_lowercase(), value.trim().to_owned())
}
