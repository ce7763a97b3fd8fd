//! The certificates of a table as handshakes need them, and which of them a server name gets. Built on the control side,
//! when certificates change. Shows no secret.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use pointsman_engine::tickets::TicketSecrets;
use pointsman_table::{Asking, Cert, Demand, NameMap, Problem, ProblemKind, Table, TlsVersion};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::challenges::Challenges;
use super::chooser::{Chooser, Usable};
use super::clients::{self, Clients};
use super::tickets::Ticketer;
use crate::net::presented::AskedId;

/// The name of HTTP/2 in a handshake (RFC 9113 §3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// What HTTPS agrees on.
const HTTP: &[&[u8]] = &[HTTP2, b"http/1.1"];

/// All certificates of a table, and what handshakes need besides.
pub(crate) struct Keys {
    certs: CertStates,
    clients: Arc<Clients>,
    terms: Terms,
    tickets: TicketSecrets,
    provider: Arc<CryptoProvider>,
    /// For clients that are asked for nothing.
    plain: Arc<ServerConfig>,
    /// The same for TCP services, whose protocol is their own.
    any_protocol: Arc<ServerConfig>,
    /// For authorities that check names.
    challenges: Challenges,
    /// For all others.
    asking: BTreeMap<Arc<Demand>, (Arc<ServerConfig>, AskedId)>,
}

/// What `config/` says of handshakes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Terms {
    min_version: TlsVersion,
    strict_sni: bool,
}

/// The certificates of a table. Copies share what did not change.
#[derive(Clone, Default)]
struct CertStates {
    /// By the names of their keys. Those that cannot be used are here too, so that they are judged once.
    judged: NameMap<Arc<Cert>>,
    /// Why some are not in use.
    refused: BTreeMap<Box<str>, &'static str>,
    /// Their forms in use: their own, or the last good ones.
    chooser: Chooser,
}

impl CertStates {
    /// Those of a table, if some changed.
    fn next(&self, table: &Table, provider: &CryptoProvider) -> Option<Self> {
        let changes = self.judged.changes(table.certs(), Arc::ptr_eq);
        if changes.is_empty() {
            return None;
        }
        let mut next = Self { judged: table.certs().clone(), ..self.clone() };
        for change in changes {
            next.refused.remove(change.name);
            match change.after.map(|cert| Usable::new(change.name, cert, provider)) {
                Some(Ok(usable)) => next.chooser.take(Arc::new(usable)),
                Some(Err(why)) => drop(next.refused.insert(change.name.into(), why)),
                None => next.chooser.forget(change.name),
            }
        }
        Some(next)
    }

    /// What cannot be used, and why.
    fn problems(&self, table: &Table) -> impl Iterator<Item = Problem> {
        self.refused.iter().map(|(name, why)| {
            let what = if self.chooser.has(name) { "its last good form stays in use" } else { "it is not used" };
            table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), format!("{why}; {what}"))
        })
    }
}

/// Names only: the rest is secret.
impl Debug for Keys {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.certs.judged.fmt(f)
    }
}

impl Keys {
    /// No certificate: every handshake fails.
    pub(crate) fn none() -> Arc<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (certs, clients) = (CertStates::default(), Arc::default());
        let challenges = Challenges::new(&Arc::default(), &provider);
        Self::new((certs, challenges), clients, Terms::default(), TicketSecrets::default(), provider)
    }

    fn new(
        (certs, challenges): (CertStates, Challenges),
        clients: Arc<Clients>,
        terms: Terms,
        tickets: TicketSecrets,
        provider: Arc<CryptoProvider>,
    ) -> Arc<Self> {
        let chooser = Arc::new(certs.chooser.ready(terms.strict_sni, &provider));
        let maker = ConfigMaker { provider: &provider, chooser, terms, tickets: &tickets };
        let plain = maker.config(None, AskedId::default(), HTTP);
        let any_protocol = maker.config(None, AskedId::default(), &[]);
        // Where no authority can be used, nobody is asked, and so no request is served that needs a certificate.
        let verified = clients.verifiers().filter_map(|(asked, verifier)| Some((asked, verifier.clone()?)));
        let asking = verified.map(|(asked, verifier)| {
            let id = clients::id(asked);
            (Arc::clone(asked), (maker.config(Some(verifier), id, HTTP), id))
        });
        let asking = asking.collect();
        Arc::new(Self { certs, clients, terms, tickets, provider, plain, any_protocol, challenges, asking })
    }

    /// Those of a table. What did not change is not judged again; without any change, the result is `self`.
    pub(crate) fn next(self: &Arc<Self>, table: &Table) -> Arc<Self> {
        let certs = self.certs.next(table, &self.provider);
        let asking = Asking::of(table.services());
        let clients = match self.clients.is_of(&asking) {
            true => Arc::clone(&self.clients),
            false => Arc::new(Clients::new(asking, &self.provider)),
        };
        let config = table.config();
        let terms = Terms { min_version: config.tls_min_version, strict_sni: config.tls_strict_sni };
        let challenges = self.challenges.next(table.answers(), &self.provider);
        if certs.is_none() && challenges.is_none() && Arc::ptr_eq(&clients, &self.clients) && terms == self.terms {
            return Arc::clone(self);
        }
        let challenges = challenges.unwrap_or_else(|| self.challenges.clone());
        let certs = certs.unwrap_or_else(|| self.certs.clone());
        Self::new((certs, challenges), clients, terms, self.tickets.clone(), Arc::clone(&self.provider))
    }

    /// The same with other secrets for session tickets.
    pub(crate) fn with_tickets(&self, tickets: TicketSecrets) -> Arc<Self> {
        let (certs, clients) = ((self.certs.clone(), self.challenges.clone()), Arc::clone(&self.clients));
        Self::new(certs, clients, self.terms, tickets, Arc::clone(&self.provider))
    }

    /// What a handshake for this server name needs, and what it asks of the client, if anything. Without a certificate
    /// it fails, with an alert.
    pub(crate) fn config(&self, name: Option<&str>) -> (Arc<ServerConfig>, Option<AskedId>) {
        match self.clients.find(name).and_then(|asked| self.asking.get(asked)) {
            Some((config, id)) => (Arc::clone(config), Some(*id)),
            None => (Arc::clone(&self.plain), None),
        }
    }

    /// The same for a connection of a TCP service, which asks for no certificate: whatever protocol the client names (ALPN)
    /// is the instance's affair.
    pub(crate) fn config_of_any_protocol(&self) -> (Arc<ServerConfig>, Option<AskedId>) {
        (Arc::clone(&self.any_protocol), None)
    }

    /// Whether a certificate covers this server name, in lower case.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.certs.chooser.covers(name)
    }

    /// What the handshake of an authority that checks this name needs. `None`: there is nothing to check.
    pub(crate) fn challenge(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        self.challenges.config(name?)
    }

    /// Whose certificates count for a service, and what is asked for.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// What cannot be used, and why.
    pub(crate) fn problems(&self, table: &Table) -> Vec<Problem> {
        self.certs.problems(table).chain(self.clients.problems(table)).collect()
    }
}

/// Makes configurations that differ only in what clients are asked for.
struct ConfigMaker<'a> {
    provider: &'a Arc<CryptoProvider>,
    chooser: Arc<dyn ResolvesServerCert>,
    terms: Terms,
    tickets: &'a TicketSecrets,
}

impl ConfigMaker<'_> {
    /// `protocols`: those to agree on (ALPN); none: the client's are the instance's affair.
    fn config(
        &self,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        asked: AskedId,
        protocols: &[&[u8]],
    ) -> Arc<ServerConfig> {
        let versions: &[&SupportedProtocolVersion] = match self.terms.min_version {
            TlsVersion::V1_2 => &[&TLS12, &TLS13],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.provider));
        let builder = builder.with_protocol_versions(versions).expect("the provider has suites of both versions");
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.chooser));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // The strongest suites that both have, and the cheaper among equals, whatever a client prefers.
        config.ignore_client_order = true;
        config.ticketer = Arc::new(Ticketer::new(self.tickets, asked));
        Arc::new(config)
    }
}
