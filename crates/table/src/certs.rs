//! Judges the keys below `certs/`. A bad one keeps its last good form. No value is ever shown: they hold private keys.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use crate::capabilities::remedy;
use crate::cert::Cert;
use crate::limits::Limits;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::value::Parsed;

/// Longest name, in bytes: engines escape it, to three times its length at worst, into a file name of at most 255.
const LONGEST_NAME: usize = 80;

/// Certificates by name.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Certs(pub(crate) BTreeMap<Box<str>, Arc<Cert>>);

/// Names only: the rest is secret.
impl Debug for Certs {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Judges all certificates. A bad one keeps its form in `last`; `good` has the values that those forms come from, which
/// are not read again.
pub(crate) fn judge(raw: &RawKeys, last: &Certs, good: &RawKeys, limits: &Limits) -> (Certs, Box<[Problem]>) {
    let mut report = Report::of_tree(&limits.prefix, "certs").hiding_values();
    let mut certs = Certs::default();
    for (name, value) in raw.iter().filter(|(_, value)| !value.trim_ascii().is_empty()) {
        if let Err((kind, advice)) = judge_name(name, limits) {
            report.add(kind, name, None, advice);
            continue;
        }
        let kept = last.0.get(name);
        let known = kept.filter(|_| good.get(name) == Some(value)).cloned();
        let cert = match known.map_or_else(|| parse(value, kept), Ok) {
            Ok(cert) => Some(cert),
            Err(advice) => {
                report.add(ProblemKind::BadValue, name, None, advice);
                kept.cloned()
            }
        };
        certs.0.extend(cert.map(|cert| (name.into(), cert)));
    }
    (certs, report.finish())
}

fn judge_name(name: &str, limits: &Limits) -> Result<(), (ProblemKind, String)> {
    if !limits.capabilities.honours("certs") {
        let advice = format!("this engine does not serve TLS yet; the certificate is not used{}", remedy("certs"));
        return Err((ProblemKind::Unsupported, advice));
    }
    if name.is_empty() || name.contains('/') {
        return Err((ProblemKind::UnknownKey, "there is no such key; a certificate is one key, certs/<name>".into()));
    }
    if name.len() > LONGEST_NAME {
        let advice =
            format!("expected a certificate name of at most {LONGEST_NAME} bytes; the certificate is not used");
        return Err((ProblemKind::UnknownKey, advice));
    }
    Ok(())
}

/// One that equals the last keeps its `Arc`.
fn parse(value: &[u8], last: Option<&Arc<Cert>>) -> Parsed<Arc<Cert>> {
    let text = std::str::from_utf8(value).map_err(|_| "expected UTF-8 text")?;
    let cert = Cert::parse(text)?;
    Ok(last.filter(|last| ***last == cert).cloned().unwrap_or_else(|| Arc::new(cert)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;

    const CERTIFICATE: &str = include_str!("../tests/certificates/leaf.pem");
    const KEY: &str = include_str!("../tests/certificates/leaf.key");

    /// Judges one key, and says which names are there and what is wrong.
    fn step(last: &mut Certs, name: &str, value: &str) -> String {
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let raw = RawKeys::collect(vec![(name.into(), value.as_bytes().into())]);
        let (certs, problems) = judge(&raw, last, &RawKeys::default(), &limits);
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
            ("a/b", &good, "{} /certs/a/b: unknown key: there is no such key; a certificate is one key"),
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
