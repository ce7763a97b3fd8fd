//! `method`, `header/<Name>` and `query/<name>`: what a service asks of a request besides its host and path. Finds no
//! service.

use std::fmt::{Display, Formatter};
use std::net::IpAddr;
use std::sync::Arc;

use crate::effort::Effort;
use crate::pattern::Pattern;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// A request, as far as conditions look at it.
pub trait Asked {
    /// Its method.
    fn method(&self) -> &str;
    /// Whether any line of this header, whose name may be in any case, has a value that holds.
    fn any_header(&self, name: &str, holds: impl FnMut(&[u8]) -> bool) -> bool;
}

/// A request that is only asked about: a GET without headers, if nothing else is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imagined {
    /// Its method.
    pub method: String,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// Its client.
    pub client: Option<IpAddr>,
}

impl Default for Imagined {
    fn default() -> Self {
        Self { method: "GET".into(), headers: Vec::new(), client: None }
    }
}

impl Asked for Imagined {
    fn method(&self) -> &str {
        &self.method
    }

    fn any_header(&self, name: &str, mut holds: impl FnMut(&[u8]) -> bool) -> bool {
        let mut named = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.any(|(_, value)| holds(value.as_bytes()))
    }
}

/// The conditions of a service: all must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    list: Box<[Condition]>,
    /// The same for equal conditions: `method GET,HEAD, header x-beta *`.
    text: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// It has one of these methods.
    Method(Box<[Box<str>]>),
    /// It has this header, its name in lower case.
    Header(Box<str>, Wanted),
    /// Its query has this name, literally.
    Query(Box<str>, Wanted),
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    Exactly(Box<str>),
    Matching(Arc<Pattern>),
}

impl Conditions {
    /// Reads the keys of a service: `None` if it has no conditions.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Arc<Self>> {
        let mut list: Vec<_> = reader.read("method", methods).map(Condition::Method).into_iter().collect();
        let named =
            |folder: &'static str| move |key: &str| key.strip_prefix(folder).is_some_and(|name| !name.contains('/'));
        let raw = reader.raw;
        for (key, _) in raw.iter().filter(|(key, _)| named("header/")(key)) {
            list.extend(reader.read(key, |text| header(&key["header/".len()..], text)));
        }
        for (key, _) in raw.iter().filter(|(key, _)| named("query/")(key)) {
            list.extend(
                reader.read(key, |text| Ok(Condition::Query(key["query/".len()..].into(), Wanted::parse(text)?))),
            );
        }
        let mut parts: Vec<_> = list.iter().map(Condition::to_string).collect();
        parts.sort();
        parts.dedup();
        (!list.is_empty()).then(|| Arc::new(Self { list: list.into(), text: parts.join(", ").into() }))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    /// The same text for the same conditions.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all hold, within the effort that is left.
    pub(crate) fn hold(&self, target: &str, asked: &impl Asked, effort: &mut Effort) -> bool {
        self.list.iter().all(|condition| condition.holds(target, asked, effort))
    }

    /// Those that do not hold, in words.
    pub(crate) fn failing(&self, target: &str, asked: &impl Asked) -> Vec<String> {
        let fails = |condition: &&Condition| !condition.holds(target, asked, &mut Effort::default());
        self.list.iter().filter(fails).map(Condition::to_string).collect()
    }
}

impl Condition {
    fn holds(&self, target: &str, asked: &impl Asked, effort: &mut Effort) -> bool {
        match self {
            Self::Method(methods) => methods.iter().any(|method| **method == *asked.method()),
            Self::Header(name, wanted) => asked.any_header(name, |value| wanted.is(value.trim_ascii(), effort)),
            Self::Query(name, wanted) => parameters(target, name).any(|value| wanted.is(value.as_bytes(), effort)),
        }
    }
}

/// The key and its value: `header x-beta ~^[0-9]+$`.
impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Method(methods) => write!(f, "method {}", methods.join(",")),
            Self::Header(name, wanted) => write!(f, "header {name} {wanted}"),
            Self::Query(name, wanted) => write!(f, "query {name} {wanted}"),
        }
    }
}

impl Wanted {
    fn parse(text: &str) -> Parsed<Self> {
        match text.strip_prefix('~') {
            Some(expression) => Pattern::new(expression.trim_start()).map(|pattern| Self::Matching(Arc::new(pattern))),
            None if text == "*" => Ok(Self::Any),
            None => Ok(Self::Exactly(text.into())),
        }
    }

    fn is(&self, value: &[u8], effort: &mut Effort) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted.as_bytes() == value,
            Self::Matching(pattern) => pattern.is_match(value, effort),
        }
    }
}

impl Display for Wanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(text) => f.write_str(text),
            Self::Matching(pattern) => write!(f, "~{pattern}"),
        }
    }
}

/// The values that the query has under this name, both as they were sent.
fn parameters<'t>(target: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(own, _)| *own == name && !own.is_empty()).map(|(_, value)| value)
}

/// Methods, ordered. Their case counts (RFC 9110 §9.1).
fn methods(text: &str) -> Parsed<Box<[Box<str>]>> {
    let method = |item: &str| match value::is_token(item) && item.bytes().all(|byte| !byte.is_ascii_lowercase()) {
        true => Ok(Box::<str>::from(item)),
        false => Err("expected methods in upper case, comma separated, such as GET,HEAD".to_owned()),
    };
    let mut methods = value::list(text, method)?;
    methods.sort();
    methods.dedup();
    Ok(methods.into())
}

fn header(name: &str, text: &str) -> Parsed<Condition> {
    match value::is_token(name) {
        true => Ok(Condition::Header(name.to_ascii_lowercase().into(), Wanted::parse(text)?)),
        false => Err("expected header/NAME with the name of a header".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(key: &str, text: &str) -> Condition {
        match key.split_once('/') {
            None => Condition::Method(methods(text).unwrap()),
            Some(("header", name)) => header(name, text).unwrap(),
            Some((_, name)) => Condition::Query(name.into(), Wanted::parse(text).unwrap()),
        }
    }

    #[test]
    fn conditions_hold_or_not() {
        let asked = Imagined {
            method: "GET".into(),
            headers: [("X-Beta", "1"), ("x-beta", " Two "), ("Accept", "text/html")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            client: None,
        };
        for (key, text, expected) in [
            ("method", "HEAD, GET", true),
            ("method", "POST", false),
            ("header/X-BETA", "1", true),
            ("header/x-beta", "Two", true),
            ("header/x-beta", "two", false),
            ("header/x-beta", "*", true),
            ("header/x-gamma", "*", false),
            ("header/accept", "~^text/", true),
            ("header/accept", "~^TEXT/HTML$", true),
            ("header/accept", "~json", false),
            ("query/a", "1", true),
            ("query/a", "3", true),
            ("query/A", "1", false),
            ("query/b", "*", true),
            ("query/c", "*", false),
            ("query/d", "%31", true),
            ("query/d", "1", false),
        ] {
            let holds = condition(key, text).holds("/x?a=1&a=3&b&d=%31", &asked, &mut Effort::default());
            assert_eq!(holds, expected, "{key} {text}");
        }
        assert!(!condition("query/a", "*").holds("/a", &asked, &mut Effort::default()));
    }

    #[test]
    fn bad_values() {
        assert!(methods("get").is_err() && methods("GET POST").is_err() && methods("").is_err());
        assert!(header("a b", "x").is_err() && header("", "x").is_err());
        assert!(Wanted::parse("~(").is_err() && Wanted::parse(&format!("~{}", "a".repeat(5000))).is_err());
    }
}
