//! Finds ports of TCP services that HAProxy could not open, before a reload: for one such port HAProxy would refuse the
//! whole configuration. Opens and closes sockets, keeps none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pointsman_engine::sockets::{probe, unserved_https};
use pointsman_table::{Bind, Problem, Protocol, Table};
use tracing::warn;

use super::hold::Served;
use super::model::Held;

/// Ports that cannot be opened, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedPorts(BTreeMap<Bind, String>);

impl ClosedPorts {
    /// Tries every port of the table that is not already `open`. One that was closed stays so while an instance listens
    /// there or may come back.
    pub fn probe(&self, table: &Table, open: &BTreeSet<Bind>) -> Self {
        let wanted = table.tcp().iter().map(|(bind, _)| *bind).chain(table.https());
        let new = wanted.filter(|bind| !open.contains(bind));
        let refused = |bind: Bind| match self.0.get(&bind) {
            Some(why) if table.leads_to(bind) => Some(why.clone()),
            _ => probe(SocketAddr::new(bind.address, bind.port)).err().map(|error| error.to_string()),
        };
        let closed: BTreeMap<_, _> = new.filter_map(|bind| Some((bind, refused(bind)?))).collect();
        for bind in table.https() {
            if let Some(why) = closed.get(&bind).filter(|why| self.0.get(&bind) != Some(*why)) {
                warn!("{}", unserved_https(bind, why));
            }
        }
        Self(closed)
    }

    /// Whether every port can be opened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds back the services that listen on these ports: their `served` form serves on.
    pub fn hold(&self, table: &Table, served: &Served, held: &mut Held) {
        held.closed.extend(self.0.keys());
        for (bind, index) in table.tcp().iter().filter(|(bind, _)| self.0.contains_key(bind)) {
            let sharing = table.sni(*bind).iter().map(|(_, index)| *index);
            for index in sharing.chain([*index]) {
                let Some(service) = table.services().get(index as usize) else { continue };
                let kept = served.service(Protocol::Tcp, &service.name).cloned();
                held.services.entry((Protocol::Tcp, service.name.clone())).or_insert(kept);
            }
        }
    }

    /// The problems, under the keys that name the ports.
    pub fn problems(&self, table: &Table) -> Vec<Problem> {
        self.0.iter().filter_map(|(bind, why)| table.listen_problem(*bind, why)).collect()
    }
}
