//! Splits a line of HAProxy's configuration into words, as HAProxy does (Configuration Manual, section 2.2). Knows no
//! keyword. Its errors never quote the line: it may be secret.

use crate::value::Parsed;

/// The words of a line; none for an empty line or a comment. Variables and escape sequences are refused.
pub(crate) fn words(line: &str) -> Parsed<Vec<String>> {
    let mut splitter = Splitter { rest: line.chars().peekable(), words: Vec::new(), word: None };
    splitter.run()?;
    Ok(splitter.words)
}

struct Splitter<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    words: Vec<String>,
    /// The word being read.
    word: Option<String>,
}

impl Splitter<'_> {
    fn run(&mut self) -> Parsed<()> {
        while let Some(character) = self.rest.next() {
            match character {
                '#' => break,
                ' ' | '\t' => self.words.extend(self.word.take()),
                '\'' => self.strong()?,
                '"' => self.weak()?,
                '\\' => self.escaped(" #'\"")?,
                other => self.add(other)?,
            }
        }
        self.words.extend(self.word.take());
        Ok(())
    }

    fn add(&mut self, character: char) -> Parsed<()> {
        if character.is_control() {
            return Err("has a control character".into());
        }
        self.word.get_or_insert_default().push(character);
        Ok(())
    }

    /// Up to the next single quote, without escapes.
    fn strong(&mut self) -> Parsed<()> {
        self.word.get_or_insert_default();
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(other) => self.add(other)?,
                None => return Err("has an unclosed quote".into()),
            }
        }
    }

    /// Up to the next double quote.
    fn weak(&mut self) -> Parsed<()> {
        self.word.get_or_insert_default();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('\\') => self.escaped(" #'\"$")?,
                Some('$') => return Err("uses a variable; write its value out, or use single quotes".into()),
                Some(other) => self.add(other)?,
                None => return Err("has an unclosed quote".into()),
            }
        }
    }

    /// After a backslash: `themselves` lose their special meaning; before any other character it is a plain backslash.
    fn escaped(&mut self, themselves: &str) -> Parsed<()> {
        match self.rest.peek() {
            Some('r' | 'n' | 't' | 'x') => Err("has an escape sequence; write the character itself".into()),
            Some(&next) if next == '\\' || themselves.contains(next) => {
                self.rest.next();
                self.add(next)
            }
            _ => self.add('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(words(line).as_deref(), Ok(&*expected.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()));
    }

    #[test]
    fn as_haproxy_does() {
        check("user  a\tpassword b ", &["user", "a", "password", "b"]);
        check("", &[]);
        check(" # user a", &[]);
        check("user a#b", &["user", "a"]);
        check(r"a\#b \  \\ \q", &["a#b", " ", r"\", r"\q"]);
        check(r#"'a b' "c d" e"f g"h '' "#, &["a b", "c d", "ef gh", ""]);
        check(r#"'a\ "$x' "a'\"\$\#\q""#, &[r#"a\ "$x"#, r#"a'"$#\q"#]);
        check("$5$x$y ü", &["$5$x$y", "ü"]);
        check(r"a\", &["a\\"]);
    }

    #[test]
    fn refused() {
        for (line, expected) in [
            ("'a", "an unclosed quote"),
            ("\"a", "an unclosed quote"),
            ("\"$HOME\"", "uses a variable"),
            (r"a\x41", "an escape sequence"),
            (r#""\n""#, "an escape sequence"),
            ("a\u{1}", "a control character"),
            ("'\u{0}'", "a control character"),
        ] {
            assert!(words(line).is_err_and(|wrong| wrong.contains(expected)), "{line}");
        }
    }
}
