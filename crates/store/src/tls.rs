//! Builds a TLS client configuration from the PEM files in the settings. Never connects.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{ClientConfig, WantsClientCert};
use rustls::{ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::StoreError;
use crate::model::StoreSettings;

/// TLS towards the store: `--etcd-ca` or the system's roots, and our certificate if there is one.
///
/// The list of application protocols is empty; the caller sets its own.
///
/// # Errors
/// [`StoreError::BadSettings`] with the flag and file.
pub fn client_config(settings: &StoreSettings) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots(settings.ca.as_deref())?);
    match &settings.identity {
        Some((cert, key)) => identified(builder, cert, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn identified(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig, StoreError> {
    let chain = certificates("--etcd-cert", cert)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| bad(format!("--etcd-key {}: no private key in PEM form: {error}", key.display())))?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| {
        let (cert, key) = (cert.display(), key.display());
        bad(format!("--etcd-cert {cert} and --etcd-key {key} do not match: {error}"))
    })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, StoreError> {
    match ca {
        Some(path) => given_roots(path),
        None => system_roots(),
    }
}

fn given_roots(path: &Path) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--etcd-ca", path)? {
        roots
            .add(certificate)
            .map_err(|error| bad(format!("--etcd-ca {}: not a certificate authority: {error}", path.display())))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(bad(
            "this system has no certificate authorities; set --etcd-ca FILE to the authority of etcd's certificate"
                .to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let unreadable = |error| bad(format!("{flag} {}: no certificate in PEM form: {error}", path.display()));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(bad(format!("{flag} {}: contains no certificate; expected a PEM file", path.display())));
    }
    Ok(certificates)
}

fn bad(what: String) -> StoreError {
    StoreError::BadSettings { what }
}
