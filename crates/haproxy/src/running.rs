//! What the current worker runs: what the last reload gave it and what commands have changed since. Asks nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::maps::Maps;
use super::model::{Backend, Desired, Part, Server};
use super::names::BackendName;

/// What the current worker runs, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// All of the configuration but the backends, and the files that it names.
    pub frame: Vec<Part>,
    /// Other files that the configuration names.
    pub files: BTreeMap<Box<str>, Arc<[u8]>>,
    /// Certificates.
    pub certs: BTreeMap<Box<str>, Arc<str>>,
    /// Backends by the names that HAProxy knows them by, spares among them.
    pub backends: BTreeMap<BackendName, Pool>,
    /// The maps, with HAProxy's names.
    pub maps: Maps,
    /// What was planned for last, so that what is still the same is passed over.
    pub planned: Planned,
    /// Services that live in a spare backend: from their own backend's name to the spare's.
    pub moved: BTreeMap<BackendName, BackendName>,
    /// Spares that nobody lives in; the last one is taken first.
    pub free: Vec<BackendName>,
}

/// What was planned for last.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The backends that were wanted, by their own names, with what they are now like; `None`: not yet as wanted.
    pub backends: BTreeMap<BackendName, Option<Arc<Backend>>>,
    /// What [`Running::maps`] was made from, as long as it would be made the same again.
    pub maps: Option<Arc<Maps>>,
}

/// One backend of the worker.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its lines without servers.
    pub options: Arc<[Part]>,
    /// Sections that it needs beside it.
    pub sections: Arc<[Part]>,
    /// Servers may be added and removed while it runs.
    pub elastic: bool,
    /// Servers that are wanted, by name.
    pub servers: BTreeMap<Box<str>, Server>,
    /// Servers that are in maintenance and to be deleted once nothing runs there.
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

    /// A backend that waits for a service.
    fn spare(options: &Arc<[Part]>) -> Self {
        let (sections, servers, leaving) = (Arc::default(), BTreeMap::new(), BTreeMap::new());
        Self { options: options.clone(), sections, elastic: true, servers, leaving }
    }
}

impl Running {
    /// What a worker runs that was just started from this, with spares of these options.
    pub fn rendered(desired: &Desired, spares: Vec<BackendName>, options: &Arc<[Part]>) -> Self {
        let own = desired.backends.iter().map(|(name, backend)| (name.clone(), Pool::rendered(backend)));
        let waiting = spares.iter().map(|name| (name.clone(), Pool::spare(options)));
        Self {
            frame: desired.frame.clone(),
            files: desired.files.clone(),
            certs: desired.certs.clone(),
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

    /// The name that HAProxy knows a service's backend by.
    pub fn name_of<'a>(&'a self, backend: &'a BackendName) -> &'a BackendName {
        self.moved.get(backend).unwrap_or(backend)
    }
}
