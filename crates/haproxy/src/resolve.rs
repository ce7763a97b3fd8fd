//! Chooses an address for each instance whose host name has several: a server of HAProxy has one. What names resolve to
//! comes with the table; nothing is looked up or stored here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use pointsman_table::{Table, Target};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::model::Addresses;

/// How often the choice is made again.
pub const AGAIN: Duration = Duration::from_secs(5);
/// How long a table with new names waits for the choice.
const FIRST: Duration = Duration::from_millis(500);
/// How long one of several addresses may take to accept a connection before the next is tried.
const CONNECT: Duration = Duration::from_millis(300);
/// Most targets tried at once.
const AT_ONCE: usize = 64;

/// Targets with several addresses, and those.
pub type Ambiguous = BTreeMap<Target, Box<[SocketAddr]>>;

/// The targets in a table that have several addresses.
pub fn ambiguous(table: &Table) -> Ambiguous {
    let instances = table.services().iter().flat_map(|service| &service.instances);
    let several = instances.filter(|instance| instance.resolved.len() > 1);
    several.map(|instance| (instance.target.clone(), instance.resolved.clone())).collect()
}

/// Chooses for these targets, as far as it is done within a moment.
pub async fn first(targets: &Ambiguous, had: &Addresses) -> Addresses {
    match targets.is_empty() {
        true => Addresses::new(),
        false => timeout(FIRST, again(targets, had)).await.unwrap_or_default(),
    }
}

/// Chooses for all these targets.
pub async fn again(targets: &Ambiguous, had: &Addresses) -> Addresses {
    let mut chosen = Addresses::new();
    let targets: Vec<_> = targets.iter().collect();
    for some in targets.chunks(AT_ONCE) {
        let asked = some.iter().map(|(target, addresses)| reachable(addresses, had.get(*target).copied()));
        let answers = some.iter().map(|(target, _)| (*target).clone()).zip(join_all(asked).await);
        chosen.extend(answers.filter_map(|(target, address)| Some((target, address?))));
    }
    chosen
}

/// The first address that accepts a connection, beginning with the one in use; if none does, that one, or else the
/// first.
async fn reachable(addresses: &[SocketAddr], had: Option<IpAddr>) -> Option<IpAddr> {
    let first = addresses.iter().find(|address| Some(address.ip()) == had).or(addresses.first())?;
    let others = addresses.iter().filter(|address| *address != first);
    for address in [first].into_iter().chain(others) {
        if matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_))) {
            return Some(address.ip());
        }
    }
    Some(first.ip())
}
