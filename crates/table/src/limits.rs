//! The inputs of compile besides the keys. Only data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::acme::Answers;
use crate::address::Bind;
use crate::capabilities::Capabilities;
use crate::networks::Places;

/// The inputs of compile besides the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The prefix, `/haproxy-haproxy-1`, for the full keys in problems. No slash at the end.
    pub prefix: Box<str>,
    /// The balancer's HTTP and admin addresses: an instance there is a loop, a TCP service there has its port taken.
    pub own: Box<[SocketAddr]>,
    /// Where HTTPS is served unless a setting says where: once there are certificates, and unless a TCP service or the
    /// balancer itself listens on that port.
    pub usual_https: Box<[Bind]>,
    /// This machine's addresses: those that `0.0.0.0` stands for.
    pub local: Box<[IpAddr]>,
    /// Maximum listening addresses of all TCP services together; `None`: no limit.
    pub listeners: Option<usize>,
    /// Which keys the engine honours.
    pub capabilities: Capabilities,
    /// Where instances may be.
    pub places: Places,
    /// The opened addresses of TCP services. `None`: no engine has tried yet, and all claimed ones count.
    pub bound: Option<Arc<BTreeSet<Bind>>>,
    /// Certificates from outside the store, the first of a name goes before others. A key `certs/<name>` goes before all.
    pub certs: Arc<[OuterCert]>,
    /// Certificates that we had issued. They serve names that no other certificate covers.
    pub issued: Arc<[OuterCert]>,
    /// The answers to authorities that issue certificates.
    pub answers: Arc<Answers>,
    /// The addresses of host names. `None`: names are not looked up, and not judged.
    pub names: Option<Arc<Names>>,
}

impl Limits {
    /// Whether both judge settings alike. Opened ports and resolved names concern instances only, and
    /// certificates and where HTTPS is served nobody.
    pub(crate) fn judge_alike(&self, other: &Self) -> bool {
        // Every field is named, so that one that comes later is not forgotten here.
        let Self {
            prefix,
            own,
            local,
            capabilities,
            places,
            listeners,
            bound: _,
            names: _,
            certs: _,
            issued: _,
            answers: _,
            usual_https: _,
        } = self;
        (prefix, own, local) == (&other.prefix, &other.own, &other.local)
            && (capabilities, places, listeners) == (&other.capabilities, &other.places, &other.listeners)
    }
}

/// A SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The lowest is used first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// A host name, in lower case, without the dot at the end.
    pub target: Box<str>,
    /// The port there.
    pub port: u16,
}

/// Host names and their addresses, and `srv:NAME` and its records. A missing name is being looked up for the first time.
pub type Names = BTreeMap<Box<str>, Resolved>;

/// The outcome of looking up a host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Its addresses, ordered; if it fails, the last ones that it had.
    pub addresses: Box<[IpAddr]>,
    /// The SRV records of `srv:NAME`, ordered; likewise.
    pub records: Box<[Record]>,
    /// Why it does not resolve now.
    pub failure: Option<Box<str>>,
}

/// A certificate that is no key: from a file, or from a variable of the environment. Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct OuterCert {
    /// Its name: one path segment.
    pub name: Box<str>,
    /// Where it comes from, as problems name it: `--certs: /etc/certs/shop.pem`.
    pub origin: Box<str>,
    /// The PEM, or why it cannot be read.
    pub pem: Result<Arc<[u8]>, Box<str>>,
    /// An OCSP response for it, in DER, from the file beside it.
    pub staple: Option<Arc<[u8]>>,
}

/// Never shows the PEM.
impl Debug for OuterCert {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.name, self.origin)
    }
}
