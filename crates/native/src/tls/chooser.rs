//! Which certificate a server name gets. A key is read when its certificate is judged, and again at its first handshake:
//! of thousands of certificates few are asked for, and what is ready for handshakes takes ten times the memory. Shows no
//! secret.

use std::fmt::{Debug, Formatter};
use std::sync::{Arc, OnceLock};

use pointsman_table::{Cert, NameMap};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

/// The name of the certificate for clients whose server name no certificate covers.
const DEFAULT: &str = "default";

/// A certificate that was judged to be usable.
pub(super) struct Usable {
    /// The name of its key.
    name: Box<str>,
    cert: Arc<Cert>,
    is_rsa: bool,
    /// As handshakes need it, from the first one on.
    ready: OnceLock<Ready>,
}

/// A certificate and its key.
struct Ready {
    key: Arc<CertifiedKey>,
    /// The same with the OCSP response.
    stapled: Option<Arc<CertifiedKey>>,
}

impl Usable {
    /// Judges a certificate.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn new(name: &str, cert: &Arc<Cert>, provider: &CryptoProvider) -> Result<Self, &'static str> {
        let is_rsa = usable(cert.pem.as_str(), provider)?.key.algorithm() == SignatureAlgorithm::RSA;
        Ok(Self { name: name.into(), cert: Arc::clone(cert), is_rsa, ready: OnceLock::new() })
    }

    /// As clients get it now. `None` never happens: it was judged.
    fn now(&self, now: i64, provider: &CryptoProvider) -> Option<&Arc<CertifiedKey>> {
        let ready = match self.ready.get() {
            Some(ready) => ready,
            None => {
                // Two workers may do this at once; neither waits for the other.
                let _ = self.ready.set(self.read(provider)?);
                self.ready.get()?
            }
        };
        let counts = self.cert.staple.as_ref().is_some_and(|staple| now <= staple.until);
        Some(ready.stapled.as_ref().filter(|_| counts).unwrap_or(&ready.key))
    }

    #[cold]
    fn read(&self, provider: &CryptoProvider) -> Option<Ready> {
        let key = usable(self.cert.pem.as_str(), provider).ok()?;
        let stapled = self.cert.staple.as_ref().map(|staple| {
            let key = CertifiedKey { ocsp: Some(staple.der.to_vec()), ..(*key).clone() };
            Arc::new(key)
        });
        Some(Ready { key, stapled })
    }
}

/// Reads a chain and its key. The error quotes nothing of them.
pub(super) fn usable(pem: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|_| "a certificate in it cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "its private key cannot be read")?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key belongs to another certificate",
        rustls::Error::InvalidCertificate(_) => "its certificate is of a kind that is not supported",
        _ => "its private key is of a kind that is not supported; use ECDSA (P-256, P-384), Ed25519 or RSA",
    })?;
    Ok(Arc::new(key))
}

/// What keeps a chain and its key from being used in handshakes, if anything does. Quotes nothing of them.
pub fn certificate_fault(pem: &str) -> Option<&'static str> {
    usable(pem, &aws_lc_rs::default_provider()).err()
}

/// Finds the certificate for a client. A copy shares what is not changed.
#[derive(Clone, Default)]
pub(super) struct Chooser {
    /// By the names of their keys.
    usable: NameMap<Arc<Usable>>,
    /// By the names that they are for.
    exact: Covering,
    /// By what follows `*.`.
    wildcard: Covering,
}

/// Certificates by what they cover, ECDSA before RSA, and the first by name among equals.
type Covering = NameMap<Arc<[Arc<Usable>]>>;

/// Certificates are secret, and many.
impl Debug for Chooser {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser").field("names", &(self.exact.len() + self.wildcard.len())).finish()
    }
}

impl Chooser {
    /// Whether there is a certificate of this key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.usable.get(name).is_some()
    }

    /// Whether a certificate covers this server name, in lower case: exactly, or by a wildcard for one label.
    pub(super) fn covers(&self, name: &str) -> bool {
        let parent = || name.split_once('.').is_some_and(|(_, parent)| self.wildcard.get(parent).is_some());
        self.exact.get(name).is_some() || parent()
    }

    /// Takes a certificate, in place of the earlier one of its key.
    pub(super) fn take(&mut self, usable: Arc<Usable>) {
        self.forget(&usable.name);
        for name in &usable.cert.names {
            let (map, name) = self.covering(name);
            let others = map.get(name).into_iter().flat_map(|all| all.iter().cloned());
            let mut all: Vec<_> = others.chain([Arc::clone(&usable)]).collect();
            all.sort_by(|a, b| (a.is_rsa, &a.name).cmp(&(b.is_rsa, &b.name)));
            map.insert(name, all.into());
        }
        let name = usable.name.clone();
        self.usable.insert(&name, usable);
    }

    /// Takes the certificate of a key out.
    pub(super) fn forget(&mut self, name: &str) {
        let Some(gone) = self.usable.get(name).cloned() else { return };
        self.usable.remove(name);
        for name in &gone.cert.names {
            let (map, name) = self.covering(name);
            let all = map.get(name).into_iter().flat_map(|all| all.iter());
            let rest: Arc<[_]> = all.filter(|other| !Arc::ptr_eq(other, &gone)).cloned().collect();
            if rest.is_empty() { map.remove(name) } else { map.insert(name, rest) }
        }
    }

    fn covering<'n>(&mut self, name: &'n str) -> (&mut Covering, &'n str) {
        match name.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcard, rest),
            None => (&mut self.exact, name),
        }
    }

    /// A copy for handshakes. `is_strict`: only names that a certificate covers are served.
    pub(super) fn ready(&self, is_strict: bool, provider: &Arc<CryptoProvider>) -> impl ResolvesServerCert + use<> {
        let first = || self.usable.iter().next().map(|(_, usable)| usable);
        let rest = self.usable.get(DEFAULT).or_else(first).filter(|_| !is_strict).cloned();
        ReadyChooser { chooser: self.clone(), rest, provider: Arc::clone(provider) }
    }
}

/// Finds the certificate for a client, and makes it ready.
#[derive(Debug)]
struct ReadyChooser {
    chooser: Chooser,
    /// For all others; none if only names that a certificate covers are served.
    rest: Option<Arc<Usable>>,
    provider: Arc<CryptoProvider>,
}

/// The name of its key only: the rest is secret.
impl Debug for Usable {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Usable").field(&self.name).finish()
    }
}

impl ReadyChooser {
    /// The certificate for this server name: exactly, by a wildcard for one label (RFC 9525 §6.3), or the default. Those
    /// with keys that the client cannot verify are passed over, those that are valid now go before others, and ECDSA before RSA.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_ref().and_then(|name| self.chooser.exact.get(name));
        let parent = name.as_ref().and_then(|name| name.split_once('.'));
        let wildcard = parent.and_then(|(_, parent)| self.chooser.wildcard.get(parent));
        let covering = || exact.into_iter().chain(wildcard).flat_map(|all| all.iter());
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let ready = |usable: &'_ Arc<Usable>| usable.now(now, &self.provider).filter(fits).cloned();
        let valid = covering().filter(|usable| usable.cert.is_valid(now)).find_map(ready);
        valid.or_else(|| covering().chain(&self.rest).find_map(ready))
    }
}

impl ResolvesServerCert for ReadyChooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::Staple;

    use super::*;

    const CERTIFICATE: &str = include_str!("../../../table/tests/certificates/leaf.pem");
    const KEY: &str = include_str!("../../../table/tests/certificates/leaf.key");

    fn cert(names: &[&str], staple: Option<Staple>) -> Arc<Cert> {
        let pem = format!("{CERTIFICATE}{KEY}").as_str().into();
        let names = names.iter().map(|name| Box::from(*name)).collect();
        Arc::new(Cert { pem, names, not_before: 0, not_after: 0, serial: Box::default(), has_issuer: false, staple })
    }

    #[test]
    fn an_ocsp_response_is_sent_while_it_counts() {
        let provider = aws_lc_rs::default_provider();
        let cert = cert(&[], Some(Staple { der: [1].into(), until: 100 }));
        let usable = Usable::new("a", &cert, &provider).unwrap();
        for (now, expected) in [(99, Some(vec![1])), (100, Some(vec![1])), (101, None)] {
            assert_eq!(usable.now(now, &provider).unwrap().ocsp, expected, "{now}");
        }
    }

    #[test]
    fn a_key_is_read_once_when_it_is_asked_for() {
        let provider = aws_lc_rs::default_provider();
        let usable = Usable::new("a", &cert(&[], None), &provider).unwrap();
        assert!(usable.ready.get().is_none());
        let key = usable.now(0, &provider).cloned().unwrap();
        assert!(usable.now(0, &provider).is_some_and(|again| Arc::ptr_eq(again, &key)));
    }

    #[test]
    fn names_follow_their_certificates() {
        let provider = aws_lc_rs::default_provider();
        let mut chooser = Chooser::default();
        let covering = |chooser: &Chooser| {
            let exact = chooser.exact.iter().map(|(name, all)| (name.to_owned(), all));
            let wildcard = chooser.wildcard.iter().map(|(name, all)| (format!("*.{name}"), all));
            let words = exact.chain(wildcard).map(|(name, all)| {
                let keys: Vec<_> = all.iter().map(|usable| &*usable.name).collect();
                format!("{name}={}", keys.join("+"))
            });
            words.collect::<Vec<_>>().join(" ")
        };
        let rows: [(&str, &[&str], &str); 7] = [
            ("b", &["x.test", "*.x.test"], "x.test=b *.x.test=b"),
            ("c", &["x.test"], "x.test=b+c *.x.test=b"),
            ("a", &["*.x.test"], "x.test=b+c *.x.test=a+b"),
            ("b", &["y.test"], "x.test=c y.test=b *.x.test=a"),
            ("c", &[], "y.test=b *.x.test=a"),
            ("a", &["y.test"], "y.test=a+b"),
            ("b", &["y.test"], "y.test=a+b"),
        ];
        for (key, names, expected) in rows {
            chooser.take(Arc::new(Usable::new(key, &cert(names, None), &provider).unwrap()));
            assert_eq!(covering(&chooser), expected, "{key}");
        }
        for (key, expected) in [("b", "y.test=a"), ("none", "y.test=a"), ("a", "")] {
            chooser.forget(key);
            assert_eq!((covering(&chooser), chooser.has(key)), (expected.to_owned(), false), "{key}");
        }
        assert!(chooser.has("c"), "a certificate without names serves the rest");
    }
}
