//! What makes two connections to instances interchangeable. Opens and resolves nothing.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pointsman_table::{Instance, Target};
use pointsman_wire::ProxyVersion;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

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
    /// Made once for all services with the same settings, so that its address is its identity.
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: TlsName,
}

/// The server name sent to an instance, and expected in its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(test), expect(dead_code, reason = "no table of this engine has an instance with TLS yet"))]
pub(crate) enum TlsName {
    /// This one.
    Fixed(ServerName<'static>),
    /// The host of the request that the connection is opened for: it serves requests for that host only.
    OfRequest,
}

impl PartialEq for TlsId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for TlsId {}

impl Hash for TlsId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.config), &self.name).hash(state);
    }
}

impl Via {
    /// The ways to an instance: one, or one for each address that its name resolves to.
    pub(crate) fn all(instance: &Instance, tls: Option<&TlsId>, proxied: Option<ProxyVersion>) -> Vec<Self> {
        let to = |endpoint| Self { endpoint, tls: tls.cloned(), proxied };
        match &instance.target {
            Target::Socket(address) => vec![to(Endpoint::Socket(*address))],
            Target::Unix(path) => vec![to(Endpoint::Unix(path.clone()))],
            Target::Name(..) => instance.resolved.iter().map(|address| to(Endpoint::Socket(*address))).collect(),
        }
    }
}
