//! Lists in the values of headers that may hold quoted texts (RFC 9110 §5.6.1, §5.6.4): a comma within quotes separates
//! nothing. Lists of tokens alone have `fields::list`.

use crate::extension::is_token;

/// The members of a list, without empty ones. In a quoted text, a backslash hides the byte behind it.
pub fn quoted_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(value, b',', true)
}

/// The members of a list of entity tags, without empty ones. A backslash is a byte like others there (RFC 9110 §8.8.3).
pub fn tag_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(value, b',', false)
}

/// Whether it is a list of tokens and nothing else, and not empty.
pub fn is_token_list(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .all(|one| !one.is_empty() && one.iter().copied().all(is_token))
}

/// The pairs of a member, without empty ones.
pub(crate) fn pairs(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(member, b';', true)
}

fn split(value: &[u8], separator: u8, hides: bool) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_hidden) = (false, false);
    let separates = move |byte: &u8| {
        if std::mem::take(&mut is_hidden) {
            return false;
        }
        is_quoted ^= *byte == b'"';
        is_hidden = hides && is_quoted && *byte == b'\\';
        *byte == separator && !is_quoted
    };
    value.split(separates).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The members of a list, the last first, empty ones too. Read from the end: a quote that nobody closes in front of what a
/// proxy has appended does not hide that.
pub(crate) fn from_the_end(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(value);
    std::iter::from_fn(move || {
        let value = left?;
        let comma = last_comma(value);
        left = comma.map(|at| &value[..at]);
        Some(value[comma.map_or(0, |at| at + 1)..].trim_ascii())
    })
}

fn last_comma(value: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    (0..value.len()).rev().find(|&at| {
        is_quoted ^= value[at] == b'"' && !is_hidden(&value[..at]);
        value[at] == b',' && !is_quoted
    })
}

/// Whether an odd number of backslashes is in front.
fn is_hidden(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<'v>(members: impl Iterator<Item = &'v [u8]>, expected: &str) {
        let shown: Vec<_> = members.map(String::from_utf8_lossy).collect();
        assert_eq!(shown.join("|"), expected);
    }

    #[test]
    fn commas_within_quotes_separate_nothing() {
        check(quoted_list(b"a, b ,,c"), "a|b|c");
        check(quoted_list(br#"a="x, y", b"#), r#"a="x, y"|b"#);
        check(quoted_list(br#"a="x\", y", b"#), r#"a="x\", y"|b"#);
        check(quoted_list(br#"a="x\\", b"#), r#"a="x\\"|b"#);
        check(quoted_list(br#"a\, b"#), r#"a\|b"#);
        check(quoted_list(br#"a="x, b"#), r#"a="x, b"#);
        check(tag_list(br#""a,b", W/"c,""#), r#""a,b"|W/"c,""#);
        check(tag_list(br#""a\", "b""#), r#""a\"|"b""#);
        check(pairs(br#"for=1;host="a;b" ; by=2"#), r#"for=1|host="a;b"|by=2"#);
    }

    #[test]
    fn lists_of_tokens_have_nothing_else() {
        for (value, expected) in [
            ("x-a", true),
            ("x-a, X-B,c", true),
            ("P\"UT", false),
            ("a b", false),
            ("a, <x>", false),
            ("a,,b", false),
            ("", false),
        ] {
            assert_eq!(is_token_list(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn the_end_of_a_list_is_read_whatever_begins_it() {
        check(from_the_end(b"a, b,c"), "c|b|a");
        check(from_the_end(b"a,"), "|a");
        check(from_the_end(br#"a, b="x, y\", z""#), r#"b="x, y\", z"|a"#);
        check(from_the_end(br#"a, b="x\\", c"#), r#"c|b="x\\"|a"#);
        check(from_the_end(br#"a=", b="x,y", c"#), r#"c|b="x,y"|a=""#);
    }
}
