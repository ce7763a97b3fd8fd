//! Keys and values as lines: `KEY = VALUE`, which `ls --values` prints and `apply` reads back, and `KEY VALUE`, which
//! people write. Knows no store and no prefix.

use anyhow::bail;
use pointsman_table::{BARRIER, shown};

/// What `ls` shows of a secret value.
const HIDDEN: &str = "(secret; --secrets shows it)";

/// `KEY = VALUE`. A value that is not one plain line is a JSON string, in quotes.
pub(super) fn entry(key: &str, value: &str) -> String {
    let is_plain = value == value.trim() && !value.starts_with('"') && value != HIDDEN;
    let is_plain = is_plain && shown(value).to_string() == value;
    let value = if is_plain { value.to_owned() } else { serde_json::Value::from(value).to_string() };
    format!("{} = {}", shown(key), shown(&value))
}

/// A line for a key whose value is not to be shown.
pub(super) fn hidden_entry(key: &str) -> String {
    format!("{} = {HIDDEN}", shown(key))
}

/// Whether the text is lines of keys, not TOML: a key has a slash, which a bare key of TOML has not.
pub(super) fn is_lines(text: &str) -> bool {
    // An older `ls` began with the key `barrier`.
    let mut lines = entries(text).filter(|(_, line)| !line.starts_with(BARRIER));
    let first = lines.next().and_then(|(_, line)| line.split(['=', '"', '\'']).next()).unwrap_or_default();
    first.split_whitespace().next().is_some_and(|key| key.contains('/'))
}

/// The keys and values of lines. All lines are `KEY = VALUE`, or none is: then a value may itself begin with `=`.
///
/// # Errors
/// A line has no value, its value is hidden, or lines of both forms are mixed.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    // Directories in the output of `ls`.
    let is_directory = |line: &str| line.ends_with('/') && !line.contains(char::is_whitespace);
    let mut listed: Option<usize> = None;
    let mut keys = Vec::new();
    for (number, line) in entries(text).filter(|(_, line)| !is_directory(line)) {
        let Some((key, rest)) = line.split_once(char::is_whitespace) else {
            bail!("line {number} has no value; write KEY VALUE, or KEY = for an empty one");
        };
        let value = rest.trim_start().strip_prefix('=').filter(|value| value.is_empty() || value.starts_with(' '));
        if keys.is_empty() {
            listed = value.map(|_| number);
        }
        let value = match (listed, value) {
            (Some(_), Some(value)) => value_of(key, value.trim(), number)?,
            (None, None) => rest.trim().to_owned(),
            (Some(first), None) => {
                bail!("line {number} is KEY VALUE, and line {first} is KEY = VALUE; write all alike")
            }
            (None, Some(_)) => {
                bail!("line {number} is KEY = VALUE, and lines before it are KEY VALUE; write all alike")
            }
        };
        keys.push((key.to_owned(), value));
    }
    Ok(keys)
}

/// Lines with their numbers, without comments and empty ones.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The value of a line `KEY = VALUE`.
fn value_of(key: &str, written: &str, number: usize) -> anyhow::Result<String> {
    match written {
        HIDDEN => bail!("line {number}: `ls` hid the value of {key}; --secrets shows it"),
        quoted if quoted.starts_with('"') => match serde_json::from_str(quoted) {
            Ok(value) => Ok(value),
            Err(_) => bail!("line {number}: the value of {key} begins with a quote, but is no JSON string"),
        },
        plain => Ok(plain.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_line() {
        for (value, line) in [
            ("a.test", "a/b = a.test"),
            ("", "a/b = "),
            ("^/x\\d+ = \"y\"", "a/b = ^/x\\d+ = \"y\""),
            ("= x", "a/b = = x"),
            ("\"quoted\"", "a/b = \"\\\"quoted\\\"\""),
            ("one\ntwo\\n\n", "a/b = \"one\\ntwo\\\\n\\n\""),
            (" spaced ", "a/b = \" spaced \""),
            ("\u{1b}[2J\u{202e}", "a/b = \"\\u001b[2J\\u202e\""),
            (HIDDEN, "a/b = \"(secret; --secrets shows it)\""),
        ] {
            assert_eq!(entry("a/b", value), line, "{value:?}");
            assert!(is_lines(line), "{line}");
            assert_eq!(read(line).unwrap(), [("a/b".to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn both_forms_of_lines_are_not_mixed() {
        for (text, expected) in [
            ("a/b 1\na/c = 2", "line 2 is KEY = VALUE, and lines before it are KEY VALUE"),
            ("# c\na/\na/b = 1\na/c 2", "line 4 is KEY VALUE, and line 3 is KEY = VALUE"),
            ("a/b = \"x", "line 1: the value of a/b begins with a quote"),
            ("a/b = x\na/c = (secret; --secrets shows it)", "line 2: `ls` hid the value of a/c; --secrets"),
            ("a/b x\na/c", "line 2 has no value"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
