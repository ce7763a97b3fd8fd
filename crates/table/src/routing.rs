//! How requests and connections find their service, and what comes of services that claim the same rule, port or name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::{self, Bind, HostPattern};
use crate::form::{Draft, Form};
use crate::index::{HttpIndex, Shadow, ShadowedRule};
use crate::index_build;
use crate::limits::Limits;
use crate::names::Protocol;
use crate::ports::{Allotment, Claim, Listening, Refusal, SniShadow, allot};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::settings::{BIND_KEYS, HOST_KEYS, key_that_names};

/// What changed since the old table.
pub(crate) struct Difference {
    /// Some service's settings were judged again.
    judged: bool,
    /// The rules or the names of HTTP services changed.
    http: bool,
}

impl Difference {
    /// `old`: the forms of the old table. `stale`: something else that routing depends on changed.
    pub(crate) fn between(drafts: &[Draft<'_>], old: &[Arc<Form>], stale: bool) -> Self {
        let judged = stale || drafts.len() != old.len() || drafts.iter().any(Draft::is_judged_anew);
        Self { judged, http: judged && !same_http(drafts, old) }
    }
}

/// Whether there are the same HTTP services with the same rules as before.
fn same_http(drafts: &[Draft<'_>], old: &[Arc<Form>]) -> bool {
    let http = drafts.iter().filter(|draft| draft.protocol == Protocol::Http);
    let served = http.clone().filter(|draft| draft.settings().is_some()).count();
    let was_served = old.iter().filter(|form| form.protocol == Protocol::Http && form.service.is_some()).count();
    served == was_served && { http }.all(Draft::same_entry)
}

/// How requests and connections find their service.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) http: Arc<HttpIndex>,
    pub(crate) tcp: Arc<[(Bind, u32)]>,
    pub(crate) sni: Arc<SniNames>,
    pub(crate) listening: Arc<Listening>,
    /// Problems between services.
    pub(crate) clashes: Arc<[Problem]>,
}

/// Server names and their services, ordered, for each listening address that has some.
type SniNames = BTreeMap<Bind, Box<[(HostPattern, u32)]>>;

impl Default for Routing {
    fn default() -> Self {
        Self {
            http: Arc::default(),
            tcp: Arc::from([]),
            sni: Arc::default(),
            listening: Arc::default(),
            clashes: Arc::from([]),
        }
    }
}

impl Routing {
    pub(crate) fn new(drafts: &[Draft<'_>], old: &Self, limits: &Limits, difference: &Difference) -> Self {
        if !difference.judged {
            return old.share();
        }
        let served: Vec<_> = drafts.iter().filter(|draft| draft.settings().is_some()).collect();
        let (web, tcp) = served.split_at(served.partition_point(|draft| draft.protocol == Protocol::Http));
        let http = match difference.http {
            true => Arc::new(http_index(web, &old.http)),
            false => old.http.clone(),
        };
        let claims: Vec<_> = tcp.iter().map(|draft| claim(draft)).collect();
        let ports = allot(&claims, limits);
        let clashes = Clashes { web, tcp, limits }.problems(&http, &ports);
        let listening =
            Listening::new(limits, ports.shares.iter().map(|(bind, share)| (*bind, claims[share.first()].name)));
        let listening = if listening == *old.listening { old.listening.clone() } else { Arc::new(listening) };
        let (tcp, sni) = numbered(&ports, web.len());
        Self { http, tcp, sni: Arc::new(sni), listening, clashes }
    }

    fn share(&self) -> Self {
        Self {
            http: self.http.clone(),
            tcp: self.tcp.clone(),
            sni: self.sni.clone(),
            listening: self.listening.clone(),
            clashes: self.clashes.clone(),
        }
    }
}

fn http_index(web: &[&Draft<'_>], old: &HttpIndex) -> HttpIndex {
    let entries = web.iter().map(|draft| draft.settings().and_then(|settings| settings.http()));
    let numbered: Vec<_> = (0..).zip(entries.flatten()).collect();
    index_build::build(&numbered, Some(old))
}

fn claim<'a>(draft: &'a Draft<'_>) -> Claim<'a> {
    let entry = draft.settings().and_then(|settings| settings.tcp());
    Claim {
        name: draft.name,
        binds: entry.map(|entry| &*entry.binds).unwrap_or_default(),
        sni: entry.map(|entry| &*entry.sni).unwrap_or_default(),
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

/// Services that claim the same rule, port or server name.
struct Clashes<'a> {
    web: &'a [&'a Draft<'a>],
    tcp: &'a [&'a Draft<'a>],
    limits: &'a Limits,
}

impl Clashes<'_> {
    fn problems(&self, index: &HttpIndex, ports: &Allotment) -> Arc<[Problem]> {
        let mut lost: Vec<_> = index.shadows.iter().map(|shadow| Lost::new(self.web, shadow)).collect();
        lost.sort();
        let same = |a: &Lost<'_>, b: &Lost<'_>| (a.loser, a.winner, a.key) == (b.loser, b.winner, b.key);
        let rules = lost.chunk_by(same).flat_map(|same| same[0].problem(self.web, same.len(), self.limits));
        let refused = ports.refused.iter().flat_map(|refusal| self.port_taken(refusal));
        let same = |a: &SniShadow, b: &SniShadow| (a.loser, a.winner) == (b.loser, b.winner);
        let names = ports.shadowed.chunk_by(same).flat_map(|same| self.name_taken(&same[0], same.len()));
        rules.chain(refused).chain(names).collect()
    }

    fn port_taken(&self, refusal: &Refusal) -> Box<[Problem]> {
        let loser = self.tcp[refusal.claim];
        let key = key_of_bind(loser.raw, refusal.bind);
        problem(loser, self.limits, ProblemKind::PortTaken, key, refusal.advice.clone())
    }

    fn name_taken(&self, SniShadow { loser, winner, bind, name }: &SniShadow, names: usize) -> Box<[Problem]> {
        let winner = self.tcp[*winner].name;
        let advice = format!(
            "tcp service {winner} has the same server name on {bind} and goes first: {name}{}; change the name or the port",
            and_more(names)
        );
        problem(self.tcp[*loser], self.limits, ProblemKind::Shadowed, "sni", advice)
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
    fn new(web: &[&Draft<'_>], shadow: &Shadow) -> Self {
        let (key, rule) = shadowed_rule(web[shadow.loser as usize], shadow);
        Self { loser: shadow.loser, winner: shadow.winner, key, rule }
    }

    /// One problem for this rule and all others of its key that lose to the same service.
    fn problem(&self, web: &[&Draft<'_>], rules: usize, limits: &Limits) -> Box<[Problem]> {
        let more = and_more(rules);
        let winner = web[self.winner as usize].name;
        let rule = &self.rule;
        let advice =
            format!("service {winner} has the same rule and goes first: {rule}{more}; change the rule or the priority");
        problem(web[self.loser as usize], limits, ProblemKind::Shadowed, self.key, advice)
    }
}

fn shadowed_rule(loser: &Draft<'_>, shadow: &Shadow) -> (&'static str, String) {
    let host = shadow.host.as_ref().map(|host| format!("host {host}"));
    match shadow.rule {
        ShadowedRule::Default => ("default", "default true".into()),
        ShadowedRule::Host => (host_key(loser, shadow), host.unwrap_or_default()),
        ShadowedRule::Path(rule) => {
            let entry = loser.settings().and_then(|settings| settings.http());
            let path = entry.and_then(|entry| entry.paths.get(rule as usize)).expect("the index numbers its rules");
            let host = host.map(|host| format!("{host}, ")).unwrap_or_default();
            (path.key(), format!("{host}{path}"))
        }
    }
}

fn host_key(loser: &Draft<'_>, shadow: &Shadow) -> &'static str {
    let host = shadow.host.as_ref().and_then(|host| address::host_pattern(host).ok());
    let key = host.and_then(|host: HostPattern| key_that_names(loser.raw, HOST_KEYS, &host, address::host_pattern));
    key.unwrap_or(HOST_KEYS[0])
}

/// The key of a service that names this bind.
pub(crate) fn key_of_bind(raw: &RawKeys, bind: Bind) -> &'static str {
    key_that_names(raw, BIND_KEYS, &bind, address::bind).unwrap_or(BIND_KEYS[0])
}

fn problem(draft: &Draft<'_>, limits: &Limits, kind: ProblemKind, key: &str, advice: String) -> Box<[Problem]> {
    let mut report = Report::of_service(&limits.prefix, draft.protocol, draft.name);
    let value = draft.raw.get(key).map(String::from_utf8_lossy);
    report.add(kind, key, value.as_deref(), advice);
    report.finish()
}
