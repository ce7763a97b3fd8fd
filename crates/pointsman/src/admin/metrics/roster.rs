//! Which services the metrics name, so that the page stays small, and the sum of the others. Renders nothing.
//!
//! No counter goes backwards: a service that is named stays named until it is gone. One that is named later begins at 0,
//! and what it counted before stays in the sum of the others, as does what services counted that are gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pointsman_engine::live::{Histogram, InstanceStats, Reason, ServiceStats, Snapshot, Totals};
use pointsman_table::{Protocol, Table};

/// The name of the sum of all services that are not named. A service of this name is one of them.
pub(super) const OTHERS: &str = "(others)";
/// Series that are there whatever the services are, with those of [`OTHERS`] and of [`MOST_LISTED`] lists.
const FIXED: usize = 400;
/// About how many series a service has, and how many more for each of its instances.
const OF_SERVICE: usize = 36;
const OF_INSTANCE: usize = 16;
/// How many instances that are down, and how many certificates, are listed where not all services are named.
pub(super) const MOST_LISTED: usize = 100;
/// Half of the places are filled at once; one more in this time.
const NAME_EVERY: Duration = Duration::from_secs(60);

type ServicePath = (Protocol, String);
type EjectionCounts = [u64; Reason::ALL.len()];

/// The names that the metrics show, from page to page.
#[derive(Clone, Debug)]
pub struct MetricNames {
    /// The most series; `None`: no limit.
    most: Option<usize>,
    book: Arc<Mutex<RosterBook>>,
}

#[derive(Debug, Default)]
struct RosterBook {
    named: HashMap<ServicePath, Base>,
    /// What the others counted, when that was read last.
    others: HashMap<ServicePath, Sum>,
    /// What those counted that are gone or named meanwhile, by protocol.
    before: [Sum; 2],
    /// When the next service may be named beyond the first half of the places.
    next: Option<Instant>,
}

/// What a service counted before it was named. Empty, as usual: nothing.
#[derive(Debug, Default)]
struct Base {
    whole: Sum,
    instances: HashMap<String, (Totals, EjectionCounts)>,
}

/// The counters of a service.
#[derive(Clone, Debug, Default)]
struct Sum {
    totals: Totals,
    latency: Histogram,
    ejections: EjectionCounts,
}

impl Sum {
    fn of(service: &ServiceStats) -> Self {
        let mut ejections = EjectionCounts::default();
        for instance in &service.instances {
            ejections.iter_mut().zip(instance.ejections).for_each(|(sum, (_, count))| *sum += count);
        }
        Self { totals: service.totals, latency: service.latency.clone(), ejections }
    }

    fn add(&mut self, other: &Self) {
        self.totals = self.totals.plus(&other.totals);
        self.latency = std::mem::take(&mut self.latency).plus(&other.latency);
        self.ejections.iter_mut().zip(other.ejections).for_each(|(sum, more)| *sum += more);
    }

    /// The same without work that goes on now.
    fn ended(mut self) -> Self {
        self.totals.active = 0;
        self
    }
}

impl Base {
    fn of(service: &ServiceStats) -> Self {
        let counted = |instance: &InstanceStats| (instance.totals, instance.ejections.map(|(_, count)| count));
        let instances = service.instances.iter().map(|one| (one.instance.clone(), counted(one))).collect();
        Self { whole: Sum::of(service), instances }
    }

    /// What a service counted since.
    fn since(&self, mut service: ServiceStats) -> ServiceStats {
        for instance in &mut service.instances {
            if let Some((totals, ejections)) = self.instances.get(&instance.instance) {
                instance.totals = instance.totals.since(totals);
                instance
                    .ejections
                    .iter_mut()
                    .zip(ejections)
                    .for_each(|((_, now), before)| *now = now.saturating_sub(*before));
            }
        }
        service.totals = service.totals.since(&self.whole.totals);
        service.latency = service.latency.since(&self.whole.latency);
        service
    }
}

/// What a page shows.
#[derive(Debug)]
pub struct Named {
    /// The counters of the services that are named, and of all others together.
    pub(super) snapshot: Snapshot,
    /// Those that are named; `None`: all.
    names: Option<HashSet<ServicePath>>,
    /// How many are not.
    pub(super) unnamed: usize,
    /// Instances of others that are down.
    pub(super) down: Vec<(Protocol, String, String)>,
}

impl Named {
    /// A page that names all services.
    pub(super) fn all(snapshot: Snapshot) -> Self {
        Self { snapshot, names: None, unnamed: 0, down: Vec::new() }
    }

    /// Whether a service is named.
    pub(super) fn has(&self, protocol: Protocol, service: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(&(protocol, service.to_owned())))
    }

    /// Whether some are not.
    pub(super) fn is_short(&self) -> bool {
        self.unnamed > 0
    }
}

impl MetricNames {
    /// Names services as long as there are at most so many series; `None`: all of them.
    pub fn new(most: Option<usize>) -> Self {
        Self { most, book: Arc::default() }
    }

    /// Chooses what a page shows.
    pub fn choose(&self, snapshot: Snapshot, table: Option<&Table>, now: Instant) -> Named {
        match self.most {
            None => Named::all(snapshot),
            Some(most) => {
                let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
                book.choose(snapshot, &sizes(table), (most.saturating_sub(FIXED), now))
            }
        }
    }
}

/// The services of a table, and about how many series each has.
fn sizes(table: Option<&Table>) -> HashMap<ServicePath, usize> {
    let services = table.into_iter().flat_map(Table::services);
    services.map(|one| ((one.protocol, one.name.to_string()), size(one.instances.len()))).collect()
}

fn size(instances: usize) -> usize {
    OF_SERVICE + OF_INSTANCE * instances
}

fn path(service: &ServiceStats) -> ServicePath {
    (service.protocol, service.service.clone())
}

impl RosterBook {
    fn choose(
        &mut self,
        snapshot: Snapshot,
        sizes: &HashMap<ServicePath, usize>,
        (places, now): (usize, Instant),
    ) -> Named {
        let working: HashMap<ServicePath, &ServiceStats> =
            snapshot.services.iter().map(|service| (path(service), service)).collect();
        self.forget(&working, sizes);
        let size_of = |path: &ServicePath| {
            let seen = working.get(path).map_or(0, |service| size(service.instances.len()));
            seen.max(sizes.get(path).copied().unwrap_or(0))
        };
        let all: HashSet<&ServicePath> = working.keys().chain(sizes.keys()).collect();
        if self.others.is_empty() && all.iter().map(|path| size_of(path)).sum::<usize>() <= places {
            let all = all.iter().filter(|path| path.1 != OTHERS);
            all.for_each(|path| {
                self.named.entry((*path).clone()).or_default();
            });
        } else {
            self.name_busiest(&working, size_of, (places, now));
        }
        let unnamed = all.iter().filter(|path| !self.named.contains_key(**path)).count();
        let names = self.named.keys().cloned().collect();
        let down = self.down(&snapshot);
        let snapshot = self.reduce(snapshot);
        Named { snapshot, names: Some(names), unnamed, down }
    }

    /// Forgets services that are gone, and keeps what they counted in the sum.
    fn forget(&mut self, working: &HashMap<ServicePath, &ServiceStats>, sizes: &HashMap<ServicePath, usize>) {
        let Self { named, others, before, .. } = self;
        named.retain(|path, _| working.contains_key(path) || sizes.contains_key(path));
        others.retain(|path, sum| {
            let stays = working.contains_key(path);
            if !stays {
                before[path.0 as usize].add(&sum.clone().ended());
            }
            stays
        });
    }

    /// Names those with the most requests since the last page, as far as there are places.
    fn name_busiest(
        &mut self,
        working: &HashMap<ServicePath, &ServiceStats>,
        size_of: impl Fn(&ServicePath) -> usize,
        (places, now): (usize, Instant),
    ) {
        let mut taken: usize = self.named.keys().map(&size_of).sum();
        let seen = |path: &ServicePath| self.others.get(path).map_or(0, |sum| sum.totals.requests);
        let unnamed = working.iter().filter(|(path, _)| path.1 != OTHERS && !self.named.contains_key(*path));
        let mut busiest: Vec<_> =
            unnamed.map(|(path, one)| (one.totals.requests.saturating_sub(seen(path)), path, *one)).collect();
        busiest.sort_by(|(more, path, _), (less, other, _)| less.cmp(more).then_with(|| path.1.cmp(&other.1)));
        for (_, path, service) in busiest {
            let size = size_of(path);
            let is_early = taken + size <= places / 2;
            let is_due = self.next.is_none_or(|next| next <= now);
            if taken + size > places || !(is_early || is_due) {
                continue;
            }
            if !is_early {
                self.next = Some(now + NAME_EVERY);
            }
            taken += size;
            // What it counted until the last page is in the sum already.
            let base = self.others.remove(path).map_or_else(Base::default, |_| Base::of(service));
            self.before[path.0 as usize].add(&base.whole.clone().ended());
            self.named.insert(path.clone(), base);
        }
    }

    /// The instances of others that are down, as many as are listed.
    fn down(&self, snapshot: &Snapshot) -> Vec<(Protocol, String, String)> {
        let others = snapshot.services.iter().filter(|service| !self.named.contains_key(&path(service)));
        let down = others.flat_map(|service| {
            let down = service.instances.iter().filter(|instance| !instance.up);
            down.map(|instance| (service.protocol, service.service.clone(), instance.instance.clone()))
        });
        down.take(MOST_LISTED).collect()
    }

    /// The services that are named, and the sum of the others.
    fn reduce(&mut self, snapshot: Snapshot) -> Snapshot {
        let mut sums = self.before.clone();
        let mut queued = [0; 2];
        let mut services = Vec::with_capacity(self.named.len() + 2);
        for service in snapshot.services {
            let path = path(&service);
            if let Some(base) = self.named.get(&path) {
                services.push(base.since(service));
                continue;
            }
            let sum = Sum::of(&service);
            sums[path.0 as usize].add(&sum);
            queued[path.0 as usize] += service.queued;
            self.others.insert(path, sum);
        }
        for (protocol, (sum, queued)) in [Protocol::Http, Protocol::Tcp].into_iter().zip(sums.into_iter().zip(queued)) {
            if sum.totals.requests > 0 || self.others.keys().any(|path| path.0 == protocol) {
                services.push(sum.into_service(protocol, queued));
            }
        }
        Snapshot { services, ..snapshot }
    }
}

impl Sum {
    /// As a service with one instance that has no name.
    fn into_service(self, protocol: Protocol, queued: u64) -> ServiceStats {
        let Self { totals, latency, ejections } = self;
        let all = InstanceStats::counted(String::new(), String::new(), totals, ejections);
        ServiceStats {
            protocol,
            service: OTHERS.to_owned(),
            totals,
            queued,
            panic: false,
            latency,
            instances: vec![all],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, requests: u64) -> ServiceStats {
        let totals = Totals { requests, bytes_in: requests * 10, ..Totals::default() };
        let latency = Histogram { buckets: vec![(1.0, requests)], sum: requests as f64, count: requests };
        let sum = Sum { totals, latency, ejections: EjectionCounts::default() };
        let mut service = sum.into_service(Protocol::Http, 1);
        name.clone_into(&mut service.service);
        "one".clone_into(&mut service.instances[0].instance);
        service
    }

    fn snapshot(services: &[(&str, u64)]) -> Snapshot {
        Snapshot {
            services: services.iter().map(|(name, count)| service(name, *count)).collect(),
            ..Snapshot::default()
        }
    }

    /// The requests of each service that a page shows, by instance.
    fn shown(named: &Named) -> String {
        let each = named.snapshot.services.iter().map(|service| {
            assert_eq!(service.totals.requests, service.latency.count, "{service:?}");
            assert_eq!(service.totals.requests, service.instances.iter().map(|one| one.totals.requests).sum::<u64>());
            format!("{}={}", service.service, service.totals.requests)
        });
        let mut all: Vec<_> = each.collect();
        all.sort();
        all.join(" ")
    }

    /// Room for this many services of one instance.
    fn names(services: usize) -> MetricNames {
        MetricNames::new(Some(FIXED + services * size(1)))
    }

    #[test]
    fn all_are_named_while_there_is_room() {
        let (names, now) = (names(3), Instant::now());
        let choose = |services: &[(&str, u64)]| names.choose(snapshot(services), None, now);
        assert_eq!(shown(&choose(&[("a", 1), ("b", 2), ("c", 3)])), "a=1 b=2 c=3");
        let more = choose(&[("a", 1), ("b", 2), ("c", 3), ("d", 40)]);
        assert_eq!((shown(&more), more.unnamed), ("(others)=40 a=1 b=2 c=3".to_owned(), 1));
        assert!(more.has(Protocol::Http, "a") && !more.has(Protocol::Http, "d"));
    }

    #[test]
    fn the_busiest_are_named_and_sums_are_right() {
        let (names, start) = (names(4), Instant::now());
        let choose = |after: u64, services: &[(&str, u64)]| {
            names.choose(snapshot(services), None, start + Duration::from_secs(after))
        };
        // Two of four places at once, a third as its minute is due.
        let first = [("a", 1), ("b", 20), ("c", 3), ("d", 40), ("e", 5), ("f", 6)];
        assert_eq!(shown(&choose(0, &first)), "(others)=9 b=20 d=40 f=6");
        let second = [("a", 100), ("b", 20), ("c", 3), ("d", 40), ("e", 7), ("f", 6)];
        assert_eq!(shown(&choose(30, &second)), "(others)=110 b=20 d=40 f=6");
        // What `c` counted before it was named stays where it was.
        let third = [("a", 101), ("b", 21), ("c", 30), ("d", 40), ("e", 7), ("f", 6)];
        assert_eq!(shown(&choose(61, &third)), "(others)=138 b=21 c=0 d=40 f=6");
        let fourth = [("a", 101), ("b", 21), ("c", 35), ("d", 40), ("e", 7), ("f", 6)];
        assert_eq!(shown(&choose(120, &fourth)), "(others)=138 b=21 c=5 d=40 f=6");
        // Those that are gone take nothing out of the sum, and a place is free.
        let fifth = [("b", 21), ("c", 35), ("e", 9), ("f", 6)];
        assert_eq!(shown(&choose(180, &fifth)), "(others)=140 b=21 c=5 e=0 f=6");
        assert_eq!(shown(&choose(181, &[])), "(others)=140");
    }

    #[test]
    fn those_that_are_down_are_listed() {
        let (names, now) = (names(0), Instant::now());
        let mut snapshot = snapshot(&[("a", 1), ("b", 2)]);
        snapshot.services[1].instances[0].up = false;
        let named = names.choose(snapshot, None, now);
        assert_eq!(named.down, [(Protocol::Http, "b".to_owned(), "one".to_owned())]);
        assert!(named.is_short());
    }
}
