//! What HAProxy should run, as data: `render` writes it out, `plan` compares it with what runs. Knows no socket, file
//! or clock.
//!
//! ```text
//! Table, Held, Addresses, Shape -> desire() -> Desired -> render() -> files        (at a reload)
//!                                                    \-> plan(&Running, &Desired)  -> commands, or a reload
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use pointsman_table::{Bind, Protocol, Service, ServiceName, Target};

use super::maps::Maps;
use super::names::BackendName;
use super::tickets::TicketKeys;

/// The key or setting that a part of the configuration comes from: HAProxy's complaints are reported under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A key of a service: `custom_settings`, `cookie`; empty for the service as a whole.
    Service(Protocol, ServiceName, &'static str),
    /// A listening address of TCP services.
    Bind(Bind),
    /// A certificate, by its name below `certs/`.
    Cert(Box<str>),
    /// A setting: `haproxy-template`, `haproxy-global-settings`, `haproxy-custom-settings`,
    /// `haproxy-ciphers`.
    Setting(&'static str),
}

/// The address to use of an instance whose host name has several; the first, if it is missing here.
pub type Addresses = BTreeMap<Target, IpAddr>;

/// What is held back, each with the form that serves on meanwhile, if there is one.
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
    /// Nothing is held back.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Everything that HAProxy should run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The table's revision.
    pub revision: u64,
    /// The configuration except the backends, in order: any change needs a reload.
    pub frame: Vec<Part>,
    /// Backends by their names, without spares.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
    /// The maps that requests are routed by.
    pub maps: Arc<Maps>,
    /// Certificates by name, PEM: secret.
    pub certs: BTreeMap<Box<str>, Arc<str>>,
    /// The list of certificates of HTTPS, where clients are asked for theirs; paths are below [`FOLDER`].
    pub clients: Option<Arc<str>>,
    /// The keys of session tickets, if the configuration names their file: secret.
    pub tickets: Option<TicketKeys>,
    /// Whether anything is served over TLS, so that the list of certificates must be there.
    pub ends_tls: bool,
    /// Other files that the configuration names, such as error pages; those of `outbound` are secret. Any change needs a
    /// reload.
    pub files: BTreeMap<Box<str>, Arc<[u8]>>,
}

/// Lines of the configuration, and their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whole lines. In a template's output, [`BACKENDS`] stands on a line of its own where the backends go.
    pub text: Arc<str>,
    /// Their owner; `None`: ours.
    pub owner: Option<Owner>,
}

impl Part {
    /// Lines of our own.
    pub fn ours(text: &str) -> Self {
        Self { text: text.into(), owner: None }
    }
}

/// The placeholder line of the backends within [`Desired::frame`].
pub const BACKENDS: &str = "# pointsman: backends\n";

/// The placeholder of the worker's runtime socket within [`Desired::frame`]: its path changes at every reload, and must
/// not be a reason for one.
pub const SOCKET: &str = "pointsman:runtime-socket";

/// The placeholder of the files' folder, which changes at every reload too.
pub const FOLDER: &str = "pointsman:folder";

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The service's protocol.
    pub protocol: Protocol,
    /// The service.
    pub service: ServiceName,
    /// Its lines without servers. If they equal a spare's, a spare can serve it without a reload.
    pub options: Arc<[Part]>,
    /// Its servers, in order.
    pub servers: Box<[Server]>,
    /// Sections that it refers to, such as a user list.
    pub sections: Arc<[Part]>,
    /// Servers can be added and removed at run time.
    pub elastic: bool,
}

/// One server: HAProxy's word for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, encoded by `names`.
    pub name: Box<str>,
    /// Its address.
    pub address: Address,
    /// 0 to 256.
    pub weight: u16,
    /// Its connection limit; 0 is none.
    pub max_connections: u32,
    /// Draining: gets no new work.
    pub drain: bool,
    /// The rest of its line (`backup`, `check ...`, `ssl ...`, `cookie ...`): a change needs a new server.
    pub options: Box<str>,
    /// Whether `options` has `check`: a server added at run time needs `enable health`.
    pub check: bool,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Socket(IpAddr, u16),
    /// A name that HAProxy resolves at its start, and a port.
    Name(Box<str>, u16),
    /// A Unix socket.
    Unix(Box<Path>),
}
