//! Judges a service's instances: their values, and whether an instance may be where they lead. Resolves nothing: what
//! names resolve to comes with the limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::discovery::Dns;
use crate::found::{self, Finding, LOOKED_UP, is_localhost};
use crate::instance::{self, Instance, Target};
use crate::keys::{Part, classify};
use crate::limits::{Limits, Resolved};
use crate::model::Config;
use crate::names::{InstanceName, Protocol, ServiceName};
use crate::ports::Listening;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;

/// Most addresses of an instance with a host name: the lowest.
const MOST_ADDRESSES: usize = 32;

/// The inputs for judging a service's instances, besides its own keys.
pub(crate) struct World<'a> {
    pub(crate) limits: &'a Limits,
    /// The store's revision of the keys.
    pub(crate) revision: u64,
    pub(crate) listening: &'a Listening,
    pub(crate) defaults: &'a Config,
    /// Whether our listening addresses changed.
    pub(crate) moved: bool,
    /// Whether defaults of services changed.
    pub(crate) retimed: bool,
    /// Whether some name resolves differently now.
    pub(crate) renamed: bool,
}

impl World<'_> {
    /// The reason that forbids an instance at this address.
    fn obstacle(&self, address: SocketAddr) -> Option<(ProblemKind, String)> {
        let forbidden = || Some((ProblemKind::Denied, self.limits.places.forbid(address.ip())?));
        let us = self.listening.reached_by(address);
        us.map(|us| (ProblemKind::Loop, format!("{us}; an instance there would be a loop"))).or_else(forbidden)
    }
}

/// A service's judged instances.
pub(crate) struct Judgement {
    /// Those that serve, ordered by name.
    pub(crate) instances: Box<[Instance]>,
    pub(crate) problems: Box<[Problem]>,
    /// The host names of all of them, served or not.
    pub(crate) names: Box<[Box<str>]>,
}

/// Judges all instances, those of `dns` too unless the engine finds them itself. `before`: those that served until now, ordered by name.
pub(crate) fn place(
    (protocol, name): (Protocol, &ServiceName),
    raw: &RawKeys,
    (port, dns): (u16, Option<&Dns>),
    before: &[Instance],
    world: &World<'_>,
) -> Judgement {
    let report = Report::of_service(&world.limits.prefix, protocol, name);
    let mut all = Instances { port, world, before, report, good: Vec::new(), names: Vec::new() };
    for (key, value) in raw.iter() {
        match classify(protocol, key, value) {
            Part::Upstream(name) => all.add(key, name, value),
            Part::Direct(name) if is_upstream_too(protocol, raw, name) => all.report_twice(key, value),
            Part::Direct(name) => all.add(key, name, value),
            Part::Nothing | Part::Setting | Part::Unknown(_) => {}
        }
    }
    if let Some(dns) = dns.filter(|_| !world.limits.capabilities.resolves()) {
        all.add_found(dns);
    }
    all.good.sort_by(|a, b| a.name.cmp(&b.name));
    Judgement { instances: all.good.into(), problems: all.report.finish(), names: all.names.into() }
}

/// The instances of one service, while they are judged.
struct Instances<'a> {
    port: u16,
    world: &'a World<'a>,
    before: &'a [Instance],
    report: Report<'a>,
    good: Vec<Instance>,
    names: Vec<Box<str>>,
}

/// An instance's key and value.
type Written<'k> = (&'k str, &'k str);

impl Instances<'_> {
    fn add(&mut self, key: &str, name: &str, value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else {
            let value = String::from_utf8_lossy(value);
            return self.report.add(ProblemKind::BadInstance, key, Some(&value), "expected UTF-8 text");
        };
        match instance::parse(name, text, self.port) {
            Ok(instance) => self.admit((key, text), instance),
            Err(advice) => self.refuse((key, text), ProblemKind::BadInstance, advice),
        }
    }

    /// Adds those of `dns`. One in the keys with the same name goes before it.
    fn add_found(&mut self, dns: &Dns) {
        let Some(names) = self.world.limits.names.as_deref() else { return };
        let Finding { instances, names, trouble } = found::find(dns, self.port, names, self.before);
        let text = dns.to_string();
        self.names.extend(names);
        if let Some(advice) = trouble {
            self.refuse(("dns", &text), ProblemKind::Unresolved, advice);
        }
        for instance in instances.into_values() {
            if self.good.iter().all(|known| known.name != instance.name) {
                self.admit_fixed(("dns", &text), instance);
            }
        }
    }

    fn admit(&mut self, written: Written<'_>, instance: Instance) {
        match &instance.target {
            Target::Name(name, port) => {
                let (name, port) = (name.clone(), *port);
                self.admit_named(written, instance, &name, port);
            }
            Target::Socket(_) | Target::Unix(_) => self.admit_fixed(written, instance),
        }
    }

    /// An instance at an address or a socket.
    fn admit_fixed(&mut self, written: Written<'_>, instance: Instance) {
        let obstacle = match &instance.target {
            Target::Socket(address) => self.world.obstacle(*address),
            Target::Unix(path) => self.world.limits.places.forbid_path(path).map(|why| (ProblemKind::Denied, why)),
            Target::Name(..) => None,
        };
        match obstacle {
            Some((kind, advice)) => self.refuse(written, kind, advice),
            None => self.good.push(instance),
        }
    }

    fn admit_named(&mut self, written: Written<'_>, instance: Instance, name: &str, port: u16) {
        if is_localhost(name) {
            return self.admit_resolved(
                written,
                instance,
                &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                port,
            );
        }
        self.names.push(name.into());
        let Some(names) = &self.world.limits.names else { return self.good.push(instance) };
        let Some(Resolved { addresses, failure, .. }) = names.get(name) else {
            return self.admit_unknown(written, instance);
        };
        let addresses = &addresses[..addresses.len().min(MOST_ADDRESSES)];
        if let Some(why) = failure {
            let meanwhile = match addresses.is_empty() {
                true => "the instance is left out until it does".to_owned(),
                false => format!("its last addresses serve on: {}", in_words(addresses)),
            };
            self.refuse(written, ProblemKind::Unresolved, format!("{name} does not resolve: {why}; {meanwhile}"));
        }
        self.admit_resolved(written, instance, addresses, port);
    }

    /// An instance whose name is being looked up for the first time: its earlier address stays in use.
    fn admit_unknown(&mut self, written: Written<'_>, instance: Instance) {
        let advice = format!("{LOOKED_UP}; until it is known, the instance stays where it was, or is left out");
        self.refuse(written, ProblemKind::Unresolved, advice);
        let Some(before) = self.served(&instance.name).cloned() else { return };
        let (target, resolved) = (before.target, before.resolved);
        let addresses: Vec<_> = resolved.iter().map(SocketAddr::ip).collect();
        let port = resolved.first().map(SocketAddr::port);
        let instance = Instance { target, ..instance };
        match port {
            Some(port) => self.admit_resolved(written, instance, &addresses, port),
            None => self.admit_fixed(written, instance),
        }
    }

    /// Keeps the allowed addresses, and reports why others are left out.
    fn admit_resolved(&mut self, written: Written<'_>, instance: Instance, addresses: &[IpAddr], port: u16) {
        let judged = addresses.iter().map(|address| SocketAddr::new(*address, port));
        let judged = judged.map(|address| (address, self.world.obstacle(address)));
        let (bad, good): (Vec<_>, Vec<_>) = judged.partition(|(_, obstacle)| obstacle.is_some());
        if let Some((address, (kind, advice))) = bad.into_iter().find_map(|(address, why)| Some((address, why?))) {
            let advice = format!("{} leads to {address}, which is not used: {advice}", instance.target);
            self.refuse(written, kind, advice);
        }
        if !good.is_empty() {
            self.good.push(Instance { resolved: good.into_iter().map(|(address, _)| address).collect(), ..instance });
        }
    }

    fn served(&self, name: &InstanceName) -> Option<&Instance> {
        self.before.binary_search_by(|before| before.name.cmp(name)).ok().map(|at| &self.before[at])
    }

    fn refuse(&mut self, (key, text): Written<'_>, kind: ProblemKind, advice: String) {
        self.report.add(kind, key, Some(text), advice);
    }

    fn report_twice(&mut self, key: &str, value: &[u8]) {
        let advice = "upstreams/ has an instance of the same name, which is used instead; rename one of the two";
        self.report.add(ProblemKind::BadInstance, key, Some(&String::from_utf8_lossy(value)), advice);
    }
}

fn in_words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_upstream_too(protocol: Protocol, raw: &RawKeys, name: &str) -> bool {
    let key = format!("upstreams/{name}");
    raw.get(&key).is_some_and(|value| classify(protocol, &key, value) != Part::Nothing)
}
