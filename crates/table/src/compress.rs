//! `compress`: which answers are compressed, by their content type. Knows no answer and no coding.

use std::fmt::{Display, Formatter};

use crate::value::{self, Parsed};

const SHAPE: &str = "expected on, or content types such as text/html,application/json";
/// The word for [`USUAL`].
const ON: &str = "on";

/// The types that `on` stands for: text in all but name, which compresses to a fraction.
const USUAL: &[&str] = &[
    "application/atom+xml",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/vnd.api+json",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xhtml+xml",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
    "image/x-icon",
    "text/calendar",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/markdown",
    "text/plain",
    "text/vcard",
    "text/vtt",
    "text/xml",
];

/// The content types whose answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// `on` is among the items.
    usual: bool,
    /// Others, in order and in lower case.
    own: Box<[Box<str>]>,
}

impl Compress {
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let items = value::list(text, |item| if item == ON { Ok(None) } else { media_type(item).map(Some) });
        let items = items.map_err(|why| if text.trim().is_empty() { SHAPE.into() } else { why })?;
        Ok(Self { usual: items.contains(&None), own: items.into_iter().flatten().collect() })
    }

    /// Whether answers of this `Content-Type` are compressed. Parameters and case do not count.
    pub fn covers(&self, content_type: &str) -> bool {
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        self.types().any(|known| known.eq_ignore_ascii_case(content_type))
    }

    /// The content types, in lower case.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        let usual = if self.usual { USUAL } else { &[] };
        usual.iter().copied().chain(self.own.iter().map(|own| &**own))
    }
}

/// A content type without parameters, in lower case.
fn media_type(text: &str) -> Parsed<Box<str>> {
    let text = text.to_ascii_lowercase();
    let (kind, subtype) = text.split_once('/').ok_or(SHAPE)?;
    if subtype.contains(';') {
        return Err(format!("expected content types without parameters, such as {kind}/{}", before(subtype, ';')));
    }
    if kind.contains('*') || subtype.contains('*') {
        return Err("expected each content type by its name, such as text/html; * stands for none".into());
    }
    if !value::is_token(kind) || !value::is_token(subtype) {
        return Err(SHAPE.into());
    }
    if text == "text/event-stream" || subtype.starts_with("grpc") || kind == "multipart" {
        return Err(format!("{text} is never compressed; expected other content types"));
    }
    Ok(text.into())
}

fn before(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or_default().trim()
}

impl Display for Compress {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let items = self.usual.then_some(ON).into_iter().chain(self.own.iter().map(|own| &**own));
        f.write_str(&items.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        for (wrong, advice) in [
            ("", "expected on, or content types"),
            ("true", "expected on, or content types"),
            ("gzip", "expected on, or content types"),
            ("text/", "expected on, or content types"),
            ("text/html text/css", "expected on, or content types"),
            ("text/html/x", "expected on, or content types"),
            (",", "expected at least one item"),
            ("text/*", "expected each content type by its name"),
            ("on,text/html; charset=utf-8", "expected content types without parameters, such as text/html"),
            ("text/event-stream", "text/event-stream is never compressed"),
            ("application/grpc+proto", "application/grpc+proto is never compressed"),
        ] {
            check(Compress::parse(wrong), &format!("error: {advice}"));
        }
        assert_eq!(Compress::parse(" Text/HTML , on").unwrap().to_string(), "on,text/html");
    }

    #[test]
    fn types() {
        let on = Compress::parse("on").unwrap();
        assert!(on.covers("text/html") && on.covers("Text/HTML ; charset=utf-8") && on.covers("application/json"));
        for other in ["", "text/htmlx", "text", "image/png", "text/event-stream", "application/octet-stream"] {
            assert!(!on.covers(other), "{other}");
        }
        let own = Compress::parse("application/x-own").unwrap();
        assert!(own.covers("application/x-own;v=1") && !own.covers("text/html"));
        assert!(USUAL.is_sorted() && USUAL.iter().all(|usual| media_type(usual).is_ok_and(|own| *own == **usual)));
    }
}
