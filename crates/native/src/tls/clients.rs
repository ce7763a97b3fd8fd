//! Clients' certificates: what a handshake asks for by server name, and whether a certificate that was shown comes from a
//! service's authorities. Decides about no request.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use pointsman_table::{Asking, Authorities, Demand, Problem, ProblemKind, Table};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::net::presented::AskedId;

/// A verifier; `None`: none of the authorities can be used, so nobody is verified.
type Verifier = Option<Arc<dyn ClientCertVerifier>>;

/// What a table asks of clients.
#[derive(Default)]
pub(crate) struct Clients {
    asking: Asking,
    /// For handshakes.
    asked: BTreeMap<Arc<Demand>, Verifier>,
    /// For the requests of a service.
    services: BTreeMap<Arc<Authorities>, Verifier>,
}

impl Debug for Clients {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Clients {
    pub(super) fn new(asking: Asking, provider: &Arc<CryptoProvider>) -> Self {
        let asked: BTreeMap<_, _> =
            asking.all().into_iter().map(|asked| (Arc::clone(asked), handshake(asked, provider))).collect();
        let each = asked.keys().flat_map(|asked| &asked.authorities);
        let services =
            each.map(|authorities| (Arc::clone(authorities), verifier(&[authorities], true, provider))).collect();
        Self { asking, asked, services }
    }

    pub(super) fn is_of(&self, asking: &Asking) -> bool {
        self.asking == *asking
    }

    /// Everything that handshakes ask for, with what verifies it.
    pub(super) fn verifiers(&self) -> impl Iterator<Item = (&Arc<Demand>, &Verifier)> {
        self.asked.iter()
    }

    /// What clients are asked for at this name, in lower case.
    pub(super) fn find(&self, name: Option<&str>) -> Option<&Arc<Demand>> {
        self.asking.find(name)
    }

    /// Whether a client's certificate, with those that follow it, comes from these authorities and is valid now.
    pub(crate) fn accept(&self, authorities: &Authorities, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(Some(verifier)), Some((own, issuers))) = (self.services.get(authorities), chain.split_first()) else {
            return false;
        };
        verifier.verify_client_cert(own, issuers, UnixTime::now()).is_ok()
    }

    /// Services with authorities that cannot be used.
    pub(super) fn problems(&self, table: &Table) -> Vec<Problem> {
        let problem = |service: &pointsman_table::Service| {
            let authorities = &service.client_auth()?.authorities;
            let refused = authorities.iter().filter(|der| anchor(der).is_none()).count();
            let advice = format!(
                "{refused} of these certificates cannot be used as authorities, and no client of theirs gets in"
            );
            let key = || table.key_problem(ProblemKind::Rejected, service.protocol, &service.name, "client_ca", advice);
            (refused > 0).then(key)
        };
        table.services().iter().filter_map(|service| problem(service)).collect()
    }
}

/// Identifies what is asked for.
pub(super) fn id(asked: &Demand) -> AskedId {
    let mut context = Context::new(&SHA256);
    context.update(&[u8::from(asked.is_required)]);
    for authorities in &asked.authorities {
        let number = authorities.iter().count() as u64;
        context.update(&number.to_be_bytes());
        for der in authorities.iter() {
            context.update(&(der.len() as u64).to_be_bytes());
            context.update(der);
        }
    }
    let mut id = AskedId::default();
    id.copy_from_slice(context.finish().as_ref());
    id
}

fn handshake(asked: &Demand, provider: &Arc<CryptoProvider>) -> Verifier {
    let authorities: Vec<_> = asked.authorities.iter().collect();
    verifier(&authorities, asked.is_required, provider)
}

fn verifier(authorities: &[&Arc<Authorities>], is_required: bool, provider: &Arc<CryptoProvider>) -> Verifier {
    let mut roots = RootCertStore::empty();
    let usable = authorities.iter().flat_map(|authorities| authorities.iter()).filter_map(anchor);
    // What was usable alone is so together.
    usable.for_each(|der| drop(roots.add(der)));
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().ok()
}

/// A certificate that can be an authority's, for rustls.
fn anchor(der: &[u8]) -> Option<CertificateDer<'static>> {
    let der = CertificateDer::from(der.to_vec());
    RootCertStore::empty().add(der.clone()).ok().map(|()| der)
}
