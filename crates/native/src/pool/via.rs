//! What makes two connections to instances interchangeable. Opens and resolves nothing.

use std::net::SocketAddr;
use std::path::Path;

use pointsman_table::{HttpVersion, Instance, Service, Target};

/// The identity of a pooled connection: two requests may share one only if all of this is equal. A service that
/// verifies its instances must never be given a connection that another service opened unverified or in plain text, so
/// every property that a connection is set up with (TLS settings, HTTP version, PROXY header) belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    pub(crate) endpoint: Endpoint,
    /// It speaks TLS.
    pub(crate) tls: bool,
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

impl Via {
    /// The ways to an instance of the service: one, or one for each address that its name resolves to.
    pub(crate) fn all(service: &Service, instance: &Instance) -> Vec<Self> {
        let http2 = service.http_version == HttpVersion::Http2;
        let to = |endpoint| Self { endpoint, tls: instance.tls, http2 };
        match &instance.target {
            Target::Socket(address) => vec![to(Endpoint::Socket(*address))],
            Target::Unix(path) => vec![to(Endpoint::Unix(path.clone()))],
            Target::Name(..) => instance.resolved.iter().map(|address| to(Endpoint::Socket(*address))).collect(),
        }
    }
}
