//! `client_ca` and `client_verify`: whose certificates the clients of a service need. Verifies no certificate: engines do.

use std::collections::BTreeSet;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::pem;
use crate::reader::Reader;
use crate::value::Parsed;

/// The authorities that clients' certificates must come from, in DER, ordered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authorities(Box<[Box<[u8]>]>);

/// Their number only: they are long.
impl Debug for Authorities {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

impl Authorities {
    /// Each certificate in DER.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|der| &**der)
    }

    /// Whether they hold the certificate of each one's issuer: not all who verify stop at an authority that another issued.
    pub fn has_roots(&self) -> bool {
        let parsed: Vec<_> = self.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
        let subjects: BTreeSet<_> = parsed.iter().map(|one| one.subject().as_raw()).collect();
        parsed.iter().all(|one| subjects.contains(one.issuer().as_raw()))
    }

    fn parse(text: &str) -> Parsed<Self> {
        let chain = pem::authorities(text)?.chain;
        for (number, der) in &chain {
            if !X509Certificate::from_der(der).is_ok_and(|(_, certificate)| may_sign(&certificate)) {
                return Err(format!(
                    "expected certificates of authorities, but block {number} is one that may not sign others"
                ));
            }
        }
        let distinct: BTreeSet<_> = chain.into_iter().map(|(_, der)| der.into_boxed_slice()).collect();
        Ok(Self(distinct.into_iter().collect()))
    }
}

/// Whether a certificate may be an authority's (RFC 5280 §4.2.1.9). Those of version 1 do not say, and are signed by
/// themselves then.
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.subject().as_raw() == certificate.issuer().as_raw(),
        Err(_) => false,
    }
}

/// What a service asks of its clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whose certificates count.
    pub authorities: Arc<Authorities>,
    /// Whether a client without such a certificate is refused.
    pub is_required: bool,
}

impl ClientAuth {
    /// The value of `client_verify`.
    pub fn verify(&self) -> &'static str {
        if self.is_required { "required" } else { "optional" }
    }

    /// Reads the keys of an HTTP service.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let is_asked = reader.text("client_ca").is_some();
        let authorities = reader.protecting("client_ca", Authorities::parse);
        let is_required = reader.read("client_verify", |text| match text {
            "required" | "optional" if !is_asked => {
                Err("expected client_ca too: it says whose certificates count".into())
            }
            "required" => Ok(true),
            "optional" => Ok(false),
            _ => Err("expected required or optional".into()),
        });
        Some(Self { authorities: Arc::new(authorities?), is_required: is_required.unwrap_or(true) })
    }
}
