//! The demo's certificate, signed by itself. Writes no file.

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use time::{Duration, OffsetDateTime};

/// Longer than anybody leaves a demo running.
const LIFE: Duration = Duration::days(90);

/// A certificate that clients trust only if they are told to, and its key.
pub(super) struct SelfSigned {
    /// PEM.
    pub(super) certificate: String,
    /// PEM; secret.
    pub(super) key: String,
}

impl SelfSigned {
    /// Makes one for these host names and addresses, of which there is one at least.
    ///
    /// # Errors
    /// A name is not ASCII, or the key cannot be made.
    pub(super) fn new(names: &[String]) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        // HAProxy serves a certificate for its common name too: one of the names, not words.
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        // An authority's certificate would be refused as a server's.
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::DAY, now + LIFE);
        let key = KeyPair::generate()?;
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }
}
