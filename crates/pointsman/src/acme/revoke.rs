//! Certificates that an operator wants revoked (RFC 8555 §7.6): what the store has of each until the authority has done so.
//! The request names the certificate itself: a new one that comes meanwhile is not meant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instant_acme::RevocationReason;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::order::{AFTER_OUTAGE, Trouble, TroubleKind, rung};

/// Why a certificate is revoked, as authorities let those who ordered it say (RFC 5280 §5.3.1).
pub(crate) const REVOKE_REASONS: [&str; 5] =
    ["unspecified", "key-compromise", "affiliation-changed", "superseded", "cessation-of-operation"];

/// A request to revoke a certificate. Holds no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// The certificate, DER in base64.
    pub(crate) cert: String,
    /// The directory of the authority that issued it.
    pub(crate) directory: String,
    /// One of [`REVOKE_REASONS`].
    pub(crate) reason: String,
    /// When it is tried next, in seconds since the epoch.
    #[serde(default)]
    pub(crate) due: i64,
    #[serde(default)]
    pub(crate) tries: u32,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// The authority refuses: it is not tried again.
    #[serde(default)]
    pub(crate) is_refused: bool,
}

impl Revocation {
    /// Of the first certificate in this text.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn of(pem: &[u8], directory: &str, reason: &str) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
        let cert = STANDARD.encode(&der);
        Ok(Self { cert, directory: directory.to_owned(), reason: reason.to_owned(), ..Self::default() })
    }

    /// The certificate, DER.
    pub(super) fn der(&self) -> Vec<u8> {
        STANDARD.decode(&self.cert).unwrap_or_default()
    }

    /// Whether this text begins with the same certificate.
    pub(super) fn is_of(&self, pem: &[u8]) -> bool {
        CertificateDer::from_pem_slice(pem).is_ok_and(|der| *der == *self.der())
    }

    /// The reason's number.
    pub(super) fn number(&self) -> RevocationReason {
        match &*self.reason {
            "key-compromise" => RevocationReason::KeyCompromise,
            "affiliation-changed" => RevocationReason::AffiliationChanged,
            "superseded" => RevocationReason::Superseded,
            "cessation-of-operation" => RevocationReason::CessationOfOperation,
            _ => RevocationReason::Unspecified,
        }
    }

    /// Whether it is to be tried now.
    pub(super) fn is_due(&self, now: i64) -> bool {
        !self.is_refused && self.due <= now
    }

    /// The same after a failure.
    pub(super) fn failed(mut self, trouble: Trouble, now: i64) -> Self {
        self.tries = self.tries.saturating_add(1);
        self.due = now.saturating_add(trouble.wait.unwrap_or_default().max(rung(&AFTER_OUTAGE, self.tries)));
        self.is_refused = trouble.kind == TroubleKind::Refusal;
        self.failure = Some(trouble.said);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_final_and_outages_are_not() {
        let first = Revocation { due: 5, ..Revocation::default() };
        assert!(first.is_due(5) && !first.is_due(4));
        let away = first.failed(Trouble::passing("down"), 10);
        assert_eq!((away.due, away.is_refused, away.failure.as_deref()), (12, false, Some("down")));
        let refused = away.failed(Trouble::refusal("no"), 20);
        assert!(refused.is_refused && !refused.is_due(i64::MAX));
    }

    #[test]
    fn every_reason_has_its_number() {
        let numbers = REVOKE_REASONS
            .map(|reason| Revocation { reason: reason.to_owned(), ..Revocation::default() }.number() as u8);
        assert_eq!(numbers, [0, 1, 3, 4, 5]);
    }
}
