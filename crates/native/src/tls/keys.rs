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
    /// The same for TCP services, whose protocol is their own.
    any_protocol: Arc<ServerConfig>,
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
    refused: Option<&'static str>,
}

/// A certificate and its key.
#[derive(Clone)]
struct Usable {
    key: Arc<CertifiedKey>,
    cert: Arc<Cert>,
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
        Arc::new(shared.keys(BTreeMap::new()))
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
        Arc::new(self.shared.clone().keys(certs))
    }

    fn judge(&self, cert: &Arc<Cert>, had: Option<&CertState>) -> CertState {
        let (usable, refused) = match usable(&cert.pem, &self.shared.provider) {
            Ok(key) => (Some(Usable { key, cert: Arc::clone(cert) }), None),
            Err(why) => (had.and_then(|had| had.usable.clone()), Some(why)),
        };
        CertState { cert: Arc::clone(cert), usable, refused }
    }

    /// What a handshake needs. Without a certificate it fails, with an alert.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The same for a connection of a TCP service: whatever protocol the client names (ALPN) is the instance's affair.
    pub(crate) fn config_of_any_protocol(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.any_protocol)
    }

    /// The certificates that cannot be used, and why.
    pub(crate) fn problems(&self, table: &Table) -> Vec<Problem> {
        let problem = |name: &str, state: &CertState| {
            let why = state.refused?;
            let what = if state.usable.is_some() { "its last good form stays in use" } else { "it is not used" };
            Some(table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), format!("{why}; {what}")))
        };
        self.certs.iter().filter_map(|(name, state)| problem(name, state)).collect()
    }
}

impl Shared {
    fn keys(self, certs: BTreeMap<Box<str>, CertState>) -> Keys {
        let chooser = Arc::new(Chooser::new(&certs));
        let (config, any_protocol) = (self.config(&chooser, &[b"http/1.1"]), self.config(&chooser, &[]));
        Keys { certs, config, any_protocol, shared: self }
    }

    fn config(&self, chooser: &Arc<Chooser>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites of both versions");
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(chooser) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        if let Some(tickets) = &self.tickets {
            config.ticketer = Arc::clone(tickets);
        }
        Arc::new(config)
    }
}

/// Reads a chain and its key. The error quotes nothing of them.
fn usable(pem: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|_| "a certificate in it cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "its private key cannot be read")?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key belongs to another certificate",
        _ => "its private key is of a kind that is not supported: use ECDSA (P-256, P-384), Ed25519 or RSA",
    })?;
    Ok(Arc::new(key))
}

/// Finds the certificate for a client.
#[derive(Default)]
struct Chooser {
    exact: Covering,
    /// By what follows `*.`.
    wildcard: Covering,
    /// For all others.
    rest: Option<Arc<CertifiedKey>>,
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
        let usable = || certs.iter().filter_map(|(name, state)| Some((name, state.usable.as_ref()?)));
        let mut chooser = Self::default();
        for (_, Usable { key, cert }) in usable() {
            for name in &cert.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chooser.wildcard, rest),
                    None => (&mut chooser.exact, &**name),
                };
                map.entry(name.into()).or_default().push(Arc::clone(key));
            }
        }
        let rest = usable().find(|(name, _)| &***name == DEFAULT).or_else(|| usable().next());
        chooser.rest = rest.map(|(_, usable)| Arc::clone(&usable.key));
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
        let found = exact.into_iter().chain(wildcard).flatten().chain(&self.rest);
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        found.into_iter().find(fits).cloned()
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
