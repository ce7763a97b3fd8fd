//! What an earlier program has counted, beside what this one counts: so no counter falls when one program takes over from
//! another. The earlier program tells its counts until it ends, each time all of them; nothing is counted twice.

#![expect(clippy::disallowed_types, reason = "locked for a page and once a second, never for a request")]

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_table::Protocol;
use serde::{Deserialize, Serialize};

use super::health::Reason;
use super::snapshot::{Histogram, InstanceStats, ServiceStats, Snapshot, Totals};
use super::sums::Sums;

/// The counts of an earlier program, which include those of the programs before it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedCounts {
    services: Vec<CarriedService>,
    open: u64,
    accepted: u64,
    evicted: u64,
    glitches: u64,
    refused: u64,
    faults: Vec<(String, u64)>,
    handshakes: Vec<(String, bool, u64)>,
    sums: [Sums; 2],
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CarriedService {
    /// `services` or `tcp-services`.
    tree: String,
    service: String,
    totals: Totals,
    queued: u64,
    latency: Histogram,
    instances: Vec<CarriedInstance>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CarriedInstance {
    instance: String,
    target: String,
    totals: Totals,
    ejections: [u64; Reason::ALL.len()],
}

/// How long the counts of services and instances that this program does not know are kept after the other has ended.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What an earlier program has counted so far, and when it told that.
#[derive(Debug, Default)]
pub struct Earlier(Mutex<Option<(CarriedCounts, Instant)>>);

impl Earlier {
    /// Takes its newest counts, which replace those before.
    #[expect(clippy::disallowed_methods, reason = "told once a second at most")]
    pub fn tell(&self, counts: CarriedCounts) {
        *self.lock() = Some((counts, Instant::now()));
    }

    /// It has ended.
    pub fn end(&self) {
        self.lock().iter_mut().for_each(|(counts, _)| counts.end());
    }

    /// Our own counts with its.
    pub fn add_to(&self, own: Snapshot) -> Snapshot {
        let mut earlier = self.lock();
        let Some((counts, told)) = earlier.as_mut() else { return own };
        if told.elapsed() >= FORGET_AFTER {
            counts.keep_only(&own);
        }
        own.with(counts)
    }

    /// Our own sums with its.
    pub fn add_sums(&self, own: [Sums; 2]) -> [Sums; 2] {
        self.lock().as_ref().map_or(own, |(counts, _)| counts.add_sums(own))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(CarriedCounts, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CarriedCounts {
    /// The counts of this program so far.
    pub fn of(snapshot: &Snapshot, sums: [Sums; 2]) -> Self {
        let instance = |one: &InstanceStats| CarriedInstance {
            instance: one.instance.clone(),
            target: one.target.clone(),
            totals: one.totals,
            ejections: one.ejections.map(|(_, count)| count),
        };
        let service = |one: &ServiceStats| CarriedService {
            tree: one.protocol.tree().to_owned(),
            service: one.service.clone(),
            totals: one.totals,
            queued: one.queued,
            latency: one.latency.clone(),
            instances: one.instances.iter().map(instance).collect(),
        };
        Self {
            services: snapshot.services.iter().map(service).collect(),
            open: snapshot.connections_open,
            accepted: snapshot.connections_total,
            evicted: snapshot.connections_evicted,
            glitches: snapshot.http2_glitches,
            refused: snapshot.connections_refused,
            faults: snapshot.faults.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            handshakes: snapshot.handshakes.iter().map(|(v, again, count)| ((*v).to_owned(), *again, *count)).collect(),
            sums,
        }
    }

    /// The program has ended: it has no open work any more.
    pub fn end(&mut self) {
        self.open = 0;
        for service in &mut self.services {
            (service.queued, service.totals.active) = (0, 0);
            service.instances.iter_mut().for_each(|one| one.totals.active = 0);
        }
        self.sums.iter_mut().for_each(|sums| sums.totals.active = 0);
    }

    /// Forgets the services and instances that this program does not know. The sums over all services keep them.
    pub fn keep_only(&mut self, known: &Snapshot) {
        let all: BTreeSet<_> = known.services.iter().map(|one| (one.protocol.tree(), one.service.as_str())).collect();
        self.services.retain(|one| all.contains(&(one.tree.as_str(), one.service.as_str())));
        for service in &mut self.services {
            let own = known.services.iter().find(|one| service.is(one));
            let names: BTreeSet<_> = own.iter().flat_map(|own| own.instances.iter()).map(|one| &one.instance).collect();
            service.instances.retain(|one| names.contains(&one.instance));
        }
    }

    /// What all services of a protocol had counted, with what they count here.
    pub fn add_sums(&self, sums: [Sums; 2]) -> [Sums; 2] {
        let [http, tcp] = sums;
        [http.and(&self.sums[0]), tcp.and(&self.sums[1])]
    }
}

impl CarriedService {
    fn is(&self, other: &ServiceStats) -> bool {
        self.tree == other.protocol.tree() && self.service == other.service
    }

    fn protocol(&self) -> Option<Protocol> {
        [Protocol::Http, Protocol::Tcp].into_iter().find(|one| one.tree() == self.tree)
    }
}

impl Snapshot {
    /// These counts with those of an earlier program.
    #[must_use]
    pub fn with(mut self, carried: &CarriedCounts) -> Self {
        self.connections_open += carried.open;
        self.connections_total += carried.accepted;
        self.connections_evicted += carried.evicted;
        self.http2_glitches += carried.glitches;
        self.connections_refused += carried.refused;
        for (name, count) in &mut self.faults {
            *count += carried.faults.iter().filter(|(other, _)| other == name).map(|(_, count)| count).sum::<u64>();
        }
        for (version, again, count) in &mut self.handshakes {
            let same =
                carried.handshakes.iter().filter(|(other, other_again, _)| other == version && other_again == again);
            *count += same.map(|(_, _, count)| count).sum::<u64>();
        }
        let place = |all: &[ServiceStats], one: &CarriedService| all.iter().position(|own| one.is(own));
        for carried in &carried.services {
            let Some(protocol) = carried.protocol() else { continue };
            let at = place(&self.services, carried).unwrap_or_else(|| {
                self.services.push(ServiceStats {
                    protocol,
                    service: carried.service.clone(),
                    totals: Totals::default(),
                    queued: 0,
                    panic: false,
                    latency: Histogram::default(),
                    instances: Vec::new(),
                });
                self.services.len() - 1
            });
            self.services[at].add(carried);
        }
        self.services.sort_by(|a, b| (a.protocol, &a.service).cmp(&(b.protocol, &b.service)));
        self
    }
}

impl ServiceStats {
    fn add(&mut self, carried: &CarriedService) {
        self.totals = self.totals.plus(&carried.totals);
        self.queued += carried.queued;
        self.latency = std::mem::take(&mut self.latency).plus(&carried.latency);
        for one in &carried.instances {
            match self.instances.iter_mut().find(|own| own.instance == one.instance) {
                Some(own) => {
                    own.totals = own.totals.plus(&one.totals);
                    own.ejections.iter_mut().zip(one.ejections).for_each(|((_, sum), count)| *sum += count);
                }
                None => {
                    // This program has not had work for it.
                    let CarriedInstance { instance, target, totals, ejections } = one.clone();
                    self.instances.push(InstanceStats::counted(instance, target, totals, ejections));
                }
            }
        }
        self.instances.sort_by(|a, b| a.instance.cmp(&b.instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, requests: u64, active: u64) -> InstanceStats {
        let totals = Totals { requests, active, ..Totals::default() };
        InstanceStats::counted(name.into(), String::new(), totals, Default::default())
    }

    fn snapshot(service: &str, instances: Vec<InstanceStats>) -> Snapshot {
        let totals = instances.iter().fold(Totals::default(), |sum, one| sum.plus(&one.totals));
        let latency = Histogram { buckets: vec![(0.1, 1), (1.0, 2)], sum: 0.5, count: 2 };
        let service = ServiceStats {
            protocol: Protocol::Http,
            service: service.into(),
            totals,
            queued: 0,
            panic: false,
            latency,
            instances,
        };
        let faults = vec![("no_route", 2), ("slow", 0)];
        Snapshot { services: vec![service], connections_total: 5, connections_open: 1, faults, ..Snapshot::default() }
    }

    fn carried(snapshot: &Snapshot) -> CarriedCounts {
        let sums = [Protocol::Http, Protocol::Tcp].map(|protocol| Sums::of(snapshot, protocol));
        let text = serde_json::to_string(&CarriedCounts::of(snapshot, sums)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A service, its requests, and those of its instances.
    type Requests = (String, u64, Vec<(String, u64)>);

    fn requests(snapshot: &Snapshot) -> Vec<Requests> {
        let of = |one: &ServiceStats| {
            let instances = one.instances.iter().map(|one| (one.instance.clone(), one.totals.requests));
            (one.service.clone(), one.totals.requests, instances.collect())
        };
        snapshot.services.iter().map(of).collect()
    }

    #[test]
    fn counts_go_on_where_the_earlier_program_was() {
        let before = carried(&snapshot("b", vec![instance("one", 3, 1), instance("two", 4, 0)]));
        let both = snapshot("b", vec![instance("one", 10, 0)]).with(&before);
        let named = |all: &[(&str, u64)]| all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(requests(&both), [("b".to_owned(), 17, named(&[("one", 13), ("two", 4)]))]);
        assert_eq!((both.connections_total, both.connections_open, both.faults[0].1), (10, 2, 4));
        assert_eq!((both.services[0].latency.count, both.services[0].latency.buckets[1].1), (4, 4));
        let other = snapshot("a", vec![instance("x", 1, 0)]).with(&before);
        assert_eq!(requests(&other).iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(before.add_sums([Sums::default(); 2])[0].totals.requests, 7);
    }

    #[test]
    fn what_has_ended_has_no_open_work() {
        let mut before = carried(&snapshot("b", vec![instance("one", 3, 1)]));
        before.end();
        let both = snapshot("b", Vec::new()).with(&before);
        assert_eq!((both.services[0].totals.active, both.services[0].instances[0].totals.active), (0, 0));
        assert_eq!(both.services[0].totals.requests, 3);
    }

    #[test]
    fn what_is_gone_for_long_is_forgotten_but_in_the_sums() {
        let mut before = carried(&snapshot("b", vec![instance("one", 3, 0), instance("two", 4, 0)]));
        before.keep_only(&snapshot("b", vec![instance("two", 1, 0)]));
        assert_eq!(requests(&Snapshot::default().with(&before))[0].2, [("two".to_owned(), 4)]);
        before.keep_only(&snapshot("c", Vec::new()));
        assert!(Snapshot::default().with(&before).services.is_empty());
        assert_eq!(before.add_sums([Sums::default(); 2])[0].totals.requests, 7);
    }
}
