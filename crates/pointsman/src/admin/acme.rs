//! Names that certificates by ACME are wanted for, as pages tell them. Holds no secret.

use serde::{Deserialize, Serialize};

use crate::control::AcmeName;

/// A name that a certificate by ACME is wanted for. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeNameView {
    /// The name.
    pub name: String,
    /// How its certificate is called in `certificates`.
    pub certificate: String,
    /// Who issued the last one; empty if there is none.
    pub issuer: String,
    /// When the last one expires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<i64>,
    /// What comes next: `renew`, `order`, `ordered`, `being checked` or `being signed`.
    pub next: String,
    /// When, unless it is under way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<i64>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl From<&AcmeName> for AcmeNameView {
    fn from(of: &AcmeName) -> Self {
        Self {
            name: of.name.to_string(),
            certificate: of.certificate.to_string(),
            issuer: of.issued.as_ref().map(|(issuer, _)| issuer.to_string()).unwrap_or_default(),
            expires: of.issued.as_ref().map(|(_, expires)| *expires),
            next: of.next.to_owned(),
            due: of.due,
            error: of.error.as_deref().map(str::to_owned),
        }
    }
}
