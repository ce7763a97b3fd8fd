//! The certificates of a table as handshakes need them, and which of them a server name gets. Built on the control side,
//! when certificates change. Shows no secret.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use pointsman_table::{Cert, Problem, ProblemKind, Table};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};

/// The name of the certificate for clients whose server name no certificate covers.
const DEFAULT: &str = "default";

/// All certificates of a table.
pub(crate) struct Keys {
    /// By the names of their keys. Those that cannot be used are here too, so that they are judged once.
    certs: BTreeMap<Box<str>, CertState>,
    config: Arc<ServerConfig>,
    shared: Shared,
}

/// What outlives every change of certificates.
#[derive(Clone)]
struct Shared {
    provider: Arc<CryptoProvider>,
    /// Sessions are resumed whatever happens to certificates.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// One certificate.
#[derive(Clone)]
struct CertState {
    /// The value that was judged.
    cert: Arc<Cert>,
    /// Its form in use: its own, or the last good one.
    usable: Option<Usable>,
    /// Why the value is not in use.
    refused: Option<Box<str>>,
}

/// A certificate with its key, and the names that it covers, in lower case.
#[derive(Clone)]
struct Usable {
    key: Arc<CertifiedKey>,
    names: Arc<[Box<str>]>,
}

/// Names only: the rest is secret.
impl Debug for Keys {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.certs.keys()).finish()
    }
}

impl Keys {
    /// No certificate: every handshake fails.
    pub(crate) fn none() -> Arc<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Fails only without a source of random numbers: sessions are then not resumed.
        let tickets = aws_lc_rs::Ticketer::new().ok();
        let shared = Shared { provider, tickets };
        Arc::new(Self { certs: BTreeMap::new(), config: shared.config(Chooser::default()), shared })
    }

    /// The certificates of a table. What did not change is not judged again; without any change, the result is `self`.
    pub(crate) fn next(self: &Arc<Self>, table: &Table) -> Arc<Self> {
        let certs = table.certs();
        let is_same =
            |name: &str, cert: &Arc<Cert>| self.certs.get(name).is_some_and(|had| Arc::ptr_eq(&had.cert, cert));
        if self.certs.len() == certs.len() && certs.iter().all(|(name, cert)| is_same(name, cert)) {
            return Arc::clone(self);
        }
        let state = |name: &str, cert: &Arc<Cert>| match self.certs.get(name) {
            Some(had) if Arc::ptr_eq(&had.cert, cert) => had.clone(),
            had => self.judge(cert, had),
        };
        let certs = certs.iter().map(|(name, cert)| (name.clone(), state(name, cert))).collect();
        let config = self.shared.config(Chooser::new(&certs));
        Arc::new(Self { certs, config, shared: self.shared.clone() })
    }

    fn judge(&self, cert: &Arc<Cert>, had: Option<&CertState>) -> CertState {
        match usable(&cert.pem, &self.shared.provider) {
            Ok(usable) => CertState { cert: Arc::clone(cert), usable: Some(usable), refused: None },
            Err(why) => {
                let usable = had.and_then(|had| had.usable.clone());
                CertState { cert: Arc::clone(cert), usable, refused: Some(why.into()) }
            }
        }
    }

    /// What a handshake begins with. `None`: there is no certificate.
    pub(crate) fn config(&self) -> Option<Arc<ServerConfig>> {
        let any = self.certs.values().any(|judged| judged.usable.is_some());
        any.then(|| Arc::clone(&self.config))
    }

    /// The certificates that cannot be used, and why.
    pub(crate) fn problems(&self, table: &Table) -> Vec<Problem> {
        let problem = |name: &str, state: &CertState| {
            let why = state.refused.as_deref()?;
            let what = if state.usable.is_some() { "its last good form stays in use" } else { "it is not used" };
            Some(table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), format!("{why}; {what}")))
        };
        self.certs.iter().filter_map(|(name, state)| problem(name, state)).collect()
    }
}

impl Shared {
    fn config(&self, chooser: Chooser) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites of both versions");
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(chooser));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if let Some(tickets) = &self.tickets {
            config.ticketer = Arc::clone(tickets);
        }
        config.max_early_data_size = 0;
        Arc::new(config)
    }
}

/// Reads a certificate. The error quotes nothing of it.
fn usable(pem: &str, provider: &CryptoProvider) -> Result<Usable, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|_| "a certificate in it cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "its private key cannot be read")?;
    let names = names(chain.first().ok_or("there is no certificate in it")?)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key belongs to another certificate".to_owned(),
        _ => "its private key is of a kind that is not supported: use ECDSA (P-256, P-384), Ed25519 or RSA".to_owned(),
    })?;
    Ok(Usable { key: Arc::new(key), names })
}

/// The host names that a certificate covers (RFC 5280 §4.2.1.6).
fn names(certificate: &CertificateDer<'_>) -> Result<Arc<[Box<str>]>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| match error {
        webpki::Error::UnsupportedCertVersion => "its certificate is not of version 3 (X.509)".to_owned(),
        _ => "its certificate cannot be read".to_owned(),
    })?;
    Ok(parsed.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect())
}

/// Finds the certificate for a client.
#[derive(Default)]
struct Chooser {
    exact: Covering,
    /// By what follows `*.`.
    wildcard: Covering,
    /// For all others.
    rest: Vec<Arc<CertifiedKey>>,
}

type Covering = HashMap<Box<str>, Vec<Arc<CertifiedKey>>, foldhash::fast::RandomState>;

/// Certificates are secret, and many.
impl Debug for Chooser {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser").field("names", &(self.exact.len() + self.wildcard.len())).finish()
    }
}

impl Chooser {
    fn new(certs: &BTreeMap<Box<str>, CertState>) -> Self {
        let usable = || certs.iter().filter_map(|(name, judged)| Some((name, judged.usable.as_ref()?)));
        let mut chooser = Self::default();
        for (_, Usable { key, names }) in usable() {
            for name in &**names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chooser.wildcard, rest),
                    None => (&mut chooser.exact, &**name),
                };
                map.entry(name.into()).or_default().push(Arc::clone(key));
            }
        }
        let rest = usable().find(|(name, _)| &***name == DEFAULT).or_else(|| usable().next());
        chooser.rest = rest.map(|(_, usable)| Arc::clone(&usable.key)).into_iter().collect();
        // The sort is stable: among equals, the first by name goes first.
        let maps = chooser.exact.values_mut().chain(chooser.wildcard.values_mut());
        maps.for_each(|keys| keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA));
        chooser
    }

    /// The certificate for this server name: exactly, by a wildcard for one label (RFC 9525 §6.3), or the default. Those
    /// with keys that the client cannot verify are passed over, and ECDSA goes before RSA.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_ref().and_then(|name| self.exact.get(&**name));
        let parent = name.as_ref().and_then(|name| name.split_once('.'));
        let wildcard = parent.and_then(|(_, parent)| self.wildcard.get(parent));
        let found = [exact, wildcard, Some(&self.rest)].into_iter().flatten();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        found.flatten().find(fits).cloned()
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
