//! What HAProxy is to run, as data: the one value that rendering writes out, planning compares and applying reaches.
//! Knows no socket, file or clock.
//!
//! ```text
//! Table, Held, Addresses, Shape -> desire() -> Desired -> render() -> files        (at a reload)
//!                                                    \-> plan(&Running, &Desired)  -> commands, or a reload
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use pointsman_table::{Bind, Protocol, Service, ServiceName};

use super::maps::Maps;
use super::names::BackendName;

/// Who a part of the configuration comes from, so that HAProxy's complaints about it find their key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A key of a service: `custom_settings`, `cookie`; empty for the service as a whole.
    Service(Protocol, ServiceName, &'static str),
    /// A listening address of TCP services.
    Bind(Bind),
    /// A certificate, by its name below `certs/`.
    Cert(Box<str>),
    /// A setting: `haproxy-template`, `haproxy-global-settings`, `haproxy-custom-settings`.
    Setting(&'static str),
}

/// What was resolved of names of instances. A name that is not here is left to HAProxy, which asks once at its start.
pub type Addresses = BTreeMap<Box<str>, IpAddr>;

/// What HAProxy refuses in its newest form, and the form that it still serves, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Services.
    pub services: BTreeMap<(Protocol, ServiceName), Option<Arc<Service>>>,
    /// Certificates by name, PEM: secret.
    pub certs: BTreeMap<Box<str>, Option<Arc<str>>>,
    /// Ports of TCP services that cannot be opened.
    pub closed: BTreeSet<Bind>,
}

impl Held {
    /// Nothing is refused.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Everything that HAProxy is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The table's revision.
    pub revision: u64,
    /// All of the configuration but the backends, in order: a change of any needs a reload.
    pub frame: Vec<Part>,
    /// Backends by their names, without spares.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
    /// How requests find their backends.
    pub maps: Arc<Maps>,
    /// Certificates by name, PEM: secret.
    pub certs: BTreeMap<Box<str>, Arc<str>>,
    /// Other files that the configuration names, such as error pages: a change of any needs a reload.
    pub files: BTreeMap<Box<str>, Arc<[u8]>>,
}

/// Lines of the configuration, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whole lines. In a template's output, [`BACKENDS`] stands on a line of its own where the backends go.
    pub text: Arc<str>,
    /// Whose they are; `None`: ours.
    pub owner: Option<Owner>,
}

impl Part {
    /// Lines of our own.
    pub fn ours(text: &str) -> Self {
        Self { text: text.into(), owner: None }
    }
}

/// The line that stands for the backends within [`Desired::frame`].
pub const BACKENDS: &str = "# pointsman: backends\n";

/// The word that stands for the worker's runtime socket within [`Desired::frame`]: the socket is another at every
/// reload, and no reason for one.
pub const SOCKET: &str = "pointsman:runtime-socket";

/// The word that stands for the folder of the files, which is another at every reload too.
pub const FOLDER: &str = "pointsman:folder";

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Whose it is.
    pub protocol: Protocol,
    /// Whose it is.
    pub service: ServiceName,
    /// Its lines without servers, and whose each is. The same as a spare's: it may move into one without a reload.
    pub options: Arc<[Part]>,
    /// Its servers, in order.
    pub servers: Box<[Server]>,
    /// Sections that it needs beside it, such as a user list.
    pub sections: Arc<[Part]>,
    /// Servers may be added and removed while it runs.
    pub elastic: bool,
}

/// One server, an instance to HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, encoded as HAProxy wants it.
    pub name: Box<str>,
    /// Where it is.
    pub address: Address,
    /// 0 to 256.
    pub weight: u16,
    /// Most connections; 0 is no limit.
    pub max_connections: u32,
    /// Takes no new work.
    pub drain: bool,
    /// The rest of its line (`backup`, `check ...`, `ssl ...`, `cookie ...`): a change needs a new server.
    pub options: Box<str>,
    /// Whether `options` has `check`: a server added at run time needs `enable health`.
    pub check: bool,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Socket(IpAddr, u16),
    /// A name that HAProxy is to resolve at its start, and a port.
    Name(Box<str>, u16),
    /// A Unix socket.
    Unix(Box<Path>),
}
