//! The certificate that a client showed in its handshake, and what the handshake was for. Verifies nothing.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::Authorities;
use rustls::pki_types::CertificateDer;

/// Identifies what a handshake asks of a client, on every balancer alike; all zeros: nothing.
pub(crate) type AskedId = [u8; 32];

/// How many services' authorities are remembered. A name has few; changes of keys bring others.
const MOST_JUDGED: usize = 16;

/// The longest `Client-Cert-Chain`, bytes: five certificates or so.
const MOST_CHAIN: usize = 8 * 1024;

/// The outcome of a handshake that asked for a certificate. Others keep nothing.
#[derive(Debug)]
pub(crate) struct Presented {
    /// The server name that the client asked for, in lower case.
    pub(crate) name: Option<Box<str>>,
    /// What the handshake asked for.
    pub(crate) asked: AskedId,
    /// The client's certificate and those that came with it. Empty: it has none.
    pub(crate) chain: Box<[CertificateDer<'static>]>,
    /// Whether these authorities stand behind it.
    judged: RefCell<Vec<(Arc<Authorities>, bool)>>,
    header: OnceCell<Box<str>>,
    chain_header: OnceCell<Option<Box<str>>>,
}

impl Presented {
    pub(crate) fn new(name: Option<Box<str>>, asked: AskedId, chain: Option<&[CertificateDer<'static>]>) -> Self {
        let chain = chain.unwrap_or_default().into();
        Self { name, asked, chain, judged: RefCell::default(), header: OnceCell::new(), chain_header: OnceCell::new() }
    }

    /// Whether the certificate comes from these authorities. `judge` is asked once for all requests of a service.
    pub(crate) fn is_of(&self, authorities: &Arc<Authorities>, judge: impl FnOnce() -> bool) -> bool {
        let mut judged = self.judged.borrow_mut();
        if let Some((_, is_good)) = judged.iter().find(|(known, _)| Arc::ptr_eq(known, authorities)) {
            return *is_good;
        }
        if judged.len() >= MOST_JUDGED {
            judged.clear();
        }
        let is_good = judge();
        judged.push((Arc::clone(authorities), is_good));
        is_good
    }

    /// The value of `Client-Cert` (RFC 9440 §2.1): a byte sequence (RFC 8941 §3.3.5).
    pub(crate) fn header(&self) -> Option<&str> {
        let own = self.chain.first()?;
        Some(self.header.get_or_init(|| bytes(own).into()))
    }

    /// The value of `Client-Cert-Chain` (RFC 9440 §2.3): the certificates behind the client's own, as it sent them. `None`:
    /// it sent none, or more than instances should be expected to take in a head.
    pub(crate) fn chain_header(&self) -> Option<&str> {
        let make = || {
            let issuers: Vec<_> = self.chain.get(1..)?.iter().map(bytes).collect();
            let value = issuers.join(", ");
            (1..=MOST_CHAIN).contains(&value.len()).then(|| value.into())
        };
        self.chain_header.get_or_init(make).as_deref()
    }
}

/// A byte sequence (RFC 8941 §3.3.5).
fn bytes(certificate: &CertificateDer<'_>) -> String {
    format!(":{}:", STANDARD.encode(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_a_list_of_those_behind_the_clients_own() {
        let of = |lengths: &[usize]| {
            let chain: Vec<_> = lengths.iter().map(|&length| CertificateDer::from(vec![0; length])).collect();
            Presented::new(None, AskedId::default(), Some(&chain)).chain_header().map(str::to_owned)
        };
        assert_eq!((of(&[]), of(&[3])), (None, None));
        assert_eq!(of(&[9, 3, 1]).as_deref(), Some(":AAAA:, :AA==:"));
        assert_eq!((of(&[9, 6_000]).map(|text| text.len()), of(&[9, 6_000, 600])), (Some(8_002), None));
    }
}
