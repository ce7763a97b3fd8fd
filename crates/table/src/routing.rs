//! How requests and connections find their service; the problems of services that claim the same rule, port or name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::{self, Bind, HostPattern};
use crate::form::{Draft, Form};
use crate::index::{HttpIndex, Numbered, Shadow, ShadowedRule};
use crate::index_build;
use crate::limits::Limits;
use crate::model::Service;
use crate::names::{Protocol, ServiceName};
use crate::ports::{Allotment, Claim, Listening, Refusal, SniShadow, allot};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::settings::{BIND_KEYS, HOST_KEYS, key_that_names};

/// What changed in the settings since the old table.
pub(crate) struct Difference {
    /// Some service's settings were judged again, or a TCP service got its first instance or lost its last.
    judged: bool,
    /// The rules or the names of HTTP services changed.
    http: bool,
}

impl Difference {
    /// `old`: the forms of the old table. `stale`: something else that routing depends on changed.
    pub(crate) fn between(drafts: &[Draft<'_>], old: &[Arc<Form>], stale: bool) -> Self {
        let changed = |draft: &Draft<'_>| draft.is_judged_anew() || draft.is_filled_or_emptied();
        let judged = stale || drafts.len() != old.len() || drafts.iter().any(changed);
        Self { judged, http: judged && !same_http(drafts, old) }
    }
}

/// Whether there are the same HTTP services with the same rules as before.
fn same_http(drafts: &[Draft<'_>], old: &[Arc<Form>]) -> bool {
    let http = drafts.iter().filter(|draft| draft.protocol == Protocol::Http);
    let served = http.clone().filter(|draft| draft.settings().is_some()).count();
    let was_served = served_http(old).count();
    served == was_served && { http }.all(Draft::same_entry)
}

fn served_http(forms: &[Arc<Form>]) -> impl Iterator<Item = (&Form, &Service)> {
    let http = forms.iter().filter(|form| form.protocol == Protocol::Http);
    http.filter_map(|form| Some((&**form, form.service.as_deref()?)))
}

/// How requests and connections find their service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    pub(crate) web: WebRouting,
    pub(crate) ports: PortRouting,
}

/// How requests find their service.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebRouting {
    pub(crate) index: Arc<HttpIndex>,
    /// Problems between services.
    pub(crate) clashes: Arc<[Problem]>,
}

/// How connections find their service.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortRouting {
    pub(crate) tcp: Arc<[(Bind, u32)]>,
    pub(crate) sni: Arc<SniNames>,
    pub(crate) listening: Arc<Listening>,
    /// Problems between services.
    pub(crate) clashes: Arc<[Problem]>,
}

/// Server names and their services, ordered, for each listening address that has some.
type SniNames = BTreeMap<Bind, Box<[(HostPattern, u32)]>>;

impl WebRouting {
    /// `forms` and `old_forms`: those of the new and of the old table.
    pub(crate) fn new(
        forms: &[Arc<Form>],
        old_forms: &[Arc<Form>],
        old: &Self,
        limits: &Limits,
        difference: &Difference,
    ) -> Self {
        if !difference.http && !old.is_touched_by(forms, old_forms) {
            return old.clone();
        }
        let served: Vec<_> = served_http(forms).collect();
        let numbered: Vec<_> = (0..).zip(&served).filter_map(|(at, (_, service))| Numbered::new(at, service)).collect();
        let index = index_build::build(&numbered, Some(&old.index));
        let web: Vec<_> = served.iter().map(|&(form, _)| form).collect();
        let clashes = shadowed(&web, &index, limits);
        Self { index: Arc::new(index), clashes }
    }

    /// Whether a service that shares a rule with another lost its last instance or got its first. The services and
    /// their rules are the same in both tables.
    fn is_touched_by(&self, forms: &[Arc<Form>], old_forms: &[Arc<Form>]) -> bool {
        if self.index.rivals.is_empty() {
            return false;
        }
        let pairs = (0..).zip(served_http(forms).zip(served_http(old_forms)));
        let flipped = pairs.filter(|(_, ((_, now), (_, before)))| now.is_empty() != before.is_empty());
        { flipped }.any(|(number, _)| self.index.rivals.binary_search(&number).is_ok())
    }
}

impl PortRouting {
    pub(crate) fn new(drafts: &[Draft<'_>], old: &Self, limits: &Limits, difference: &Difference) -> Self {
        if !difference.judged {
            return old.clone();
        }
        let served: Vec<_> = drafts.iter().filter(|draft| draft.settings().is_some()).collect();
        let (web, tcp) = served.split_at(served.partition_point(|draft| draft.protocol == Protocol::Http));
        let claims: Vec<_> = tcp.iter().map(|draft| claim(draft)).collect();
        let ports = allot(&claims, limits);
        let clashes = PortClashes { tcp, limits }.problems(&ports);
        let listening =
            Listening::new(limits, ports.shares.iter().map(|(bind, share)| (*bind, claims[share.first()].name)));
        let listening = if listening == *old.listening { old.listening.clone() } else { Arc::new(listening) };
        let (tcp, sni) = numbered(&ports, web.len());
        Self { tcp, sni: Arc::new(sni), listening, clashes }
    }
}

fn claim<'a>(draft: &'a Draft<'_>) -> Claim<'a> {
    let entry = draft.settings().and_then(|settings| settings.tcp());
    Claim {
        name: draft.name,
        binds: entry.map(|entry| &*entry.binds).unwrap_or_default(),
        sni: entry.map(|entry| &*entry.sni).unwrap_or_default(),
        is_empty: !draft.has_instances() && draft.settings().is_none_or(|settings| settings.dns.is_none()),
    }
}

/// Which service listens where, by number. `first` is the number of the first TCP service.
fn numbered(ports: &Allotment, first: usize) -> (Arc<[(Bind, u32)]>, SniNames) {
    let number = |claim: usize| u32::try_from(first + claim).expect("2^32 services do not fit in memory");
    let tcp = ports.shares.iter().map(|(bind, share)| (*bind, number(share.first())));
    let shared = ports.shares.iter().filter(|(_, share)| !share.names.is_empty());
    let names = shared.map(|(bind, share)| {
        let names = share.names.iter().map(|(name, claim)| (name.clone(), number(*claim)));
        (*bind, names.collect())
    });
    (tcp.collect(), names.collect())
}

/// Rules that never win.
fn shadowed(web: &[&Form], index: &HttpIndex, limits: &Limits) -> Arc<[Problem]> {
    let mut lost: Vec<_> = index.shadows.iter().map(|shadow| Lost::new(web, shadow)).collect();
    lost.sort();
    let same = |a: &Lost<'_>, b: &Lost<'_>| (a.loser, a.winner, a.key) == (b.loser, b.winner, b.key);
    lost.chunk_by(same).flat_map(|same| same[0].problem(web, same.len(), limits)).collect()
}

/// TCP services that claim the same port or server name.
struct PortClashes<'a> {
    tcp: &'a [&'a Draft<'a>],
    limits: &'a Limits,
}

impl PortClashes<'_> {
    fn problems(&self, ports: &Allotment) -> Arc<[Problem]> {
        let refused = ports.refused.iter().flat_map(|refusal| self.refused(refusal));
        let same = |a: &SniShadow, b: &SniShadow| (a.loser, a.winner) == (b.loser, b.winner);
        let names = ports.shadowed.chunk_by(same).flat_map(|same| self.name_taken(&same[0], same.len()));
        let mut problems: Vec<_> = refused.chain(names).collect();
        // Of a list that is too long, each address would say the same.
        problems.dedup();
        problems.into()
    }

    fn refused(&self, refusal: &Refusal) -> Box<[Problem]> {
        let loser = self.tcp[refusal.claim];
        let key = key_of_bind(loser.raw, refusal.bind);
        problem(keys_of(loser), self.limits, refusal.kind, key, refusal.advice.clone())
    }

    fn name_taken(&self, SniShadow { loser, winner, bind, name }: &SniShadow, names: usize) -> Box<[Problem]> {
        let winner = self.tcp[*winner].name;
        let advice = format!(
            "tcp service {winner} has the same server name on {bind} and goes first: {name}{}; change the name or the port",
            and_more(names)
        );
        problem(keys_of(self.tcp[*loser]), self.limits, ProblemKind::Shadowed, "sni", advice)
    }
}

/// ` (and 2 more)` after one of three.
fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    }
}

/// A rule that never wins, and the key that sets it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lost<'a> {
    loser: u32,
    winner: u32,
    key: &'a str,
    rule: String,
}

impl Lost<'_> {
    fn new(web: &[&Form], shadow: &Shadow) -> Self {
        let (key, rule) = shadowed_rule(web[shadow.loser as usize], shadow);
        Self { loser: shadow.loser, winner: shadow.winner, key, rule }
    }

    /// One problem for this rule and all others of its key that lose to the same service.
    fn problem(&self, web: &[&Form], rules: usize, limits: &Limits) -> Box<[Problem]> {
        let more = and_more(rules);
        let (loser, winner) = (web[self.loser as usize], &web[self.winner as usize].name);
        // The name that comes later wins only where the other service has no instances.
        let instances = if self.winner > self.loser { " and, unlike this one, instances," } else { "" };
        let rule = &self.rule;
        let advice = format!(
            "service {winner} has the same rule{instances} and goes first: {rule}{more}; change the rule or the priority"
        );
        let keys = (loser.protocol, &loser.name, &*loser.raw);
        problem(keys, limits, ProblemKind::Shadowed, self.key, advice)
    }
}

fn shadowed_rule(loser: &Form, shadow: &Shadow) -> (&'static str, String) {
    let host = shadow.host.as_ref().map(|host| format!("host {host}"));
    match shadow.rule {
        ShadowedRule::Default => ("default", "default true".into()),
        ShadowedRule::Host => (host_key(loser, shadow), host.unwrap_or_default()),
        ShadowedRule::Path(rule) => {
            let entry = loser.settings.as_ref().and_then(|settings| settings.http());
            let path = entry.and_then(|entry| entry.paths.get(rule as usize)).expect("the index numbers its rules");
            let host = host.map(|host| format!("{host}, ")).unwrap_or_default();
            (path.key(), format!("{host}{path}"))
        }
    }
}

fn host_key(loser: &Form, shadow: &Shadow) -> &'static str {
    let host = shadow.host.as_ref().and_then(|host| address::host_pattern(host).ok());
    let key = host.and_then(|host: HostPattern| key_that_names(&loser.raw, HOST_KEYS, &host, address::host_pattern));
    key.unwrap_or(HOST_KEYS[0])
}

/// The key of a service that names this bind.
pub(crate) fn key_of_bind(raw: &RawKeys, bind: Bind) -> &'static str {
    key_that_names(raw, BIND_KEYS, &bind, address::bind).unwrap_or(BIND_KEYS[0])
}

/// A service and its keys.
type KeysOf<'a> = (Protocol, &'a ServiceName, &'a RawKeys);

fn keys_of<'a>(draft: &Draft<'a>) -> KeysOf<'a> {
    (draft.protocol, draft.name, draft.raw)
}

fn problem(
    (protocol, name, raw): KeysOf<'_>,
    limits: &Limits,
    kind: ProblemKind,
    key: &str,
    advice: String,
) -> Box<[Problem]> {
    let mut report = Report::of_service(&limits.prefix, protocol, name);
    let value = raw.get(key).map(String::from_utf8_lossy);
    report.add(kind, key, value.as_deref(), advice);
    report.finish()
}
