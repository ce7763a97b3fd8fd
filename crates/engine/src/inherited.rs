//! Listening sockets that this process was given: by the program that it takes over from, or by the service manager. An
//! address is opened with them; new sockets only join them. Accepts from none.

#![expect(clippy::disallowed_types, reason = "locked when a port is opened, never for a connection")]

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};

use super::sockets::{Claim, listen};

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerRole {
    /// An address of `--http`.
    Http,
    /// An address of `--https`.
    Https,
    /// The address of `--admin`.
    Admin,
    /// An address that keys name: of a TCP service, or the usual one of HTTPS.
    Keys,
}

/// A listening socket on its way from one program to the next.
#[derive(Debug)]
pub struct GivenSocket {
    /// The socket.
    pub listener: TcpListener,
    /// What it was for; `None`: the service manager does not say.
    pub role: Option<ListenerRole>,
    /// Its giver keeps it open: closing it here would not free the address, so it is used again when it is wanted again.
    pub stays: bool,
}

/// A request for copies of an engine's listening sockets.
pub type LendRequest = oneshot::Sender<io::Result<Vec<GivenSocket>>>;
/// The requests that an engine gets. At most a few wait.
pub type LendRequests = mpsc::Receiver<LendRequest>;

/// The sockets that were given and are not in use. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Arc<Mutex<Unused>>);

#[derive(Debug, Default)]
struct Unused {
    sockets: Vec<GivenSocket>,
    /// They come from a program that serves on until this one does.
    of_program: bool,
    /// Addresses that somebody else, such as HAProxy, gets sockets for.
    elsewhere: BTreeSet<SocketAddr>,
}

impl Inherited {
    /// With these sockets.
    pub fn new(sockets: Vec<GivenSocket>) -> Self {
        for GivenSocket { listener, .. } in &sockets {
            let socket = SockRef::from(listener);
            // A service manager may have set other options. Without these, it works less well.
            let _ = socket.set_nonblocking(true);
            let _ = socket.set_tcp_nodelay(true);
            let _ = socket.set_reuse_port(true);
        }
        let of_program = sockets.iter().any(|one| one.role.is_some());
        Self(Arc::new(Mutex::new(Unused { sockets, of_program, elsewhere: BTreeSet::new() })))
    }

    /// Whether another program accepts from these sockets until this one does: then nothing is accepted before this one can
    /// answer.
    pub fn of_program(&self) -> bool {
        self.lock().of_program
    }

    /// Notes addresses that can be opened although they are in use: HAProxy gets their sockets from another HAProxy.
    pub fn expect(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.lock().elsewhere.extend(addresses);
    }

    /// Whether there is a socket for this address.
    pub fn has(&self, address: SocketAddr) -> bool {
        let unused = self.lock();
        unused.elsewhere.contains(&address) || unused.sockets.iter().any(|one| is_at(one, address))
    }

    /// Opens the address with the sockets that were given for it, all of them, and with new ones up to `count`; without any,
    /// with `count` new ones. There may be more than `count`: each must be accepted from, as the kernel spreads connections
    /// over all. Port 0 means a given socket of the same role and IP address.
    ///
    /// # Errors
    /// As [`listen`].
    pub fn open(
        &self,
        address: SocketAddr,
        role: ListenerRole,
        count: usize,
        claim: Claim,
    ) -> io::Result<Vec<TcpListener>> {
        let given = self.take(address, role)?;
        match given.first() {
            None => listen(address, count, claim),
            Some(first) => filled_up(first.local_addr()?, given, count),
        }
    }

    fn take(&self, address: SocketAddr, role: ListenerRole) -> io::Result<Vec<TcpListener>> {
        let mut unused = self.lock();
        let of_role =
            |one: &&GivenSocket| one.role == Some(role) && one.listener.local_addr().is_ok_and(is_like(address));
        let address = match address.port() {
            0 => unused.sockets.iter().find(of_role).and_then(|one| one.listener.local_addr().ok()).unwrap_or(address),
            _ => address,
        };
        let (found, rest) = std::mem::take(&mut unused.sockets).into_iter().partition(|one| is_at(one, address));
        unused.sockets = rest;
        let mut listeners = Vec::new();
        for given in found {
            match given.stays {
                true => {
                    listeners.push(given.listener.try_clone()?);
                    unused.sockets.push(given);
                }
                false => listeners.push(given.listener),
            }
        }
        Ok(listeners)
    }

    /// Closes the sockets that nothing was opened with, and returns their addresses. Those that stay open at their giver
    /// are kept.
    pub fn close_unused(&self) -> BTreeSet<SocketAddr> {
        let mut unused = self.lock();
        unused.elsewhere.clear();
        let closed: Vec<_> = unused.sockets.extract_if(.., |one| !one.stays).collect();
        closed.iter().filter_map(|one| one.listener.local_addr().ok()).collect()
    }

    /// Copies of the sockets that stay open at their giver.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn copies(&self) -> io::Result<Vec<GivenSocket>> {
        let unused = self.lock();
        let staying = unused.sockets.iter().filter(|one| one.stays);
        staying
            .map(|one| Ok(GivenSocket { listener: one.listener.try_clone()?, role: one.role, stays: true }))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Unused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_at(one: &GivenSocket, address: SocketAddr) -> bool {
    one.listener.local_addr().is_ok_and(|local| local == address)
}

/// Whether an address has the IP address that is asked for.
fn is_like(asked: SocketAddr) -> impl Fn(SocketAddr) -> bool {
    move |local| local.ip() == asked.ip()
}

/// Adds sockets up to `count`. If the kernel refuses another on this address, because the first belongs to another user,
/// several workers accept from the same one.
fn filled_up(address: SocketAddr, mut given: Vec<TcpListener>, count: usize) -> io::Result<Vec<TcpListener>> {
    let there = given.len();
    for number in there..count {
        let more = listen(address, 1, Claim::BesideOurs).ok().and_then(|mut one| one.pop());
        let socket = match more {
            Some(socket) => socket,
            None => given[number % there].try_clone()?,
        };
        given.push(socket);
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(address: &str, role: ListenerRole, count: usize) -> (SocketAddr, Vec<GivenSocket>) {
        let sockets = listen(address.parse().unwrap(), count, Claim::Alone).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let give = |listener| GivenSocket { listener, role: Some(role), stays: false };
        (address, sockets.into_iter().map(give).collect())
    }

    #[test]
    fn an_address_is_opened_with_the_sockets_given_for_it() {
        for (given_count, wanted, expected) in [(2, 2, 2), (1, 3, 3), (3, 1, 3)] {
            let (address, sockets) = given("127.0.0.1:0", ListenerRole::Http, given_count);
            let inherited = Inherited::new(sockets);
            assert!(inherited.has(address));
            let opened = inherited.open(address, ListenerRole::Http, wanted, Claim::Alone).unwrap();
            assert_eq!(opened.len(), expected);
            assert!(opened.iter().all(|one| one.local_addr().unwrap() == address));
            assert!(!inherited.has(address));
            let refused = inherited.open(address, ListenerRole::Http, 1, Claim::Alone).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "the sockets are used once");
        }
    }

    #[test]
    fn port_0_means_a_socket_of_the_same_role() {
        let (http, mut sockets) = given("127.0.0.1:0", ListenerRole::Http, 1);
        let (admin, more) = given("127.0.0.1:0", ListenerRole::Admin, 1);
        sockets.extend(more);
        let inherited = Inherited::new(sockets);
        let any = "127.0.0.1:0".parse().unwrap();
        let open = |role| inherited.open(any, role, 1, Claim::Alone).unwrap()[0].local_addr().unwrap();
        assert_eq!([open(ListenerRole::Admin), open(ListenerRole::Http)], [admin, http]);
        assert_ne!(open(ListenerRole::Http), http, "a new one");
    }

    #[test]
    fn a_socket_that_stays_at_its_giver_is_used_again() {
        let (address, sockets) = given("127.0.0.1:0", ListenerRole::Keys, 1);
        let sockets = sockets.into_iter().map(|one| GivenSocket { stays: true, ..one }).collect();
        let inherited = Inherited::new(sockets);
        for _ in 0..2 {
            drop(inherited.open(address, ListenerRole::Keys, 1, Claim::Alone).unwrap());
        }
        assert!(inherited.close_unused().is_empty() && inherited.has(address));
        assert_eq!(inherited.copies().unwrap().len(), 1);
    }

    #[test]
    fn what_nobody_wants_is_closed() {
        let (address, sockets) = given("127.0.0.1:0", ListenerRole::Keys, 2);
        let inherited = Inherited::new(sockets);
        assert_eq!(inherited.close_unused(), [address].into());
        assert!(listen(address, 1, Claim::Alone).is_ok());
    }
}
