//! The finished table and its lookups. Immutable; a lookup takes no lock and allocates nothing.

use std::sync::{Arc, LazyLock};

use crate::address::{Bind, HostPattern};
use crate::basis::Basis;
use crate::cert::Cert;
use crate::conditions::{Asked, Imagined};
use crate::effort::TooLong;
use crate::explain::{self, Explanation};
use crate::form::Form;
use crate::host::{HostBuffer, parents};
use crate::index::Found;
use crate::model::{Config, Service};
use crate::name_map::NameMap;
use crate::names::{Protocol, ServiceName};
use crate::ports::Listening;
use crate::problem::{Problem, ProblemKind};
use crate::routing::Routing;
use crate::targets;

/// An immutable routing table: one revision of the keys, compiled.
#[derive(Debug, Default)]
pub struct Table {
    pub(crate) generation: u64,
    revision: u64,
    services: Box<[Arc<Service>]>,
    pub(crate) routing: Routing,
    pub(crate) basis: Basis,
    /// All services, served or not, ordered by protocol and name: what the next compile starts from.
    pub(crate) forms: Box<[Arc<Form>]>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index into [`Table::services`].
    pub service: u32,
    /// Bytes to take off the front of path and query (`virtual_path`); the rest gets a `/` in front if it has none.
    pub strip: u32,
}

impl Table {
    /// A table of no services, of generation and revision 0, as before the first listing.
    pub fn empty() -> Arc<Self> {
        static EMPTY: LazyLock<Arc<Table>> = LazyLock::new(Arc::default);
        EMPTY.clone()
    }

    pub(crate) fn new(generation: u64, revision: u64, basis: Basis, routing: Routing, forms: Box<[Arc<Form>]>) -> Self {
        let services = forms.iter().filter_map(|form| form.service.clone()).collect();
        Self { generation, revision, services, routing, basis, forms }
    }

    /// Which compile of this process made it: one more than the table before it, 0 for the empty table. Engines
    /// acknowledge this, as the keys at one revision may make different tables.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The store's revision it was compiled from: what users see.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Everything below `config/`.
    pub fn config(&self) -> &Arc<Config> {
        &self.basis.config.value
    }

    /// Certificates by name, those of keys and those of [`crate::Limits::certs`], if the engine honours `certs/`; one that stays the same keeps its `Arc` from table to table.
    /// A name is any path segment: escape it before it becomes a file name.
    pub fn certs(&self) -> &NameMap<Arc<Cert>> {
        &self.basis.certs.value.all
    }

    /// The problems of certificates where nothing is served over TLS.
    pub fn unused_certs(&self) -> Vec<Problem> {
        let why =
            "nothing is served over TLS: --https is off, or its port cannot be opened; the certificate is not used";
        let unused = |name: &str| self.tree_problem(ProblemKind::Unsupported, &format!("certs/{name}"), why);
        self.certs().keys().map(unused).collect()
    }

    /// All services that serve, HTTP ones first, each kind ordered by name.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The service of this name, if it serves.
    pub fn service(&self, protocol: Protocol, name: &str) -> Option<&Arc<Service>> {
        let key = |service: &Arc<Service>| (service.protocol, service.name.as_str()).cmp(&(protocol, name));
        self.services.binary_search_by(key).ok().map(|at| &self.services[at])
    }

    /// The service of this name, if a share of the requests to `from` may go to it: its index into [`Table::services`].
    pub fn target(&self, from: &Service, name: &ServiceName) -> Option<u32> {
        let key = |service: &Arc<Service>| (service.protocol, &service.name).cmp(&(Protocol::Http, name));
        let at = self.services.binary_search_by(key).ok()?;
        targets::may_send(from, &self.services[at]).then(|| u32::try_from(at).ok())?
    }

    /// The service that is asked whether a request to `from` may go on, if it serves: its index into [`Table::services`].
    pub fn asked(&self, from: &Service) -> Option<u32> {
        let name = &from.policy.as_ref()?.forward_auth.as_ref()?.service;
        let key = |service: &Arc<Service>| (service.protocol, &service.name).cmp(&(Protocol::Http, name));
        self.services.binary_search_by(key).ok().and_then(|at| u32::try_from(at).ok())
    }

    /// Where TCP services listen: address, and index into [`Table::services`]. Ordered, each bind once. If services
    /// share an address, this is the one that takes connections that no name of [`Table::sni`] matches. If all of them
    /// have `sni`, this is the first, and nobody takes such connections.
    pub fn tcp(&self) -> &[(Bind, u32)] {
        &self.routing.ports.tcp
    }

    /// The TLS server names that choose a service on this address, and its index into [`Table::services`]. Ordered,
    /// each name once; empty if one service takes every connection. An exact name goes before the longest wildcard.
    pub fn sni(&self, bind: Bind) -> &[(HostPattern, u32)] {
        self.routing.ports.sni.get(&bind).map(|names| &**names).unwrap_or_default()
    }

    /// The service on this address that takes a connection with this TLS server name, or without one: an index into
    /// [`Table::services`]. The name is as received.
    pub fn named(&self, bind: Bind, name: Option<&str>) -> Option<u32> {
        let names = self.sni(bind);
        let mut buffer = HostBuffer::default();
        let name = name.and_then(|name| str::from_utf8(buffer.normal(name)).ok()).unwrap_or_default();
        let exact = (false, name);
        let wildcards = parents(name.as_bytes()).filter_map(|above| Some((true, str::from_utf8(above).ok()?)));
        let place = |wanted: (bool, &str)| {
            let order =
                |(have, _): &(HostPattern, u32)| (matches!(have, HostPattern::Wildcard(_)), have.name()).cmp(&wanted);
            names.binary_search_by(order).ok()
        };
        let found = std::iter::once(exact).chain(wildcards).find_map(place);
        found.map(|at| names[at].1).or_else(|| self.takes_rest(bind))
    }

    /// The service on this address without TLS server names.
    pub fn takes_rest(&self, bind: Bind) -> Option<u32> {
        let at = self.tcp().binary_search_by(|(known, _)| known.cmp(&bind)).ok()?;
        let index = self.tcp()[at].1;
        self.services.get(index as usize).filter(|service| service.sni().is_empty()).map(|_| index)
    }

    /// Where HTTPS is served though no setting says so: [`crate::Limits::usual_https`], once there are certificates, or some
    /// may be asked for. Keys say more than a default: not at ports of TCP services.
    pub fn https(&self) -> impl Iterator<Item = Bind> {
        let limits = &self.basis.limits;
        let is_taken = |port: u16| {
            self.tcp().iter().any(|(bind, _)| bind.port == port) || limits.own.iter().any(|own| own.port() == port)
        };
        let has_certs = !self.certs().is_empty() || !self.answers().certs.is_empty();
        let may_have = limits.capabilities.demands_certs() && self.config().acme.is_on_demand();
        limits.usual_https.iter().copied().filter(move |bind| (has_certs || may_have) && !is_taken(bind.port))
    }

    /// Whether the keys make TLS end here: a TCP service, or HTTPS where no setting says so.
    pub fn ends_tls(&self) -> bool {
        self.services().iter().any(|service| service.terminates()) || self.https().next().is_some()
    }

    /// Whether an instance is at this address: if another process listens there, the port must not be taken.
    pub fn leads_to(&self, bind: Bind) -> bool {
        let listening = Listening::only(&self.basis.limits, bind);
        self.services.iter().any(|service| listening.is_reached_by(service))
    }

    /// Finds the service for a GET request without headers. `host` is the Host header or authority as received (any case, port ignored);
    /// `target` is path and query, starting with `/`, or `*`.
    pub fn route(&self, host: &str, target: &str) -> Option<Route> {
        self.find(host, target, &Imagined::default()).ok().flatten()
    }

    /// The same for any request, and whether the target is too long to be searched for this table's expressions.
    ///
    /// # Errors
    /// Matching would take more than 1 MiB of work: so many expressions times the bytes that each looks at.
    pub fn find(&self, host: &str, target: &str, asked: &impl Asked) -> Result<Option<Route>, TooLong> {
        let found = self.routing.web.index.find(host, target, asked)?;
        Ok(found.map(|Found { leaf, .. }| Route { service: leaf.service, strip: leaf.strip }))
    }

    /// The service that takes a request, the rule, and the other services that match.
    ///
    /// Tries every service alone, with the lookup of requests: for people, not for the data path.
    pub fn explain(&self, host: &str, target: &str, asked: &Imagined) -> Explanation {
        let explanation = explain::explain(&self.services, &self.forms, (host, target), asked);
        match self.find(host, target, asked) {
            Ok(_) => explanation,
            Err(TooLong) => Explanation { chosen: None, too_long: true, ..explanation },
        }
    }
}
