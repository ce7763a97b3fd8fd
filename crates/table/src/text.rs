//! Texts with placeholders, which go into headers, addresses and pages: parsed once, filled in for each request. Knows no
//! request.

use std::fmt::{Display, Formatter};

use crate::shown::shown;
use crate::value::Parsed;

/// A text with placeholders in braces: `https://www.shop.test{path}{query}`. `{{` stands for a brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Box<[Piece]>);

/// A part of a text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<P = Placeholder> {
    /// As it is.
    Literal(Box<str>),
    /// What a request says.
    Placeholder(P),
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{client_ip}`: the client's address, as trusted proxies name it.
    ClientIp,
    /// `{client_port}`: its port; 0 where nobody knows it.
    ClientPort,
    /// `{host}`: the request's host without a port, in lower case.
    Host,
    /// `{port}`: the port that the client asked for.
    Port,
    /// `{scheme}`: `http` or `https`.
    Scheme,
    /// `{method}`.
    Method,
    /// `{path}`: without the query.
    Path,
    /// `{query}`: with its `?`, or nothing.
    Query,
    /// `{uri}`: path and query.
    Uri,
    /// `{service}`: the service's name.
    Service,
    /// `{instance}`: the instance's name; nothing before one is picked.
    Instance,
    /// `{request_id}`: what `X-Request-Id` says.
    RequestId,
    /// `{tls_version}`: `TLSv1.3`; nothing in clear.
    TlsVersion,
    /// `{header:NAME}`: the first value of this header of the request, or nothing.
    Header(Box<str>),
    /// `{1}` to `{9}`: a group of the expression beside it.
    Capture(u8),
}

impl Placeholder {
    /// Its names, those with parts aside.
    const NAMES: [(&str, Self); 13] = [
        ("client_ip", Self::ClientIp),
        ("client_port", Self::ClientPort),
        ("host", Self::Host),
        ("port", Self::Port),
        ("scheme", Self::Scheme),
        ("method", Self::Method),
        ("path", Self::Path),
        ("query", Self::Query),
        ("uri", Self::Uri),
        ("service", Self::Service),
        ("instance", Self::Instance),
        ("request_id", Self::RequestId),
        ("tls_version", Self::TlsVersion),
    ];

    /// Parses the name between the braces. `captures`: how many groups there are.
    ///
    /// # Errors
    /// There is no such placeholder.
    pub fn parse(name: &str, captures: usize) -> Result<Self, String> {
        if let Some((_, found)) = Self::NAMES.into_iter().find(|(known, _)| *known == name) {
            return Ok(found);
        }
        if let Some(header) = name.strip_prefix("header:") {
            return match is_token(header) {
                true => Ok(Self::Header(header.into())),
                false => Err(format!("{{{}}} names no header", shown(name))),
            };
        }
        match name.as_bytes() {
            [digit @ b'1'..=b'9'] if usize::from(digit - b'0') <= captures => Ok(Self::Capture(digit - b'0')),
            [b'1'..=b'9'] => Err(format!("{{{name}}}: the expression has {captures} groups")),
            _ => Err(format!(
                "unknown placeholder {{{}}}: there are {}, header:NAME, and 1 to 9 for groups of an expression",
                shown(name),
                Self::NAMES.map(|(known, _)| known).join(", ")
            )),
        }
    }
}

/// A token of HTTP (RFC 9110 §5.6.2), as names of headers are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Text {
    /// Parses a text that goes into a header or an address. `captures`: how many groups an expression beside it has.
    ///
    /// # Errors
    /// It holds a control character, an unknown placeholder, or a brace without its counterpart.
    pub(crate) fn parse(text: &str, captures: usize) -> Parsed<Self> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("control characters cannot be sent".into());
        }
        pieces(text, |name| Placeholder::parse(name, captures)).map(Self)
    }

    /// Parses a page, where braces that hold no placeholder are braces: style sheets have them.
    pub fn page(text: &str) -> Self {
        let mut parts = Parts::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.literal.push_str(before);
            let named =
                after.split_once('}').and_then(|(name, after)| Some((Placeholder::parse(name, 0).ok()?, after)));
            rest = match named {
                Some((placeholder, after)) => {
                    parts.push(placeholder);
                    after
                }
                None => {
                    parts.literal.push('{');
                    after
                }
            };
        }
        Self(parts.finish(rest))
    }

    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// What it asks of a request, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// The text, if it has no placeholder.
    pub fn fixed(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// As it was written.
impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{")),
            Piece::Placeholder(placeholder) => write!(f, "{placeholder}"),
        })
    }
}

/// With its braces.
impl Display for Placeholder {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "{{header:{name}}}"),
            Self::Capture(group) => write!(f, "{{{group}}}"),
            plain => {
                let named = Self::NAMES.into_iter().find(|(_, known)| known == plain);
                write!(f, "{{{}}}", named.map_or("", |(name, _)| name))
            }
        }
    }
}

/// Splits a text at its placeholders, which `parse` reads.
///
/// # Errors
/// Those of `parse`, and a brace without its counterpart.
pub fn pieces<P>(text: &str, parse: impl Fn(&str) -> Result<P, String>) -> Result<Box<[Piece<P>]>, String> {
    let mut parts = Parts::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        parts.literal.push_str(before);
        rest = match after.split_once('}') {
            _ if after.starts_with('{') => {
                parts.literal.push('{');
                &after[1..]
            }
            None => return Err("a { without its }; {{ stands for a brace".into()),
            Some((name, after)) => {
                parts.push(parse(name)?);
                after
            }
        };
    }
    Ok(parts.finish(rest))
}

/// What is parsed of a text.
struct Parts<P> {
    pieces: Vec<Piece<P>>,
    literal: String,
}

impl<P> Default for Parts<P> {
    fn default() -> Self {
        Self { pieces: Vec::new(), literal: String::new() }
    }
}

impl<P> Parts<P> {
    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal).into()));
        }
    }

    fn push(&mut self, placeholder: P) {
        self.end_literal();
        self.pieces.push(Piece::Placeholder(placeholder));
    }

    fn finish(mut self, rest: &str) -> Box<[Piece<P>]> {
        self.literal.push_str(rest);
        self.end_literal();
        self.pieces.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.into())
    }

    #[test]
    fn texts_are_split_at_placeholders() {
        let text = Text::parse("https://{host}{path}?from={header:X-From}&{{{1}", 1).unwrap();
        let expected = [
            literal("https://"),
            Piece::Placeholder(Placeholder::Host),
            Piece::Placeholder(Placeholder::Path),
            literal("?from="),
            Piece::Placeholder(Placeholder::Header("X-From".into())),
            literal("&{"),
            Piece::Placeholder(Placeholder::Capture(1)),
        ];
        assert_eq!(text.pieces(), expected);
        assert_eq!(text.to_string(), "https://{host}{path}?from={header:X-From}&{{{1}");
        assert_eq!(Text::parse("plain }", 0).unwrap().fixed(), Some("plain }"));
        assert_eq!(Text::parse("", 0).unwrap().fixed(), Some(""));
    }

    #[test]
    fn what_is_no_placeholder_is_refused() {
        for bad in ["{hosts}", "{", "{host", "a\r\nb", "{2}", "{0}", "{header:}", "{header:a b}", "{}"] {
            assert!(Text::parse(bad, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_keep_their_braces() {
        let page = Text::page("<style>p{color:red}</style>{{host}} {host} {nobody} {");
        let expected = [
            literal("<style>p{color:red}</style>{"),
            Piece::Placeholder(Placeholder::Host),
            literal("} "),
            Piece::Placeholder(Placeholder::Host),
            literal(" {nobody} {"),
        ];
        assert_eq!(page.pieces(), expected);
    }
}
