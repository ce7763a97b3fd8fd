//! Finds ports of TCP services that HAProxy could not open, before a reload: for one such port HAProxy would refuse the
//! whole configuration. Opens and closes sockets, keeps none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use pointsman_table::{Bind, Problem, Protocol, Table};
use socket2::{Domain, Socket, Type};

use super::hold::Served;
use super::model::Held;

/// Ports that cannot be opened, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedPorts(BTreeMap<Bind, String>);

impl ClosedPorts {
    /// Tries every port of the table that is not already `open`.
    pub fn probe(table: &Table, open: &BTreeSet<Bind>) -> Self {
        let new = table.tcp().iter().map(|(bind, _)| *bind).filter(|bind| !open.contains(bind));
        Self(new.filter_map(|bind| Some((bind, refused(bind)?))).collect())
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

/// Why this address cannot be bound; `None` if it can. Only binds: listening would accept clients and lose them.
fn refused(bind: Bind) -> Option<String> {
    let attempt = || {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(bind.address, bind.port)), Type::STREAM, None)?;
        // As HAProxy does: a port counts as free while its last connections end.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(bind.address, bind.port).into())
    };
    attempt().err().map(|error: io::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_port_is_refused_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            assert!(refused(Bind { address: IpAddr::V4(address), port }).unwrap().contains("in use"), "{address}");
        }
        drop(listener);
        assert_eq!(refused(Bind { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port }), None);
    }
}
