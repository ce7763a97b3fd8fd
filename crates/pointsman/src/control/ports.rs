//! The addresses of TCP services that we listen on: as the engine reports them, and until it has tried, as a probe
//! predicts. Listens on none.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pointsman_engine::inherited::Inherited;
use pointsman_table::{Bind, Table};

/// Tests whether this process could listen on an address.
#[derive(Clone, Debug)]
pub struct PortProbe {
    test: fn(SocketAddr) -> io::Result<()>,
    /// Sockets that it was given: their addresses are in use, by the program before.
    given: Inherited,
}

impl PortProbe {
    /// By this test, unless there is a socket for the address.
    pub fn new(test: fn(SocketAddr) -> io::Result<()>, given: Inherited) -> Self {
        Self { test, given }
    }

    fn passes(&self, address: SocketAddr) -> bool {
        self.given.has(address) || (self.test)(address).is_ok()
    }
}

/// The addresses of TCP services.
#[derive(Debug)]
pub(super) struct Ports {
    probe: PortProbe,
    /// Those that we listen on, or are about to.
    bound: Arc<BTreeSet<Bind>>,
    /// Those of the last table: the engine or a probe has tried them.
    tried: BTreeSet<Bind>,
}

impl Ports {
    pub(super) fn new(probe: PortProbe) -> Self {
        Self { probe, bound: Arc::default(), tried: BTreeSet::new() }
    }

    /// Those that we listen on, or are about to.
    pub(super) fn bound(&self) -> Arc<BTreeSet<Bind>> {
        self.bound.clone()
    }

    /// Probes the addresses that are new in this table: an instance must not be called a loop because of a port that is
    /// not ours. Returns whether any can be bound.
    pub(super) fn foretell(&mut self, table: &Table) -> bool {
        let wanted: BTreeSet<_> = table.tcp().iter().map(|(bind, _)| *bind).collect();
        let new = wanted.iter().filter(|bind| !self.tried.contains(bind) && !self.bound.contains(bind));
        let free = new.copied().filter(|bind| self.probe.passes(SocketAddr::new(bind.address, bind.port)));
        let free: Vec<_> = free.collect();
        self.tried = wanted;
        if free.is_empty() {
            return false;
        }
        Arc::make_mut(&mut self.bound).extend(free);
        true
    }

    /// Takes the addresses that the engine reports for the newest table. Returns whether they changed.
    pub(super) fn take(&mut self, bound: BTreeSet<Bind>) -> bool {
        let is_news = *self.bound != bound;
        if is_news {
            self.bound = Arc::new(bound);
        }
        is_news
    }
}
