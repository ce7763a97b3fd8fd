//! HAProxy's complaints, read from its output: line, proxy, address and its own words. Pure.

use std::path::Path;

/// Longest complaint that is kept, in characters.
const WORDS_LIMIT: usize = 600;
/// Summaries that HAProxy prints after the actual complaints.
const SUMMARIES: [&str; 6] = [
    "Error(s) found in configuration file",
    "Fatal errors found in configuration",
    "Some protocols failed to start their listeners",
    "Loading failure",
    "Failed to load worker",
    "Configuration file is valid",
];

/// One complaint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The line of the configuration, from 1.
    pub line: Option<usize>,
    /// The proxy (frontend, backend) that it names.
    pub proxy: Option<Box<str>>,
    /// The address that could not be opened.
    pub bind: Option<Box<str>>,
    /// HAProxy's own words, as one line, without our paths.
    pub words: String,
}

/// HAProxy's output, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors: `[ALERT]`s.
    pub complaints: Vec<Complaint>,
    /// Warnings: it runs all the same.
    pub warnings: Vec<Complaint>,
}

/// The severity of a line that HAProxy prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `[ALERT]`, `[EMERG]`.
    Alert,
    /// `[WARNING]`.
    Warning,
    /// `[NOTICE]`, `[DIAG]`.
    Notice,
}

/// The level of a line, and its text. `None`: it continues the line before it.
pub fn level(line: &str) -> Option<(Level, &str)> {
    let (name, rest) = line.strip_prefix('[')?.split_once(']')?;
    let level = match name {
        "ALERT" | "EMERG" => Level::Alert,
        "WARNING" => Level::Warning,
        "NOTICE" | "DIAG" => Level::Notice,
        _ => return None,
    };
    // `[ALERT]    (6257) : words`, and before 2.4 `[ALERT] 134/103312 (6257) : words`.
    Some((level, rest.split_once(") : ").map_or(rest, |(_, words)| words).trim()))
}

/// Reads what HAProxy printed about the configuration at this path.
pub fn read(output: &str, config: &Path) -> Report {
    let (mut report, mut summaries) = (Report::default(), Vec::new());
    for (level, words) in messages(output) {
        let summary = SUMMARIES.iter().any(|summary| words.contains(summary));
        match level {
            Level::Alert if summary => summaries.push(complaint(&words, config)),
            Level::Alert => report.complaints.push(complaint(&words, config)),
            Level::Warning if !summary => report.warnings.push(complaint(&words, config)),
            _ => {}
        }
    }
    if report.complaints.is_empty() {
        report.complaints = summaries;
    }
    report
}

/// Messages, each joined with its continuation lines: HAProxy quotes the offending text below the complaint.
fn messages(output: &str) -> Vec<(Level, String)> {
    let mut messages: Vec<(Level, String)> = Vec::new();
    for line in output.lines() {
        match (level(line), messages.last_mut()) {
            (Some((level, words)), _) => messages.push((level, words.to_owned())),
            (None, Some((_, words))) if words.len() < WORDS_LIMIT => {
                words.push(' ');
                words.push_str(line.trim_matches([' ', '\t', '^']));
            }
            (None, _) => {}
        }
    }
    messages
}

fn complaint(words: &str, config: &Path) -> Complaint {
    let proxy = proxy(words).map(Into::into);
    let bind = words.contains("cannot bind").then(|| last_brackets(words)).flatten().map(Into::into);
    let (line, words) = without_place(words, config);
    Complaint { line, proxy, bind, words: without_folder(&words, config) }
}

/// Cuts out `[/path/haproxy.cfg:18]`, with the words that lead to it, and returns the line's number.
fn without_place(words: &str, config: &Path) -> (Option<usize>, String) {
    let mark = format!("[{}:", config.display());
    let Some((before, rest)) = words.split_once(&mark) else { return (None, without_lead(words).into()) };
    let Some((line, after)) = rest.split_once(']') else { return (None, without_lead(words).into()) };
    let before = without_lead(before).trim_end_matches("parsing ");
    let after = if before.is_empty() { after.trim_start_matches([' ', ':']) } else { after };
    // `[file:18,23]`, `[file:18]`.
    let line = line.split(|char: char| !char.is_ascii_digit()).next().and_then(|line| line.parse().ok());
    (line, format!("{before}{after}"))
}

fn without_lead(words: &str) -> &str {
    words.strip_prefix("config : ").unwrap_or(words).trim_start()
}

/// One line of limited length, with paths relative to the configuration's folder.
fn without_folder(words: &str, config: &Path) -> String {
    let folder = config.parent().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
    let words = if folder.len() > 1 { words.replace(&folder, "") } else { words.to_owned() };
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.trim_end_matches('.');
    words.char_indices().nth(WORDS_LIMIT).map_or(words, |(end, _)| &words[..end]).to_owned()
}

/// The proxy in `proxy 'x'`, `backend 'x'`, `Starting frontend x:`, `for proxy x:` or `server x/y`.
fn proxy(words: &str) -> Option<&str> {
    const KINDS: [&str; 4] = ["proxy", "frontend", "backend", "listen"];
    let mut tokens = words.split_whitespace().peekable();
    let mut before = "";
    while let Some(token) = tokens.next() {
        let kind = token.trim_start_matches('\'').to_ascii_lowercase();
        let next = tokens.peek().copied().unwrap_or_default();
        let quoted = next.starts_with('\'') || next.starts_with('"');
        if KINDS.contains(&kind.as_str()) && (quoted || ["for", "Starting"].contains(&before)) {
            return Some(bare_name(next)).filter(|name| !name.is_empty());
        }
        if kind == "server"
            && let Some((backend, _)) = bare_name(next).split_once('/')
        {
            return Some(backend);
        }
        before = token;
    }
    None
}

fn bare_name(token: &str) -> &str {
    token.trim_matches(['\'', '"', ',', ':', ';', '.', '(', ')'])
}

fn last_brackets(words: &str) -> Option<&str> {
    let (rest, _) = words.rsplit_once(']')?;
    rest.rsplit_once('[').map(|(_, within)| within)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What HAProxy prints, and the line, proxy, address and words that are read from it.
    const ROWS: &[(&str, &str)] = &[
        (
            "[ALERT]    (6257) : config : parsing [/s/gen-3/haproxy.cfg:18] : unknown keyword 'bogus' in 'backend' section",
            "18 - - unknown keyword 'bogus' in 'backend' section",
        ),
        (
            "[ALERT]    (11612) : parsing [/s/gen-3/haproxy.cfg:18] : unknown keyword 'bogus' in 'backend' section",
            "18 - - unknown keyword 'bogus' in 'backend' section",
        ),
        (
            "[ALERT] 134/103312 (99) : parsing [/s/gen-3/haproxy.cfg:7]: unmatched quote below:\n  server \"abc\n         ^",
            "7 - - unmatched quote below: server \"abc",
        ),
        (
            "[ALERT]    (1) : config : [/s/gen-3/haproxy.cfg:12] : 'server services:web/a' : unable to load certs/x.pem",
            "12 services:web - 'server services:web/a' : unable to load certs/x.pem",
        ),
        (
            "[ALERT]    (1) : config : parsing [/s/gen-3/haproxy.cfg:9] : error detected in proxy 'services:a' while parsing 'http-request' rule : expects 'x'.",
            "9 services:a - error detected in proxy 'services:a' while parsing 'http-request' rule : expects 'x'",
        ),
        (
            "[ALERT]    (1) : config : Proxy 'http': unable to find required default_backend: 'x'.",
            "- http - Proxy 'http': unable to find required default_backend: 'x'",
        ),
        (
            "[ALERT]    (1) : config : backend 'services:a', server 'b': unable to use consistent hashing",
            "- services:a - backend 'services:a', server 'b': unable to use consistent hashing",
        ),
        (
            "[ALERT]    (1) : config : config: frontend 'http' has no 'bind' directive.",
            "- http - config: frontend 'http' has no 'bind' directive",
        ),
        (
            "[ALERT]    (1) : config : 'server services:a/b' : could not resolve address 'x.test'.",
            "- services:a - 'server services:a/b' : could not resolve address 'x.test'",
        ),
        (
            "[ALERT]    (6920) : Binding [/s/gen-3/haproxy.cfg:19] for proxy q: cannot bind socket (Address already in use) for [127.0.0.1:53933]",
            "19 q 127.0.0.1:53933 Binding for proxy q: cannot bind socket (Address already in use) for [127.0.0.1:53933]",
        ),
        (
            "[ALERT]    (1) : Binding [/s/gen-3/haproxy.cfg:19] for proxy q: protocol tcpv6: cannot bind socket (Permission denied) for [:::80].",
            "19 q :::80 Binding for proxy q: protocol tcpv6: cannot bind socket (Permission denied) for [:::80]",
        ),
        (
            "[ALERT]    (11612) : Starting proxy q: cannot bind socket (Address already in use) [127.0.0.1:43193]",
            "- q 127.0.0.1:43193 Starting proxy q: cannot bind socket (Address already in use) [127.0.0.1:43193]",
        ),
        (
            "[ALERT] 001/000000 (1) : Starting frontend q: cannot bind socket [0.0.0.0:80]",
            "- q 0.0.0.0:80 Starting frontend q: cannot bind socket [0.0.0.0:80]",
        ),
        (
            "[ALERT]    (1) : config : failed to open pattern file </s/gen-3/hosts.map>.",
            "- - - failed to open pattern file <hosts.map>",
        ),
        (
            "[ALERT]    (1) : config : parsing [/elsewhere/other.cfg:3] : nothing to do with us",
            "- - - parsing [/elsewhere/other.cfg:3] : nothing to do with us",
        ),
        (
            "[ALERT]    (6920) : [haproxy.main()] Some protocols failed to start their listeners! Exiting.",
            "- - - [haproxy.main()] Some protocols failed to start their listeners! Exiting",
        ),
    ];

    #[test]
    fn complaints_are_read_from_every_version() {
        for (output, expected) in ROWS {
            let report = read(output, Path::new("/s/gen-3/haproxy.cfg"));
            let told: Vec<_> = report.complaints.iter().map(describe).collect();
            assert_eq!(told, [*expected], "{output}");
        }
    }

    fn describe(complaint: &Complaint) -> String {
        let line = complaint.line.map_or("-".into(), |line| line.to_string());
        let or_dash = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
        format!("{line} {} {} {}", or_dash(&complaint.proxy), or_dash(&complaint.bind), complaint.words)
    }

    #[test]
    fn all_complaints_are_told_and_summaries_only_for_want_of_them() {
        let output = "[NOTICE]   (1) : haproxy version is 2.6.12-1+deb12u4
[NOTICE]   (1) : path to executable is /usr/sbin/haproxy
[WARNING]  (1) : config : parsing [/s/haproxy.cfg:4] : a 'http-request' rule placed after a 'use_backend' rule will still be processed before.
[ALERT]    (1) : config : parsing [/s/haproxy.cfg:18] : unknown keyword 'a' in 'backend' section
[ALERT]    (1) : config : parsing [/s/haproxy.cfg:20] : unknown keyword 'b' in 'backend' section
[ALERT]    (1) : config : Error(s) found in configuration file : /s/haproxy.cfg
[ALERT]    (1) : config : Fatal errors found in configuration.
[WARNING]  (1) : Loading failure!
";
        let report = read(output, Path::new("/s/haproxy.cfg"));
        assert_eq!(report.complaints.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [Some(18), Some(20)]);
        assert_eq!(report.warnings.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [Some(4)]);
        assert_eq!(read("haproxy: not found\n", Path::new("/s/haproxy.cfg")), Report::default());
    }
}
