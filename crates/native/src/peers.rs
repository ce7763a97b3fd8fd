//! Compares instances with their peers, now and then and off the way of requests: ejects those whose success rate is far
//! below the others' (`eject` with `outliers`), and says when a service begins to use all its instances (`panic`).

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_engine::live::{
    Grounds, InstanceShared, Peer, Registry, ServicePeers, StandingEvent, StandingFlip, outliers,
};
use pointsman_table::{Eject, Protocol, Service, Table};
use tracing::{info, warn};

use crate::fault::NAMES;
use crate::pool::judge::{in_words, rules};

/// How many looks make the interval in which success rates are measured: 10 s.
const INTERVAL: u32 = 10;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    looks: u32,
    /// Requests and errors of instances at the begin of the interval, by the address of their shared state.
    before: HashMap<usize, (u64, u64)>,
}

impl Peers {
    /// Looks at the instances of all services: once a second.
    pub(crate) fn look(&mut self, table: &Table, registry: &Registry) {
        self.looks = (self.looks + 1) % INTERVAL;
        for service in table.services().iter().filter(|service| service.panic.is_some()) {
            registry.peers(service).into_iter().for_each(|peers| look_for_panic(service, &peers));
        }
        if self.looks == 0 {
            self.look_for_outliers(table, registry);
        }
    }

    fn look_for_outliers(&mut self, table: &Table, registry: &Registry) {
        let mut now = HashMap::new();
        for service in table.services() {
            let Some(eject) = service.eject.as_ref().filter(|eject| eject.outliers) else { continue };
            let Some(peers) = registry.peers(service) else { continue };
            let rates: Vec<_> = peers.instances.iter().map(|instance| self.rate(instance.as_ref(), &mut now)).collect();
            for (index, rate, mean) in outliers(&rates) {
                let grounds = Grounds::Outlier(rate, mean);
                eject_outlier((service, eject), (&peers, index), grounds, registry.clock());
            }
        }
        self.before = now;
    }

    /// What an instance did in this interval.
    fn rate(&self, instance: Option<&Arc<InstanceShared>>, now: &mut HashMap<usize, (u64, u64)>) -> Peer {
        let Some(instance) = instance else { return Peer::default() };
        let sums = instance.answered();
        let place = Arc::as_ptr(instance).addr();
        now.insert(place, sums);
        // Without a beginning there is no interval.
        let (requests, errors) = self.before.get(&place).copied().unwrap_or(sums);
        Peer { requests: sums.0.saturating_sub(requests), errors: sums.1.saturating_sub(errors) }
    }
}

fn eject_outlier(
    (service, eject): (&Service, &Eject),
    (peers, index): (&ServicePeers, usize),
    grounds: Grounds,
    now: u64,
) {
    let Some(instance) = &peers.instances[index] else { return };
    let has_place = || {
        let others = peers.instances.iter().flatten().filter(|other| !Arc::ptr_eq(other, instance));
        let count = service.instances.iter().filter(|instance| instance.takes_work()).count();
        others.filter(|other| other.health.takes_place(now)).count() < eject.most(count)
    };
    let at = (now, &rules(eject));
    let flip = instance.health.judge(at, StandingEvent::Outlier, Some(grounds), (&peers.service.places, has_place));
    if let Some(StandingFlip::Ejected(lasts)) = flip {
        let (name, target) = (&service.instances[index].name, &service.instances[index].target);
        let why = grounds.in_words(NAMES);
        warn!("service {} instance {name} ({target}) is ejected for {}: {why}", service.name, in_words(lasts));
    }
}

/// Says when panic begins and ends.
fn look_for_panic(service: &Service, peers: &ServicePeers) {
    let is_healthy = |index: usize| peers.instances[index].as_ref().is_none_or(|one| one.health.is_sound());
    let panic = service.in_panic(|index| service.instances[index].takes_work(), is_healthy);
    if peers.service.set_panic(panic.is_some()) == panic.is_some() {
        return;
    }
    let kind = if service.protocol == Protocol::Tcp { "tcp service" } else { "service" };
    match (panic, service.panic) {
        (Some(panic), Some(share)) => warn!(
            "{kind} {}: {} of {} instances are healthy, less than panic={share}; all of them are used",
            service.name, panic.healthy, panic.count
        ),
        _ => info!("{kind} {}: enough instances are healthy again; the others get no work", service.name),
    }
}
