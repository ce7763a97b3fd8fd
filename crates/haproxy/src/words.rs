//! Words of HAProxy's configuration: quotes a text as one word, and reads the first word of a line as HAProxy does
//! (Configuration Manual §2.2, `parse_line` in its sources). Knows no section and no keyword.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Longest timeout of HAProxy's 32-bit timers, some 24.8 days.
const LONGEST: u128 = i32::MAX as u128;

/// The text as one word, wherever a word may stand outside quotes.
///
/// Every byte with a special meaning is escaped, so that HAProxy reads exactly this text. A dollar is special only
/// between double quotes; elsewhere a backslash before it would stay.
pub fn quote(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("\"\"");
    }
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut word = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            ' ' | '#' | '\\' | '\'' | '"' => word.extend(['\\', char]),
            _ if char.is_ascii_control() => {
                write!(word, "\\x{:02x}", u32::from(char)).expect("a String takes whatever is written");
            }
            _ => word.push(char),
        }
    }
    Cow::Owned(word)
}

fn is_plain(byte: u8) -> bool {
    !byte.is_ascii_control() && !matches!(byte, b' ' | b'#' | b'\\' | b'\'' | b'"')
}

/// A duration as HAProxy writes it: `5s`, `1500ms`. One that is too long becomes the longest.
pub fn time(wait: Duration) -> String {
    match wait.as_millis().clamp(1, LONGEST) {
        milliseconds if milliseconds % 1000 == 0 => format!("{}s", milliseconds / 1000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableLine {
    /// A control character other than a tab.
    #[error("a control character in it")]
    Control,
    /// A quote that is never closed.
    #[error("a quote that is not closed")]
    Quote,
    /// `\x` without two hexadecimal digits.
    #[error("\\x without two hexadecimal digits behind it")]
    Hex,
    /// A variable in the line's first word, which could turn it into anything.
    #[error("a variable in its first word")]
    Variable,
}

/// The first word of a line as HAProxy reads it; empty for a comment or an empty line.
///
/// # Errors
/// HAProxy would refuse the line, or its first word cannot be known.
pub fn first(line: &str) -> Result<Vec<u8>, UnreadableLine> {
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(UnreadableLine::Control);
    }
    let line = line.trim_start_matches([' ', '\t']);
    let mut reader = Reader { rest: line.as_bytes(), quote: None, word: Vec::new() };
    while reader.step()? {}
    Ok(reader.word)
}

/// Cuts one word off a line, unquoting as it goes.
struct Reader<'a> {
    rest: &'a [u8],
    quote: Option<u8>,
    word: Vec<u8>,
}

impl Reader<'_> {
    /// Takes one byte or one escape; `false` at the end of the word.
    fn step(&mut self) -> Result<bool, UnreadableLine> {
        let Some(&byte) = self.rest.first() else {
            return if self.quote.is_some() { Err(UnreadableLine::Quote) } else { Ok(false) };
        };
        match (byte, self.quote) {
            (b' ' | b'\t' | b'#', None) => return Ok(false),
            (b'"' | b'\'', None) => self.turn(Some(byte)),
            (_, Some(quote)) if quote == byte => self.turn(None),
            (b'$', Some(b'"')) => return Err(UnreadableLine::Variable),
            (b'\\', None | Some(b'"')) => self.escape()?,
            _ => self.take(1, byte),
        }
        Ok(true)
    }

    fn turn(&mut self, quote: Option<u8>) {
        self.rest = &self.rest[1..];
        self.quote = quote;
    }

    fn take(&mut self, bytes: usize, means: u8) {
        self.rest = &self.rest[bytes..];
        self.word.push(means);
    }

    /// An escape that HAProxy does not know keeps its backslash.
    fn escape(&mut self) -> Result<(), UnreadableLine> {
        match self.rest.get(1) {
            Some(b'x') => {
                let byte = self.rest.get(2..4).and_then(hex).ok_or(UnreadableLine::Hex)?;
                self.take(4, byte);
            }
            Some(b't') => self.take(2, b'\t'),
            Some(b'n') => self.take(2, b'\n'),
            Some(b'r') => self.take(2, b'\r'),
            Some(&byte @ (b' ' | b'#' | b'\\' | b'\'' | b'"')) => self.take(2, byte),
            Some(b'$') if self.quote == Some(b'"') => self.take(2, b'$'),
            _ => self.take(1, b'\\'),
        }
        Ok(())
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let plain = digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| plain)?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_that_reads_as_the_text() {
        for text in
            ["plain", "a b", "#", "\\", "'", "\"", "$HOME", "${X}", "a\tb", "a\nb", "\x01\x7f", "ü#ß", "\\x41", "\\ "]
        {
            let word = quote(text);
            assert_eq!(first(&word).map(String::from_utf8), Ok(Ok(text.to_owned())), "{word}");
            assert!(!word.contains(|c: char| c.is_ascii_control()), "{word:?}");
        }
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a b$'"), "a\\ b$\\'");
    }

    #[test]
    fn times() {
        for (wait, expected) in [
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_secs(5), "5s"),
            (Duration::from_secs(30 * 24 * 3600), "2147483647ms"),
            (Duration::ZERO, "1ms"),
        ] {
            assert_eq!(time(wait), expected);
        }
    }

    #[test]
    fn first_words_as_haproxy_reads_them() {
        let check = |line: &str, expected: &str| {
            let word = first(line).map(|word| String::from_utf8_lossy(&word).into_owned());
            assert_eq!(word.map_err(|error| error.to_string()), Ok(expected.to_owned()), "{line:?}");
        };
        for (line, expected) in [
            ("frontend x", "frontend"),
            ("\t  frontend", "frontend"),
            ("\"front\"end x", "frontend"),
            ("'front'\"end\"#x", "frontend"),
            ("f\\x72ontend", "frontend"),
            ("\"f\\x72ontend\"", "frontend"),
            ("'f\\x72ontend'", "f\\x72ontend"),
            ("front\\ end x", "front end"),
            ("\\frontend", "\\frontend"),
            ("# frontend", ""),
            ("", ""),
            ("$X frontend", "$X"),
            ("\\$X frontend", "\\$X"),
            ("'$X' y", "$X"),
            ("\"\\$X\" y", "$X"),
            ("ü x", "ü"),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn unreadable_lines() {
        for (line, expected) in [
            ("a\nfrontend x", UnreadableLine::Control),
            ("a\0b", UnreadableLine::Control),
            ("'a", UnreadableLine::Quote),
            ("\"a 'b'", UnreadableLine::Quote),
            ("a\\x4", UnreadableLine::Hex),
            ("a\\x+1", UnreadableLine::Hex),
            ("\"$X\" y", UnreadableLine::Variable),
            ("\"${X[*]}\"", UnreadableLine::Variable),
        ] {
            assert_eq!(first(line), Err(expected), "{line:?}");
        }
    }
}
