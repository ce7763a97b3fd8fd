//! Judges the keys below `certs/`. A bad one keeps its last good form. No value is ever shown: they hold private keys.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use crate::capabilities::remedy;
use crate::limits::Limits;
use crate::pem;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;

/// Longest name, in bytes: engines escape it, to three times its length at worst, into a file name of at most 255.
const LONGEST_NAME: usize = 80;

/// Certificates by name, each a chain and its key in PEM.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Certs(pub(crate) BTreeMap<Box<str>, Arc<str>>);

/// Names only: the rest is secret.
impl Debug for Certs {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Judges all certificates. A bad one keeps its form in `last`.
pub(crate) fn judge(raw: &RawKeys, last: &Certs, limits: &Limits) -> (Certs, Box<[Problem]>) {
    let mut report = Report::of_tree(&limits.prefix, "certs").hiding_values();
    let mut certs = Certs::default();
    for (name, value) in raw.iter().filter(|(_, value)| !value.trim_ascii().is_empty()) {
        match judge_one(name, value, limits) {
            Ok(pem) => drop(certs.0.insert(name.into(), unchanged(pem, last.0.get(name)))),
            Err((kind, advice)) => {
                report.add(kind, name, None, advice);
                let kept = last.0.get_key_value(name).filter(|_| kind == ProblemKind::BadValue);
                certs.0.extend(kept.map(|(name, pem)| (name.clone(), pem.clone())));
            }
        }
    }
    (certs, report.finish())
}

fn judge_one(name: &str, value: &[u8], limits: &Limits) -> Result<Box<str>, (ProblemKind, String)> {
    if !limits.capabilities.honours("certs") {
        let advice = format!("this engine does not serve TLS yet; the certificate is not used{}", remedy("certs"));
        return Err((ProblemKind::Unsupported, advice));
    }
    if name.is_empty() || name.contains('/') {
        return Err((ProblemKind::UnknownKey, "a certificate is one key, certs/<name>".into()));
    }
    if name.len() > LONGEST_NAME {
        let advice =
            format!("expected a certificate name of at most {LONGEST_NAME} bytes; the certificate is not used");
        return Err((ProblemKind::UnknownKey, advice));
    }
    let text = std::str::from_utf8(value).map_err(|_| "expected UTF-8 text".to_owned());
    text.and_then(pem::chain_and_key).map_err(|advice| (ProblemKind::BadValue, advice))
}

/// A certificate that is equal keeps its `Arc`.
fn unchanged(pem: Box<str>, last: Option<&Arc<str>>) -> Arc<str> {
    last.filter(|last| ***last == *pem).cloned().unwrap_or_else(|| pem.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAMAAAA=\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMAAAA=\n-----END PRIVATE KEY-----\n";

    /// Judges one key, and says which names are there and what is wrong.
    fn step(last: &mut Certs, name: &str, value: &str) -> String {
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let raw = RawKeys::collect(vec![(name.into(), value.as_bytes().into())]);
        let (certs, problems) = judge(&raw, last, &limits);
        *last = certs;
        let problems: String = problems.iter().map(ToString::to_string).collect();
        format!("{last:?} {problems}")
    }

    #[test]
    fn a_bad_certificate_keeps_its_last_good_form() {
        let (mut last, good) = (Certs::default(), format!("{CERTIFICATE}{KEY}"));
        let rows = [
            ("shop", CERTIFICATE, "{} /certs/shop: bad value: expected the certificate's private key"),
            ("shop", &good, "{\"shop\"} "),
            ("shop", KEY, "{\"shop\"} /certs/shop: bad value: expected a certificate too"),
            ("shop", " ", "{} "),
            ("shop", KEY, "{} /certs/shop: bad value"),
            ("a/b", &good, "{} /certs/a/b: unknown key: a certificate is one key"),
            ("", &good, "{} /certs: unknown key"),
            (&"x".repeat(81), &good, "{} /certs/xxx"),
        ];
        for (name, value, expected) in rows {
            let said = step(&mut last, name, value);
            assert!(said.starts_with(expected), "{name}: {said} is not {expected}");
            assert_eq!(expected.ends_with(' '), said.ends_with(' '), "{name}: {said} is not {expected}");
        }
    }

    #[test]
    fn the_same_keeps_its_identity() {
        let mut last = Certs::default();
        step(&mut last, "a", &format!("{CERTIFICATE}{KEY}"));
        let before = last.0["a"].clone();
        step(&mut last, "a", &format!("# again\n{CERTIFICATE}\n{KEY}"));
        assert!(Arc::ptr_eq(&before, &last.0["a"]));
    }
}
