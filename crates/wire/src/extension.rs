//! Chunk extensions: checked against the grammar of RFC 9112 §7.1.1, byte by byte. Never kept, never forwarded.
//!
//! ```text
//! size ─┬──────────── ; ─► Semicolon ─► Name ─┬─ = ─► Equals ─┬─► Value ─────────────┬─► CR
//!       └─► Gap ──────┘                       ├─ ; ...        └─► Quoted ─► QuoteEnd ┴─ ; ...
//!                                             └─► CR
//! ```

/// The part of a chunk extension that was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// White space that a semicolon must follow, or, after a name, an equals sign.
    Gap {
        named: bool,
    },
    /// A semicolon; a name must follow.
    Semicolon,
    Name,
    /// An equals sign; a value must follow.
    Equals,
    Value,
    Quoted,
    /// A backslash between quotes.
    Escaped,
    QuoteEnd,
}

impl Extension {
    /// The state after the byte that ends a chunk's size; `None` if no extension begins with it.
    pub(crate) fn begin(byte: u8) -> Option<Self> {
        Self::QuoteEnd.step(byte)
    }

    /// The state after one more byte; `None` if it has no place there.
    pub(crate) fn step(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Quoted, b'"') => Some(Self::QuoteEnd),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Some(Self::Quoted),
            (Self::Semicolon | Self::Equals, b' ' | b'\t') => Some(self),
            (Self::Semicolon | Self::Name, _) if is_token(byte) => Some(Self::Name),
            (Self::Equals, b'"') => Some(Self::Quoted),
            (Self::Equals | Self::Value, _) if is_token(byte) => Some(Self::Value),
            (Self::Name | Self::Gap { named: true }, b'=') => Some(Self::Equals),
            (Self::Semicolon | Self::Equals | Self::Quoted | Self::Escaped, _) => None,
            (_, b';') => Some(Self::Semicolon),
            (Self::Gap { .. }, b' ' | b'\t') => Some(self),
            (_, b' ' | b'\t') => Some(Self::Gap { named: self == Self::Name }),
            _ => None,
        }
    }

    /// Whether the line may end here.
    pub(crate) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuoteEnd)
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_extension(text: &str) -> bool {
        let mut bytes = text.bytes();
        let begun = bytes.next().and_then(Extension::begin);
        begun.and_then(|begun| bytes.try_fold(begun, Extension::step)).is_some_and(Extension::may_end)
    }

    #[test]
    fn the_grammar_is_kept() {
        let good = [";a", " ; a", ";a;b;c", ";a=b", ";a = b ;c", ";a=\"\"", ";a=\"b;c\\\"d\té\"", ";a=\"b\" ;c=!~"];
        for text in good {
            assert!(is_extension(text), "{text:?}");
        }
        let bad = [
            ";",
            "; ",
            ";;a",
            ";a;",
            ";=a",
            ";a=",
            ";a==b",
            ";a=b=c",
            ";a ",
            ";a b",
            ";a=b c",
            ";a(",
            ";a=\"b",
            ";a=\"b\"c",
            ";a=\"\\",
            ";a=\"\u{7f}\"",
            ";a=\"\0\"",
            ";a=\"\\\0\"",
            " ",
            " a",
            "a",
            ",a",
            ";é",
            ";a=é",
        ];
        for text in bad {
            assert!(!is_extension(text), "{text:?}");
        }
    }
}
