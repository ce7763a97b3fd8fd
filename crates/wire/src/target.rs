//! Request targets and authorities (RFC 9112 §3.2, RFC 9110 §4.2). Never decodes or normalises a path.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use memchr::{memchr, memchr2};

use crate::refusal::BadRequest;

/// A parsed target.
#[derive(Debug)]
pub(crate) struct Target<'b> {
    /// Path and query, or `*`. Owned only where a `/` had to be put before a query.
    pub(crate) path: Cow<'b, str>,
    /// From the absolute form, with the default port of its scheme.
    pub(crate) authority: Option<(Authority<'b>, u16)>,
}

/// A valid `host[:port]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'b> {
    /// Host and port as sent.
    pub(crate) text: &'b str,
    host: &'b str,
    /// `None` if absent or empty.
    port: Option<u16>,
}

impl<'b> Target<'b> {
    pub(crate) fn parse(method: &str, text: &'b str) -> Result<Self, BadRequest> {
        check_bytes(text)?;
        match text.as_bytes() {
            [b'/', ..] => Ok(Target { path: text.into(), authority: None }),
            b"*" if method == "OPTIONS" => Ok(Target { path: text.into(), authority: None }),
            _ => absolute(method, text),
        }
    }
}

/// Refuses bytes that readers interpret differently: bytes beyond ASCII; a fragment, which some cut off; and a
/// backslash in the path, which some read as a slash. Browsers do send backslashes in a query.
fn check_bytes(text: &str) -> Result<(), BadRequest> {
    if !text.is_ascii() {
        return Err(BadRequest::TargetByte);
    }
    match memchr2(b'#', b'\\', text.as_bytes()) {
        None => Ok(()),
        Some(_) if memchr(b'#', text.as_bytes()).is_some() => Err(BadRequest::Fragment),
        Some(backslash) if memchr(b'?', text.as_bytes()).is_some_and(|query| query < backslash) => Ok(()),
        Some(_) => Err(BadRequest::TargetByte),
    }
}

fn absolute<'b>(method: &str, text: &'b str) -> Result<Target<'b>, BadRequest> {
    let (rest, default) = strip_scheme(text).ok_or(BadRequest::TargetForm)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = Authority::parse(authority.as_bytes()).ok_or(BadRequest::TargetForm)?;
    let path = match path.as_bytes() {
        [b'/', ..] => path.into(),
        // RFC 9112 §3.2.4: a request about the server as a whole.
        [] if method == "OPTIONS" => "*".into(),
        [] => "/".into(),
        // RFC 9112 §3.2.1: an empty path is sent as `/`, with the query behind it.
        _ => format!("/{path}").into(),
    };
    Ok(Target { path, authority: Some((authority, default)) })
}

/// The rest after `http://` or `https://`, and the scheme's default port.
fn strip_scheme(text: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some((rest, 80)),
        _ if scheme.eq_ignore_ascii_case("https") => Some((rest, 443)),
        _ => None,
    }
}

impl<'b> Authority<'b> {
    /// `None` if it is not `host[:port]` of RFC 3986 §3.2.2: user information, paths and white space are not allowed,
    /// and an empty host is none of HTTP's (RFC 9110 §4.2.1).
    pub(crate) fn parse(text: &'b [u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let (host, rest) = text.split_at(host_length(text)?);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) => Some(port(digits)?),
        };
        Some(Authority { text, host, port })
    }

    /// Whether both name the same host and port.
    pub(crate) fn same_as(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// Length of the host in `host[:port]`.
fn host_length(text: &str) -> Option<usize> {
    if let Some(literal) = text.strip_prefix('[') {
        let (address, _) = literal.split_once(']')?;
        return address.parse::<Ipv6Addr>().ok().map(|_| address.len() + 2);
    }
    let name = name_length(text.as_bytes());
    (name > 0).then_some(name)
}

/// Length of the `reg-name` that the text begins with: unreserved bytes, sub-delimiters, and percent with two digits.
fn name_length(text: &[u8]) -> usize {
    let mut len = 0;
    loop {
        len += match &text[len..] {
            [byte, ..] if is_name_byte(*byte) => 1,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            _ => return len,
        };
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

fn port(digits: &str) -> Option<u16> {
    // `parse` alone would accept a sign.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let good =
            ["a", "A.b-c_d~e", "a:80", "a:", "1.2.3.4:65535", "[::1]", "[2001:db8::1]:8080", "a.", "a,b", "a;b=c"];
        for text in good.into_iter().chain(["a%41", "%c3%A9.b:80", "!$&'()*+,;=", "*.a"]) {
            assert!(Authority::parse(text.as_bytes()).is_some(), "{text}");
        }
        let bad = [
            "",
            ":80",
            "a b",
            "a/b",
            "u@a",
            "u:p@a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a%4",
            "a%4g",
            "%",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[::1%25eth0]",
            "[v1.a]",
            "a\\b",
            "a?b",
            "é",
        ];
        for text in bad {
            assert!(Authority::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn targets() {
        let rows = [
            ("GET", "/a?b", "/a?b"),
            ("GET", "/a?b\\c", "/a?b\\c"),
            ("GET", "http://a", "/"),
            ("GET", "http://a?b", "/?b"),
            ("GET", "http://a:80?", "/?"),
            ("OPTIONS", "http://a?b", "/?b"),
            ("GET", "HTTPS://a/b", "/b"),
            ("OPTIONS", "*", "*"),
            ("OPTIONS", "http://a", "*"),
            ("OPTIONS", "/", "/"),
            ("GET", "*", ""),
            ("GET", "a", ""),
            ("GET", "ftp://a/", ""),
            ("GET", "http:/a/", ""),
            ("GET", "http:///", ""),
            ("GET", "http://u@a/", ""),
            ("GET", "a:443", ""),
            ("GET", "/a#b", ""),
            ("GET", "/a\\b", ""),
            ("GET", "/é", ""),
            ("GET", "?a", ""),
        ];
        for (method, text, expected) in rows {
            let path = Target::parse(method, text).map(|target| target.path).unwrap_or_default();
            assert_eq!(path, expected, "{method} {text}");
        }
    }
}
