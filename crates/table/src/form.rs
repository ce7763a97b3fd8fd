//! One service: its judged keys, its last good settings, and the form in which it is served. `placing` judges its
//! instances.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::instance::{self, Instance};
use crate::keys::{Part, classify};
use crate::last_good::{self, LastGood};
use crate::limits::Limits;
use crate::model::{Config, Service};
use crate::names::{Protocol, ServiceName};
use crate::placing::{Judgement, World, place};
use crate::problem::{Problem, ProblemKind};
use crate::raw::RawKeys;
use crate::retries::OwnBounds;
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
    /// The host names of its instances, those left out too.
    pub(crate) names: Box<[Box<str>]>,
    /// Whether an instance's address was left out because it leads back to this balancer.
    has_loop: bool,
    /// Whether some key is an instance, allowed or not.
    has_instances: bool,
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
    has_instances: bool,
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

    /// Has it served without a rule, if its settings are good otherwise, as long as others send requests to it.
    pub(crate) fn settle(&mut self, targets: &BTreeSet<ServiceName>) {
        let judged = match (&self.fresh, self.old) {
            (Some(fresh), _) => &fresh.judged,
            (None, Some(old)) => &old.judged,
            (None, None) => return,
        };
        let Some(unreached) = judged.unreached.clone().filter(|_| !judged.held_back) else { return };
        let wanted = targets.contains(self.name).then_some(unreached);
        let in_force = self.settings().filter(|settings| wanted.is_some() || settings.is_unreached());
        if in_force.map(Arc::as_ptr) != wanted.as_ref().map(Arc::as_ptr) {
            let kept = self.fresh.take().or_else(|| self.old.map(|old| old.kept()));
            self.fresh = kept.map(|fresh| Fresh { settings: wanted, ..fresh });
        }
    }

    /// Whether its settings were judged again, or others are in force.
    pub(crate) fn is_judged_anew(&self) -> bool {
        match (&self.fresh, self.old) {
            (Some(fresh), Some(old)) => {
                let same = |a: Option<&Arc<_>>, b: Option<&Arc<_>>| a.map(Arc::as_ptr) == b.map(Arc::as_ptr);
                !Arc::ptr_eq(&fresh.judged, &old.judged) || !same(fresh.settings.as_ref(), old.settings.as_ref())
            }
            (fresh, _) => fresh.is_some(),
        }
    }

    /// Whether some key is an instance. Where it leads is judged later: that depends on the ports that are listened on.
    pub(crate) fn has_instances(&self) -> bool {
        let old = || self.old.is_some_and(|old| old.has_instances);
        self.fresh.as_ref().map_or_else(old, |fresh| fresh.has_instances)
    }

    /// Whether a TCP service got its first instance or lost its last.
    pub(crate) fn is_filled_or_emptied(&self) -> bool {
        self.protocol == Protocol::Tcp && self.old.is_none_or(|old| old.has_instances != self.has_instances())
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
                let kept = || old.map(|old| old.kept());
                let fresh = fresh.or_else(kept).expect("a draft is fresh or has an old form");
                Arc::new(form((protocol, name), raw, old, fresh, world))
            }
        }
    }
}

impl Form {
    /// The service, if its keys do not keep it from being served.
    pub(crate) fn served(&self) -> Option<&Service> {
        self.service.as_deref().filter(|service| !service.closed)
    }

    fn kept(&self) -> Fresh {
        Fresh { has_instances: self.has_instances, judged: self.judged.clone(), settings: self.settings.clone() }
    }

    /// Whether the same keys compile differently with these limits.
    fn is_touched_by(&self, world: &World<'_>) -> bool {
        let named = !self.names.is_empty();
        world.retimed
            || (world.renamed && named)
            || (world.moved
                && (named
                    || self.has_loop
                    || self.service.as_ref().is_some_and(|service| world.listening.is_reached_by(service))))
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
    let settings = match (&judged.settings, last.filter(|last| !last.closed)) {
        _ if judged.held_back => judged.closed.clone(),
        (Some(good), _) => Some(Arc::clone(good)),
        (None, Some(last)) => Some(judged.kept(last)),
        (None, None) => judged.closed.clone(),
    };
    Fresh { has_instances: has_instances(protocol, raw), judged, settings }
}

fn has_instances(protocol: Protocol, raw: &RawKeys) -> bool {
    let is_good = |name: &str, value: &[u8]| {
        std::str::from_utf8(value).is_ok_and(|text| instance::parse(name, text, ANY_PORT).is_ok())
    };
    raw.iter().any(|(key, value)| match classify(protocol, key, value) {
        Part::Upstream(name) | Part::Direct(name) => is_good(name, value),
        Part::Nothing | Part::Setting | Part::Unknown(_) => false,
    })
}

fn form(
    (protocol, name): (Protocol, &ServiceName),
    raw: &Arc<RawKeys>,
    old: Option<&Arc<Form>>,
    Fresh { has_instances, judged, settings }: Fresh,
    world: &World<'_>,
) -> Form {
    // Instances are judged even if the service is not served, so that one typo does not hide others.
    let port = settings.as_ref().map_or(ANY_PORT, |settings| settings.port);
    let dns = settings.as_ref().and_then(|settings| settings.dns.as_ref());
    let had = old.and_then(|old| old.service.as_ref());
    let before = had.map(|had| &*had.instances).unwrap_or_default();
    let Judgement { instances, mut problems, names } = place((protocol, name), raw, (port, dns), before, world);
    let has_loop = problems.iter().any(|problem| problem.kind == ProblemKind::Loop);
    let was_good = old.and_then(|old| old.good.as_ref());
    let is_current = judged.are_in_force(settings.as_ref());
    let is_served = settings.as_ref().is_some_and(|settings| !settings.closed);
    let instances = if is_served { instances } else { Box::default() };
    let good = is_served.then(|| LastGood::next((protocol, raw), was_good, is_current, world.revision)).flatten();
    if !judged.problems.is_empty() {
        let kept = good.as_ref().filter(|_| !is_current);
        // One that others send requests to needs no rule.
        let open = judged.problems.iter().filter(|problem| !(is_current && problem.kind == ProblemKind::NoRule));
        let of_settings = open.map(|problem| last_good::explain(problem, kept));
        problems = of_settings.chain(problems).collect();
    }
    let service = settings.as_ref().map(|settings| service((protocol, name), settings, instances, world.defaults));
    // A service that is equal keeps its `Arc`, even if its keys changed.
    let had = had.filter(|had| Some(&***had) == service.as_ref());
    let service = had.cloned().or_else(|| service.map(Arc::new));
    Form {
        protocol,
        name: name.clone(),
        raw: raw.clone(),
        judged,
        settings,
        good,
        service,
        problems,
        names,
        has_loop,
        has_instances,
    }
}

fn service(
    (protocol, name): (Protocol, &ServiceName),
    settings: &Settings,
    instances: Box<[Instance]>,
    defaults: &Config,
) -> Service {
    Service {
        protocol,
        name: name.clone(),
        entry: settings.entry.clone(),
        closed: settings.closed,
        port: settings.port,
        instances,
        balance: settings.balance.clone(),
        bounded: settings.bounded,
        http_version: settings.http_version,
        timeouts: settings.timeouts(&defaults.timeouts),
        bounds: match protocol {
            Protocol::Http => OwnBounds::over(settings.bounds.as_deref(), &defaults.bounds),
            Protocol::Tcp => None,
        },
        policy: settings.policy(defaults),
        dns: settings.dns.clone(),
        health_check: settings.check(protocol, &defaults.health_check),
        eject: settings.eject(defaults),
        panic: settings.panic(defaults),
        link: settings.link.clone(),
        custom_settings: settings.custom_settings.clone(),
    }
}
