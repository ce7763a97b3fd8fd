//! TLS to instances: what the connections of a service are set up with, made on the control side when keys change, and
//! once for all services with the same settings. Connects to nothing. Shows no secret.
//!
//! Sessions are kept with the settings that they began with: one that began unverified, or under other authorities or
//! another certificate of ours, is never resumed by a service that wants it otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use pointsman_table::{
    Cert, HttpVersion, InstanceAuthorities, InstanceLink, Problem, ProblemKind, Protocol, Service, ServiceName, Table,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::chooser::usable;
use super::keys::HTTP2;

/// Of how many server names sessions are kept, for each set of settings.
const SESSIONS: usize = 1024;

/// What the TLS of every service of a table is set up with.
#[derive(Default)]
pub(crate) struct Outbound {
    services: BTreeMap<(Protocol, ServiceName), ServiceTls>,
    /// Everything that was made for them, good or refused, so that it is made once.
    made: HashMap<TlsMaterial, MadeConfig, foldhash::fast::RandomState>,
    /// The authorities that this machine trusts; `None`: not asked for yet.
    system: Option<Arc<RootCertStore>>,
}

/// Everything that a configuration depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TlsMaterial {
    protocol: Protocol,
    http_version: HttpVersion,
    authorities: InstanceAuthorities,
    cert: Option<Arc<Cert>>,
}

/// What the connections of a service are set up with.
struct ServiceTls {
    material: TlsMaterial,
    /// That of its material, or the last good one; `None`: there is none, and no connection is made.
    config: Option<Arc<ClientConfig>>,
}

type MadeConfig = Result<Arc<ClientConfig>, UnusableKey>;

/// A key that cannot be used, and why.
#[derive(Clone)]
struct UnusableKey {
    key: &'static str,
    why: String,
}

/// Names only: the rest may be secret.
impl Debug for Outbound {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl TlsMaterial {
    fn of(service: &Service) -> Self {
        let InstanceLink { authorities, cert, server_name: _, send_proxy: _ } =
            service.link.as_deref().cloned().unwrap_or_default();
        Self { protocol: service.protocol, http_version: service.http_version, authorities, cert }
    }
}

impl Outbound {
    /// What the services of a table from before the start used. It has no instances: each may have had some with TLS.
    pub(crate) fn recall(table: &Table) -> Arc<Self> {
        Self::default().next_of(table.services().iter())
    }

    /// What the services of a table use. What stays is not judged again.
    pub(crate) fn next(&self, table: &Table) -> Arc<Self> {
        let speaks_tls = |service: &&Arc<Service>| service.instances.iter().any(|instance| instance.tls);
        self.next_of(table.services().iter().filter(speaks_tls))
    }

    fn next_of<'t>(&self, services: impl Iterator<Item = &'t Arc<Service>>) -> Arc<Self> {
        let mut next = Self { system: self.system.clone(), ..Self::default() };
        for service in services {
            let material = TlsMaterial::of(service);
            let key = (service.protocol, service.name.clone());
            let made = match next.made.get(&material).or_else(|| self.made.get(&material)) {
                Some(made) => made.clone(),
                None => next.make(&material),
            };
            next.made.insert(material.clone(), made.clone());
            let last = || self.services.get(&key)?.config.clone();
            let config = made.ok().or_else(last);
            next.services.insert(key, ServiceTls { material, config });
        }
        Arc::new(next)
    }

    /// What connections of this service are set up with. `None`: none can be made over TLS.
    pub(crate) fn config(&self, service: &Service) -> Option<Arc<ClientConfig>> {
        if self.services.is_empty() {
            return None;
        }
        self.services.get(&(service.protocol, service.name.clone()))?.config.clone()
    }

    /// The keys that cannot be used.
    pub(crate) fn problems(&self, table: &Table) -> Vec<Problem> {
        let problem = |((protocol, name), used): (&(Protocol, ServiceName), &ServiceTls)| {
            let UnusableKey { key, why } = self.made.get(&used.material)?.as_ref().err()?;
            let what = match &used.config {
                Some(_) => "its last good form stays in use",
                None => "no connection to the instances with tls is made",
            };
            Some(table.key_problem(ProblemKind::Rejected, *protocol, name, key, format!("{why}; {what}")))
        };
        self.services.iter().filter_map(problem).collect()
    }

    fn make(&mut self, material: &TlsMaterial) -> MadeConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites of both versions");
        let builder = match self.roots(&material.authorities)? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(&provider))),
        };
        let mut config = match &material.cert {
            None => builder.with_no_client_auth(),
            Some(cert) => builder.with_client_cert_resolver(client_cert(cert, &provider)?),
        };
        config.alpn_protocols = match (material.protocol, material.http_version) {
            (Protocol::Http, HttpVersion::Http1) => vec![b"http/1.1".to_vec()],
            (Protocol::Http, HttpVersion::Http2) => vec![HTTP2.to_vec()],
            (Protocol::Tcp, _) => Vec::new(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Arc::new(config))
    }

    /// The certificates of the authorities. `None`: nothing is verified.
    fn roots(&mut self, authorities: &InstanceAuthorities) -> Result<Option<Arc<RootCertStore>>, UnusableKey> {
        let roots = match authorities {
            InstanceAuthorities::Any => return Ok(None),
            InstanceAuthorities::These(pem) => these(pem).map(Arc::new),
            InstanceAuthorities::System => match &self.system {
                Some(system) => Ok(Arc::clone(system)),
                None => of_system().map(Arc::new),
            },
        };
        let roots = roots.map_err(|why| UnusableKey { key: "tls_ca", why })?;
        if *authorities == InstanceAuthorities::System {
            self.system = Some(Arc::clone(&roots));
        }
        Ok(Some(roots))
    }
}

fn these(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, read) in (1..).zip(CertificateDer::pem_slice_iter(pem.as_bytes())) {
        let added = read.map_err(|_| ()).and_then(|certificate| roots.add(certificate).map_err(|_| ()));
        added.map_err(|()| format!("certificate {number} is none that an authority can have"))?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            Err("this machine has no certificates of authorities; install ca-certificates, or set SSL_CERT_FILE".into())
        }
        false => Ok(roots),
    }
}

fn client_cert(cert: &Cert, provider: &CryptoProvider) -> Result<Arc<SingleCertAndKey>, UnusableKey> {
    let key =
        usable(cert.pem.as_str(), provider).map_err(|why| UnusableKey { key: "tls_cert", why: why.to_owned() })?;
    Ok(Arc::new(SingleCertAndKey::from(key)))
}

/// Accepts any certificate, as HAProxy's `verify none` does. Not even the handshake's signature is verified: while nobody
/// knows whose key it is by, it says nothing, and some old certificates cannot be read.
#[derive(Debug)]
struct Unverified {
    schemes: Vec<SignatureScheme>,
}

impl Unverified {
    fn new(provider: &CryptoProvider) -> Self {
        Self { schemes: provider.signature_verification_algorithms.supported_schemes() }
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    const AUTHORITY: &str = include_str!("../../../table/tests/certificates/authority.pem");
    const LEAF: &str = include_str!("../../../table/tests/certificates/leaf.pem");
    const KEY: &str = include_str!("../../../table/tests/certificates/leaf.key");
    const NAMELESS: &str = include_str!("../../../table/tests/certificates/nameless.pem");

    /// The services a, b, ... each with one instance and these keys.
    fn table(services: &[&[(&str, &str)]], previous: Option<&Table>) -> Arc<Table> {
        let mut keys = KeySet::default();
        let mut entries: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
        for (name, more) in ('a'..).zip(services) {
            let own = [("domain", "a.test"), ("one", "10.0.0.1 tls")];
            let keys = own.iter().chain(*more);
            entries.extend(keys.map(|(key, value)| (format!("services/{name}/{key}").into(), value.as_bytes().into())));
        }
        keys.reset(1, entries);
        compile(&keys, previous, &Limits::default()).table
    }

    fn configs(outbound: &Outbound, table: &Table) -> Vec<*const ClientConfig> {
        let config =
            |service: &Arc<Service>| outbound.config(service).map_or(std::ptr::null(), |config| Arc::as_ptr(&config));
        table.services().iter().map(config).collect()
    }

    #[test]
    fn equal_settings_are_one_and_others_are_not() {
        let cert = format!("{LEAF}{KEY}");
        let (ca, again) = (("tls_ca", AUTHORITY), format!("Again\n{AUTHORITY}"));
        let services: [&[_]; 6] = [
            &[],
            &[("tls_server_name", "x.test")],
            &[ca],
            &[("tls_ca", &again)],
            &[ca, ("tls_cert", &cert)],
            &[("tls_ca", NAMELESS)],
        ];
        let first = table(&services, None);
        let outbound = Outbound::default().next(&first);
        let made = configs(&outbound, &first);
        let groups: Vec<_> = made.iter().map(|one| made.iter().position(|other| other == one)).collect();
        assert_eq!(groups, [0, 0, 2, 2, 4, 5].map(Some));
        assert!(!made.contains(&std::ptr::null()) && outbound.problems(&first).is_empty());
        // Whatever else changes, they stay, and so do their sessions.
        let changed = table(&[&[("priority", "1")], &[], &[ca], &[ca]], Some(&first));
        assert_eq!(configs(&outbound.next(&changed), &changed), [made[0], made[0], made[2], made[2]]);
    }

    #[test]
    fn what_cannot_be_used_keeps_its_last_good_form_or_has_none() {
        // The key is another certificate's.
        let (good, bad) = (format!("{LEAF}{KEY}"), format!("{AUTHORITY}{KEY}"));
        let first = table(&[&[("tls_cert", &good)], &[("tls_cert", &bad)]], None);
        let outbound = Outbound::default().next(&first);
        let made = configs(&outbound, &first);
        assert!(!made[0].is_null() && made[1].is_null());
        let said = |outbound: &Outbound, table: &Table| -> Vec<_> {
            outbound.problems(table).iter().map(ToString::to_string).collect()
        };
        let mismatch = "rejected: the private key belongs to another certificate; ";
        let none = format!("/services/b/tls_cert: {mismatch}no connection to the instances with tls is made");
        assert_eq!(said(&outbound, &first), [&*none]);
        let second = table(&[&[("tls_cert", &bad)], &[("tls_cert", &bad)]], Some(&first));
        let outbound = outbound.next(&second);
        assert_eq!(configs(&outbound, &second), made);
        assert_eq!(
            said(&outbound, &second)[0],
            format!("/services/a/tls_cert: {mismatch}its last good form stays in use")
        );
    }
}
