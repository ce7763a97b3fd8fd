//! `request_headers` and `response_headers`: lines that set, add or remove a header. Knows no message.

use std::fmt::{Display, Formatter};

use crate::text::{Text, is_token};
use crate::value::Parsed;

const SHAPE: &str = "expected lines set NAME TEXT, add NAME TEXT or remove NAME";
/// Headers that frame messages, belong to a connection, or tell about a client what only a balancer may.
const OURS: [&str; 22] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "http2-settings",
    "expect",
    "forwarded",
    "x-real-ip",
    "cdn-loop",
    "client-cert",
    "client-cert-chain",
    "sec-websocket-key",
    "sec-websocket-accept",
    "host",
];
/// Those that tell a request's way.
pub(crate) const FORWARDED: &str = "x-forwarded-";

/// Changes to the headers of a message, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLines(Box<[HeaderLine]>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    /// The header's name, as written.
    pub name: Box<str>,
    /// What is done with it.
    pub verb: HeaderVerb,
}

/// What is done with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderVerb {
    /// This value replaces all others.
    Set(Text),
    /// This value comes to the others.
    Add(Text),
    /// All values are left out.
    Remove,
}

impl HeaderLines {
    pub(crate) fn of_requests(text: &str) -> Parsed<Self> {
        Self::parse(text, true)
    }

    pub(crate) fn of_responses(text: &str) -> Parsed<Self> {
        Self::parse(text, false)
    }

    fn parse(text: &str, is_request: bool) -> Parsed<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.map(|line| HeaderLine::parse(line, is_request)).collect::<Parsed<Vec<_>>>()?;
        if lines.is_empty() { Err(SHAPE.into()) } else { Ok(Self(lines.into())) }
    }

    /// The lines, in order.
    pub fn lines(&self) -> &[HeaderLine] {
        &self.0
    }

    /// What the texts ask of a request.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.0.iter().filter_map(|line| match &line.verb {
            HeaderVerb::Set(text) | HeaderVerb::Add(text) => Some(text),
            HeaderVerb::Remove => None,
        })
    }
}

impl HeaderLine {
    fn parse(line: &str, is_request: bool) -> Parsed<Self> {
        let (word, rest) = line.split_once(char::is_whitespace).ok_or(SHAPE)?;
        let rest = rest.trim_start();
        let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let text = text.trim_start();
        let verb = match word {
            "set" => HeaderVerb::Set(Text::parse(text, 0)?),
            "add" => HeaderVerb::Add(Text::parse(text, 0)?),
            "remove" if text.is_empty() => HeaderVerb::Remove,
            _ => return Err(SHAPE.into()),
        };
        check_name(name, is_request && matches!(verb, HeaderVerb::Set(_)))?;
        Ok(Self { name: name.into(), verb })
    }
}

/// A name as some servers read it: every byte but letters and digits as a hyphen.
pub(crate) fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Whether a header frames messages, belongs to a connection, or tells what only a balancer may; `folded`: its name.
pub(crate) fn is_ours(folded: &str) -> bool {
    OURS.contains(&folded)
}

/// `may_be_host`: a host is set, of a request.
fn check_name(name: &str, may_be_host: bool) -> Parsed<()> {
    if !is_token(name) {
        return Err("expected the name of a header, letters, digits and - usually".into());
    }
    match folded(name).as_str() {
        "host" if may_be_host && name.len() == 4 => Ok(()),
        "host" => Err("expected set for Host, and in request_headers only: each request has one".into()),
        ours if is_ours(ours) || ours.starts_with(FORWARDED) => {
            Err(format!("{name} cannot be changed: it frames messages, or tells what the balancer says itself"))
        }
        _ => Ok(()),
    }
}

/// As it was written, in one line.
impl Display for HeaderLines {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (number, HeaderLine { name, verb }) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { ", " })?;
            match verb {
                HeaderVerb::Set(text) => write!(f, "set {name} {text}")?,
                HeaderVerb::Add(text) => write!(f, "add {name} {text}")?,
                HeaderVerb::Remove => write!(f, "remove {name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "set X-Client  {client_ip}:{client_port}\n\n add Via-Us shop\r\nremove Server\nset X-Empty";
        let lines = HeaderLines::of_responses(text).unwrap();
        let expected = "set X-Client {client_ip}:{client_port}, add Via-Us shop, remove Server, set X-Empty ";
        assert_eq!(lines.to_string(), expected);
        assert!(HeaderLines::of_requests("set Host a.test").is_ok());
    }

    #[test]
    fn what_is_ours_is_refused() {
        for name in OURS.into_iter().chain(["Content_Length", "X-Forwarded-For", "x_forwarded.proto", "HOST"]) {
            for word in ["set", "add", "remove"] {
                let text = if word == "remove" { "" } else { " x" };
                let line = format!("{word} {name}{text}");
                let is_host = word == "set" && name.eq_ignore_ascii_case("host");
                assert_eq!(HeaderLines::of_requests(&line).is_ok(), is_host, "{line}");
                assert!(HeaderLines::of_responses(&line).is_err(), "{line}");
            }
        }
        for bad in ["", "set", "del X", "remove X y", "set a:b c", "set X {nobody}", "set X a\u{1}b", "add X {1}"] {
            assert!(HeaderLines::of_requests(bad).is_err(), "{bad}");
        }
    }
}
