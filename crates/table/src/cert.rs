//! One certificate: its PEM, and what its first block says of itself. Judges no signature and no key: engines do. Has no
//! clock: whether it has expired is for those who have one.

use std::fmt::{Debug, Formatter};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::ocsp::Staple;
use crate::pem::{self, Pem, PemText};
use crate::value::Parsed;

/// A certificate with its chain and its private key. Secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cert {
    /// The chain and the key.
    pub pem: PemText,
    /// The DNS names that it is for (RFC 5280 §4.2.1.6), in lower case, ordered: `shop.test`, `*.shop.test`.
    pub names: Box<[Box<str>]>,
    /// The first second at which it is valid, since the epoch.
    pub not_before: i64,
    /// The last second at which it is valid, since the epoch.
    pub not_after: i64,
    /// Its serial number, in big-endian order.
    pub serial: Box<[u8]>,
    /// Whether the chain has the certificate of its issuer.
    pub has_issuer: bool,
    /// An OCSP response to send along.
    pub staple: Option<Staple>,
}

/// Never shows the PEM: it holds the private key.
impl Debug for Cert {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { pem: _, names, not_before, not_after, serial: _, has_issuer: _, staple: _ } = self;
        write!(f, "{names:?}, valid from {not_before} to {not_after}")
    }
}

impl Cert {
    /// Whether it is valid at this second since the epoch.
    pub fn is_valid(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Who issued it, by the common name, else by the whole name; empty if it cannot be read.
    pub fn issuer(&self) -> String {
        let chain = pem::chain_and_key(self.pem.as_str()).map(|pem| pem.chain).unwrap_or_default();
        let own = chain.first().and_then(|(_, der)| Some(X509Certificate::from_der(der).ok()?.1));
        let name = own.as_ref().map(|own| own.issuer());
        let common = name.and_then(|name| name.iter_common_name().next()?.as_str().ok().map(str::to_owned));
        common.or_else(|| name.map(ToString::to_string)).unwrap_or_default()
    }

    /// Reads a chain, its own certificate first, and its key. The error never quotes the text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Parsed<Self> {
        let Pem { text, chain } = pem::chain_and_key(text)?;
        let mut certificates = Vec::with_capacity(chain.len());
        for (number, der) in &chain {
            let read = X509Certificate::from_der(der);
            certificates.push(read.map_err(|_| unreadable(*number))?.1);
        }
        let (own, issuers) = certificates.split_first().ok_or("expected a certificate")?;
        if issuers.iter().any(|later| is_issued_by(later, own) && !is_issued_by(own, later)) {
            return Err(
                "expected the certificate of the service first and those of its authorities after it, but the \
                        first one is the authority of a later one"
                    .into(),
            );
        }
        let names = names(own).ok_or_else(|| unreadable(chain[0].0))?;
        let validity = own.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let serial = own.raw_serial().into();
        let has_issuer = issuers.iter().any(|issuer| is_issued_by(own, issuer));
        Ok(Self { pem: PemText::from(&*text), names, not_before, not_after, serial, has_issuer, staple: None })
    }
}

fn unreadable(number: usize) -> String {
    format!("expected PEM, but block {number} is no X.509 certificate, or one that cannot be read")
}

/// By name only. A certificate without a subject is nobody's authority (RFC 5280 §4.1.2.6).
fn is_issued_by(certificate: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> bool {
    let name = authority.subject();
    name.iter().next().is_some() && certificate.issuer().as_raw() == name.as_raw()
}

/// `None`: the names cannot be read.
fn names(certificate: &X509Certificate<'_>) -> Option<Box<[Box<str>]>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(Box::default()) };
    let dns = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
        _ => None,
    });
    let mut names: Vec<_> = dns.collect();
    names.sort_unstable();
    names.dedup();
    Some(names.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for `Shop.Test`, `*.shop.test` and 192.0.2.1, an authority that signed it, and its key.
    const LEAF: &str = include_str!("../tests/certificates/leaf.pem");
    const AUTHORITY: &str = include_str!("../tests/certificates/authority.pem");
    const KEY: &str = include_str!("../tests/certificates/leaf.key");
    /// Signed by itself, without other names than its subject.
    const NAMELESS: &str = include_str!("../tests/certificates/nameless.pem");

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let said = match Cert::parse(text) {
            Ok(cert) => format!("{cert:?}"),
            Err(advice) => format!("error: {advice}"),
        };
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }

    #[test]
    fn names_and_times_are_those_of_the_first() {
        let expected = format!("{:?}, valid from 1767225600 to 4922985600", ["*.shop.test", "shop.test"]);
        for text in [
            format!("{LEAF}{KEY}"),
            format!("{KEY}{LEAF}"),
            format!("{LEAF}{AUTHORITY}{KEY}"),
            // Once more, as some tools write it.
            format!("{LEAF}{LEAF}{AUTHORITY}{AUTHORITY}{KEY}"),
            // An authority of something else: clients do not mind.
            format!("{LEAF}{NAMELESS}{KEY}"),
        ] {
            check(&text, &expected);
        }
        check(&format!("{NAMELESS}{KEY}"), "[], valid from");
    }

    #[test]
    fn an_issuer_is_found_in_the_chain() {
        for (text, expected) in [
            (format!("{LEAF}{AUTHORITY}{KEY}"), true),
            (format!("{LEAF}{NAMELESS}{AUTHORITY}{KEY}"), true),
            (format!("{LEAF}{NAMELESS}{KEY}"), false),
            (format!("{LEAF}{KEY}"), false),
        ] {
            assert_eq!(Cert::parse(&text).unwrap().has_issuer, expected);
        }
    }

    #[test]
    fn the_order_of_a_chain_is_judged() {
        let wrong = "error: expected the certificate of the service first";
        for text in [format!("{AUTHORITY}{LEAF}{KEY}"), format!("{KEY}{AUTHORITY}{NAMELESS}{LEAF}")] {
            check(&text, wrong);
        }
    }

    #[test]
    fn what_is_no_certificate() {
        let block = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        check(&format!("{}{KEY}", block("MAMAAAA=")), "error: expected PEM, but block 1 is no X.509 certificate");
        check(&format!("{LEAF}{KEY}{}", block("MAMAAAA=")), "error: expected PEM, but block 3 is no X.509");
        check(LEAF, "error: expected the certificate's private key too");
    }
}
