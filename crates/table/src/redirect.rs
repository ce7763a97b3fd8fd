//! `redirect`: where clients are to ask instead. Answers nothing.

use std::fmt::{Display, Formatter};

use crate::address::{self, HostPattern};
use crate::raw::RawKeys;
use crate::reader::Reader;
use crate::text::{Piece, Placeholder, Text};
use crate::value::{self, Parsed};

const SHAPE: &str =
    "expected a status (301, 302, 303, 307 or 308) and a target, such as 301 https://www.shop.test{path}{query}";
const CIRCLE: &str = "it leads requests onto themselves; name another host, scheme or path";
/// Those that have a `Location` (RFC 9110 §15.4).
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
/// Keys that name hosts.
const HOST_KEYS: &[&str] = &["domain", "virtual_hosts"];

/// The answer to all requests of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The address: with a scheme, or a path.
    pub target: Text,
}

impl Redirect {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let raw = reader.raw;
        reader.read("redirect", |text| {
            let redirect = Self::parse(text)?;
            if is_circle(&redirect.target, raw) { Err(CIRCLE.into()) } else { Ok(redirect) }
        })
    }

    fn parse(text: &str) -> Parsed<Self> {
        let (status, target) = text.split_once(char::is_whitespace).ok_or(SHAPE)?;
        let status = STATUSES.into_iter().find(|known| status == known.to_string()).ok_or(SHAPE)?;
        let target = Text::parse(target.trim_start(), 0)?;
        if is_address(&target) { Ok(Self { status, target }) } else { Err(SHAPE.into()) }
    }
}

impl Display for Redirect {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.target)
    }
}

/// Whether it becomes an address of HTTP, or a path, whatever a request says.
fn is_address(target: &Text) -> bool {
    let is_plain = |piece: &Piece| match piece {
        Piece::Literal(text) => text.bytes().all(|byte| byte.is_ascii_graphic()),
        Piece::Placeholder(placeholder) => *placeholder != Placeholder::Instance,
    };
    let begins = match target.pieces() {
        [Piece::Literal(text), ..] => ["http://", "https://", "/"].iter().any(|start| text.starts_with(start)),
        [Piece::Placeholder(Placeholder::Scheme), Piece::Literal(text), ..] => text.starts_with("://"),
        [Piece::Placeholder(Placeholder::Path | Placeholder::Uri), ..] => true,
        _ => false,
    };
    begins && target.pieces().iter().all(is_plain)
}

/// Whether every request is led onto itself, as far as the keys tell.
fn is_circle(target: &Text, raw: &RawKeys) -> bool {
    use Piece::{Literal, Placeholder as Asked};
    let is_https_only = raw.get("scheme").is_some_and(|scheme| scheme.trim_ascii() == b"https");
    let texts = HOST_KEYS.iter().filter_map(|key| raw.get(key)).map(String::from_utf8_lossy);
    let hosts: Vec<_> = texts.map(|text| value::list(&text, address::host_pattern)).collect();
    let is_only_host = |name: &str| match &*hosts {
        [Ok(hosts)] => matches!(&**hosts, [HostPattern::Exact(host)] if host.eq_ignore_ascii_case(name)),
        _ => false,
    };
    let rest = match target.pieces() {
        [Asked(Placeholder::Scheme), Literal(between), Asked(Placeholder::Host), rest @ ..] if &**between == "://" => {
            rest
        }
        [Literal(scheme), Asked(Placeholder::Host), rest @ ..] if is_https_only && &**scheme == "https://" => rest,
        [Asked(Placeholder::Scheme), Literal(host), rest @ ..]
            if host.strip_prefix("://").is_some_and(is_only_host) =>
        {
            rest
        }
        [Literal(start), rest @ ..] if is_https_only && start.strip_prefix("https://").is_some_and(is_only_host) => {
            rest
        }
        all => all,
    };
    matches!(rest, [Asked(Placeholder::Uri)] | [Asked(Placeholder::Path), Asked(Placeholder::Query)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        check(Redirect::parse("301 https://www.shop.test{path}{query}"), "status: 301");
        check(Redirect::parse("308  /new{query}"), "status: 308");
        check(Redirect::parse("302 {scheme}://{host}:8080{uri}"), "status: 302");
        for wrong in ["", "301", "300 /x", "0301 /x", "301 www.shop.test", "301 ftp://x", "301 {host}/x", "301 /a b"] {
            check(Redirect::parse(wrong), "error: expected a status");
        }
        check(Redirect::parse("301 /{1}"), "error: {1}: the expression has 0 groups");
        check(Redirect::parse("301 /{instance}"), "error: expected a status");
        check(Redirect::parse("301 /\u{fc}"), "error: expected a status");
    }

    #[test]
    fn circles() {
        let circle = |target: &str, keys: &[(&str, &str)]| {
            let raw =
                RawKeys::collect(keys.iter().map(|(key, value)| ((*key).into(), value.as_bytes().into())).collect());
            is_circle(&Text::parse(target, 0).unwrap(), &raw)
        };
        let one = ("domain", "a.test");
        for target in ["{uri}", "{path}{query}", "{scheme}://{host}{uri}", "{scheme}://a.test{uri}"] {
            assert!(circle(target, &[one]), "{target}");
        }
        assert!(circle("https://a.test{path}{query}", &[one, ("scheme", "https")]));
        assert!(circle("https://{host}{uri}", &[one, ("scheme", "https")]));
        for target in ["https://a.test{uri}", "https://{host}{uri}", "{path}", "/x{uri}", "https://b.test{uri}"] {
            assert!(!circle(target, &[one]), "{target}");
        }
        assert!(!circle("{scheme}://a.test{uri}", &[("domain", "a.test,b.test")]), "b.test is led to a.test");
        assert!(!circle("{scheme}://a.test{uri}", &[("domain", "*.test")]));
    }
}
