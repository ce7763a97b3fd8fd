//! Rust source as words and marks, without comments and without what is only compiled for tests. Knows no grammar beyond
//! that: what the words mean is for `modules` and `names`.

/// One piece of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A name, a keyword or a number.
    Word(&'t str),
    /// What a string literal holds, as it is written.
    Text(&'t str),
    /// Anything else, one character at a time.
    Mark(char),
}

/// The tokens of a file, tests left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    without_tests(&lex(text))
}

fn lex(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(next) = rest.chars().next() {
        let (token, length) = match next {
            '/' if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, block_comment(rest)),
            '"' => string(rest, 1),
            '\'' => (None, quote(rest)),
            'r' | 'b' | 'c' if literal_prefix(rest).is_some() => prefixed(rest),
            _ if is_word(next) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Some(Token::Word(&rest[..length])), length)
            }
            _ if next.is_whitespace() => (None, next.len_utf8()),
            _ => (Some(Token::Mark(next)), next.len_utf8()),
        };
        found.extend(token);
        rest = &rest[length..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A string whose opening quote is the last of these bytes.
fn string(text: &str, open: usize) -> (Option<Token<'_>>, usize) {
    let mut escaped = false;
    let close = text[open..].find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    let end = close.map_or(text.len(), |at| open + at);
    (Some(Token::Text(&text[open..end])), (end + 1).min(text.len()))
}

/// A character literal, or the quote and the name of a lifetime.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        // `'\''` and its like: the quote that closes stands behind the escaped character.
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            text[from..].find('\'').map_or(text.len(), |close| from + close + 1)
        }
        (_, Some((at, '\''))) => at + 1,
        _ => 1 + text[1..].find(|c| !is_word(c)).unwrap_or(text.len() - 1),
    }
}

/// The length of `b"`, `r#"`, `br##"`, `b'`, `r#` and their like, if the text begins with one.
fn literal_prefix(text: &str) -> Option<usize> {
    let letters = text.find(|c| !matches!(c, 'r' | 'b' | 'c'))?;
    let hashes = text[letters..].find(|c| c != '#')?;
    let next = text[letters + hashes..].chars().next()?;
    let raw = text[..letters].contains('r');
    let opens = next == '"' || (next == '\'' && hashes == 0) || (hashes == 1 && raw && is_word(next));
    (letters <= 2 && opens && (hashes == 0 || raw)).then_some(letters + hashes)
}

fn prefixed(text: &str) -> (Option<Token<'_>>, usize) {
    let prefix = literal_prefix(text).unwrap_or_default();
    let body = &text[prefix..];
    let hashes = text[..prefix].matches('#').count();
    match body.chars().next() {
        Some('"') if text[..prefix].contains('r') => {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = body[1..].find(&close).map_or(body.len(), |at| at + 1);
            (Some(Token::Text(&body[1..end])), (prefix + end + close.len()).min(text.len()))
        }
        Some('"') => string(text, prefix + 1),
        Some('\'') => (None, prefix + quote(body)),
        // A raw name, `r#type`.
        _ => {
            let length = body.find(|c| !is_word(c)).unwrap_or(body.len());
            (Some(Token::Word(&body[..length])), prefix + length)
        }
    }
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests<'t>(all: &[Token<'t>]) -> Vec<Token<'t>> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < all.len() {
        match attribute(&all[at..]) {
            Some(length) if is_for_tests(&all[at..at + length]) => at += length + item(&all[at + length..]),
            Some(length) => {
                kept.extend_from_slice(&all[at..at + length]);
                at += length;
            }
            None => {
                kept.push(all[at]);
                at += 1;
            }
        }
    }
    kept
}

fn attribute(tokens: &[Token]) -> Option<usize> {
    if tokens.first() != Some(&Token::Mark('#')) || tokens.get(1) != Some(&Token::Mark('[')) {
        return None;
    }
    let mut depth = 0_usize;
    let end = tokens.iter().position(|token| {
        match token {
            Token::Mark('[') => depth += 1,
            Token::Mark(']') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Mark(']')
    })?;
    Some(end + 1)
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let has = |word| attribute.contains(&Token::Word(word));
    attribute.get(2) == Some(&Token::Word("cfg")) && has("test") && !has("not")
}

/// The length of the item that begins here: to its semicolon, or to the brace that closes it.
fn item(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    let end = tokens.iter().position(|token| {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(token, Token::Mark(';' | '}'))
    });
    end.map_or(tokens.len(), |end| end + 1)
}

fn words(text: &str) -> String {
    let words = tokens(text).into_iter().map(|token| match token {
        Token::Word(word) => word.to_owned(),
        Token::Text(text) => format!("<{text}>"),
        Token::Mark(mark) => mark.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn comments_and_quotes_hide_what_they_hold() {
    assert_eq!(words("a // b\n/* c /* d */ e */ f"), "a f");
    assert_eq!(words(r#"a("b \" c", b'"', '\'', '"', 'x')"#), r#"a ( <b \" c> , , , , )"#);
    assert_eq!(words("r#\"a \"b\" c\"# br\"d\" r#type r b"), "<a \"b\" c> <d> type r b");
    assert_eq!(words("fn f<'a>(x: &'a str, y: '_)"), "fn f < > ( x : & str , y : )");
}

#[test]
fn tests_are_left_out() {
    assert_eq!(words("a; #[cfg(test)] #[path = \"x\"] mod b; c"), "a ; c");
    assert_eq!(words("#[cfg(test)]\nmod tests { fn f() { [1; 2] } } c"), "c");
    assert_eq!(words("#[cfg(not(test))] use a;"), "# [ cfg ( not ( test ) ) ] use a ;");
}
