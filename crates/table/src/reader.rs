//! Reads values of raw keys and reports the bad ones. Knows no key by name.

use crate::problem::{ProblemKind, Report};
use crate::raw::RawKeys;
use crate::value::Parsed;

/// Reads the keys of one service or tree.
pub(crate) struct Reader<'a> {
    pub(crate) raw: &'a RawKeys,
    pub(crate) report: Report<'a>,
    /// Whether any key was bad.
    pub(crate) bad: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(raw: &'a RawKeys, report: Report<'a>) -> Self {
        Self { raw, report, bad: false }
    }

    /// The value of a key that is set. One that is not UTF-8 is a problem.
    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.raw.get(key)?;
        match std::str::from_utf8(value) {
            Ok(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            Err(_) => {
                self.reject(key, &String::from_utf8_lossy(value), "expected UTF-8 text".into());
                None
            }
        }
    }

    /// The parsed value of a key that is set and good.
    pub(crate) fn read<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        let text = self.text(key)?;
        parse(text).map_err(|advice| self.reject(key, text, advice)).ok()
    }

    /// As [`Reader::read`], for a key that protects: without a value it is bad, and does not count as absent.
    pub(crate) fn protecting<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        if self.raw.get(key).is_some_and(|value| value.trim_ascii().is_empty()) {
            let advice = "expected a value: this key protects the service, which would be open without it; to open it, \
                          remove the key";
            self.reject(key, "", advice.into());
            return None;
        }
        self.read(key, parse)
    }

    /// What several keys say together; `None` if one of them is bad.
    pub(crate) fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let was_bad = std::mem::take(&mut self.bad);
        let found = read(self);
        let is_bad = std::mem::replace(&mut self.bad, was_bad);
        self.bad |= is_bad;
        found.filter(|_| !is_bad)
    }

    fn reject(&mut self, key: &str, value: &str, advice: String) {
        self.bad = true;
        self.report.add(ProblemKind::BadValue, key, Some(value), advice);
    }
}
