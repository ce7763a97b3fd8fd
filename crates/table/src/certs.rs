//! Judges certificates: the keys below `certs/`, and those from outside the store. A bad one keeps its last good form. No
//! value is ever shown: they hold private keys.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use crate::capabilities::remedy;
use crate::cert::Cert;
use crate::limits::{Limits, OuterCert};
use crate::ocsp::Staple;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::value::Parsed;

/// Longest name, in bytes: engines escape it, to three times its length at worst, into a file name of at most 255.
const LONGEST_NAME: usize = 80;

/// Good certificates by name.
type ByName = BTreeMap<Box<str>, Arc<Cert>>;

/// All certificates.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Certs {
    /// Those that are served.
    pub(crate) all: ByName,
    /// The good ones of keys.
    of_keys: ByName,
    /// The good ones from outside, served or not.
    outer: BTreeMap<Box<str>, GoodOuter>,
}

/// The last good form of a certificate from outside.
#[derive(Clone, PartialEq, Eq)]
struct GoodOuter {
    origin: Box<str>,
    pem: Arc<[u8]>,
    staple: Option<Arc<[u8]>>,
    cert: Arc<Cert>,
    /// What is wrong with the OCSP response.
    complaint: Option<String>,
}

impl GoodOuter {
    /// Reads a certificate and what lies beside it. A bad OCSP response leaves the last good one of the same certificate.
    fn read(outer: &OuterCert, last: Option<&Self>) -> Parsed<Self> {
        let pem = outer.pem.as_ref().map_err(|why| format!("cannot be read: {why}"))?;
        let last_cert = last.map(|last| &last.cert);
        let cert = parse(pem, None)?;
        let read = outer.staple.as_ref().map(|der| Staple::parse(der, &cert.serial)).transpose();
        let (staple, complaint) = match read {
            Ok(staple) => (staple, None),
            Err(why) => (last_cert.filter(|last| last.pem == cert.pem).and_then(|last| last.staple.clone()), Some(why)),
        };
        let cert = Cert { staple, ..(*cert).clone() };
        let same = last_cert.filter(|last| ***last == cert).cloned();
        let cert = same.unwrap_or_else(|| Arc::new(cert));
        Ok(Self { origin: outer.origin.clone(), pem: pem.clone(), staple: outer.staple.clone(), cert, complaint })
    }

    /// Whether this is the certificate from outside, read before.
    fn is_of(&self, outer: &OuterCert) -> bool {
        outer.pem.as_ref() == Ok(&self.pem) && outer.staple == self.staple
    }
}

/// Names only: the rest is secret.
impl Debug for Certs {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

impl Certs {
    /// Where the certificate of this name comes from if it is served and no key.
    pub(crate) fn origin(&self, name: &str) -> Option<&str> {
        let outer = self.outer.get(name).filter(|_| !self.of_keys.contains_key(name))?;
        Some(&outer.origin)
    }
}

/// Judges all certificates. A bad one keeps its form in `last`; `good` has the values that those of keys come from, which
/// are not read again.
pub(crate) fn judge(raw: &RawKeys, last: &Certs, good: &RawKeys, limits: &Limits) -> (Certs, Box<[Problem]>) {
    let (of_keys, problems) = judge_keys(raw, &last.of_keys, good, limits);
    let (outer, more) = judge_outer(raw, &last.outer, limits);
    let mut all: BTreeMap<_, _> = outer.iter().map(|(name, outer)| (name.clone(), outer.cert.clone())).collect();
    all.extend(of_keys.iter().map(|(name, cert)| (name.clone(), cert.clone())));
    (Certs { all, of_keys, outer }, problems.into_iter().chain(more).collect())
}

fn judge_keys(raw: &RawKeys, last: &ByName, good: &RawKeys, limits: &Limits) -> (ByName, Box<[Problem]>) {
    let mut report = Report::of_tree(&limits.prefix, "certs").hiding_values();
    let mut certs = ByName::new();
    for (name, value) in raw.iter().filter(|(_, value)| !value.trim_ascii().is_empty()) {
        if let Err((kind, advice)) = judge_name(name, limits) {
            report.add(kind, name, None, advice);
            continue;
        }
        let kept = last.get(name);
        let known = kept.filter(|_| good.get(name) == Some(value)).cloned();
        let cert = match known.map_or_else(|| parse(value, kept), Ok) {
            Ok(cert) => Some(cert),
            Err(advice) => {
                report.add(ProblemKind::BadValue, name, None, advice);
                kept.cloned()
            }
        };
        certs.extend(cert.map(|cert| (name.into(), cert)));
    }
    (certs, report.finish())
}

/// Judges those from outside, whether a key goes before them or not.
fn judge_outer(
    raw: &RawKeys,
    last: &BTreeMap<Box<str>, GoodOuter>,
    limits: &Limits,
) -> (BTreeMap<Box<str>, GoodOuter>, Vec<Problem>) {
    let (mut certs, mut problems) = (BTreeMap::<Box<str>, GoodOuter>::new(), Vec::new());
    for outer in &*limits.certs {
        let OuterCert { name, origin, .. } = outer;
        let mut add = |kind, advice: String| {
            let (key, advice) = (origin.clone(), advice.into());
            problems.push(Problem { key, value: None, kind, service: None, advice });
        };
        if let Err((kind, advice)) = judge_name(name, limits) {
            // It is no key.
            add(if kind == ProblemKind::UnknownKey { ProblemKind::BadValue } else { kind }, advice);
            continue;
        }
        if let Some(first) = certs.get(name) {
            add(
                ProblemKind::Shadowed,
                format!("{} has the same name, {name}, and goes first; rename one", first.origin),
            );
            continue;
        }
        if raw.get(name).is_some_and(|value| !value.trim_ascii().is_empty()) {
            let key = format!("{}/certs/{name}", limits.prefix);
            add(
                ProblemKind::Shadowed,
                format!("the key {key} has the same name, and goes first; remove or rename one"),
            );
        }
        let kept = last.get(name).filter(|last| last.origin == *origin);
        let same = kept.filter(|kept| kept.is_of(outer)).cloned();
        let read = same.map_or_else(|| GoodOuter::read(outer, kept), Ok);
        let outer = read.map_err(|advice| add(ProblemKind::BadValue, advice)).ok().or_else(|| kept.cloned());
        let Some(outer) = outer else { continue };
        if let Some(why) = outer.complaint.clone() {
            let key = format!("{origin}.ocsp").into();
            problems.push(Problem { key, value: None, kind: ProblemKind::BadValue, service: None, advice: why.into() });
        }
        certs.insert(name.clone(), outer);
    }
    (certs, problems)
}

fn judge_name(name: &str, limits: &Limits) -> Result<(), (ProblemKind, String)> {
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
        let before = last.all["a"].clone();
        step(&mut last, "a", &format!("# again\n{CERTIFICATE}\n{KEY}"));
        assert!(Arc::ptr_eq(&before, &last.all["a"]));
    }

    /// Judges the key `shop` (empty: none) and certificates from outside, each a name, an origin and a text (`!`: cannot be
    /// read). Says which origin serves which name, and the problems.
    #[track_caller]
    fn beside(last: &mut Certs, key: &str, outer: &[(&str, &str, &str)], expected: &[&str]) {
        let cert = |&(name, origin, text): &(&str, &str, &str)| OuterCert {
            name: name.into(),
            origin: origin.into(),
            pem: if text == "!" { Err("no rights".into()) } else { Ok(text.as_bytes().into()) },
            staple: None,
        };
        let certs = outer.iter().map(cert).collect();
        let limits = Limits { prefix: "/p".into(), certs, capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let raw = RawKeys::collect(vec![("shop".into(), key.as_bytes().into())]);
        let (certs, problems) = judge(&raw, last, &RawKeys::default(), &limits);
        let served = certs.all.keys().map(|name| format!("{name} of {}", certs.origin(name).unwrap_or("its key")));
        let said: Vec<_> = served.chain(problems.iter().map(ToString::to_string)).collect();
        let all_there = said.len() == expected.len() && said.iter().zip(expected).all(|(a, b)| a.starts_with(b));
        assert!(all_there, "{said:#?} is not {expected:#?}");
        *last = certs;
    }

    #[test]
    fn keys_go_before_files_and_files_before_later_ones() {
        let (mut last, good) = (Certs::default(), format!("{CERTIFICATE}{KEY}"));
        let shadowed = "a: shadowed: the key /p/certs/shop has the same name";
        beside(&mut last, "", &[("shop", "a", &good), ("x", "b", &good)], &["shop of a", "x of b"]);
        let other = format!("{}{KEY}", include_str!("../tests/certificates/nameless.pem"));
        beside(&mut last, &good, &[("shop", "a", &other)], &["shop of its key", shadowed]);
        assert_eq!(last.all["shop"].names.len(), 2, "the other one has no names");
        // A key that was never good does not take the place of a good file.
        beside(
            &mut Certs::default(),
            KEY,
            &[("shop", "a", &good)],
            &["shop of a", "/p/certs/shop: bad value", shadowed],
        );
        beside(
            &mut last,
            "",
            &[("x", "a", &good), ("x", "b", KEY)],
            &["x of a", "b: shadowed: a has the same name, x"],
        );
        beside(&mut last, "", &[(&"x".repeat(81), "a", &good)], &["a: bad value: expected a certificate name"]);
    }

    #[test]
    fn a_bad_file_keeps_its_last_good_form() {
        let (mut last, good) = (Certs::default(), format!("{CERTIFICATE}{KEY}"));
        beside(&mut last, "", &[("x", "a", KEY)], &["a: bad value: expected a certificate too"]);
        beside(&mut last, "", &[("x", "a", &good)], &["x of a"]);
        let before = last.all["x"].clone();
        beside(&mut last, "", &[("x", "a", KEY)], &["x of a", "a: bad value"]);
        beside(&mut last, "", &[("x", "a", "!")], &["x of a", "a: bad value: cannot be read: no rights"]);
        beside(&mut last, "", &[("x", "a", &format!("# again\n{good}"))], &["x of a"]);
        assert!(Arc::ptr_eq(&before, &last.all["x"]));
        // Another one is not it.
        beside(&mut last, "", &[("x", "b", KEY)], &["b: bad value"]);
        beside(&mut last, "", &[], &[]);
    }
}
