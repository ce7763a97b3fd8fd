//! Answers to authorities that check a name by a TLS handshake (RFC 8737): which names are being checked, and what such a
//! handshake needs. It serves nobody else, and no session of it is ever resumed.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use pointsman_table::Answers;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::net::tls::CHALLENGE_PROTOCOL;

/// The names that are being checked.
#[derive(Clone)]
pub(super) struct Challenges {
    answers: Arc<Answers>,
    config: Arc<ServerConfig>,
}

impl Challenges {
    pub(super) fn new(answers: &Arc<Answers>, provider: &Arc<CryptoProvider>) -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
        let builder =
            builder.with_protocol_versions(&[&TLS12, &TLS13]).expect("the provider has suites of both versions");
        let chooser = AnswerChooser { answers: Arc::clone(answers), provider: Arc::clone(provider) };
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(chooser));
        config.alpn_protocols = vec![CHALLENGE_PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Self { answers: Arc::clone(answers), config: Arc::new(config) }
    }

    /// Those of other answers, if they differ.
    pub(super) fn next(&self, answers: &Arc<Answers>, provider: &Arc<CryptoProvider>) -> Option<Self> {
        let is_same = Arc::ptr_eq(answers, &self.answers) || answers.certs == self.answers.certs;
        (!is_same).then(|| Self::new(answers, provider))
    }

    /// What a handshake needs that checks this name, in lower case. `None`: there is nothing to check.
    pub(super) fn config(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.answers.certs.contains_key(name).then(|| Arc::clone(&self.config))
    }
}

/// Finds the certificate that answers. It is read at each handshake: authorities do few.
struct AnswerChooser {
    answers: Arc<Answers>,
    provider: Arc<CryptoProvider>,
}

/// Names only: there are keys.
impl Debug for AnswerChooser {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.answers.certs.keys()).finish()
    }
}

impl ResolvesServerCert for AnswerChooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let pem = self.answers.certs.get(&*name)?.pem.as_bytes();
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
        let key = self.provider.key_provider.load_private_key(PrivateKeyDer::from_pem_slice(pem).ok()?).ok()?;
        // Its extension is critical, so nobody but the authority is to understand it (RFC 8737 §3): it is not judged here.
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }
}
