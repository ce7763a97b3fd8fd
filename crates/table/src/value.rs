//! Parses single values. Each error says what is expected; no function knows keys or services.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A value, or one sentence on what is expected.
pub(crate) type Parsed<T> = Result<T, String>;

/// Longest DNS name (RFC 1035 §2.3.4), without the root's dot.
pub(crate) const LONGEST_NAME: usize = 253;
/// Longest prefix that a path rule may have.
const LONGEST_PREFIX: usize = 2048;
/// Longest wait: 30 days.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) fn port(text: &str) -> Parsed<u16> {
    match digits(text) {
        Some(port @ 1..) => Ok(port),
        _ => Err("expected a port between 1 and 65535".into()),
    }
}

pub(crate) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

pub(crate) fn integer(text: &str) -> Parsed<i64> {
    text.parse().map_err(|_| "expected an integer".into())
}

pub(crate) fn count(text: &str) -> Parsed<NonZeroU32> {
    digits(text).ok_or_else(|| "expected a number from 1 to 4294967295".into())
}

pub(crate) fn within(text: &str, least: usize, most: usize) -> Parsed<usize> {
    let number = digits(text).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || "expected a duration such as 500ms, 5s, 2m or 1h".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = digits(&text[..unit]).ok_or_else(wrong)?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let wait = Duration::from_millis(number.saturating_mul(milliseconds));
    match wait {
        Duration::ZERO => Err("expected a duration longer than 0".into()),
        _ if wait > LONGEST_WAIT => Err("expected a duration of at most 720h".into()),
        _ => Ok(wait),
    }
}

/// A size in bytes: `1048576`, `64KiB`, `1MiB` or `2GiB`.
pub(crate) fn size(text: &str) -> Parsed<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[end..].trim_start() {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size = unit.and_then(|unit: u64| digits::<u64>(&text[..end])?.checked_mul(unit));
    size.filter(|size| *size > 0).ok_or_else(|| "expected a size such as 65536, 64KiB, 10MiB or 2GiB".into())
}

/// Items of a comma separated list; at least one.
pub(crate) fn list<T>(text: &str, item: impl Fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    let items = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let items = items.map(item).collect::<Parsed<Vec<T>>>()?;
    if items.is_empty() { Err("expected at least one item, comma separated".into()) } else { Ok(items) }
}

/// A token, such as a header's or a cookie's name (RFC 9110 §5.6.2).
/// Refuses an option, `NAME` or `NAME=VALUE`, whose name is given again in the words after it.
pub(crate) fn once<'t>(word: &'t str, mut after: impl Iterator<Item = &'t str>) -> Parsed<()> {
    let name = |word: &'t str| word.split_once('=').map_or(word, |(name, _)| name);
    match after.any(|other| name(other) == name(word)) {
        true => Err(format!("expected {} once, but it is given again", name(word))),
        false => Ok(()),
    }
}

pub(crate) fn is_token(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(token)
}

pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A plain decimal number: no sign, no white space.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if is_number(text) { text.parse().ok() } else { None }
}

/// A name without the dot that stands for the root.
pub(crate) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// A host name in lower case. Underscores are allowed: such names exist.
pub(crate) fn host_name(text: &str) -> Parsed<Box<str>> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !text.is_ascii() {
        return Err("expected a host name in ASCII; write other letters as punycode (xn--...)".into());
    }
    if text.len() > LONGEST_NAME || !text.split('.').all(label) {
        return Err("expected a host name such as shop.example.org, without scheme, path or space".into());
    }
    Ok(text.to_ascii_lowercase().into())
}

/// A plain string prefix of path and query.
pub(crate) fn prefix(text: &str) -> Parsed<Box<str>> {
    match text {
        _ if !text.starts_with('/') => Err("expected a prefix that starts with /".into()),
        _ if text.len() > LONGEST_PREFIX => Err(format!("expected a prefix of at most {LONGEST_PREFIX} bytes")),
        _ if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("expected a prefix without white space".into())
        }
        _ => Ok(text.into()),
    }
}

/// A path prefix by whole segments; a slash at its end makes no difference.
pub(crate) fn segments(text: &str) -> Parsed<Box<str>> {
    let text = prefix(text)?;
    if text.contains(['?', '#']) {
        return Err("expected a path without a query".into());
    }
    match text.trim_end_matches('/') {
        "" => Ok("/".into()),
        path => Ok(path.into()),
    }
}

/// The path of a health check, an instance's or ours.
pub(crate) fn uri(text: &str) -> Parsed<Box<str>> {
    prefix(text).map_err(|_| "expected a path that starts with /".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[track_caller]
    pub(crate) fn check<T: std::fmt::Debug>(parsed: Parsed<T>, expected: &str) {
        let said = match parsed {
            Ok(value) => format!("{value:?}"),
            Err(advice) => format!("error: {advice}"),
        };
        assert!(said.contains(expected), "{said} is not {expected}");
    }

    #[test]
    fn ports() {
        check(port("1"), "1");
        check(port("65535"), "65535");
        for wrong in ["0", "65536", "-1", "+1", "eighty", "", "8 0", "0x50", "٣"] {
            check(port(wrong), "error: expected a port between 1 and 65535");
        }
    }

    #[test]
    fn durations() {
        check(duration("500ms"), "500ms");
        check(duration("5s"), "5s");
        check(duration("2m"), "120s");
        check(duration("720h"), "2592000s");
        for wrong in ["0s", "0ms", "721h", "5", "s", "", "-5s", "5 s", "1.5s", "5d", "99999999999999999999h"] {
            check(duration(wrong), "error: expected a duration");
        }
        check(duration("18446744073709551615h"), "at most 720h");
    }

    #[test]
    fn sizes() {
        check(size("1"), "1");
        check(size("64KiB"), "65536");
        check(size("10 MiB"), "10485760");
        check(size("2GiB"), "2147483648");
        for wrong in ["0", "", "KiB", "1KB", "1k", "-1", "1.5MiB", "18446744073709551615GiB"] {
            check(size(wrong), "error: expected a size");
        }
    }

    #[test]
    fn lists_and_paths() {
        check(list("/a, /b ,,/c", prefix), "[\"/a\", \"/b\", \"/c\"]");
        check(list(" , ", prefix), "error: expected at least one");
        check(list("/a,b", prefix), "error: expected a prefix that starts with /");
        check(segments("/api//"), "\"/api\"");
        check(segments("//"), "\"/\"");
        check(segments("/a?b"), "error");
        check(prefix("/a?b=c"), "\"/a?b=c\"");
        check(prefix(&format!("/{}", "a".repeat(2048))), "error");
    }
}
