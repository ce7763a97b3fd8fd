//! The table and its problems as pages and commands show them: the same form, whether fetched over HTTP or compiled
//! locally. Contains no secrets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{
    Bind, Cert, Entry, Explanation, HttpEntry, HttpVersion, Problem, ProblemKind, Protocol, Scheme, Service,
    ServiceName, Table, Verdict, Withheld, write_problem,
};
use serde::{Deserialize, Serialize};

use super::acme::AcmeNameView;
pub use super::instance::{InstanceView, epoch_seconds};
use super::instance::{counted, mark_panic};
use super::pick::PickView;
use super::query::{ExplainQuery, ExplainRequest};
use super::source::{SnapshotView, SourceView};
use super::url::ExplainUrl;
use pointsman_engine::live::{InstanceStats, REASONS, Snapshot};

/// `/api/table`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableView {
    /// The store's revision.
    pub revision: u64,
    /// The listeners.
    pub listeners: Vec<ListenerView>,
    /// Every service in the table.
    pub services: Vec<ServiceView>,
    /// The certificates, the one that expires first goes first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub certificates: Vec<CertificateView>,
    /// The names that certificates by ACME are wanted for; of a running balancer.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub acme: Vec<AcmeNameView>,
    /// The keys that a running balancer follows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<SourceView>,
    /// The snapshot that the keys come from, while the store was not read yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot: Option<SnapshotView>,
}

/// One certificate. Holds no part of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// Its name.
    pub name: String,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// When it becomes valid: seconds since the epoch.
    pub valid: i64,
    /// When it expires: seconds since the epoch.
    pub expires: i64,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// `http` or `tcp`.
    pub protocol: String,
    /// `0.0.0.0:80`.
    pub address: String,
    /// The TCP service behind it. If several share an address, each has its own entry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// `http` or `tcp`.
    pub protocol: String,
    /// Its name.
    pub name: String,
    /// Its keys ask for protection and keep it from being served: its requests get 503.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub closed: bool,
    /// Its rule: hosts and paths, or listening addresses.
    pub rule: RuleView,
    /// The balancing algorithm, as in the key.
    pub balance: String,
    /// `125%`: the most open work of an instance, of the mean.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bounded: Option<String>,
    /// `30s`: from an instance's return or appearance to its full share.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slow_start: Option<String>,
    /// What its instances speak, if that is not HTTP/1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_version: Option<String>,
    /// The revision of its last good settings, if its keys are bad and it is served with those.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_good: Option<u64>,
    /// The name that more instances come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dns: Option<String>,
    /// `required` or `optional`: whether clients need a certificate of its `client_ca`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_verify: Option<String>,
    /// When an instance is ejected for its answers, as in the key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eject: Option<String>,
    /// Below which share of healthy instances all are used, as in the key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub panic: Option<String>,
    /// Fewer than that are healthy, so all are used.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub in_panic: bool,
    /// Requests or connections that wait for an instance or a place.
    #[serde(default)]
    pub queued: u64,
    /// Requests refused so far because every place was taken.
    #[serde(default)]
    pub shed: u64,
    /// Requests sent again so far, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub retried: BTreeMap<String, u64>,
    /// As `slow_start`.
    #[serde(skip)]
    pub ramp: Option<Duration>,
    /// Its `retries`, limits and the like: key and value, the configuration's defaults included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub bounds: BTreeMap<String, String>,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// Everything wrong with its keys: why instances are left out, why it has its last good settings.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<ProblemView>,
}

/// The rule of a service. Empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleView {
    /// `shop.test`, `*.example.org`; the TLS server names of a TCP service.
    pub hosts: Vec<String>,
    /// `url_beg=/api`, including the key's name.
    pub paths: Vec<String>,
    /// `method GET,HEAD, header x-beta *`: what else a request must have.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub conditions: String,
    /// Higher wins.
    pub priority: i64,
    /// `match=any`.
    pub either: bool,
    /// Takes everything that no other service matches.
    pub default: bool,
    /// The matched `virtual_path` is not stripped.
    pub keep_virtual_path: bool,
    /// Listening addresses of a TCP service.
    pub listen: Vec<String>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// The full key.
    pub key: String,
    /// The value, unless it is missing or secret.
    pub value: Option<String>,
    /// `bad_value` and so on.
    pub kind: String,
    /// `http` or `tcp`, if it belongs to a service.
    pub protocol: Option<String>,
    /// The service, if it belongs to one.
    pub service: Option<String>,
    /// The mistake and its remedy.
    pub advice: String,
}

/// `/api/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// `http` or `tcp`.
    #[serde(default)]
    pub protocol: String,
    /// The host asked for.
    pub host: String,
    /// Path and query asked for, or the port.
    pub target: String,
    /// The chosen service.
    pub chosen: Option<ChoiceView>,
    /// The other matching services, best first.
    pub passed_over: Vec<ChoiceView>,
    /// The target is answered 414, because too many expressions would have to be searched for in it.
    #[serde(default)]
    pub too_long: bool,
    /// Bytes stripped from the front of `target` before it is forwarded.
    pub strip: u32,
    /// The chosen service, with its instances.
    pub service: Option<ServiceView>,
    /// Other matching services that are not served as their keys say.
    #[serde(default)]
    pub withheld: Vec<WithheldView>,
    /// The instance that the request's cookie or key leads to, if the service goes by them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub picked: Option<PickView>,
    /// If no service takes it: what comes close, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub near: Vec<String>,
    /// The balancer's own page that answers instead of any service: which, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local: Option<String>,
    /// Why its service refuses the client that was asked about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// The keys that a running balancer follows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<SourceView>,
}

/// A matching service that is not served, or not in its newest form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldView {
    /// Its name.
    pub service: String,
    /// Why.
    pub problems: Vec<ProblemView>,
}

/// A matching service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceView {
    /// Its name.
    pub service: String,
    /// The matching rule.
    pub rule: String,
    /// The reason that it lost to the previous one; empty for the first.
    pub reason: String,
}

impl TableView {
    /// The table and the HTTP listeners' addresses.
    pub fn new(table: &Table, http: &[SocketAddr]) -> Self {
        let http = http.iter().map(|address| ListenerView::new(Protocol::Http, address.to_string(), None));
        let tcp = table.tcp().iter().flat_map(|&(bind, index)| {
            let shared = table.sni(bind).iter().map(|(_, index)| *index);
            let services: BTreeSet<u32> = shared.chain([index]).collect();
            services.into_iter().map(move |index| ListenerView::tcp(table, bind, index))
        });
        let listeners = http.chain(tcp).collect();
        let last_good: LastGoodOf<'_> = last_good(table);
        let services = table.services().iter().map(|service| ServiceView::new(service, &last_good)).collect();
        let certificates = Self::certificates_of(table);
        let (revision, acme) = (table.revision(), Vec::new());
        Self { revision, listeners, services, certificates, acme, source: None, snapshot: None }
    }

    /// The certificates, the one that expires first goes first.
    pub(super) fn certificates_of(table: &Table) -> Vec<CertificateView> {
        let certificates = table.certs().iter().map(|(name, cert)| CertificateView::new(name, cert));
        let mut certificates: Vec<_> = certificates.collect();
        certificates.sort_by_key(|certificate| certificate.expires);
        certificates
    }

    /// Adds the engine's counters.
    pub fn with_counters(mut self, snapshot: &Snapshot) -> Self {
        let counters = by_instance(snapshot);
        self.services.iter_mut().for_each(|service| service.add_counters(&counters, snapshot));
        self
    }

    /// Adds to each service the problems with its keys.
    pub fn with_problems<'p>(mut self, problems: impl Iterator<Item = &'p Problem>) -> Self {
        let mut of_service: HashMap<_, Vec<ProblemView>> = HashMap::new();
        for problem in problems {
            let of = problem.service.as_ref().map(|(protocol, name)| (*protocol, name.as_str()));
            of.into_iter().for_each(|of| of_service.entry(of).or_default().push(problem.into()));
        }
        for ServiceView { protocol, name, problems, .. } in &mut self.services {
            problems.extend(of_service.remove(&(protocol_of(protocol), name.as_str())).into_iter().flatten());
        }
        self
    }
}

impl CertificateView {
    fn new(name: &str, cert: &Cert) -> Self {
        let names = cert.names.iter().map(ToString::to_string).collect();
        Self { name: name.to_owned(), names, valid: cert.not_before, expires: cert.not_after }
    }
}

impl ListenerView {
    fn new(protocol: Protocol, address: String, service: Option<String>) -> Self {
        Self { protocol: protocol_word(protocol).to_owned(), address, service }
    }

    fn tcp(table: &Table, bind: Bind, index: u32) -> Self {
        let service = table.services().get(index as usize).map(|service| service.name.to_string());
        Self::new(Protocol::Tcp, bind.to_string(), service)
    }
}

type Counters<'a> = HashMap<(Protocol, &'a str, &'a str), &'a InstanceStats>;

fn by_instance(snapshot: &Snapshot) -> Counters<'_> {
    let each = snapshot.services.iter().flat_map(|service| {
        service
            .instances
            .iter()
            .map(|instance| ((service.protocol, service.service.as_str(), instance.instance.as_str()), instance))
    });
    each.collect()
}

/// The revisions of the last good settings that services are served with.
type LastGoodOf<'a> = HashMap<(Protocol, &'a str), u64>;

fn last_good(table: &Table) -> LastGoodOf<'_> {
    table.last_good().map(|(protocol, name, revision)| ((protocol, name.as_str()), revision)).collect()
}

impl ServiceView {
    /// A service that is not served, with what is wrong with its keys; `None`: nothing is.
    pub(super) fn unserved(protocol: Protocol, name: &str, problems: impl Iterator<Item = Problem>) -> Option<Self> {
        let is_of = |of: &(Protocol, ServiceName)| of.0 == protocol && of.1.as_str() == name;
        let problems = problems.filter(|problem| problem.service.as_ref().is_some_and(is_of));
        let problems: Vec<_> = problems.map(|problem| ProblemView::from(&problem)).collect();
        let (protocol, name) = (protocol_word(protocol).to_owned(), name.to_owned());
        (!problems.is_empty()).then(|| Self { protocol, name, problems, ..Self::default() })
    }

    fn new(service: &Service, last_good: &LastGoodOf<'_>) -> Self {
        Self {
            protocol: protocol_word(service.protocol).to_owned(),
            name: service.name.to_string(),
            rule: RuleView::new(service),
            balance: service.balance.to_string(),
            bounded: service.bounded.map(|percent| format!("{percent}%")),
            slow_start: service.timeouts.slow_start.map(|ramp| format!("{ramp:?}")),
            http_version: (service.http_version == HttpVersion::Http2).then(|| service.http_version.to_string()),
            closed: service.closed,
            last_good: last_good.get(&(service.protocol, service.name.as_str())).copied(),
            dns: service.dns.as_ref().map(ToString::to_string),
            client_verify: service.client_auth().map(|auth| auth.verify().to_owned()),
            eject: service.eject.as_ref().map(ToString::to_string),
            panic: service.panic.as_ref().map(ToString::to_string),
            in_panic: false,
            queued: 0,
            shed: 0,
            retried: BTreeMap::new(),
            ramp: service.timeouts.slow_start,
            bounds: bounds(service),
            instances: service.instances.iter().map(InstanceView::new).collect(),
            problems: Vec::new(),
        }
    }

    /// One service with its counters and the problems with its keys.
    pub fn of<'p>(
        service: &Service,
        table: &Table,
        snapshot: &Snapshot,
        problems: impl Iterator<Item = &'p Problem>,
    ) -> Self {
        let mut view = Self::new(service, &last_good(table));
        view.add_counters(&by_instance(snapshot), snapshot);
        let is_own = |problem: &&Problem| {
            let of = problem.service.as_ref();
            of.is_some_and(|(protocol, name)| *protocol == service.protocol && *name == service.name)
        };
        view.problems.extend(problems.filter(is_own).map(ProblemView::from));
        view
    }

    fn add_counters(&mut self, counters: &Counters<'_>, snapshot: &Snapshot) {
        let Self { protocol, name, instances, panic, in_panic, queued, retried, shed, ramp, .. } = self;
        let (protocol, slow_start) = (protocol_of(protocol), *ramp);
        // A snapshot's services are in this order.
        let place =
            snapshot.services.binary_search_by(|stats| (stats.protocol, &*stats.service).cmp(&(protocol, name)));
        if let Some(stats) = place.ok().and_then(|place| snapshot.services.get(place)) {
            *in_panic = panic.is_some() && stats.panic;
            (*queued, *shed) = (stats.queued, stats.totals.shed);
            *retried = counted(REASONS.into_iter().zip(stats.totals.reasons));
        }
        for instance in &mut *instances {
            if let Some(stats) = counters.get(&(protocol, name.as_str(), instance.name.as_str())) {
                instance.add(stats, slow_start);
            }
        }
        if *in_panic {
            mark_panic(instances);
        }
    }
}

fn bounds(service: &Service) -> BTreeMap<String, String> {
    let lines = service.bounds.iter().flat_map(|bounds| bounds.lines());
    lines.map(|(key, value)| (key.to_owned(), value)).collect()
}

impl RuleView {
    /// The rule of a service.
    pub fn new(service: &Service) -> Self {
        match &service.entry {
            Entry::Http(http) => Self::http(http),
            Entry::Tcp(tcp) => Self {
                hosts: tcp.sni.iter().map(ToString::to_string).collect(),
                listen: tcp.binds.iter().map(ToString::to_string).collect(),
                ..Self::default()
            },
        }
    }

    fn http(http: &HttpEntry) -> Self {
        Self {
            hosts: http.hosts.iter().map(ToString::to_string).collect(),
            paths: http.paths.iter().map(|path| format!("{}={}", path.key(), path.text())).collect(),
            conditions: http.conditions.as_ref().map(|all| all.as_str().to_owned()).unwrap_or_default(),
            priority: http.priority,
            either: http.either,
            default: http.default,
            keep_virtual_path: http.keep_virtual_path,
            listen: Vec::new(),
        }
    }
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self {
            key: problem.key.to_string(),
            value: problem.value.as_deref().map(str::to_owned),
            kind: problem.kind.as_str().to_owned(),
            protocol: problem.service.as_ref().map(|(protocol, _)| protocol_word(*protocol).to_owned()),
            service: problem.service.as_ref().map(|(_, name)| name.to_string()),
            advice: problem.advice.to_string(),
        }
    }
}

/// One line, in the format of [`Problem`].
impl fmt::Display for ProblemView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(f, &self.key, self.value.as_deref(), &self.kind, &self.advice)
    }
}

impl ExplainView {
    /// Explains a request. `problems`: all known problems.
    pub fn new<'p>(
        table: &Table,
        snapshot: &Snapshot,
        problems: impl Iterator<Item = &'p Problem>,
        asked: ExplainQuery,
    ) -> Self {
        let imagined = asked.request.imagined();
        let ExplainQuery { url: ExplainUrl { protocol, host, target, is_secure }, request } = asked;
        let client = request.client;
        let explanation = match protocol {
            Protocol::Http => table.explain(&host, &target, &imagined),
            Protocol::Tcp => table.explain_tcp(&host, target.parse().unwrap_or_default()),
        };
        let problems: Vec<_> = problems.filter(|problem| problem.service.is_some()).collect();
        let of = |service: &ServiceName| {
            let key = (protocol, service.clone());
            problems.iter().copied().filter(move |problem| problem.service.as_ref() == Some(&key))
        };
        let service = explanation.chosen.as_ref().and_then(|chosen| table.services().get(chosen.index as usize));
        let service = service.map(|service| {
            let mut view = ServiceView::new(service, &last_good(table));
            view.add_counters(&by_instance(snapshot), snapshot);
            view.problems.extend(of(&service.name).map(ProblemView::from));
            view
        });
        let withheld = withheld(&explanation, of);
        let find = || table.find(&host, &target, &imagined).ok().flatten();
        let route = if protocol == Protocol::Http { find() } else { None };
        let local = if protocol == Protocol::Http { local_page(table, &target) } else { None };
        let chosen = explanation.chosen.as_ref().and_then(|chosen| table.services().get(chosen.index as usize));
        let local =
            local.or_else(|| chosen.filter(|_| !is_secure).and_then(|service| redirect(service, &host, &target)));
        Self {
            protocol: protocol_word(protocol).to_owned(),
            too_long: explanation.too_long,
            strip: route.map_or(0, |route| route.strip),
            host,
            target,
            chosen: explanation.chosen.as_ref().map(ChoiceView::new),
            passed_over: explanation.passed_over.iter().map(ChoiceView::new).collect(),
            service,
            withheld,
            picked: None,
            near: explanation.near,
            local,
            refused: chosen.zip(client).and_then(|(service, client)| refusal(service, client)),
            source: None,
        }
    }

    /// Adds the instance that the native engine would take for the request's cookie or key.
    pub fn with_pick(self, table: &Table, snapshot: &Snapshot, request: &ExplainRequest) -> Self {
        let name = self.chosen.as_ref().map(|chosen| chosen.service.as_str());
        let protocol = protocol_of(&self.protocol);
        let is_it = |service: &&Arc<Service>| service.protocol == protocol && Some(service.name.as_str()) == name;
        let service = table.services().iter().find(is_it);
        let asked = (self.host.as_str(), self.target.as_str());
        let picked = service.and_then(|service| PickView::new(service, snapshot, asked, request));
        Self { picked, ..self }
    }

    /// Whether an instance or one of our own pages would answer, not an error.
    pub fn is_answered(&self) -> bool {
        let serves = |instance: &InstanceView| matches!(&*instance.state, "up" | "backup");
        let has_work = |service: &ServiceView| service.dns.is_some() || service.instances.iter().any(serves);
        self.local.is_some() || self.refused.is_none() && self.service.as_ref().is_some_and(has_work)
    }
}

/// Why the service refuses this client, if it does.
fn refusal(service: &Service, client: IpAddr) -> Option<String> {
    let access = service.policy.as_ref()?.access.as_ref()?;
    let status = if service.protocol == Protocol::Tcp { "closed" } else { "403" };
    (!access.admits(client)).then(|| format!("{status}: the client {client} is refused by {access}"))
}

/// The health page, if the target's path is its.
fn local_page(table: &Table, target: &str) -> Option<String> {
    let uri = table.config().health_uri.as_deref()?;
    (target.split('?').next() == Some(uri))
        .then(|| "200: the balancer itself answers this path, config/health_uri".to_owned())
}

/// The redirect of plain HTTP to HTTPS, if the service has `scheme=https`.
fn redirect(service: &Service, host: &str, target: &str) -> Option<String> {
    let is_redirected = service.protocol == Protocol::Http && service.scheme() == Scheme::Https;
    let bare = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(bare, _)| bare);
    is_redirected.then(|| {
        format!(
            "301: plain HTTP is redirected to https://{bare}{target}, as services/{}/scheme says; explain that URL",
            service.name
        )
    })
}

/// Matching services that are not served because of their keys, and those in `passed_over` that the engine holds back.
/// `of`: the problems of a service.
fn withheld<'p, Of>(explanation: &Explanation, of: impl Fn(&ServiceName) -> Of) -> Vec<WithheldView>
where
    Of: Iterator<Item = &'p Problem>,
{
    let view =
        |service: &ServiceName, problems: Vec<ProblemView>| WithheldView { service: service.to_string(), problems };
    let by_keys = explanation.withheld.iter();
    let by_keys =
        by_keys.map(|Withheld { service, problems }| view(service, problems.iter().map(Into::into).collect()));
    let holds_back = |problem: &&Problem| matches!(problem.kind, ProblemKind::Rejected | ProblemKind::Listen);
    let held_back = explanation.passed_over.iter().filter_map(|Verdict { service, .. }| {
        let problems: Vec<_> = of(service).filter(holds_back).map(ProblemView::from).collect();
        (!problems.is_empty()).then(|| view(service, problems))
    });
    by_keys.chain(held_back).collect()
}

impl ChoiceView {
    fn new(verdict: &Verdict) -> Self {
        Self { service: verdict.service.to_string(), rule: verdict.rule.clone(), reason: verdict.reason.clone() }
    }
}

/// `http` or `tcp`.
pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

/// The protocol of this word.
pub fn protocol_of(word: &str) -> Protocol {
    if word == "tcp" { Protocol::Tcp } else { Protocol::Http }
}

#[cfg(test)]
mod tests {
    use pointsman_table::{Capabilities, KeySet, Limits, compile};

    use super::TableView;

    #[test]
    fn services_that_share_a_port() {
        let keys = [("a/port", "1"), ("b/ports", "1,2"), ("b/sni", "b.test"), ("c/port", "1"), ("c/sni", "c.test")];
        let mut key_set = KeySet::default();
        key_set.reset(1, keys.map(|(key, value)| (format!("tcp-services/{key}").into(), value.as_bytes().into())));
        let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
        let view = TableView::new(&compile(&key_set, None, &limits).table, &[]);
        let listeners = view.listeners.iter().map(|l| format!("{} {}", l.address, l.service.as_deref().unwrap()));
        assert_eq!(listeners.collect::<Vec<_>>(), ["0.0.0.0:1 a", "0.0.0.0:1 b", "0.0.0.0:1 c", "0.0.0.0:2 b"]);
        assert_eq!(view.services[1].rule.hosts, ["b.test"]);
    }
}
