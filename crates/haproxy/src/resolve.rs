//! Looks up names of instances. HAProxy would do so once, at its start; here every name is looked up periodically, as
//! in the native engine, so that a change becomes a command. A failed lookup keeps the last address; nothing is stored
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use pointsman_table::{Table, Target};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::model::Addresses;

/// How often every name is looked up again.
pub const AGAIN: Duration = Duration::from_secs(5);
/// How long a table with new names waits for their addresses.
const FIRST: Duration = Duration::from_millis(500);
/// How long a lookup may take.
const LOOKUP: Duration = Duration::from_secs(4);
/// How long one of several addresses may take to accept a connection before the next is tried.
const CONNECT: Duration = Duration::from_millis(300);
/// Most names looked up at once.
const AT_ONCE: usize = 64;

/// Names of instances, each with one of its ports.
pub type HostNames = BTreeMap<Box<str>, u16>;

/// The names in a table.
pub fn names(table: &Table) -> HostNames {
    let instances = table.services().iter().flat_map(|service| &service.instances);
    let name = |target: &Target| match target {
        Target::Name(name, port) => Some((name.clone(), *port)),
        Target::Socket(_) | Target::Unix(_) => None,
    };
    instances.filter_map(|instance| name(&instance.target)).collect()
}

/// Addresses of the names that are not `known`, as far as they are found within a moment.
pub async fn first(names: &HostNames, known: &Addresses) -> Addresses {
    let new: HostNames =
        names.iter().filter(|(name, _)| !known.contains_key(*name)).map(|(n, p)| (n.clone(), *p)).collect();
    match new.is_empty() {
        true => Addresses::new(),
        false => timeout(FIRST, again(&new, known)).await.unwrap_or_default(),
    }
}

/// Addresses of all these names. A failed lookup keeps the known address.
pub async fn again(names: &HostNames, known: &Addresses) -> Addresses {
    let mut found = Addresses::new();
    let names: Vec<_> = names.iter().collect();
    for some in names.chunks(AT_ONCE) {
        let asked = some.iter().map(|(name, port)| look_up(name, **port, known.get(*name).copied()));
        let answers = some.iter().map(|(name, _)| (*name).clone()).zip(join_all(asked).await);
        found.extend(answers.filter_map(|(name, address)| Some((name, address?))));
    }
    found
}

async fn look_up(name: &str, port: u16, had: Option<IpAddr>) -> Option<IpAddr> {
    let answer = timeout(LOOKUP, lookup_host((name, port))).await;
    let Ok(Ok(addresses)) = answer else { return had };
    let addresses: BTreeSet<_> = addresses.map(|address| address.ip()).collect();
    match addresses.len() {
        0 => had,
        1 => addresses.first().copied(),
        _ => Some(reachable(addresses, port, had).await),
    }
}

/// The first address that accepts a connection, beginning with the one in use; if none does, that one, or else the
/// first.
async fn reachable(addresses: BTreeSet<IpAddr>, port: u16, had: Option<IpAddr>) -> IpAddr {
    let first = had.filter(|had| addresses.contains(had)).or(addresses.first().copied());
    let others = addresses.iter().copied().filter(|address| Some(*address) != first);
    for address in first.into_iter().chain(others) {
        if matches!(timeout(CONNECT, TcpStream::connect(SocketAddr::new(address, port))).await, Ok(Ok(_))) {
            return address;
        }
    }
    first.unwrap_or(IpAddr::from([0, 0, 0, 0]))
}
