//! What is to be checked: from tables to checks. Instances that ask for the same of the same address share one. Checks
//! nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::live::{CheckFlip, CheckOutcome, CheckRules, InstanceShared, Registry};
use pointsman_table::{CheckWay, HealthCheck, Instance, Protocol, Service, Table};
use rustls::ClientConfig;
use tracing::{info, warn};

use super::http1;
use crate::pool::via::{Endpoint, Setup, Via};
use crate::tls::Outbound;

/// For how long after the start instances are remembered that were down before it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is checked now.
#[derive(Debug, Default)]
pub(super) struct ProbePlan {
    /// By protocol and name, as in the table.
    services: Vec<Planned>,
    /// The checks that somebody may still ask for.
    checks: HashMap<CheckKey, Weak<Check>, foldhash::fast::RandomState>,
}

/// What makes two checks one.
pub(super) type CheckKey = (Arc<[Via]>, Arc<HealthCheck>);

/// The checks of a service.
#[derive(Debug)]
struct Planned {
    service: Arc<Service>,
    tls: Option<Arc<ClientConfig>>,
    members: Vec<Rc<CheckedInstance>>,
}

/// An instance that a check is for.
#[derive(Debug)]
struct CheckedInstance {
    shared: Arc<InstanceShared>,
    /// How the log names it.
    name: String,
    check: Rc<Check>,
}

/// One check, for all instances that ask for it.
#[derive(Debug)]
pub(super) struct Check {
    /// Where to: one way, or one for each address of a host name.
    pub(super) vias: Arc<[Via]>,
    /// What is asked.
    pub(super) asks: Arc<HealthCheck>,
    /// The request, if it is one of HTTP/1.
    pub(super) request: Box<[u8]>,
    members: RefCell<Vec<Weak<CheckedInstance>>>,
}

impl ProbePlan {
    /// Follows a table. Returns the checks that are new.
    pub(super) fn next(&mut self, table: &Table, outbound: &Outbound, registry: &Registry) -> Vec<Rc<Check>> {
        let mut new = Vec::new();
        let mut old = std::mem::take(&mut self.services).into_iter().peekable();
        for service in table.services().iter().filter(|service| service.health_check.is_some()) {
            let key = (service.protocol, &service.name);
            while let Some(gone) = old.next_if(|before| (before.service.protocol, &before.service.name) < key) {
                gone.forget();
            }
            let before = old.next_if(|before| (before.service.protocol, &before.service.name) == key);
            let tls = outbound.config(service);
            let same = |before: &Planned| Arc::ptr_eq(&before.service, service) && is_same(&before.tls, &tls);
            let planned = match before {
                Some(before) if same(&before) => before,
                before => self.plan(service, (tls, outbound), before, registry, &mut new),
            };
            self.services.push(planned);
        }
        old.for_each(Planned::forget);
        self.checks.retain(|_, check| check.strong_count() > 0);
        new
    }

    /// How many instances are checked.
    pub(super) fn size(&self) -> usize {
        self.services.iter().map(|planned| planned.members.len()).sum()
    }

    fn plan(
        &mut self,
        service: &Arc<Service>,
        (tls, outbound): (Option<Arc<ClientConfig>>, &Outbound),
        before: Option<Planned>,
        registry: &Registry,
        new: &mut Vec<Rc<Check>>,
    ) -> Planned {
        let setup = Setup::new(service, outbound);
        let had = before.into_iter().flat_map(|before| before.members);
        let mut had: HashMap<*const InstanceShared, Rc<CheckedInstance>, foldhash::fast::RandomState> =
            had.map(|member| (Arc::as_ptr(&member.shared), member)).collect();
        let mut members = Vec::new();
        for instance in service.instances.iter().filter(|instance| instance.takes_work()) {
            let Some(key) = key(service, instance, &setup) else { continue };
            let shared = registry.instance(service, instance);
            let member = match had.remove(&Arc::as_ptr(&shared)) {
                Some(member) if (&member.check.vias, &member.check.asks) == (&key.0, &key.1) => member,
                before => {
                    greet(service, instance, &shared, before.as_deref(), &key, registry);
                    let check = self.check(key, new);
                    let member = Rc::new(CheckedInstance { shared, name: name(service, instance), check });
                    member.check.members.borrow_mut().push(Rc::downgrade(&member));
                    member
                }
            };
            members.push(member);
        }
        had.values().for_each(|gone| gone.shared.health.forget_checks());
        Planned { service: Arc::clone(service), tls, members }
    }

    fn check(&mut self, key: CheckKey, new: &mut Vec<Rc<Check>>) -> Rc<Check> {
        if let Some(check) = self.checks.get(&key).and_then(Weak::upgrade) {
            return check;
        }
        let check = Rc::new(Check::new(key.clone()));
        self.checks.insert(key, Rc::downgrade(&check));
        new.push(Rc::clone(&check));
        check
    }
}

/// What is known of an instance that is checked in a new way.
fn greet(
    service: &Service,
    instance: &Instance,
    shared: &InstanceShared,
    before: Option<&CheckedInstance>,
    (vias, _): &CheckKey,
    registry: &Registry,
) {
    match before {
        // It is elsewhere now: the old address says nothing about the new one.
        Some(before) if before.check.vias.iter().all(|old| vias.iter().all(|via| via.endpoint != old.endpoint)) => {
            shared.health.forget_checks();
        }
        Some(_) => {}
        None if registry.age() < REMEMBERED && registry.was_down(service, instance) => {
            let said = "found it down before Pointsman was started".into();
            shared.health.begin_down(elapsed(registry), said);
            registry.count_check_flip();
        }
        None => {}
    }
}

/// Milliseconds of the registry's clock.
fn elapsed(registry: &Registry) -> u64 {
    u64::try_from(registry.epoch().elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn is_same(a: &Option<Arc<ClientConfig>>, b: &Option<Arc<ClientConfig>>) -> bool {
    let address = |tls: &Option<Arc<ClientConfig>>| tls.as_ref().map_or(ptr::null(), Arc::as_ptr);
    address(a) == address(b)
}

/// `None`: it cannot be checked, as its name has no address.
pub(super) fn key(service: &Service, instance: &Instance, setup: &Setup<'_>) -> Option<CheckKey> {
    let asks = service.health_check.as_ref()?;
    let vias: Arc<[Via]> = Via::all(instance, setup).into_iter().map(|via| at(via, asks)).collect();
    (!vias.is_empty()).then(|| (vias, Arc::clone(asks)))
}

/// The way to the port that is checked. Another port is asked in plain text.
fn at(via: Via, asks: &HealthCheck) -> Via {
    let is_grpc = matches!(asks.way, CheckWay::Grpc { .. });
    match (&via.endpoint, asks.port) {
        (Endpoint::Socket(address), Some(port)) => {
            let endpoint = Endpoint::Socket((address.ip(), port).into());
            Via { endpoint, tls: None, proxied: None, http2: is_grpc }
        }
        (Endpoint::Socket(_) | Endpoint::Unix(_), _) => via,
    }
}

/// `service shop instance web-1 (10.0.0.1:80)`.
fn name(service: &Service, instance: &Instance) -> String {
    let kind = match service.protocol {
        Protocol::Http => "service",
        Protocol::Tcp => "tcp service",
    };
    format!("{kind} {} instance {} ({})", service.name, instance.name, instance.target)
}

impl Planned {
    /// Its instances are not checked any more.
    fn forget(self) {
        self.members.iter().for_each(|member| member.shared.health.forget_checks());
    }
}

impl Check {
    /// For nobody yet.
    pub(super) fn new((vias, asks): CheckKey) -> Self {
        let request = match &asks.way {
            CheckWay::Http(check) => http1::request(check),
            CheckWay::Tcp | CheckWay::Grpc { .. } => Box::default(),
        };
        Self { vias, asks, request, members: RefCell::default() }
    }

    /// A number that is the same for the same addresses.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.vias.iter().for_each(|via| via.endpoint.hash(&mut hasher));
        hasher.finish()
    }

    /// Whether an instance still asks for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.members.borrow().iter().any(|member| member.strong_count() > 0)
    }

    /// Whether the next outcomes may change an instance's state.
    pub(super) fn is_unsure(&self) -> bool {
        self.each().any(|member| member.shared.health.check_state().is_unsure())
    }

    fn each(&self) -> impl Iterator<Item = Rc<CheckedInstance>> {
        self.members.borrow_mut().retain(|member| member.strong_count() > 0);
        let members: Vec<_> = self.members.borrow().iter().filter_map(Weak::upgrade).collect();
        members.into_iter()
    }

    /// Tells its instances the outcome, and logs and counts what that changes.
    pub(super) fn tell(&self, now: u64, outcome: &CheckOutcome, registry: &Registry) {
        let rules = CheckRules { rise: self.asks.rise, fall: self.asks.fall };
        for member in self.each() {
            let (name, said) = (&member.name, &outcome.said);
            let flip = member.shared.health.checked(now, rules, outcome);
            if flip.is_some() {
                registry.count_check_flip();
            }
            match flip {
                Some(CheckFlip::Fell(1)) => warn!("{name} is down: its check {said}"),
                Some(CheckFlip::Fell(times)) => warn!("{name} is down: its check {said}, {times} times in a row"),
                Some(CheckFlip::Rose) => info!("{name} is up again: its check {said}"),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_engine::live::CheckState;
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    /// HTTP services `a`, `b`, ... each with these keys.
    fn table(services: &[&[(&str, &str)]], previous: Option<&Table>) -> Arc<Table> {
        let mut keys = KeySet::default();
        let mut entries: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
        for (name, more) in ('a'..).zip(services) {
            let keys = [("domain", "a.test")].into_iter().chain(more.iter().copied());
            entries.extend(keys.map(|(key, value)| (format!("services/{name}/{key}").into(), value.as_bytes().into())));
        }
        keys.reset(1, entries);
        compile(&keys, previous, &Limits::default()).table
    }

    struct PlanWorld {
        plan: ProbePlan,
        registry: Registry,
        table: Arc<Table>,
    }

    impl PlanWorld {
        fn new() -> Self {
            Self { plan: ProbePlan::default(), registry: Registry::new(1, crate::FAULTS), table: Table::empty() }
        }

        /// The checks that are new with these services.
        fn next(&mut self, services: &[&[(&str, &str)]]) -> Vec<Rc<Check>> {
            self.table = table(services, Some(&self.table));
            self.plan.next(&self.table, &Outbound::default(), &self.registry)
        }

        fn state(&self, service: usize, instance: usize) -> CheckState {
            let service = &self.table.services()[service];
            self.registry.instance(service, &service.instances[instance]).health.check_state()
        }
    }

    fn tell(check: &Check, passed: bool) {
        let outcome = CheckOutcome { passed, said: "GET /up got 503".into(), took: Duration::ZERO };
        check.tell(0, &outcome, &Registry::new(1, crate::FAULTS));
    }

    const UP: (&str, &str) = ("health_check_uri", "/up");
    const DOWN: CheckState = CheckState::Down { passes: 0 };

    #[test]
    fn what_is_asked_alike_is_asked_once() {
        let mut world = PlanWorld::new();
        let new = world.next(&[
            &[UP, ("one", "10.0.0.1:80"), ("two", "10.0.0.1:80"), ("three", "10.0.0.2:80")],
            &[UP, ("one", "10.0.0.1:80")],
            &[("health_check_uri", "/other"), ("one", "10.0.0.1:80")],
            &[UP, ("health_check_fall", "9"), ("one", "10.0.0.1:80")],
            &[("one", "10.0.0.1:80")],
            &[UP, ("one", "10.0.0.1:80 drain"), ("two", "10.0.0.2:80 weight=0")],
        ]);
        let members: Vec<_> = new.iter().map(|check| check.each().count()).collect();
        assert_eq!(members, [2 + 1, 1, 1, 1]);
        assert_eq!(world.plan.size(), 6);
        tell(&new[0], false);
        assert_eq!([world.state(0, 0), world.state(0, 2), world.state(1, 0)], [DOWN; 3], "in the order of their names");
        assert_eq!([world.state(0, 1), world.state(2, 0), world.state(4, 0)], [CheckState::Unknown; 3]);
    }

    #[test]
    fn what_stays_is_not_disturbed_and_what_moves_begins_anew() {
        let mut world = PlanWorld::new();
        let new = world.next(&[&[UP, ("one", "10.0.0.1:80"), ("two", "10.0.0.2:80")]]);
        new.iter().for_each(|check| tell(check, false));
        assert!(world.next(&[&[UP, ("priority", "1"), ("one", "10.0.0.1:80"), ("two", "10.0.0.2:80")]]).is_empty());
        let moved = world.next(&[&[UP, ("one", "10.0.0.1:80"), ("two", "10.0.0.3:80")]]);
        assert_eq!(moved.len(), 1);
        assert_eq!([world.state(0, 0), world.state(0, 1)], [DOWN, CheckState::Unknown]);
        assert_eq!(new.iter().filter(|check| check.is_wanted()).count(), 1);
        // Asked for something else, an instance is still the same.
        let asked = world.next(&[&[("health_check_uri", "/x"), ("one", "10.0.0.1:80"), ("two", "10.0.0.3:80")]]);
        assert_eq!((asked.len(), world.state(0, 0)), (2, DOWN));
        // At another port, it is not.
        let keys = [("health_check_uri", "/x"), ("health_check_port", "81"), ("one", "10.0.0.1:80")];
        assert_eq!((world.next(&[&keys]).len(), world.state(0, 0)), (1, CheckState::Unknown));
    }

    #[test]
    fn what_is_no_longer_checked_is_forgotten() {
        for after in [&[("one", "10.0.0.1:80")][..], &[UP, ("one", "10.0.0.1:80 drain")]] {
            let mut world = PlanWorld::new();
            let new = world.next(&[&[UP, ("one", "10.0.0.1:80")]]);
            tell(&new[0], false);
            assert_eq!(world.state(0, 0), DOWN);
            world.next(&[after]);
            assert_eq!((world.state(0, 0), new[0].is_wanted()), (CheckState::Unknown, false), "{after:?}");
        }
        let mut world = PlanWorld::new();
        let new = world.next(&[&[UP, ("one", "10.0.0.1:80")]]);
        tell(&new[0], false);
        world.next(&[]);
        world.next(&[&[("one", "10.0.0.1:80")]]);
        assert_eq!(world.state(0, 0), CheckState::Unknown);
    }

    #[test]
    fn who_was_down_before_the_start_begins_so() {
        let mut world = PlanWorld::new();
        let path = |name: &str| (Protocol::Http, "a".to_owned(), name.to_owned());
        world.registry.recall(vec![(path("one"), "10.0.0.1:80".into()), (path("two"), "10.0.0.9:80".into())]);
        world.next(&[&[UP, ("one", "10.0.0.1:80"), ("two", "10.0.0.2:80")]]);
        assert_eq!([world.state(0, 0), world.state(0, 1)], [DOWN, CheckState::Unknown]);
        world.next(&[&[("one", "10.0.0.1:80")]]);
        world.next(&[&[UP, ("one", "10.0.0.1:80")]]);
        assert_eq!(world.state(0, 0), CheckState::Unknown, "once");
    }

    #[test]
    fn another_port_is_asked_in_plain_text() {
        let mut world = PlanWorld::new();
        let keys = [UP, ("protocol", "h2"), ("one", "10.0.0.1:443 tls"), ("health_check_port", "81")];
        let new = world.next(&[&keys, &[UP, ("send_proxy", "v1"), ("one", "10.0.0.1:80")]]);
        let said = |check: &Check| {
            let Via { endpoint, tls, proxied, http2 } = &check.vias[0];
            format!("{endpoint:?} {} {} {http2}", tls.is_some(), proxied.is_some())
        };
        assert_eq!(said(&new[0]), "Socket(10.0.0.1:81) false false false");
        assert_eq!(said(&new[1]), "Socket(10.0.0.1:80) false true false");
    }
}
