//! The certificates of a table as handshakes need them, and which of them a server name gets. Built on the control side,
//! when certificates change. Shows no secret.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use pointsman_engine::tickets::TicketSecrets;
use pointsman_table::{Asking, Cert, Demand, Problem, ProblemKind, Table, TlsVersion};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};

use super::clients::{self, Clients};
use super::tickets::Ticketer;
use crate::net::presented::AskedId;

/// The name of the certificate for clients whose server name no certificate covers.
const DEFAULT: &str = "default";

/// The name of HTTP/2 in a handshake (RFC 9113 §3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// What HTTPS agrees on.
const HTTP: &[&[u8]] = &[HTTP2, b"http/1.1"];

/// All certificates of a table, and what handshakes need besides.
pub(crate) struct Keys {
    /// By the names of their keys. Those that cannot be used are here too, so that they are judged once.
    certs: BTreeMap<Box<str>, CertState>,
    clients: Arc<Clients>,
    terms: Terms,
    tickets: TicketSecrets,
    provider: Arc<CryptoProvider>,
    /// For clients that are asked for nothing.
    plain: Arc<ServerConfig>,
    /// The same for TCP services, whose protocol is their own.
    any_protocol: Arc<ServerConfig>,
    /// For all others.
    asking: BTreeMap<Arc<Demand>, (Arc<ServerConfig>, AskedId)>,
}

/// What `config/` says of handshakes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Terms {
    min_version: TlsVersion,
    strict_sni: bool,
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
    /// The same with an OCSP response, and the last second at which that counts, since the epoch.
    stapled: Option<(Arc<CertifiedKey>, i64)>,
    cert: Arc<Cert>,
}

impl Usable {
    fn new(cert: &Arc<Cert>, provider: &CryptoProvider) -> Result<Self, &'static str> {
        let key = usable(&cert.pem, provider)?;
        let stapled = cert.staple.as_ref().map(|staple| {
            let key = CertifiedKey { ocsp: Some(staple.der.to_vec()), ..(*key).clone() };
            (Arc::new(key), staple.until)
        });
        Ok(Self { key, stapled, cert: Arc::clone(cert) })
    }

    /// As clients get it now.
    fn now(&self, now: i64) -> &Arc<CertifiedKey> {
        self.stapled.as_ref().filter(|(_, until)| now <= *until).map_or(&self.key, |(key, _)| key)
    }
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
        let (certs, clients) = (BTreeMap::new(), Arc::default());
        Self::new(certs, clients, Terms::default(), TicketSecrets::default(), provider)
    }

    fn new(
        certs: BTreeMap<Box<str>, CertState>,
        clients: Arc<Clients>,
        terms: Terms,
        tickets: TicketSecrets,
        provider: Arc<CryptoProvider>,
    ) -> Arc<Self> {
        let chooser = Arc::new(Chooser::new(&certs, terms.strict_sni));
        let maker = ConfigMaker { provider: &provider, chooser, terms, tickets: &tickets };
        let plain = maker.config(None, AskedId::default(), HTTP);
        let any_protocol = maker.config(None, AskedId::default(), &[]);
        // Where no authority can be used, nobody is asked, and so no request is served that needs a certificate.
        let verified = clients.verifiers().filter_map(|(asked, verifier)| Some((asked, verifier.clone()?)));
        let asking = verified.map(|(asked, verifier)| {
            let id = clients::id(asked);
            (Arc::clone(asked), (maker.config(Some(verifier), id, HTTP), id))
        });
        let asking = asking.collect();
        Arc::new(Self { certs, clients, terms, tickets, provider, plain, any_protocol, asking })
    }

    /// Those of a table. What did not change is not judged again; without any change, the result is `self`.
    pub(crate) fn next(self: &Arc<Self>, table: &Table) -> Arc<Self> {
        let certs = self.next_certs(table);
        let asking = Asking::of(table.services());
        let clients = match self.clients.is_of(&asking) {
            true => Arc::clone(&self.clients),
            false => Arc::new(Clients::new(asking, &self.provider)),
        };
        let config = table.config();
        let terms = Terms { min_version: config.tls_min_version, strict_sni: config.tls_strict_sni };
        if certs.is_none() && Arc::ptr_eq(&clients, &self.clients) && terms == self.terms {
            return Arc::clone(self);
        }
        let certs = certs.unwrap_or_else(|| self.certs.clone());
        Self::new(certs, clients, terms, self.tickets.clone(), Arc::clone(&self.provider))
    }

    /// The same with other secrets for session tickets.
    pub(crate) fn with_tickets(&self, tickets: TicketSecrets) -> Arc<Self> {
        let (certs, clients) = (self.certs.clone(), Arc::clone(&self.clients));
        Self::new(certs, clients, self.terms, tickets, Arc::clone(&self.provider))
    }

    /// The certificates of a table, if some changed.
    fn next_certs(&self, table: &Table) -> Option<BTreeMap<Box<str>, CertState>> {
        let certs = table.certs();
        let is_same =
            |name: &str, cert: &Arc<Cert>| self.certs.get(name).is_some_and(|had| Arc::ptr_eq(&had.cert, cert));
        if self.certs.len() == certs.len() && certs.iter().all(|(name, cert)| is_same(name, cert)) {
            return None;
        }
        let state = |name: &str, cert: &Arc<Cert>| match self.certs.get(name) {
            Some(had) if Arc::ptr_eq(&had.cert, cert) => had.clone(),
            had => self.judge(cert, had),
        };
        Some(certs.iter().map(|(name, cert)| (name.clone(), state(name, cert))).collect())
    }

    fn judge(&self, cert: &Arc<Cert>, had: Option<&CertState>) -> CertState {
        let (usable, refused) = match Usable::new(cert, &self.provider) {
            Ok(usable) => (Some(usable), None),
            Err(why) => (had.and_then(|had| had.usable.clone()), Some(why)),
        };
        CertState { cert: Arc::clone(cert), usable, refused }
    }

    /// What a handshake for this server name needs, and what it asks of the client, if anything. Without a certificate
    /// it fails, with an alert.
    pub(crate) fn config(&self, name: Option<&str>) -> (Arc<ServerConfig>, Option<AskedId>) {
        match self.clients.find(name).and_then(|asked| self.asking.get(asked)) {
            Some((config, id)) => (Arc::clone(config), Some(*id)),
            None => (Arc::clone(&self.plain), None),
        }
    }

    /// The same for a connection of a TCP service, which asks for no certificate: whatever protocol the client names (ALPN)
    /// is the instance's affair.
    pub(crate) fn config_of_any_protocol(&self) -> (Arc<ServerConfig>, Option<AskedId>) {
        (Arc::clone(&self.any_protocol), None)
    }

    /// Whose certificates count for a service, and what is asked for.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// What cannot be used, and why.
    pub(crate) fn problems(&self, table: &Table) -> Vec<Problem> {
        let problem = |name: &str, state: &CertState| {
            let why = state.refused?;
            let what = if state.usable.is_some() { "its last good form stays in use" } else { "it is not used" };
            Some(table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), format!("{why}; {what}")))
        };
        let certs = self.certs.iter().filter_map(|(name, state)| problem(name, state));
        certs.chain(self.clients.problems(table)).collect()
    }
}

/// Makes configurations that differ only in what clients are asked for.
struct ConfigMaker<'a> {
    provider: &'a Arc<CryptoProvider>,
    chooser: Arc<Chooser>,
    terms: Terms,
    tickets: &'a TicketSecrets,
}

impl ConfigMaker<'_> {
    /// `protocols`: those to agree on (ALPN); none: the client's are the instance's affair.
    fn config(
        &self,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        asked: AskedId,
        protocols: &[&[u8]],
    ) -> Arc<ServerConfig> {
        let versions: &[&SupportedProtocolVersion] = match self.terms.min_version {
            TlsVersion::V1_2 => &[&TLS12, &TLS13],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.provider));
        let builder = builder.with_protocol_versions(versions).expect("the provider has suites of both versions");
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.chooser) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // The strongest suites that both have, and the cheaper among equals, whatever a client prefers.
        config.ignore_client_order = true;
        config.ticketer = Arc::new(Ticketer::new(self.tickets, asked));
        Arc::new(config)
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

/// Finds the certificate for a client.
#[derive(Default)]
struct Chooser {
    exact: Covering,
    /// By what follows `*.`.
    wildcard: Covering,
    /// For all others; none if only names that a certificate covers are served.
    rest: Option<Usable>,
}

type Covering = HashMap<Box<str>, Vec<Usable>, foldhash::fast::RandomState>;

/// Certificates are secret, and many.
impl Debug for Chooser {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser").field("names", &(self.exact.len() + self.wildcard.len())).finish()
    }
}

impl Chooser {
    fn new(certs: &BTreeMap<Box<str>, CertState>, is_strict: bool) -> Self {
        let usable = || certs.iter().filter_map(|(name, state)| Some((name, state.usable.as_ref()?)));
        let mut chooser = Self::default();
        for (_, usable) in usable() {
            for name in &usable.cert.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chooser.wildcard, rest),
                    None => (&mut chooser.exact, &**name),
                };
                map.entry(name.into()).or_default().push(usable.clone());
            }
        }
        let rest = || usable().find(|(name, _)| &***name == DEFAULT).or_else(|| usable().next());
        chooser.rest = if is_strict { None } else { rest() }.map(|(_, usable)| usable.clone());
        // The sort is stable: among equals, the first by name goes first.
        let maps = chooser.exact.values_mut().chain(chooser.wildcard.values_mut());
        maps.for_each(|keys| keys.sort_by_key(|usable| usable.key.key.algorithm() == SignatureAlgorithm::RSA));
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
        let fits = |usable: &&Usable| usable.key.key.choose_scheme(schemes).is_some();
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        found.into_iter().find(fits).map(|usable| Arc::clone(usable.now(now)))
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::Staple;

    use super::*;

    #[test]
    fn an_ocsp_response_is_sent_while_it_counts() {
        const CERTIFICATE: &str = include_str!("../../../table/tests/certificates/leaf.pem");
        const KEY: &str = include_str!("../../../table/tests/certificates/leaf.key");
        let staple = Some(Staple { der: [1].into(), until: 100 });
        let pem = format!("{CERTIFICATE}{KEY}").into();
        let (names, serial) = (Box::default(), Box::default());
        let cert = Arc::new(Cert { pem, names, not_before: 0, not_after: 0, serial, has_issuer: false, staple });
        let usable = Usable::new(&cert, &aws_lc_rs::default_provider()).unwrap();
        for (now, expected) in [(99, Some(vec![1])), (100, Some(vec![1])), (101, None)] {
            assert_eq!(usable.now(now).ocsp, expected, "{now}");
        }
    }
}
