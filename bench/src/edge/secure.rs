//! TLS connections to a proxy, as clients open them. Judges no certificate: its time is not measured, and nothing here
//! is secret.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::options::Visit;

/// For anything that a proxy does, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TLS connection after its handshake.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A client of TLS 1.3 that offers the suite that every proxy takes, and one protocol.
///
/// # Errors
/// None that could happen.
pub(crate) fn client(protocol: &str, visit: Visit) -> io::Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
    // The only one that all proxies know: one that knows more would pay for it.
    provider.kx_groups = vec![kx_group::X25519];
    if visit == Visit::PostQuantum {
        provider.kx_groups = vec![kx_group::X25519MLKEM768];
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(io::Error::other)?;
    let verifier = Arc::new(AcceptsAll);
    let mut client = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    forget(&mut client);
    Ok(client)
}

/// Forgets earlier connections. It still asks for tickets, as browsers do on their first visit.
pub(crate) fn forget(client: &mut ClientConfig) {
    client.resumption = Resumption::in_memory_sessions(8);
}

/// Opens a connection and does the handshake.
///
/// # Errors
/// Those of the connection, and of the handshake.
pub(crate) fn connect(address: SocketAddr, host: &str, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Accepts whatever a server shows.
#[derive(Debug)]
struct AcceptsAll;

impl ServerCertVerifier for AcceptsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
