//! Assigns ports to TCP services, and finds instances that lead back to us. Opens nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Bind, HostPattern};
use crate::instance::Target;
use crate::limits::Limits;
use crate::model::Service;
use crate::names::ServiceName;
use crate::problem::ProblemKind;

/// What a TCP service asks for.
pub(crate) struct Claim<'a> {
    pub(crate) name: &'a ServiceName,
    pub(crate) binds: &'a [Bind],
    /// Its TLS server names there; empty: it takes every connection.
    pub(crate) sni: &'a [HostPattern],
    /// It has no instances: it yields to services that have some.
    pub(crate) is_empty: bool,
}

/// Maximum addresses of one service, if the total allows as many.
const MOST_OF_A_SERVICE: usize = 100;

/// The outcome. A service is named by the position of its claim.
#[derive(Debug, Default)]
pub(crate) struct Allotment {
    pub(crate) shares: BTreeMap<Bind, Share>,
    pub(crate) refused: Vec<Refusal>,
    /// Ordered by loser and winner.
    pub(crate) shadowed: Vec<SniShadow>,
}

/// The services behind one listening address.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// The service that takes connections that no name matches.
    rest: Option<usize>,
    pub(crate) names: BTreeMap<HostPattern, usize>,
}

/// A bind that a service does not get.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) claim: usize,
    pub(crate) bind: Bind,
    pub(crate) kind: ProblemKind,
    pub(crate) advice: String,
}

/// A server name that a service does not get.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SniShadow {
    pub(crate) loser: usize,
    pub(crate) winner: usize,
    pub(crate) bind: Bind,
    pub(crate) name: HostPattern,
}

/// Gives each port to the first service that claims it, services with instances first. Services with server names share
/// a port, also with one service that takes the rest. Claims beyond `limits` are refused.
pub(crate) fn allot(claims: &[Claim<'_>], limits: &Limits) -> Allotment {
    let mut all = Allotment::default();
    let within = all.within_limits(claims, limits);
    let mut by_port = HashMap::<u16, Vec<Bind>, foldhash::fast::RandomState>::default();
    for (claim, bind) in within {
        let same_port = by_port.entry(bind.port).or_default();
        let obstacle = ours(bind, &limits.own).or_else(|| all.obstacle(bind, same_port, claims, claim));
        match obstacle {
            Some(advice) => all.refuse(claim, bind, ProblemKind::PortTaken, advice),
            None if all.shares.contains_key(&bind) => all.admit(claim, bind, claims[claim].sni),
            None => {
                same_port.push(bind);
                all.admit(claim, bind, claims[claim].sni);
            }
        }
    }
    all.refused.sort_by_key(|refusal| refusal.claim);
    all.shadowed.sort_unstable();
    all
}

impl Allotment {
    /// The claims within the limits, in the order in which they are met; refuses the others. Every service gets its
    /// first address before any gets its second, so that a long list takes none from a short one.
    fn within_limits(&mut self, claims: &[Claim<'_>], limits: &Limits) -> Vec<(usize, Bind)> {
        let total = limits.listeners.unwrap_or(usize::MAX);
        let share = (total / 4).clamp(1, MOST_OF_A_SERVICE);
        let mut met = Vec::new();
        for (claim, asked) in claims.iter().enumerate() {
            for (at, &bind) in asked.binds.iter().enumerate() {
                match at < share {
                    true => met.push((at, claim, bind)),
                    false => self.refuse(claim, bind, ProblemKind::TooManyPorts, too_many_of_one(asked, share)),
                }
            }
        }
        met.sort_by_key(|&(at, claim, _)| (at, claims[claim].is_empty, claim));
        let mut distinct = HashSet::<Bind, foldhash::fast::RandomState>::default();
        met.retain(|&(_, claim, bind)| {
            let fits = distinct.contains(&bind) || distinct.len() < total && distinct.insert(bind);
            if !fits {
                self.refuse(claim, bind, ProblemKind::TooManyPorts, too_many_of_all(total));
            }
            fits
        });
        met.sort_by_key(|&(at, claim, _)| (claims[claim].is_empty, claim, at));
        met.into_iter().map(|(_, claim, bind)| (claim, bind)).collect()
    }

    fn refuse(&mut self, claim: usize, bind: Bind, kind: ProblemKind, advice: String) {
        self.refused.push(Refusal { claim, bind, kind, advice });
    }

    /// Why a claim cannot have this bind, if another service on the same port is in its way.
    fn obstacle(&self, bind: Bind, same_port: &[Bind], claims: &[Claim<'_>], claim: usize) -> Option<String> {
        if let Some(share) = self.shares.get(&bind) {
            let rest = share.rest.filter(|_| claims[claim].sni.is_empty())?;
            return Some(format!("{}, or give it a server name with sni", held_by(bind, &claims[rest])));
        }
        let other = same_port.iter().find(|have| overlaps(have.address, bind.address))?;
        Some(held_by(*other, &claims[self.shares[other].first()]))
    }

    fn admit(&mut self, claim: usize, bind: Bind, names: &[HostPattern]) {
        let share = self.shares.entry(bind).or_default();
        if names.is_empty() {
            share.rest = Some(claim);
        }
        for name in names {
            let winner = *share.names.entry(name.clone()).or_insert(claim);
            if winner != claim {
                self.shadowed.push(SniShadow { loser: claim, winner, bind, name: name.clone() });
            }
        }
    }
}

impl Share {
    /// The service that takes the rest, else the one that claimed first.
    pub(crate) fn first(&self) -> usize {
        let first = || self.names.values().min().copied();
        self.rest.or_else(first).expect("every share has names or a service that takes the rest")
    }
}

fn ours(bind: Bind, own: &[SocketAddr]) -> Option<String> {
    let ours = own.iter().find(|own| own.port() == bind.port && overlaps(own.ip(), bind.address))?;
    Some(format!("the balancer itself listens on {ours}; choose another port"))
}

fn too_many_of_one(asked: &Claim<'_>, share: usize) -> String {
    format!(
        "the service asks for {} addresses to listen on and may have {share}: each takes a descriptor of every worker; \
         name fewer, or raise the limit on open files",
        asked.binds.len()
    )
}

fn too_many_of_all(total: usize) -> String {
    format!(
        "all services together may listen on {total} addresses, a quarter of the descriptors: each takes one of every \
         worker; name fewer, or raise the limit on open files"
    )
}

fn held_by(bind: Bind, holder: &Claim<'_>) -> String {
    format!("tcp service {} already listens on {bind}; choose another port", holder.name)
}

/// Whether one machine cannot listen on both addresses with the same port.
fn overlaps(a: IpAddr, b: IpAddr) -> bool {
    a == b || stands_for(a, b) || stands_for(b, a)
}

/// Whether the first is the wildcard address and takes what is sent to the second: `0.0.0.0` takes IPv4 only, `::` both
/// (ipv6(7), `net.ipv6.bindv6only`: we leave it at its default).
pub(crate) fn stands_for(any: IpAddr, address: IpAddr) -> bool {
    any.is_unspecified() && (any.is_ipv6() || address.to_canonical().is_ipv4())
}

/// Every address that this balancer has opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Ordered, each with the TCP service that asked for it.
    sockets: Box<[(u16, IpAddr, Option<ServiceName>)]>,
    /// This machine's addresses, ordered.
    local: Box<[IpAddr]>,
}

impl Listening {
    /// Our own addresses, and the bound addresses of TCP services; if no engine has tried yet, all claimed ones.
    pub(crate) fn new<'a>(limits: &Limits, claimed: impl Iterator<Item = (Bind, &'a ServiceName)>) -> Self {
        let claimed: BTreeMap<_, _> = claimed.collect();
        let bound = match &limits.bound {
            Some(bound) => bound.iter().map(|bind| (*bind, claimed.get(bind).map(|name| (*name).clone()))).collect(),
            None => claimed.into_iter().map(|(bind, name)| (bind, Some(name.clone()))).collect::<Vec<_>>(),
        };
        let own = limits.own.iter().map(|own| (own.port(), own.ip().to_canonical(), None));
        let bound = bound.into_iter().map(|(bind, name)| (bind.port, bind.address.to_canonical(), name));
        let mut sockets: Vec<_> = own.chain(bound).collect();
        sockets.sort_unstable();
        sockets.dedup();
        let mut local: Box<[_]> = limits.local.iter().map(IpAddr::to_canonical).collect();
        local.sort_unstable();
        Self { sockets: sockets.into(), local }
    }

    /// One address of a TCP service.
    pub(crate) fn only(limits: &Limits, bind: Bind) -> Self {
        Self::new(
            &Limits { own: Box::default(), bound: Some(Arc::new([bind].into())), ..limits.clone() },
            [].into_iter(),
        )
    }

    /// Whether an instance of this service leads to us.
    pub(crate) fn is_reached_by(&self, service: &Service) -> bool {
        { &service.instances }.iter().any(|instance| match &instance.target {
            Target::Socket(address) => self.reached_by(*address).is_some(),
            Target::Name(..) => instance.resolved.iter().any(|address| self.reached_by(*address).is_some()),
            Target::Unix(_) => false,
        })
    }

    /// The listener in words, if a connection to this address would reach this balancer.
    pub(crate) fn reached_by(&self, address: SocketAddr) -> Option<String> {
        let (address, port) = (address.ip().to_canonical(), address.port());
        let first = self.sockets.partition_point(|(have, ..)| *have < port);
        let mut same_port = self.sockets[first..].iter().take_while(|(have, ..)| *have == port);
        let (_, ours, service) = same_port.find(|(_, ours, _)| self.reaches(address, *ours))?;
        let ours = SocketAddr::new(*ours, port);
        Some(match service {
            Some(name) => format!("the balancer itself listens on {ours} for tcp service {name}"),
            None => format!("the balancer itself listens on {ours}"),
        })
    }

    fn reaches(&self, address: IpAddr, ours: IpAddr) -> bool {
        address == ours
            || (stands_for(ours, address) && self.is_local(address))
            // Connecting to the unspecified address reaches loopback.
            || (address.is_unspecified() && ours.is_loopback() && address.is_ipv4() == ours.is_ipv4())
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.is_unspecified() || self.local.binary_search(&address).is_ok()
    }
}
