//! Who listens where: which TCP service gets a port, and which instances would be ourselves. Opens nothing.

use std::net::{IpAddr, SocketAddr};

use crate::compile::Limits;
use crate::model::{Bind, ServiceName, Target};

/// What a TCP service asks for.
pub(crate) struct Claim {
    pub(crate) name: ServiceName,
    pub(crate) binds: Box<[Bind]>,
}

/// A bind that a service does not get.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// Position of the claim.
    pub(crate) claim: usize,
    pub(crate) bind: Bind,
    pub(crate) advice: String,
}

/// Gives each port to whom claims it first. Returns who got what, ordered by bind, with the claim's position.
pub(crate) fn allot(claims: &[Claim], own: &[SocketAddr]) -> (Vec<(Bind, usize)>, Vec<Refusal>) {
    let mut taken: Vec<(Bind, usize)> = Vec::new();
    let mut by_port = std::collections::HashMap::<u16, Vec<usize>, foldhash::fast::RandomState>::default();
    let mut refused = Vec::new();
    for (claim, asked) in claims.iter().enumerate() {
        for &bind in &asked.binds {
            let same_port = by_port.entry(bind.port).or_default();
            let holder = same_port.iter().map(|&at| taken[at]).find(|(have, _)| overlaps(have.address, bind.address));
            let advice = ours(bind, own).or_else(|| Some(held_by(holder?, claims)));
            match advice {
                Some(advice) => refused.push(Refusal { claim, bind, advice }),
                None => {
                    same_port.push(taken.len());
                    taken.push((bind, claim));
                }
            }
        }
    }
    taken.sort_unstable();
    (taken, refused)
}

fn ours(bind: Bind, own: &[SocketAddr]) -> Option<String> {
    let ours = own.iter().find(|own| own.port() == bind.port && overlaps(own.ip(), bind.address))?;
    Some(format!("the balancer itself listens on {ours}; choose another port"))
}

fn held_by((bind, claim): (Bind, usize), claims: &[Claim]) -> String {
    format!("tcp service {} already listens on {bind}; choose another port", claims[claim].name)
}

/// Whether one machine cannot listen on both with one port.
fn overlaps(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// Every address that we listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Ordered.
    sockets: Box<[(u16, IpAddr)]>,
    /// This machine's addresses, ordered.
    local: Box<[IpAddr]>,
}

impl Listening {
    /// Our own addresses and those of TCP services.
    pub(crate) fn new(limits: &Limits, binds: impl Iterator<Item = Bind>) -> Self {
        let own = limits.own.iter().map(|own| (own.port(), own.ip().to_canonical()));
        let mut sockets: Vec<_> = own.chain(binds.map(|bind| (bind.port, bind.address.to_canonical()))).collect();
        sockets.sort_unstable();
        sockets.dedup();
        let mut local: Box<[_]> = limits.local.iter().map(IpAddr::to_canonical).collect();
        local.sort_unstable();
        Self { sockets: sockets.into(), local }
    }

    /// The address of ours that a connection to this target would reach.
    pub(crate) fn reached_by(&self, target: &Target) -> Option<SocketAddr> {
        let (address, port) = endpoint(target)?;
        let first = self.sockets.partition_point(|&(have, _)| have < port);
        let same_port = self.sockets[first..].iter().take_while(|(have, _)| *have == port);
        let ours = same_port.map(|&(_, ours)| ours).find(|&ours| self.reaches(address, ours))?;
        Some(SocketAddr::new(ours, port))
    }

    fn reaches(&self, address: IpAddr, ours: IpAddr) -> bool {
        address == ours
            || (ours.is_unspecified() && self.is_local(address))
            // Connecting to the unspecified address reaches loopback.
            || (address.is_unspecified() && ours.is_loopback())
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.is_unspecified() || self.local.binary_search(&address).is_ok()
    }
}

/// Where a target leads, as far as that is known without asking anyone. RFC 6761 §6.3: `localhost` is loopback.
fn endpoint(target: &Target) -> Option<(IpAddr, u16)> {
    match target {
        Target::Socket(socket) => Some((socket.ip().to_canonical(), socket.port())),
        Target::Name(name, port) if &**name == "localhost" || name.ends_with(".localhost") => {
            Some((IpAddr::from([127, 0, 0, 1]), *port))
        }
        Target::Name(..) | Target::Unix(_) => None,
    }
}
