//! Keys and values as lines: `KEY = VALUE`, which `ls --values` and `export` print and `apply` reads back, and `KEY VALUE`,
//! which people write. Knows no store and no prefix.

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{BARRIER, shown};

/// What `ls` shows of a secret value.
const HIDDEN: &str = "(secret; --secrets shows it)";
/// The first line of an export, with the number of its format.
pub(super) const EXPORT: &str = "# pointsman export 1";
/// Begins a comment that names a key whose value is secret.
const LEFT_OUT: &str = "# secret, left out: ";
/// Before a value that is no text. No JSON string, so that no older file has it.
const BINARY: &str = "\"base64\" ";

/// `KEY = VALUE`. A value that is not one plain line is a JSON string, in quotes; one that is no text is `"base64"` and its
/// bytes; a key that is not one plain word is a JSON string, too.
pub(super) fn entry(key: &str, value: &[u8]) -> String {
    let value = match std::str::from_utf8(value) {
        Ok(text) => {
            let is_plain = text == text.trim() && !text.starts_with('"') && text != HIDDEN;
            let is_plain = is_plain && shown(text).to_string() == text;
            if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
        }
        Err(_) => format!("{BINARY}{}", STANDARD.encode(value)),
    };
    format!("{} = {}", word(key), shown(&value))
}

/// A key as one word.
fn word(key: &str) -> String {
    let is_plain =
        !key.contains(|c: char| c.is_whitespace() || c == '"') && !key.starts_with('#') && !key.ends_with('/');
    match is_plain && shown(key).to_string() == key {
        true => key.to_owned(),
        false => shown(&serde_json::Value::from(key).to_string()).to_string(),
    }
}

/// A line for a key whose value is not to be shown.
pub(super) fn hidden_entry(key: &str) -> String {
    format!("{} = {HIDDEN}", word(key))
}

/// A comment for a key whose value is not exported.
pub(super) fn left_out_entry(key: &str) -> String {
    format!("{LEFT_OUT}{}", word(key))
}

/// The keys that such comments name.
pub(super) fn left_out(text: &str) -> Vec<String> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix(LEFT_OUT));
    named.filter_map(|word| Some(first_word(word)?.0)).collect()
}

/// The key that a line begins with, and the rest of the line.
fn first_word(line: &str) -> Option<(String, &str)> {
    if !line.starts_with('"') {
        let (key, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        return Some((key.to_owned(), rest));
    }
    let mut words = serde_json::Deserializer::from_str(line).into_iter::<String>();
    let key = words.next()?.ok()?;
    Some((key, &line[words.byte_offset()..]))
}

/// Whether the text is lines of keys, not TOML: a key has a slash, which a bare key of TOML has not.
pub(super) fn is_lines(text: &str) -> bool {
    if is_export(text) {
        return true;
    }
    // An older `ls` began with the key `barrier`.
    let mut lines = entries(text).filter(|(_, line)| !line.starts_with(BARRIER));
    let first = lines.next().and_then(|(_, line)| line.split(['=', '"', '\'']).next()).unwrap_or_default();
    first.split_whitespace().next().is_some_and(|key| key.contains('/'))
}

/// Whether `export` printed it.
pub(super) fn is_export(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.trim() == EXPORT)
}

/// The keys and values of lines. All lines are `KEY = VALUE`, or none is: then a value may itself begin with `=`.
///
/// # Errors
/// A line has no value, its value is hidden, or lines of both forms are mixed.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    // Directories in the output of `ls`.
    let is_directory = |line: &str| line.ends_with('/') && !line.contains(char::is_whitespace);
    let mut listed: Option<usize> = None;
    let mut keys = Vec::new();
    for (number, line) in entries(text).filter(|(_, line)| !is_directory(line)) {
        let Some((key, rest)) = first_word(line).filter(|(_, rest)| !rest.is_empty()) else {
            bail!("line {number} has no value; write KEY VALUE, or KEY = for an empty one");
        };
        let value = rest.trim_start().strip_prefix('=').filter(|value| value.is_empty() || value.starts_with(' '));
        if keys.is_empty() {
            listed = value.map(|_| number);
        }
        let value = match (listed, value) {
            (Some(_), Some(value)) => value_of(&key, value.trim(), number)?,
            (None, None) => rest.trim().as_bytes().to_vec(),
            (Some(first), None) => {
                bail!("line {number} is KEY VALUE, and line {first} is KEY = VALUE; write all alike")
            }
            (None, Some(_)) => {
                bail!("line {number} is KEY = VALUE, and lines before it are KEY VALUE; write all alike")
            }
        };
        keys.push((key, value));
    }
    Ok(keys)
}

/// Lines with their numbers, without comments and empty ones.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The value of a line `KEY = VALUE`.
fn value_of(key: &str, written: &str, number: usize) -> anyhow::Result<Vec<u8>> {
    if let Some(bytes) = written.strip_prefix(BINARY) {
        return STANDARD.decode(bytes).map_err(|_| anyhow::anyhow!("line {number}: the value of {key} is no base64"));
    }
    match written {
        HIDDEN => bail!("line {number}: `ls` hid the value of {key}; --secrets shows it"),
        quoted if quoted.starts_with('"') => match serde_json::from_str::<String>(quoted) {
            Ok(value) => Ok(value.into_bytes()),
            Err(_) => bail!("line {number}: the value of {key} begins with a quote, but is no JSON string"),
        },
        plain => Ok(plain.as_bytes().to_vec()),
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
            assert_eq!(entry("a/b", value.as_bytes()), line, "{value:?}");
            assert!(is_lines(line), "{line}");
            assert_eq!(read(line).unwrap(), [("a/b".to_owned(), value.into())], "{line}");
        }
        let line = entry("a/b", b"\xff\0");
        assert_eq!(line, "a/b = \"base64\" /wA=");
        assert_eq!(read(&line).unwrap(), [("a/b".to_owned(), b"\xff\0".to_vec())]);
    }

    #[test]
    fn keys_survive_their_line() {
        for key in ["a/b", "b", "my shop/x", "a\"b", "#a/b", "a/b/", "a\nb", "\u{202e}/x", "a=b", "=", "-x"] {
            let line = format!("{EXPORT}\n{}\n{}", entry(key, b"1"), left_out_entry(key));
            assert!(is_lines(&line) && is_export(&line), "{line}");
            assert_eq!(read(&line).unwrap(), [(key.to_owned(), b"1".to_vec())], "{line}");
            assert_eq!(left_out(&line), [key], "{line}");
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
