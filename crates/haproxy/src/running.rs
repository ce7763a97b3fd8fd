//! What the current worker runs, by our own record: its configuration, and the commands since. Never asks HAProxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::maps::Maps;
use super::model::{Backend, Desired, Part, Server};
use super::names::BackendName;
use super::tickets::TicketKeys;

/// What the current worker runs.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The configuration except the backends.
    pub frame: Vec<Part>,
    /// Other files that the configuration names.
    pub files: BTreeMap<Box<str>, Arc<[u8]>>,
    /// Certificates.
    pub certs: BTreeMap<Box<str>, Arc<str>>,
    /// The list of certificates where clients are asked for theirs.
    pub clients: Option<Arc<str>>,
    /// The keys of session tickets.
    pub tickets: Option<TicketKeys>,
    /// Backends by their names in HAProxy, spares included.
    pub backends: BTreeMap<BackendName, Pool>,
    /// The maps, with the backends' names in HAProxy.
    pub maps: Maps,
    /// The input of the last plan: whatever is still the same needs no planning.
    pub planned: Planned,
    /// Backend name → the spare backend that serves it.
    pub moved: BTreeMap<BackendName, BackendName>,
    /// Free spares; the last one is taken first.
    pub free: Vec<BackendName>,
}

/// The input of the last plan.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The wanted backends by their own names; `None`: commands could not finish it.
    pub backends: BTreeMap<BackendName, Option<Arc<Backend>>>,
    /// The maps that [`Running::maps`] was made from; `None`: they must be planned again.
    pub maps: Option<Arc<Maps>>,
}

/// One backend of the worker.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its lines without servers.
    pub options: Arc<[Part]>,
    /// Sections that it refers to.
    pub sections: Arc<[Part]>,
    /// Servers can be added and removed at run time.
    pub elastic: bool,
    /// Servers in service, by name.
    pub servers: BTreeMap<Box<str>, Server>,
    /// Servers in maintenance, to be deleted once nothing uses them.
    pub leaving: BTreeMap<Box<str>, Server>,
}

impl Pool {
    /// A backend as it was rendered.
    fn rendered(backend: &Backend) -> Self {
        let servers = backend.servers.iter().map(|server| (server.name.clone(), server.clone())).collect();
        Self {
            options: backend.options.clone(),
            sections: backend.sections.clone(),
            elastic: backend.elastic,
            servers,
            leaving: BTreeMap::new(),
        }
    }

    /// A spare.
    fn spare(options: &Arc<[Part]>) -> Self {
        let (sections, servers, leaving) = (Arc::default(), BTreeMap::new(), BTreeMap::new());
        Self { options: options.clone(), sections, elastic: true, servers, leaving }
    }
}

impl Running {
    /// What a worker runs that was just started with this configuration and spares of these options.
    pub fn rendered(desired: &Desired, spares: Vec<BackendName>, options: &Arc<[Part]>) -> Self {
        let own = desired.backends.iter().map(|(name, backend)| (name.clone(), Pool::rendered(backend)));
        let waiting = spares.iter().map(|name| (name.clone(), Pool::spare(options)));
        Self {
            frame: desired.frame.clone(),
            files: desired.files.clone(),
            certs: desired.certs.clone(),
            clients: desired.clients.clone(),
            tickets: desired.tickets.clone(),
            backends: own.chain(waiting).collect(),
            maps: Maps::clone(&desired.maps),
            planned: Planned {
                backends: desired
                    .backends
                    .iter()
                    .map(|(name, backend)| (name.clone(), Some(backend.clone())))
                    .collect(),
                maps: Some(desired.maps.clone()),
            },
            moved: BTreeMap::new(),
            free: spares.into_iter().rev().collect(),
        }
    }

    /// The name in HAProxy of a service's backend: a spare's, if one serves it.
    pub fn name_of<'a>(&'a self, backend: &'a BackendName) -> &'a BackendName {
        self.moved.get(backend).unwrap_or(backend)
    }
}
