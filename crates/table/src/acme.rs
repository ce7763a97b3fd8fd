//! On what terms certificates are asked for by ACME (RFC 8555): the values of `config/acme/`. Asks no authority.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Formatter};
use std::net::Ipv6Addr;

use crate::capabilities::Capabilities;
use crate::cert::Cert;
use crate::on_demand::{Allowance, OnDemand};
use crate::problem::{ProblemKind, Report};
use crate::value::Parsed;

/// Where an authority looks for the answer to a challenge (RFC 8555 §8.3).
pub const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
/// The directory of Let's Encrypt, and of its authority for tests, which no client trusts.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Where authorities look for the answer: HTTP's own port (RFC 8555 §8.3).
const HTTP_PORT: u16 = 80;

/// Answers to challenges that balancers give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Of the kind http-01: the body by token.
    pub bodies: BTreeMap<Box<str>, Box<str>>,
    /// Of the kind tls-alpn-01: by the name that they are for, in lower case.
    pub certs: BTreeMap<Box<str>, ChallengeCert>,
}

impl Answers {
    /// The tokens of all challenges that are answered, those of one kind in order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let bodies = self.bodies.keys().map(|token| &**token);
        bodies.chain(self.certs.values().map(|cert| &*cert.token))
    }
}

/// The certificate that answers a challenge of the kind tls-alpn-01 (RFC 8737 §3), and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct ChallengeCert {
    /// The challenge's token.
    pub token: Box<str>,
    /// Both, in PEM form.
    pub pem: Box<str>,
}

/// Never shows the PEM.
impl Debug for ChallengeCert {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChallengeCert").field(&self.token).finish()
    }
}

/// What `config/acme/` says: how certificates are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeTerms {
    /// The URL of the authority's directory.
    pub directory: Box<str>,
    /// Whom the authority writes to: `mailto:` URLs.
    pub contact: Box<[Box<str>]>,
    /// The operator agrees to the authority's terms. Without it, nothing is asked.
    pub agree: bool,
    /// Services that do not say whether they want certificates get them.
    pub auto: bool,
    /// How the authority is shown that a name is ours.
    pub challenge: ChallengeKind,
    /// The port at which a name must lead to the balancers before the authority is asked; `None`: that is not checked.
    pub check: Option<u16>,
    /// The names that a handshake may have a certificate asked for.
    pub on_demand: Option<OnDemand>,
    /// The kind of the certificates' keys.
    pub key: CertKeyKind,
    /// The authority's profile: `shortlived`.
    pub profile: Option<Box<str>>,
    /// An account at the authority that ours belongs to (RFC 8555 §7.3.4): its id and its key in base64url. Secret.
    pub eab: Option<(Box<str>, Box<str>)>,
}

impl Default for AcmeTerms {
    fn default() -> Self {
        Self {
            directory: LETS_ENCRYPT.into(),
            contact: Box::default(),
            agree: false,
            auto: false,
            challenge: ChallengeKind::default(),
            check: Some(HTTP_PORT),
            on_demand: None,
            key: CertKeyKind::default(),
            profile: None,
            eab: None,
        }
    }
}

impl AcmeTerms {
    /// Whether the first handshake for this name, in lower case, may have a certificate asked for.
    pub fn on_demand(&self, name: &str) -> Allowance<'_> {
        match &self.on_demand {
            Some(on_demand) if self.agree => on_demand.allows(name),
            _ => Allowance::No,
        }
    }

    /// Whether handshakes may have certificates asked for at all.
    pub fn is_on_demand(&self) -> bool {
        self.agree && self.on_demand.is_some()
    }
}

/// How an authority is shown that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeKind {
    /// It fetches a path of the name over HTTP (RFC 8555 §8.3).
    #[default]
    Http,
    /// It does a TLS handshake of its own kind at port 443 of the name (RFC 8737).
    Tls,
    /// It looks for a TXT record of the name (RFC 8555 §8.4).
    Dns,
}

impl ChallengeKind {
    /// As in the key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::Tls => "tls-alpn-01",
            Self::Dns => "dns-01",
        }
    }
}

/// What a service wants: `services/<service>/acme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcmeWish {
    /// No certificates.
    None,
    /// Certificates, shown to be its own by the kind of challenge of `config/acme/challenge`.
    Usual,
    /// Certificates, by this kind of challenge.
    By(ChallengeKind),
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertKeyKind {
    /// ECDSA with P-256.
    #[default]
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// `config/acme/directory`.
pub(crate) fn directory(text: &str) -> Parsed<Box<str>> {
    match text {
        "letsencrypt" => Ok(LETS_ENCRYPT.into()),
        "letsencrypt-staging" => Ok(STAGING.into()),
        _ => {
            let rest = text.strip_prefix("https://").unwrap_or_default();
            let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            // RFC 3986 §3.3 and §3.4.
            let is_plain =
                path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=%/?".contains(&byte));
            match is_plain && is_place(place) {
                true => Ok(text.into()),
                false => Err("expected letsencrypt, letsencrypt-staging or an https:// URL of a directory".into()),
            }
        }
    }
}

/// Whether this is a host, with a port or without one, as a URL has it (RFC 3986 §3.2).
fn is_place(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port.parse::<u16>().is_ok_and(|port| port > 0)),
        None => (text, true),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) && !host.is_empty(),
    };
    port && is_host
}

/// One of `config/acme/contact`.
pub(crate) fn contact(text: &str) -> Parsed<Box<str>> {
    let mail = text.strip_prefix("mailto:").unwrap_or(text);
    let parts = mail.split_once('@').filter(|(user, host)| !user.is_empty() && host.contains('.'));
    let is_plain = mail.bytes().all(|byte| byte.is_ascii_graphic() && !b",?&\"<>".contains(&byte));
    match parts {
        Some(_) if is_plain => Ok(format!("mailto:{mail}").into()),
        _ => Err("expected mail addresses, comma separated: admin@example.org".into()),
    }
}

/// `config/acme/challenge`.
pub(crate) fn challenge(text: &str) -> Parsed<ChallengeKind> {
    match text {
        "http-01" => Ok(ChallengeKind::Http),
        "tls-alpn-01" => Ok(ChallengeKind::Tls),
        "dns-01" => Ok(ChallengeKind::Dns),
        _ => Err("expected http-01, tls-alpn-01 or dns-01".into()),
    }
}

/// `services/<service>/acme`.
pub(crate) fn wish(text: &str) -> Parsed<AcmeWish> {
    match (text, challenge(text)) {
        ("true", _) => Ok(AcmeWish::Usual),
        ("false", _) => Ok(AcmeWish::None),
        (_, Ok(kind)) => Ok(AcmeWish::By(kind)),
        (_, Err(_)) => Err("expected true, false, http-01, tls-alpn-01 or dns-01".into()),
    }
}

/// The kind of challenge that this engine can have answered in place of the one in this key.
pub(crate) fn answered(
    kind: ChallengeKind,
    report: &mut Report,
    key: &str,
    capabilities: Capabilities,
) -> ChallengeKind {
    if kind != ChallengeKind::Tls || capabilities.answers_by_tls() {
        return kind;
    }
    let advice = "HAProxy cannot answer it, and http-01 is used when this balancer asks for certificates; set http-01 or \
                  dns-01, or use --engine native";
    report.add(ProblemKind::Unsupported, key, Some(kind.word()), advice);
    ChallengeKind::Http
}

/// `config/acme/check`.
pub(crate) fn check(text: &str) -> Parsed<Option<u16>> {
    match (text, text.parse::<u16>()) {
        ("true", _) => Ok(Some(HTTP_PORT)),
        ("false", _) => Ok(None),
        (_, Ok(port)) if port > 0 => Ok(Some(port)),
        _ => Err("expected true, false or the port where the authority looks".into()),
    }
}

/// `config/acme/key`.
pub(crate) fn key(text: &str) -> Parsed<CertKeyKind> {
    match text {
        "p256" => Ok(CertKeyKind::P256),
        "rsa2048" => Ok(CertKeyKind::Rsa2048),
        _ => Err("expected p256 or rsa2048".into()),
    }
}

/// `config/acme/profile`.
pub(crate) fn profile(text: &str) -> Parsed<Option<Box<str>>> {
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        true => Ok(Some(text.into())),
        false => Err("expected the name of a profile of the authority, such as shortlived".into()),
    }
}

/// `config/acme/eab`.
pub(crate) fn eab(text: &str) -> Parsed<Option<(Box<str>, Box<str>)>> {
    let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match text.split_once(char::is_whitespace) {
        // No base64 has one letter more than a multiple of four.
        Some((id, key)) if !id.is_empty() && key.len() >= 16 && key.len() % 4 != 1 && is_key(key) => {
            Ok(Some((id.into(), key.into())))
        }
        _ => Err("expected KEY-ID HMAC-KEY, the key in base64url, as the authority gave them".into()),
    }
}

/// The names that certificates cover.
#[derive(Default)]
pub(crate) struct Covered<'c>(BTreeSet<&'c str>);

impl<'c> Covered<'c> {
    pub(crate) fn by(certs: impl Iterator<Item = &'c Cert>) -> Self {
        Self(certs.flat_map(|cert| cert.names.iter().map(|name| &**name)).collect())
    }

    /// Exactly, or by a wildcard for one label (RFC 9525 §6.3).
    pub(crate) fn has(&self, name: &str) -> bool {
        let wildcard = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.0.contains(name) || wildcard().is_some_and(|wildcard| self.0.contains(&*wildcard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        check(super::check("true"), "Some(80)");
        check(super::check("false"), "None");
        check(super::check("5002"), "Some(5002)");
        check(super::check("0"), "expected true, false or the port");
        check(directory("letsencrypt"), "\"https://acme-v02.api.letsencrypt.org/directory\"");
        check(directory("https://ca.test/dir"), "\"https://ca.test/dir\"");
        check(directory("https://[2001:db8::1]:14000/dir?a=b%20c"), "\"https://[2001:db8::1]:14000/dir?a=b%20c\"");
        for bad in
            ["http://ca.test/dir", "https:///dir", "https://a@ca.test/", "https://ca.test/<dir>", "https://ca.test/a b"]
        {
            check(directory(bad), "expected letsencrypt, letsencrypt-staging or an https");
        }
        for bad in ["https://[::1/dir", "https://ca.test:443:1/dir", "https://ca.test:/", "https://ca.test:70000/"] {
            check(directory(bad), "expected letsencrypt, letsencrypt-staging or an https");
        }
        check(contact("a@b.test"), "\"mailto:a@b.test\"");
        check(contact("mailto:a@b.test"), "\"mailto:a@b.test\"");
        check(contact("nobody"), "expected mail addresses");
        check(challenge("http-01"), "Http");
        check(challenge("tls-alpn-01"), "Tls");
        check(challenge("dns-01"), "Dns");
        check(challenge("email"), "expected http-01, tls-alpn-01 or dns-01");
        check(wish("true"), "Usual");
        check(wish("false"), "None");
        check(wish("dns-01"), "By(Dns)");
        check(wish("yes"), "expected true, false, http-01, tls-alpn-01 or dns-01");
        check(key("rsa2048"), "Rsa2048");
        check(key("rsa1024"), "expected p256");
        check(profile("shortlived"), "Some(\"shortlived\")");
        check(profile("a b"), "expected the name of a profile");
        check(eab("kid-1 0123456789abcdef_-"), "Some((\"kid-1\", \"0123456789abcdef_-\"))");
        check(eab("kid-1"), "expected KEY-ID HMAC-KEY");
        check(eab("kid-1 0123456789abcdef0"), "expected KEY-ID HMAC-KEY");
    }
}
