//! `hsts`: what browsers are told about a service (`Strict-Transport-Security`, RFC 6797 §6.1). Writes no header.

use crate::value::Parsed;

const SHAPE: &str = "expected a duration such as 365d, then includeSubDomains and preload if they are wanted";
/// The words that may follow the duration, as the header writes them.
const WORDS: [&str; 2] = ["includeSubDomains", "preload"];
/// Longest duration, seconds: 100 years. Browsers have limits of their own.
const LONGEST: u64 = 100 * 365 * 86_400;

/// What browsers are told, as they are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts(Box<str>);

impl Hsts {
    /// The header's value: `max-age=31536000; includeSubDomains`.
    pub fn header(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let mut words = text.split_ascii_whitespace();
        let seconds = words.next().and_then(seconds).ok_or(SHAPE)?;
        let asked: Vec<_> = words.collect();
        let is = |known: &str, word: &str| known.eq_ignore_ascii_case(word);
        if asked.iter().any(|word| !WORDS.iter().any(|known| is(known, word))) {
            return Err(SHAPE.into());
        }
        let wanted = WORDS.iter().filter(|known| asked.iter().any(|word| is(known, word)));
        let directives: String = wanted.map(|word| format!("; {word}")).collect();
        Ok(Self(format!("max-age={seconds}{directives}").into()))
    }
}

/// Whole seconds of a duration; 0 makes browsers forget.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let seconds = match &text[unit..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).filter(|seconds| *seconds <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        check(Hsts::parse("365d"), "\"max-age=31536000\"");
        check(Hsts::parse("0s"), "\"max-age=0\"");
        check(Hsts::parse("12h  preload"), "\"max-age=43200; preload\"");
        check(Hsts::parse("730d preload includesubdomains"), "\"max-age=63072000; includeSubDomains; preload\"");
        for wrong in ["", "d", "365", "max-age=1", "1d, preload", "1d preloaded", "-1d", "500ms", "36501d", "1d 2d"] {
            check(Hsts::parse(wrong), "error: expected a duration such as 365d");
        }
        check(Hsts::parse("18446744073709551615d"), "error");
    }
}
