//! What makes two connections to instances interchangeable. Opens and resolves nothing.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pointsman_table::{HttpVersion, Instance, Protocol, ProxyForm, Service, Target};
use pointsman_wire::ProxyVersion;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::tls::Outbound;

/// The identity of a pooled connection: two requests may share one only if all of this is equal. A service that
/// verifies its instances must never be given a connection that another service opened unverified or in plain text, so
/// every property that a connection is set up with (TLS settings, HTTP version, PROXY header) belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    pub(crate) endpoint: Endpoint,
    /// What its TLS is set up with; `None`: plain text.
    pub(crate) tls: Option<TlsId>,
    /// The PROXY header that it begins with. Over HTTP it then belongs to one client, and no pool ever holds it.
    pub(crate) proxied: Option<ProxyVersion>,
    /// It speaks HTTP/2, and requests share it.
    pub(crate) http2: bool,
}

/// The far end, with its name resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// An address and port.
    Socket(SocketAddr),
    /// A Unix socket.
    Unix(Box<Path>),
}

/// What TLS to an instance is set up with: authorities, client certificate and the server name that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct TlsId {
    /// Made once for all services with the same settings, so that its address is its identity. `None`: their keys can
    /// not be used, and no connection is made.
    pub(crate) config: Option<Arc<ClientConfig>>,
    pub(crate) name: TlsName,
}

/// The server name sent to an instance, and expected in its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TlsName {
    /// This one.
    Fixed(ServerName<'static>),
    /// The host of the request that the connection is opened for: it serves requests for that host only.
    OfRequest,
    /// The instance's address: no name is sent.
    Address,
}

impl PartialEq for TlsId {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address() && self.name == other.name
    }
}

impl Eq for TlsId {}

impl Hash for TlsId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address(), &self.name).hash(state);
    }
}

/// How connections to the instances of a service are set up.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) service: &'a Service,
    tls: Option<Arc<ClientConfig>>,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(service: &'a Service, outbound: &Outbound) -> Self {
        Self { service, tls: outbound.config(service) }
    }

    fn tls(&self, instance: &Instance) -> Option<TlsId> {
        instance.tls.then(|| TlsId { config: self.tls.clone(), name: self.name(instance) })
    }

    fn name(&self, instance: &Instance) -> TlsName {
        let own = || match &instance.target {
            Target::Name(name, _) => Some(name),
            Target::Socket(_) | Target::Unix(_) => None,
        };
        let name = self.service.link.as_ref().and_then(|link| link.server_name.as_ref()).or_else(own);
        match (name, self.service.protocol) {
            // What no certificate can be for, such as `-.test`, is no name either.
            (Some(name), _) => ServerName::try_from(name.to_string()).map_or(TlsName::Address, TlsName::Fixed),
            // A shared connection cannot belong to one host.
            (None, Protocol::Http) if !self.speaks_http2() => TlsName::OfRequest,
            (None, Protocol::Http | Protocol::Tcp) => TlsName::Address,
        }
    }

    /// Whether a connection to this instance serves requests for one host only.
    pub(crate) fn is_of_host(&self, instance: &Instance) -> bool {
        instance.tls && self.name(instance) == TlsName::OfRequest
    }

    fn speaks_http2(&self) -> bool {
        self.service.http_version == HttpVersion::Http2
    }

    fn proxied(&self) -> Option<ProxyVersion> {
        self.service.send_proxy().map(|form| match form {
            ProxyForm::V1 => ProxyVersion::V1,
            ProxyForm::V2 => ProxyVersion::V2,
        })
    }
}

impl TlsId {
    fn address(&self) -> *const ClientConfig {
        self.config.as_ref().map_or(std::ptr::null(), Arc::as_ptr)
    }
}

impl Via {
    /// The ways to an instance: one, or one for each address that its name resolves to.
    pub(crate) fn all(instance: &Instance, setup: &Setup<'_>) -> Vec<Self> {
        let (tls, proxied, http2) = (setup.tls(instance), setup.proxied(), setup.speaks_http2());
        let to = |endpoint| Self { endpoint, tls: tls.clone(), proxied, http2 };
        match &instance.target {
            Target::Socket(address) => vec![to(Endpoint::Socket(*address))],
            Target::Unix(path) => vec![to(Endpoint::Unix(path.clone()))],
            Target::Name(..) => instance.resolved.iter().map(|address| to(Endpoint::Socket(*address))).collect(),
        }
    }

    /// Whether a connection serves requests for one host only.
    pub(crate) fn is_of_host(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.name == TlsName::OfRequest)
    }
}
