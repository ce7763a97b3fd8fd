//! One service: its judged keys, its last good settings, and the form in which it is served.

use std::sync::Arc;

use crate::instance::{self, Instance};
use crate::keys::{Part, classify};
use crate::last_good::{self, LastGood};
use crate::limits::Limits;
use crate::model::{Service, Timeouts};
use crate::names::{Protocol, ServiceName};
use crate::ports::Listening;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::settings::{Judged, Settings, judge, same_settings};

/// Stands in for the port of instances that are judged and not used.
const ANY_PORT: u16 = 1;

/// A service's keys and everything compiled from them. Kept from table to table while nothing changes.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) protocol: Protocol,
    pub(crate) name: ServiceName,
    pub(crate) raw: Arc<RawKeys>,
    pub(crate) judged: Arc<Judged>,
    /// The settings in force: the current ones or the last good ones; `None`: not served.
    pub(crate) settings: Option<Arc<Settings>>,
    /// Where the settings in force come from; `None`: not served.
    pub(crate) good: Option<LastGood>,
    pub(crate) service: Option<Arc<Service>>,
    /// All problems with its keys.
    pub(crate) problems: Box<[Problem]>,
    /// Whether an instance was left out because it leads back to us.
    has_loop: bool,
}

/// What a service's instances are judged by, besides its own keys.
pub(crate) struct World<'a> {
    pub(crate) limits: &'a Limits,
    /// The store's revision of the keys.
    pub(crate) revision: u64,
    pub(crate) listening: &'a Listening,
    pub(crate) timeouts: &'a Timeouts,
    /// Whether our listening addresses changed.
    pub(crate) moved: bool,
    /// Whether the default waits changed.
    pub(crate) retimed: bool,
}

/// A service whose settings are judged and whose instances are not yet.
pub(crate) struct Draft<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) name: &'a ServiceName,
    pub(crate) raw: &'a Arc<RawKeys>,
    pub(crate) old: Option<&'a Arc<Form>>,
    /// `None`: nothing changed; the old form's settings stand.
    fresh: Option<Fresh>,
}

struct Fresh {
    judged: Arc<Judged>,
    settings: Option<Arc<Settings>>,
}

impl<'a> Draft<'a> {
    /// Judges the settings if they changed, or if the limits did (`stale`). `None`: no key is set.
    pub(crate) fn new(
        (protocol, name): (Protocol, &'a ServiceName),
        raw: &'a Arc<RawKeys>,
        old: Option<&'a Arc<Form>>,
        limits: &Limits,
        stale: bool,
    ) -> Option<Self> {
        let same = old.is_some_and(|old| !stale && (Arc::ptr_eq(&old.raw, raw) || old.raw == *raw));
        if same {
            return Some(Self { protocol, name, raw, old, fresh: None });
        }
        let is_unset = raw.iter().all(|(key, value)| classify(protocol, key, value) == Part::Nothing);
        let fresh = || Some(fresh((protocol, name), raw, old, limits, stale));
        (!is_unset).then(|| Self { protocol, name, raw, old, fresh: fresh() })
    }

    /// Whether its settings were judged again.
    pub(crate) fn is_judged_anew(&self) -> bool {
        match (&self.fresh, self.old) {
            (Some(fresh), Some(old)) => !Arc::ptr_eq(&fresh.judged, &old.judged),
            (fresh, _) => fresh.is_some(),
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Option<&Arc<Settings>> {
        match &self.fresh {
            Some(fresh) => fresh.settings.as_ref(),
            None => self.old.and_then(|old| old.settings.as_ref()),
        }
    }

    /// Whether its rules are the same as in the old form.
    pub(crate) fn same_entry(&self) -> bool {
        let old = self.old.and_then(|old| old.settings.as_ref());
        match (&self.fresh, old, self.settings()) {
            (None, _, _) | (_, None, None) => true,
            (_, Some(old), Some(new)) => Arc::ptr_eq(old, new) || old.entry == new.entry,
            _ => false,
        }
    }

    /// Judges the instances.
    pub(crate) fn finish(self, world: &World<'_>) -> Arc<Form> {
        let Self { protocol, name, raw, old, fresh } = self;
        match (fresh, old) {
            (None, Some(old)) if !old.is_touched_by(world) => old.clone(),
            (fresh, old) => {
                let kept = || old.map(|old| Fresh { judged: old.judged.clone(), settings: old.settings.clone() });
                let fresh = fresh.or_else(kept).expect("a draft is fresh or has an old form");
                Arc::new(form((protocol, name), raw, old, fresh, world))
            }
        }
    }
}

impl Form {
    /// Whether the same keys compile to something else in this world.
    fn is_touched_by(&self, world: &World<'_>) -> bool {
        world.retimed || (world.moved && (self.has_loop || self.now_loops(world.listening)))
    }

    fn now_loops(&self, listening: &Listening) -> bool {
        let instances = self.service.iter().flat_map(|service| &service.instances);
        { instances }.any(|instance| listening.reached_by(&instance.target).is_some())
    }
}

fn fresh(
    (protocol, name): (Protocol, &ServiceName),
    raw: &Arc<RawKeys>,
    old: Option<&Arc<Form>>,
    limits: &Limits,
    stale: bool,
) -> Fresh {
    let last = old.and_then(|old| old.settings.as_ref());
    let judged = match old {
        Some(old) if !stale && same_settings(protocol, &old.raw, raw) => old.judged.clone(),
        _ => Arc::new(judge((protocol, name), raw, last.map(|last| &**last), limits)),
    };
    let settings = match judged.held_back {
        true => None,
        false => judged.settings.as_ref().or(last).cloned(),
    };
    Fresh { judged, settings }
}

fn form(
    (protocol, name): (Protocol, &ServiceName),
    raw: &Arc<RawKeys>,
    old: Option<&Arc<Form>>,
    Fresh { judged, settings }: Fresh,
    world: &World<'_>,
) -> Form {
    // Instances are judged even if the service is not served, so that one typo does not hide others.
    let port = settings.as_ref().map_or(ANY_PORT, |settings| settings.port);
    let (instances, mut problems) = Instances::judge((protocol, name), raw, port, world);
    let has_loop = problems.iter().any(|problem| problem.kind == ProblemKind::Loop);
    let had = old.and_then(|old| old.good.as_ref());
    let good = settings.is_some().then(|| LastGood::next((protocol, raw), had, &judged, world.revision)).flatten();
    if !judged.problems.is_empty() {
        let kept = good.as_ref().filter(|_| judged.settings.is_none());
        let of_settings = judged.problems.iter().map(|problem| last_good::explain(problem, kept));
        problems = of_settings.chain(problems).collect();
    }
    let service = settings.as_ref().map(|settings| service((protocol, name), settings, instances, world.timeouts));
    // A service that is equal keeps its `Arc`, even if its keys changed.
    let had = old.and_then(|old| old.service.as_ref()).filter(|had| Some(&***had) == service.as_ref());
    let service = had.cloned().or_else(|| service.map(Arc::new));
    Form { protocol, name: name.clone(), raw: raw.clone(), judged, settings, good, service, problems, has_loop }
}

fn service(
    (protocol, name): (Protocol, &ServiceName),
    settings: &Settings,
    instances: Box<[Instance]>,
    timeouts: &Timeouts,
) -> Service {
    Service {
        protocol,
        name: name.clone(),
        entry: settings.entry.clone(),
        port: settings.port,
        instances,
        balance: settings.balance.clone(),
        timeouts: settings.timeouts(timeouts),
        policy: settings.policy.clone(),
        dns: settings.dns.clone(),
        health_check: settings.health_check.clone(),
        custom_settings: settings.custom_settings.clone(),
    }
}

/// The instances of one service, while they are judged.
struct Instances<'a> {
    port: u16,
    world: &'a World<'a>,
    report: Report<'a>,
    good: Vec<Instance>,
}

impl<'a> Instances<'a> {
    fn judge(
        (protocol, name): (Protocol, &'a ServiceName),
        raw: &RawKeys,
        port: u16,
        world: &'a World<'a>,
    ) -> (Box<[Instance]>, Box<[Problem]>) {
        let report = Report::of_service(&world.limits.prefix, protocol, name);
        let mut all = Self { port, world, report, good: Vec::new() };
        for (key, value) in raw.iter() {
            match classify(protocol, key, value) {
                Part::Upstream(name) => all.add(key, name, value),
                Part::Direct(name) if is_upstream_too(protocol, raw, name) => all.report_twice(key, value),
                Part::Direct(name) => all.add(key, name, value),
                Part::Nothing | Part::Setting | Part::Unknown(_) => {}
            }
        }
        all.good.sort_by(|a, b| a.name.cmp(&b.name));
        (all.good.into(), all.report.finish())
    }

    fn add(&mut self, key: &str, name: &str, value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else {
            let value = String::from_utf8_lossy(value);
            return self.report.add(ProblemKind::BadInstance, key, Some(&value), "expected UTF-8 text");
        };
        match instance::parse(name, text, self.port) {
            Ok(instance) => self.admit(key, text, instance),
            Err(advice) => self.report.add(ProblemKind::BadInstance, key, Some(text), advice),
        }
    }

    fn admit(&mut self, key: &str, text: &str, instance: Instance) {
        if instance.tls && !self.world.limits.capabilities.honours("tls") {
            let advice = "this engine does not speak TLS to instances yet; the instance is left out";
            return self.report.add(ProblemKind::Unsupported, key, Some(text), advice);
        }
        if let Some(ours) = self.world.listening.reached_by(&instance.target) {
            let advice = format!("the balancer itself listens on {ours}; an instance there would be a loop");
            return self.report.add(ProblemKind::Loop, key, Some(text), advice);
        }
        self.good.push(instance);
    }

    fn report_twice(&mut self, key: &str, value: &[u8]) {
        let advice = "upstreams/ has an instance of the same name, which is used instead; rename one of the two";
        self.report.add(ProblemKind::BadInstance, key, Some(&String::from_utf8_lossy(value)), advice);
    }
}

fn is_upstream_too(protocol: Protocol, raw: &RawKeys, name: &str) -> bool {
    let key = format!("upstreams/{name}");
    raw.get(&key).is_some_and(|value| classify(protocol, &key, value) != Part::Nothing)
}
