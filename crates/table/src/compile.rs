//! From keys to a table and its problems. Never fails: one service's bad keys touch no other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::abilities::Abilities;
use crate::config;
use crate::form::{Draft, Form, World};
use crate::index::{HttpIndex, Shadow, ShadowedRule};
use crate::index_build;
use crate::mirror::Mirror;
use crate::model::{Bind, Config, HostPattern, Protocol};
use crate::ports::{Claim, Listening, Refusal, allot};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::settings::{BIND_KEYS, HOST_KEYS, key_that_names};
use crate::table::Table;
use crate::value;

/// What compile must know of the world besides the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The prefix, `/haproxy-haproxy-1`, for the full keys in problems. No slash at the end.
    pub prefix: Box<str>,
    /// Our own HTTP and admin addresses: an instance there is a loop, a TCP service there is a taken port.
    pub own: Box<[SocketAddr]>,
    /// This machine's addresses, to know what `0.0.0.0` stands for.
    pub local: Box<[IpAddr]>,
    /// What the engine can honour.
    pub abilities: Abilities,
}

/// The outcome: always a table, and all that is wrong with the keys.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What to serve.
    pub table: Arc<Table>,
    /// Everything wrong, ordered by key.
    pub problems: Vec<Problem>,
}

/// Compiles the keys. `previous` gives last good forms and whatever can be shared.
///
/// Costs in proportion to what changed, a glance at every service, and a new index if rules changed.
pub fn compile(mirror: &Mirror, previous: Option<&Table>, limits: &Limits) -> Compiled {
    let nothing;
    let old = match previous {
        Some(table) => table,
        None => {
            nothing = Table::default();
            &nothing
        }
    };
    let basis = Basis::new(mirror, old, limits);
    let drafts = drafts(mirror, old, &basis.limits, basis.stale);
    let difference = Difference::between(&drafts, old, basis.stale);
    let routing = Routing::new(&drafts, old, &basis.limits, &difference);
    let forms = finish(drafts, old, &basis, &routing);
    let problems = problems(mirror, &basis, &routing, &forms);
    Compiled { table: Arc::new(Table::new(mirror.revision(), basis, routing, forms)), problems }
}

/// What all services are judged by.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) limits: Arc<Limits>,
    pub(crate) raw_config: Arc<RawKeys>,
    pub(crate) config: Arc<Config>,
    pub(crate) config_problems: Arc<[Problem]>,
    /// Whether the old table was made under other limits.
    stale: bool,
}

impl Default for Basis {
    fn default() -> Self {
        Self {
            limits: Arc::default(),
            raw_config: Arc::default(),
            config: Arc::default(),
            config_problems: Arc::from([]),
            stale: false,
        }
    }
}

impl Basis {
    fn new(mirror: &Mirror, old: &Table, limits: &Limits) -> Self {
        let old = &old.basis;
        let stale = *old.limits != *limits;
        let limits = if stale { Arc::new(limits.clone()) } else { old.limits.clone() };
        let raw_config = mirror.config().clone();
        if !stale && Arc::ptr_eq(&old.raw_config, &raw_config) {
            let (config, config_problems) = (old.config.clone(), old.config_problems.clone());
            return Self { limits, raw_config, config, config_problems, stale };
        }
        let (config, config_problems) = config::judge(&raw_config, &old.config, &limits.prefix);
        let config = if config == *old.config { old.config.clone() } else { Arc::new(config) };
        Self { limits, raw_config, config, config_problems: config_problems.into(), stale }
    }

    /// Whether services that set no waits of their own have others now.
    fn retimed(&self, old: &Self) -> bool {
        let (new, old) = (&self.config.timeouts, &old.config.timeouts);
        (new.connect, new.server, new.tunnel) != (old.connect, old.server, old.tunnel)
    }
}

/// All services, their settings judged, ordered by protocol and name.
fn drafts<'a>(mirror: &'a Mirror, old: &'a Table, limits: &Limits, stale: bool) -> Vec<Draft<'a>> {
    let mut forms = old.forms.iter().peekable();
    let mut drafts = Vec::with_capacity(old.forms.len());
    for protocol in [Protocol::Http, Protocol::Tcp] {
        for (name, raw) in mirror.services(protocol) {
            while forms.next_if(|form| (form.protocol, &form.name) < (protocol, name)).is_some() {}
            let form = forms.next_if(|form| (form.protocol, &form.name) == (protocol, name));
            drafts.extend(Draft::new((protocol, name), raw, form, limits, stale));
        }
    }
    drafts
}

/// What is not as it was in the old table.
struct Difference {
    /// Some service's settings were judged again.
    judged: bool,
    /// Rules or names of HTTP services.
    http: bool,
}

impl Difference {
    fn between(drafts: &[Draft<'_>], old: &Table, stale: bool) -> Self {
        let judged = stale || drafts.len() != old.forms.len() || drafts.iter().any(Draft::is_judged_anew);
        Self { judged, http: judged && !same_http(drafts, old) }
    }
}

/// Whether the same HTTP services are reached by the same rules as before.
fn same_http(drafts: &[Draft<'_>], old: &Table) -> bool {
    let http = drafts.iter().filter(|draft| draft.protocol == Protocol::Http);
    let served = http.clone().filter(|draft| draft.settings().is_some()).count();
    let was_served = old.services().iter().filter(|service| service.protocol == Protocol::Http).count();
    served == was_served && { http }.all(Draft::same_entry)
}

/// How requests and connections find their service.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) http: Arc<HttpIndex>,
    pub(crate) tcp: Arc<[(Bind, u32)]>,
    pub(crate) listening: Arc<Listening>,
    /// Problems of services with each other.
    pub(crate) clashes: Arc<[Problem]>,
}

impl Default for Routing {
    fn default() -> Self {
        Self { http: Arc::default(), tcp: Arc::from([]), listening: Arc::default(), clashes: Arc::from([]) }
    }
}

impl Routing {
    fn new(drafts: &[Draft<'_>], old: &Table, limits: &Limits, difference: &Difference) -> Self {
        let old = &old.routing;
        if !difference.judged {
            let Self { http, tcp, listening, clashes } = old;
            return Self {
                http: http.clone(),
                tcp: tcp.clone(),
                listening: listening.clone(),
                clashes: clashes.clone(),
            };
        }
        let served: Vec<_> = drafts.iter().filter(|draft| draft.settings().is_some()).collect();
        let (web, tcp) = served.split_at(served.partition_point(|draft| draft.protocol == Protocol::Http));
        let http = match difference.http {
            true => Arc::new(http_index(web, &old.http)),
            false => old.http.clone(),
        };
        let ports = Ports::allot(tcp, web.len(), limits);
        let clashes = clashes(web, &http, tcp, &ports.refused, limits);
        let listening = Listening::new(limits, ports.taken.iter().map(|&(bind, _)| bind));
        let listening = if listening == *old.listening { old.listening.clone() } else { Arc::new(listening) };
        Self { http, tcp: ports.taken.into(), listening, clashes }
    }
}

fn http_index(web: &[&Draft<'_>], old: &HttpIndex) -> HttpIndex {
    let entries = web.iter().map(|draft| draft.settings().and_then(|settings| settings.http()));
    let numbered: Vec<_> = (0..).zip(entries.flatten()).collect();
    index_build::build(&numbered, Some(old))
}

/// Which TCP service listens where.
struct Ports {
    /// With the service's number.
    taken: Vec<(Bind, u32)>,
    refused: Vec<Refusal>,
}

impl Ports {
    /// `first` is the number of the first TCP service.
    fn allot(tcp: &[&Draft<'_>], first: usize, limits: &Limits) -> Self {
        let claim = |draft: &&Draft<'_>| Claim {
            name: draft.name.clone(),
            binds: draft.settings().map(|settings| settings.binds().into()).unwrap_or_default(),
        };
        let claims: Vec<_> = tcp.iter().map(claim).collect();
        let (taken, refused) = allot(&claims, &limits.own);
        let number = |claim| u32::try_from(first + claim).expect("2^32 services do not fit in memory");
        Self { taken: taken.into_iter().map(|(bind, claim)| (bind, number(claim))).collect(), refused }
    }
}

/// Problems of services that want the same.
fn clashes(
    web: &[&Draft<'_>],
    index: &HttpIndex,
    tcp: &[&Draft<'_>],
    refused: &[Refusal],
    limits: &Limits,
) -> Arc<[Problem]> {
    let mut lost: Vec<_> = index.shadows.iter().map(|shadow| Lost::new(web, shadow)).collect();
    lost.sort();
    let same = |a: &Lost<'_>, b: &Lost<'_>| (a.loser, a.winner, a.key) == (b.loser, b.winner, b.key);
    let shadowed = lost.chunk_by(same).flat_map(|same| same[0].problem(web, same.len(), limits));
    let refused = refused.iter().flat_map(|refusal| port_taken(tcp[refusal.claim], refusal, limits));
    shadowed.chain(refused).collect()
}

/// A rule that never wins, by the key that sets it.
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

    /// One problem for this rule and others under the same key that lose to the same service.
    fn problem(&self, web: &[&Draft<'_>], rules: usize, limits: &Limits) -> Box<[Problem]> {
        let more = match rules {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
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
    let host = shadow.host.as_ref().and_then(|host| value::host_pattern(host).ok());
    let key = host.and_then(|host: HostPattern| key_that_names(loser.raw, HOST_KEYS, &host, value::host_pattern));
    key.unwrap_or(HOST_KEYS[0])
}

fn port_taken(loser: &Draft<'_>, refusal: &Refusal, limits: &Limits) -> Box<[Problem]> {
    let key = key_of_bind(loser.raw, refusal.bind);
    problem(loser, limits, ProblemKind::PortTaken, key, refusal.advice.clone())
}

fn key_of_bind(raw: &RawKeys, bind: Bind) -> &'static str {
    key_that_names(raw, BIND_KEYS, &bind, value::bind).unwrap_or(BIND_KEYS[0])
}

/// The problem that the machine refuses a port of a service.
pub(crate) fn listen_problem(form: &Form, bind: Bind, advice: String, limits: &Limits) -> Option<Problem> {
    let key = key_of_bind(&form.raw, bind);
    let value = form.raw.get(key).map(String::from_utf8_lossy);
    let mut report = Report::of_service(&limits.prefix, form.protocol, &form.name);
    report.add(ProblemKind::Listen, key, value.as_deref(), advice);
    report.finish().into_iter().next()
}

fn problem(draft: &Draft<'_>, limits: &Limits, kind: ProblemKind, key: &str, advice: String) -> Box<[Problem]> {
    let mut report = Report::of_service(&limits.prefix, draft.protocol, draft.name);
    let value = draft.raw.get(key).map(String::from_utf8_lossy);
    report.add(kind, key, value.as_deref(), advice);
    report.finish()
}

fn finish(drafts: Vec<Draft<'_>>, old: &Table, basis: &Basis, routing: &Routing) -> Box<[Arc<Form>]> {
    let world = World {
        limits: &basis.limits,
        listening: &routing.listening,
        timeouts: &basis.config.timeouts,
        moved: !Arc::ptr_eq(&routing.listening, &old.routing.listening),
        retimed: basis.retimed(&old.basis),
    };
    drafts.into_iter().map(|draft| draft.finish(&world)).collect()
}

fn problems(mirror: &Mirror, basis: &Basis, routing: &Routing, forms: &[Arc<Form>]) -> Vec<Problem> {
    let of_services = forms.iter().flat_map(|form| &form.problems);
    let of_all = of_services.chain(&*basis.config_problems).chain(&*routing.clashes);
    let mut problems: Vec<_> = of_all.cloned().chain(elsewhere(mirror, &basis.limits)).collect();
    problems.sort();
    problems
}

/// Problems with keys that belong to no service and no configuration.
fn elsewhere(mirror: &Mirror, limits: &Limits) -> Vec<Problem> {
    let mut certs = Report::of_tree(&limits.prefix, "certs").hiding_values();
    for (key, _) in mirror.certs().iter().filter(|(_, value)| !limits.abilities.certs && !value.trim_ascii().is_empty())
    {
        certs.add(
            ProblemKind::Unsupported,
            key,
            None,
            "this engine does not serve TLS yet; the certificate is not used",
        );
    }
    let mut strays = Report::of_tree(&limits.prefix, "").hiding_values();
    for (key, _) in mirror.strays().iter().filter(|(_, value)| !value.trim_ascii().is_empty()) {
        strays.add(ProblemKind::UnknownKey, key, None, "the service has no name; expected <tree>/<service>/<key>");
    }
    certs.finish().into_iter().chain(strays.finish()).collect()
}
