//! What makes two connections to instances interchangeable. Opens nothing.

use std::net::SocketAddr;
use std::path::Path;

use pointsman_table::{Instance, Target};

/// The identity of a pooled connection: two requests may share one only if all of this is equal. A service that verifies
/// its instances must never be given a connection that another service opened unverified or in plain text, so whatever
/// a connection is set up with (TLS settings, HTTP version, PROXY header) belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    pub(crate) endpoint: Endpoint,
    /// It speaks TLS.
    pub(crate) tls: bool,
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
    /// The way to an instance that has a fixed address. `None`: it has a name, to be resolved first.
    pub(crate) fn fixed(instance: &Instance) -> Option<Self> {
        match &instance.target {
            Target::Socket(address) => Some(Self::resolved(instance, *address)),
            Target::Unix(path) => Some(Self { endpoint: Endpoint::Unix(path.clone()), tls: instance.tls }),
            Target::Name(..) => None,
        }
    }

    /// The way to an instance at an address that its name resolved to.
    pub(crate) fn resolved(instance: &Instance, address: SocketAddr) -> Self {
        Self { endpoint: Endpoint::Socket(address), tls: instance.tls }
    }
}
