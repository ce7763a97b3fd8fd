//! Escapes text from outside for display: keys, values, names, messages. The one place that decides what is escaped;
//! changes nothing that is stored or compared.

use std::fmt::{Display, Formatter, Result, Write};

/// The text with everything escaped that could begin a new line, command a terminal, or turn the order of what is read:
/// `\n`, `\t`, `\r`, and `\u001b` for the rest. Escapes are those of JSON strings (RFC 8259 §7), so that JSON stays
/// JSON.
pub fn shown(text: &str) -> Shown<'_> {
    Shown { text, keeps_lines: false }
}

/// The same, and line feeds and tabs stay: for text of many lines.
pub fn shown_lines(text: &str) -> Shown<'_> {
    Shown { text, keeps_lines: true }
}

/// Text to show; see [`shown`].
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    text: &'a str,
    keeps_lines: bool,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut rest = self.text;
        while let Some((at, found)) = rest.char_indices().find(|&(_, c)| self.escapes(c)) {
            f.write_str(&rest[..at])?;
            escape(found, f)?;
            rest = &rest[at + found.len_utf8()..];
        }
        f.write_str(rest)
    }
}

impl Shown<'_> {
    fn escapes(&self, c: char) -> bool {
        let is_kept = self.keeps_lines && matches!(c, '\n' | '\t');
        !is_kept && (c.is_control() || turns_text(c))
    }
}

/// Line separators, marks that change the direction of text (UAX #9 §2), and marks without width.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn escape(c: char, f: &mut Formatter<'_>) -> Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        c => {
            f.write_char('\\')?;
            write!(f, "u{:04x}", u32::from(c))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_commands_a_terminal() {
        for (text, line, lines) in [
            ("shop /ü \\n \"x\"", "shop /ü \\n \"x\"", "shop /ü \\n \"x\""),
            ("a\nb\tc\r", "a\\nb\\tc\\r", "a\nb\tc\\r"),
            ("\x1b[31m\x07\0", "\\u001b[31m\\u0007\\u0000", "\\u001b[31m\\u0007\\u0000"),
            ("\x7f\u{9b}2J", "\\u007f\\u009b2J", "\\u007f\\u009b2J"),
            ("\u{202e}\u{2028}\u{feff}", "\\u202e\\u2028\\ufeff", "\\u202e\\u2028\\ufeff"),
        ] {
            assert_eq!(shown(text).to_string(), line);
            assert_eq!(shown_lines(text).to_string(), lines);
        }
    }
}
