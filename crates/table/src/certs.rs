//! Judges certificates: the keys below `certs/`, and those from outside the store. A bad one keeps its last good form. No
//! value is ever shown: they hold private keys.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use crate::acme::Covered;
use crate::capabilities::remedy;
use crate::cert::Cert;
use crate::limits::{Limits, OuterCert};
use crate::name_map::{NameChange, NameMap};
use crate::ocsp::Staple;
use crate::problem::{Problem, ProblemKind, Report};
use crate::value::Parsed;

/// Longest name, in bytes: engines escape it, to three times its length at worst, into a file name of at most 255.
const LONGEST_NAME: usize = 80;

/// The keys below `certs/`, with their values.
pub(crate) type CertKeys = NameMap<Arc<[u8]>>;

/// Good certificates by name.
type ByName = NameMap<Arc<Cert>>;

/// All certificates.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Certs {
    /// Those that are served.
    pub(crate) all: ByName,
    keys: JudgedKeys,
    /// The good ones from outside, served or not.
    outer: ByOrigin,
    /// The good ones that we had issued, served or not.
    issued: ByOrigin,
}

/// Good certificates that are no keys, by name.
type ByOrigin = BTreeMap<Box<str>, GoodOuter>;

/// Certificates of keys.
#[derive(Clone, Default, PartialEq, Eq)]
struct JudgedKeys {
    /// The good ones, and the last good forms of bad ones.
    good: ByName,
    /// What is wrong with the others.
    bad: BTreeMap<Box<str>, Wrong>,
}

/// A kind of problem, and the advice.
type Wrong = (ProblemKind, String);

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
        let is_other = |_: &&GoodOuter| self.keys.good.get(name).is_none();
        let outer = self.outer.get(name).or_else(|| self.issued.get(name)).filter(is_other)?;
        Some(&outer.origin)
    }

    /// The names that certificates of keys and files cover.
    pub(crate) fn own_names(&self) -> Covered<'_> {
        let keys = self.keys.good.iter().map(|(_, cert)| &**cert);
        Covered::by(keys.chain(self.outer.values().map(|outer| &*outer.cert)))
    }

    /// Puts those that are served together: what we had issued serves only names that no other certificate covers.
    fn put_together(keys: JudgedKeys, outer: ByOrigin, issued: ByOrigin) -> Self {
        let mut all = keys.good.clone();
        for (name, outer) in outer.iter().filter(|(name, _)| keys.good.get(name).is_none()) {
            all.insert(name, Arc::clone(&outer.cert));
        }
        let mut certs = Self { all, keys, outer, issued };
        if !certs.issued.is_empty() {
            let covered = certs.own_names();
            let is_needed = |cert: &Cert| cert.names.iter().any(|name| !covered.has(name));
            let needed =
                certs.issued.iter().filter(|(name, issued)| certs.all.get(name).is_none() && is_needed(&issued.cert));
            let needed: Vec<_> = needed.map(|(name, issued)| (name.clone(), Arc::clone(&issued.cert))).collect();
            for (name, cert) in needed {
                certs.all.insert(&name, cert);
            }
        }
        certs
    }
}

/// The keys and files of certificates, and their compiled form.
#[derive(Clone, Debug)]
pub(crate) struct JudgedCerts {
    pub(crate) raw: Arc<CertKeys>,
    pub(crate) value: Arc<Certs>,
    /// The last good value of each key that is set.
    pub(crate) good: Arc<CertKeys>,
    pub(crate) problems: Arc<[Problem]>,
}

impl Default for JudgedCerts {
    fn default() -> Self {
        Self { raw: Arc::default(), value: Arc::default(), good: Arc::default(), problems: Arc::from([]) }
    }
}

impl JudgedCerts {
    /// Judges the keys if they changed.
    pub(crate) fn next(&self, raw: &Arc<CertKeys>, limits: &Limits) -> Self {
        if raw.is_copy_of(&self.raw) { self.clone() } else { self.judge(raw, limits, false) }
    }

    /// Judges the keys that changed, or all of them if the limits did (`stale`), and all certificates from outside. A bad
    /// one keeps its last good form. A value that is equal keeps its `Arc`.
    pub(crate) fn judge(&self, raw: &Arc<CertKeys>, limits: &Limits, stale: bool) -> Self {
        let keys = self.judge_keys(raw, limits, stale);
        let good = Arc::new(good(raw, &self.good, &keys.bad));
        let (outer, mut more) = judge_outer(raw, &self.value.outer, &limits.certs, limits);
        let (issued, rest) = judge_outer(&CertKeys::default(), &self.value.issued, &limits.issued, limits);
        more.extend(rest);
        let mut report = Report::of_tree(&limits.prefix, "certs").hiding_values();
        keys.bad.iter().for_each(|(name, (kind, advice))| report.add(*kind, name, None, &**advice));
        let problems = report.finish().into_iter().chain(more).collect();
        let value = Certs::put_together(keys, outer, issued);
        let value = if value == *self.value { self.value.clone() } else { Arc::new(value) };
        Self { raw: raw.clone(), value, good, problems }
    }

    fn judge_keys(&self, raw: &CertKeys, limits: &Limits, stale: bool) -> JudgedKeys {
        let nothing = CertKeys::default();
        let (known, mut next) = match stale {
            true => (&nothing, JudgedKeys::default()),
            false => (&*self.raw, self.value.keys.clone()),
        };
        for NameChange { name, after, .. } in known.changes(raw, Arc::eq) {
            let had = self.value.keys.good.get(name);
            let value = after.filter(|value| !value.trim_ascii().is_empty());
            let (cert, wrong) = match value.map(|value| self.judge_key(name, value, had, limits)) {
                Some(Ok(cert)) => (Some(cert), None),
                Some(Err(wrong)) => (had.filter(|_| wrong.0 == ProblemKind::BadValue).cloned(), Some(wrong)),
                None => (None, None),
            };
            match cert {
                Some(cert) => next.good.insert(name, cert),
                None => next.good.remove(name),
            }
            next.bad.remove(name);
            next.bad.extend(wrong.map(|wrong| (name.into(), wrong)));
        }
        next
    }

    /// A value that is known to be good is not read again.
    fn judge_key(
        &self,
        name: &str,
        value: &Arc<[u8]>,
        had: Option<&Arc<Cert>>,
        limits: &Limits,
    ) -> Result<Arc<Cert>, Wrong> {
        judge_name(name, limits)?;
        let known = had.filter(|_| self.good.get(name) == Some(value)).cloned();
        known.map_or_else(|| parse(value, had), Ok).map_err(|advice| (ProblemKind::BadValue, advice))
    }
}

/// A bad key keeps its last good value; one that can never be good has none.
fn good(raw: &CertKeys, last: &CertKeys, bad: &BTreeMap<Box<str>, Wrong>) -> CertKeys {
    let mut good = raw.clone();
    for (name, (kind, _)) in bad {
        match last.get(name).filter(|_| *kind == ProblemKind::BadValue) {
            Some(value) => good.insert(name, Arc::clone(value)),
            None => good.remove(name),
        }
    }
    good
}

/// Judges those from outside, whether a key goes before them or not.
fn judge_outer(raw: &CertKeys, last: &ByOrigin, outer: &[OuterCert], limits: &Limits) -> (ByOrigin, Vec<Problem>) {
    let (mut certs, mut problems) = (ByOrigin::new(), Vec::new());
    for outer in outer {
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

fn judge_name(name: &str, limits: &Limits) -> Result<(), Wrong> {
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
fn parse(value: &Arc<[u8]>, last: Option<&Arc<Cert>>) -> Parsed<Arc<Cert>> {
    let text = std::str::from_utf8(value).map_err(|_| "expected UTF-8 text")?;
    let mut cert = Cert::parse(text)?;
    cert.pem = cert.pem.kept_in(value);
    Ok(last.filter(|last| ***last == cert).cloned().unwrap_or_else(|| Arc::new(cert)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;

    const CERTIFICATE: &str = include_str!("../tests/certificates/leaf.pem");
    const KEY: &str = include_str!("../tests/certificates/leaf.key");

    /// Judges one key, and says which names are there and what is wrong.
    fn step(last: &mut JudgedCerts, name: &str, value: &str) -> String {
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        *last = last.next(&keys(&[(name, value)]), &limits);
        let problems: String = last.problems.iter().map(ToString::to_string).collect();
        format!("{:?} {problems}", last.value)
    }

    fn keys(keys: &[(&str, &str)]) -> Arc<CertKeys> {
        Arc::new(keys.iter().map(|(name, value)| ((*name).into(), Arc::from(value.as_bytes()))).collect())
    }

    #[test]
    fn a_bad_certificate_keeps_its_last_good_form() {
        let (mut last, good) = (JudgedCerts::default(), format!("{CERTIFICATE}{KEY}"));
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
        let mut last = JudgedCerts::default();
        step(&mut last, "a", &format!("{CERTIFICATE}{KEY}"));
        let before = last.value.clone();
        step(&mut last, "a", &format!("# again\n{CERTIFICATE}\n{KEY}"));
        assert!(Arc::ptr_eq(&before, &last.value));
    }

    #[test]
    fn only_what_changed_is_judged() {
        let (good, limits) = (format!("{CERTIFICATE}{KEY}"), Limits::default());
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..limits };
        let names = |last: &JudgedCerts| format!("{:?} {}", last.value, last.problems.len());
        let mut last = JudgedCerts::default();
        let mut step = |rows: &[(&str, &str)]| {
            // As `KeySet` does it: what stays keeps its place in memory.
            let mut raw = (*last.raw).clone();
            for (name, value) in rows {
                match *value {
                    "" => raw.remove(name),
                    value => raw.insert(name, value.as_bytes().into()),
                }
            }
            last = last.next(&Arc::new(raw), &limits);
            (names(&last), last.value.all.get("a").map(Arc::as_ptr), last.good.keys().collect::<String>())
        };
        let (said, a, _) = step(&[("a", &good), ("b", &good), ("c", KEY)]);
        assert_eq!(said, r#"{"a", "b"} 1"#);
        let rows: [(&[(&str, &str)], _, _); 4] = [
            (&[("b", KEY)], r#"{"a", "b"} 2"#, "ab"),
            (&[("c", "")], r#"{"a", "b"} 1"#, "ab"),
            (&[("b", ""), ("d", &good)], r#"{"a", "d"} 0"#, "ad"),
            (&[], r#"{"a", "d"} 0"#, "ad"),
        ];
        for (changes, expected, kept) in rows {
            assert_eq!(step(changes), (expected.to_owned(), a, kept.to_owned()), "{changes:?}");
        }
    }

    #[test]
    fn a_value_without_anything_around_its_blocks_is_kept_once() {
        let good = format!("{CERTIFICATE}{KEY}");
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let values = [good.trim_end().to_owned(), good.clone(), format!("# mine\n{good}")];
        let copies = values.map(|value| {
            let raw = keys(&[("a", &value)]);
            let judged = JudgedCerts::default().next(&raw, &limits);
            let value = raw.get("a").cloned();
            drop((raw, judged.good, judged.raw));
            let text = judged.value.all.get("a").map(|cert| cert.pem.as_str().to_owned());
            assert_eq!(text.as_deref(), Some(good.trim_end()));
            value.map(|value| Arc::strong_count(&value))
        });
        assert_eq!(copies, [Some(2), Some(2), Some(1)]);
    }

    /// Judges the key `shop` (empty: none) and certificates from outside, each a name, an origin and a text (`!`: cannot be
    /// read). Says which origin serves which name, and the problems.
    #[track_caller]
    fn beside(last: &mut JudgedCerts, key: &str, outer: &[(&str, &str, &str)], expected: &[&str]) {
        let cert = |&(name, origin, text): &(&str, &str, &str)| OuterCert {
            name: name.into(),
            origin: origin.into(),
            pem: if text == "!" { Err("no rights".into()) } else { Ok(text.as_bytes().into()) },
            staple: None,
        };
        let certs = outer.iter().map(cert).collect();
        let limits = Limits { prefix: "/p".into(), certs, capabilities: Capabilities::HAPROXY, ..Limits::default() };
        *last = last.judge(&keys(&[("shop", key)]), &limits, false);
        let (certs, problems) = (&last.value, &last.problems);
        let served = certs.all.keys().map(|name| format!("{name} of {}", certs.origin(name).unwrap_or("its key")));
        let said: Vec<_> = served.chain(problems.iter().map(ToString::to_string)).collect();
        let all_there = said.len() == expected.len() && said.iter().zip(expected).all(|(a, b)| a.starts_with(b));
        assert!(all_there, "{said:#?} is not {expected:#?}");
    }

    #[test]
    fn keys_go_before_files_and_files_before_later_ones() {
        let (mut last, good) = (JudgedCerts::default(), format!("{CERTIFICATE}{KEY}"));
        let shadowed = "a: shadowed: the key /p/certs/shop has the same name";
        beside(&mut last, "", &[("shop", "a", &good), ("x", "b", &good)], &["shop of a", "x of b"]);
        let other = format!("{}{KEY}", include_str!("../tests/certificates/nameless.pem"));
        beside(&mut last, &good, &[("shop", "a", &other)], &["shop of its key", shadowed]);
        assert_eq!(last.value.all.get("shop").map(|cert| cert.names.len()), Some(2), "the other one has no names");
        // A key that was never good does not take the place of a good file.
        beside(
            &mut JudgedCerts::default(),
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
        let (mut last, good) = (JudgedCerts::default(), format!("{CERTIFICATE}{KEY}"));
        beside(&mut last, "", &[("x", "a", KEY)], &["a: bad value: expected a certificate too"]);
        beside(&mut last, "", &[("x", "a", &good)], &["x of a"]);
        let before = last.value.all.get("x").cloned();
        beside(&mut last, "", &[("x", "a", KEY)], &["x of a", "a: bad value"]);
        beside(&mut last, "", &[("x", "a", "!")], &["x of a", "a: bad value: cannot be read: no rights"]);
        beside(&mut last, "", &[("x", "a", &format!("# again\n{good}"))], &["x of a"]);
        let after = last.value.all.get("x").cloned();
        assert!(before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(&before, &after)));
        // Another one is not it.
        beside(&mut last, "", &[("x", "b", KEY)], &["b: bad value"]);
        beside(&mut last, "", &[], &[]);
    }
}
