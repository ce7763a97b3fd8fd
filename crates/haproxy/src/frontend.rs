//! Frontends: where HAProxy listens, and the rules before a request reaches its backend. Knows listening addresses, not
//! instances; `routing` finds a request's backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use pointsman_table::{Bind, CHALLENGE_PATH, Config, HostPattern, Problem, ProblemKind, Protocol, Service, Table};

use super::clients::{CLIENT_LIST, CLIENT_MAP};
use super::forwarded;
use super::frame::{page, path};
use super::maps::{MapName, Maps};
use super::model::{FOLDER, Held, Owner, Part};
use super::names::{BackendName, PAGES};
use super::routing::{self, Steps};
use super::shape::{Listen, Shape};
use super::strict;
use super::tickets;
use super::version::Version;
use super::words::{quote, time};

/// The list of certificates of HTTPS listeners.
pub const CERT_LIST: &str = "certs.list";

/// Hop-by-hop headers (RFC 9110 §7.6.1), `Proxy`, which CGI would turn into `HTTP_PROXY`, and names that some servers
/// read as `X-Forwarded-*` and `X-Real-IP`. HAProxy itself handles `Connection` and framing.
const HOP_BY_HOP: &str = "^(te|proxy|keep-alive|http2-settings|proxy-(connection|authenticate|authorization)|\
                          x([^-a-z0-9]forwarded[^a-z0-9]|-forwarded[^-a-z0-9]).+|\
                          x([^-a-z0-9]real[^a-z0-9]|-real[^-a-z0-9])ip)$";
/// Headers by which a proxy tells an instance the client's certificate (RFC 9440), and names that some servers read as
/// them: no client may.
const CLIENT_CERT: &str = "^client[^a-z0-9]cert([^a-z0-9]chain)?$";
/// Upgrades that would hide requests from us, or that a proxy must not agree to (RFC 9110 §7.8).
const REFUSED_UPGRADES: &str = "^(h2c?|http|tls)(/|$)";

/// How many proxies a request may have passed, as in the native engine.
const MOST_HOPS: u32 = 16;
/// The answer beyond that.
const LOOP: &str = "The request goes in circles: it has passed too many proxies.";

/// Where HTTPS is served: where settings say, else at its usual address if that is open.
pub fn https(table: &Table, held: &Held, shape: &Shape) -> Vec<Listen> {
    if !shape.version.tls {
        return Vec::new();
    }
    let open = table.https().filter(|bind| !held.closed.contains(bind));
    let usual = open.map(|bind| Listen { address: SocketAddr::new(bind.address, bind.port), socket: None });
    shape.https.iter().copied().chain(usual).collect()
}

/// How HTTPS is served.
pub(crate) struct Https<'a> {
    /// Where.
    pub(crate) listens: &'a [Listen],
    /// How TLS ends: [`tls`] or [`asking_tls`].
    pub(crate) tls: &'a str,
    /// Whether clients are asked for theirs.
    pub(crate) asks: bool,
}

/// The frontends of HTTP services, with [`request_rules`].
pub(crate) fn http(rules: &str, config: &Config, shape: &Shape, https: &Https<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |name: &str, listens: &[Listen], (options, names): (&str, &str)| {
        let binds: String = listens.iter().map(|listen| bind(listen, options)).collect();
        parts.push(Part::ours(&format!(
            "frontend {name}\n{binds}{}{names}{rules}{}\n",
            forwarded::proxied(config),
            passing_rules(name, config, shape.version)
        )));
    };
    if !shape.http.is_empty() {
        add("http", &shape.http, ("", ""));
    }
    if !https.listens.is_empty() {
        let names = if https.asks { asked_name() } else { String::new() };
        add("https", https.listens, (&format!("{} alpn h2,http/1.1", https.tls), &names));
    }
    parts
}

/// Whose certificate a connection was asked for, found as HAProxy finds what to ask for: by the name, else by its wildcard.
fn asked_name() -> String {
    let map = format!("map_str(\"{}\")", path(CLIENT_MAP));
    format!(
        "    tcp-request session set-var(sess.sni) ssl_fc_sni,lower
    tcp-request session set-var(sess.clients) 'ssl_fc_sni,lower,{map}'
    tcp-request session set-var(sess.clients) 'ssl_fc_sni,lower,regsub(\"^[^.]*\",\"*\"),{map}' if !{{ var(sess.clients) -m found }}
"
    )
}

/// The lines that find a request's backend, for a frontend of any kind.
pub fn request_rules(config: &Config, maps: &Maps, version: Version) -> String {
    let health = config.health_uri.as_deref().map(health_rule).unwrap_or_default();
    format!(
        "    errorfile 503 {unavailable}
    option forwardfor
{idle}    http-request return status 405 errorfiles {PAGES} if METH_CONNECT
{strict}    # targets in absolute form become origin form (RFC 9112 §3.2.2)
    acl origin_form url_beg / *
    http-request set-uri %[pathq] if !origin_form {{ path_beg / }}
    http-request set-uri * if !origin_form METH_OPTIONS
    http-request set-uri / if !origin_form
{health}{challenge}{loops}{client}    # the request's host and target lead to a route: backend|bytes to cut off|priority
{rules}    http-request return status 503 errorfiles {PAGES} unless {{ var(txn.route) -m found }}
",
        unavailable = path(&page(503)),
        challenge = challenge_rule(),
        strict = strict::requests(config, version),
        idle = if closes_with_a_response(version) { IDLE_CLOSE } else { "" },
        loops = loop_rule(),
        client = forwarded::client(&config.trusted_proxies),
        rules = routing::rules(&Steps::of(maps), FOLDER, forwarded::address(&config.trusted_proxies)),
    )
}

const IDLE_CLOSE: &str =
    "    # after a reload, idle connections close with their next response\n    option idle-close-on-response\n";

/// Whether a stopping worker can close idle connections with their next response instead of under a new request.
/// The option came to 2.4 and 2.5 in these patches.
fn closes_with_a_response(version: Version) -> bool {
    match (version.major, version.minor) {
        (2, 4) => version.patch >= 13,
        (2, 5) => version.patch >= 2,
        _ => true,
    }
}

fn health_rule(uri: &str) -> String {
    format!(
        "    http-request return status 200 content-type \"text/plain; charset=utf-8\" string \"ok\\n\" if {{ path {} }}\n",
        quote(uri)
    )
}

/// An authority that asks for the answer to its challenge gets it, over whatever services there are.
fn challenge_rule() -> String {
    let token = format!("path,field(4,/),map_str(\"{}\")", path(MapName::Answers.file()));
    format!(
        "    http-request return status 200 content-type text/plain lf-string '%[{token}]' if {{ path_beg {CHALLENGE_PATH} }} {{ {token} -m found }}\n"
    )
}

/// A request that has passed this many proxies is in a loop (RFC 8586; the status: RFC 5842 §7.2).
fn loop_rule() -> String {
    format!(
        "    http-request return status 508 content-type \"text/plain; charset=utf-8\" string \"{LOOP}\\n\" if {{ req.hdr_cnt(cdn-loop) ge {MOST_HOPS} }}\n"
    )
}

/// Changes to a request that has a backend.
fn passing_rules(proto: &str, config: &Config, version: Version) -> String {
    format!(
        "    # whether a request was processed is unknown: only idempotent ones are sent again (RFC 9110 §9.2.2)
    http-request disable-l7-retry unless {{ method GET HEAD OPTIONS TRACE PUT DELETE }}
    http-request del-header '{HOP_BY_HOP}' -m reg
    http-request del-header '{CLIENT_CERT}' -m reg
    http-request del-header upgrade if {{ req.hdr(upgrade) -i -m reg '{REFUSED_UPGRADES}' }}
{forwarded}    http-request add-header CDN-Loop pointsman
{responses}    http-response del-header '{HOP_BY_HOP}' -m reg
    use_backend %[var(txn.route),field(1,|)]
",
        forwarded = forwarded::rules(proto, config),
        responses = strict::responses(config, version),
    )
}

fn bind(listen: &Listen, options: &str) -> String {
    match listen.socket {
        Some(socket) => format!("    bind fd@{socket}{options} # {}\n", listen.address),
        None => format!("    bind {}{options}\n", listen.address),
    }
}

/// How an address ends TLS. Without a certificate, `strict-sni` lets HAProxy start; it can serve no TLS client then.
pub fn tls(has_certs: bool, config: &Config, shape: &Shape) -> String {
    let keys = |_| format!(" tls-ticket-keys {}", path(tickets::FILE));
    let tickets = shape.tickets.as_ref().map(keys).unwrap_or_default();
    tls_with(CERT_LIST, has_certs, config) + &tickets
}

/// The same where clients are asked for certificates. No session resumes there: HAProxy would take the certificate that
/// another name asked for.
pub(crate) fn asking_tls(has_certs: bool, config: &Config) -> String {
    tls_with(CLIENT_LIST, has_certs, config) + " no-tls-tickets"
}

fn tls_with(list: &str, has_certs: bool, config: &Config) -> String {
    let strict = if has_certs && !config.tls_strict_sni { "" } else { " strict-sni" };
    format!(" ssl crt-list {}{strict}", path(list))
}

/// The frontends of TCP services, one for each listening address.
pub struct Tcp<'a> {
    /// The listening addresses and their services.
    pub table: &'a Table,
    /// Whether a service is served.
    pub served: &'a dyn Fn(&Service) -> bool,
    /// The services that are held back.
    pub held: &'a Held,
    /// How TLS ends; `None`: this HAProxy has none.
    pub tls: Option<&'a str>,
}

/// Why a service whose TLS ends here is not served.
const NO_TLS: &str = "this HAProxy was built without TLS; the service is not served";
const MIXED: &str = "HAProxy ends the TLS of all services of an address, or passes that of all, and another service there \
                     has no tls=terminate; this one is not served there: give it another port, or take --engine native";

impl<'a> Tcp<'a> {
    /// The frontends.
    pub fn parts(&self) -> Vec<Part> {
        let open = self.table.tcp().iter().filter(|(bind, _)| !self.held.closed.contains(bind));
        let open = open.filter_map(|&(bind, first)| Some((bind, self.part(bind, first)?)));
        let kept = kept_ports(self.table, self.held).map(|(bind, service)| (bind, self.kept(bind, service)));
        kept.chain(open).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// A port that a service keeps until its new one can be opened.
    fn kept(&self, bind: Bind, service: &Service) -> Part {
        let backend = super::names::backend(Protocol::Tcp, service.name.as_str());
        let text = format!("{}    default_backend {backend}\n\n", self.head(bind, service.terminates()));
        Part { text: text.into(), owner: Some(Owner::Bind(bind)) }
    }

    /// Whether any service that listens ends TLS.
    pub fn ends_tls(&self) -> bool {
        self.table.tcp().iter().any(|&(bind, first)| self.listening(bind, first).any(Service::terminates))
    }

    /// The problems of services whose TLS cannot end here.
    pub fn problems(&self) -> Vec<Problem> {
        let each = self.table.tcp().iter().flat_map(|&(bind, first)| {
            let served = self.asking(bind, first).filter(|service| (self.served)(service));
            served.filter_map(move |service| Some((service, self.obstacle(bind, first, service)?)))
        });
        let problem = |(service, why): (&Service, &str)| {
            self.table.key_problem(ProblemKind::Unsupported, Protocol::Tcp, &service.name, "tls", why)
        };
        let mut problems: Vec<_> = each.map(problem).collect();
        problems.dedup();
        problems
    }

    /// The services of an address.
    fn asking(&self, bind: Bind, first: u32) -> impl Iterator<Item = &'a Service> + use<'a> {
        let (table, names) = (self.table, self.table.sni(bind));
        let all: BTreeSet<u32> = names.iter().map(|(_, service)| *service).chain([first]).collect();
        all.into_iter().filter_map(|number| table.services().get(number as usize)).map(|service| &**service)
    }

    /// Those of them that are served there.
    fn listening(&self, bind: Bind, first: u32) -> impl Iterator<Item = &'a Service> {
        let served = self.served;
        self.asking(bind, first)
            .filter(move |service| served(service))
            .filter(move |service| self.obstacle(bind, first, service).is_none())
    }

    fn obstacle(&self, bind: Bind, first: u32, service: &Service) -> Option<&'static str> {
        match service.terminates() {
            false => None,
            true if self.tls.is_none() => Some(NO_TLS),
            true => self.asking(bind, first).any(|other| !other.terminates()).then_some(MIXED),
        }
    }

    fn head(&self, bind: Bind, ends_tls: bool) -> String {
        let (config, name) = (self.table.config(), name(bind));
        let (tunnel, proxied) = (time(config.timeouts.tunnel), forwarded::proxied(config));
        let tls = self.tls.filter(|_| ends_tls).unwrap_or_default();
        format!("frontend {name}\n    bind {bind}{tls}\n    mode tcp\n{proxied}    timeout client {tunnel}\n")
    }

    /// The entries of `sni.map`.
    pub fn names(&self) -> BTreeMap<Box<str>, BackendName> {
        let names = self.table.tcp().iter().flat_map(|&at| self.table.sni(at.0).iter().map(move |name| (at, name)));
        names.filter_map(|(at, (name, service))| Some((sni_key(at.0, name), self.backend(at, *service)?))).collect()
    }

    fn backend(&self, at: (Bind, u32), service: u32) -> Option<BackendName> {
        let service = self.service(at, service)?;
        Some(super::names::backend(Protocol::Tcp, service.name.as_str()))
    }

    /// A service of an address, if it is served there.
    fn service(&self, (bind, first): (Bind, u32), number: u32) -> Option<&Arc<Service>> {
        let service = self.table.services().get(number as usize).filter(|service| (self.served)(service))?;
        self.obstacle(bind, first, service).is_none().then_some(service)
    }

    fn part(&self, bind: Bind, first: u32) -> Option<Part> {
        let names = self.table.sni(bind);
        // If all services of an address have server names, a connection that matches none has no backend.
        let at = (bind, first);
        let takes_all = self.service(at, first).is_some_and(|service| names.is_empty() || service.sni().is_empty());
        let rest = self.backend(at, first).filter(|_| takes_all);
        let chosen = names.iter().any(|(_, service)| self.service(at, *service).is_some());
        if rest.is_none() && !chosen {
            return None;
        }
        let ends_tls = self.listening(bind, first).any(Service::terminates);
        let mut text = self.head(bind, ends_tls);
        if chosen {
            text.push_str(&self.sni_rules(bind, names, ends_tls));
        }
        if let Some(rest) = rest {
            text.extend(["    default_backend ", &*rest, "\n"]);
        }
        text.push('\n');
        Some(Part { text: text.into(), owner: Some(Owner::Bind(bind)) })
    }

    /// An exact name, else the longest wildcard. Connections without TLS or a server name do not wait.
    fn sni_rules(&self, bind: Bind, names: &[(HostPattern, u32)], ends_tls: bool) -> String {
        let map = format!("\"{}\"", path("sni.map"));
        let wait = time(self.table.config().timeouts.head);
        let name = match ends_tls {
            true => "    tcp-request content set-var(sess.sni) ssl_fc_sni,lower\n".to_owned(),
            false => format!(
                "    tcp-request inspect-delay {wait}
    tcp-request content set-var(sess.sni) req.ssl_sni,lower if {{ req.ssl_hello_type 1 }}\n"
            ),
        };
        let mut rules = format!(
            "{name}    tcp-request content set-var(sess.backend) 'str(\"{bind}|\"),concat(,sess.sni),map_str({map})' if {{ var(sess.sni) -m found }}
"
        );
        for labels in wildcard_labels(names) {
            rules.push_str(&format!(
                "    tcp-request content set-var(sess.below) 'var(sess.sni),regsub(\"^[^.]*\",\"\"),field(-1,.,{labels})' unless {{ var(sess.backend) -m found }}
    tcp-request content set-var(sess.backend) 'str(\"{bind}|*.\"),concat(,sess.below),map_str({map})' unless {{ var(sess.backend) -m found }}
"
            ));
        }
        rules + "    use_backend %[var(sess.backend)] if { var(sess.backend) -m found }\n"
    }
}

/// Every port that HAProxy opens itself: for TCP services, and the usual one of HTTPS.
pub fn ports(table: &Table, held: &Held) -> BTreeSet<Bind> {
    let all = table.tcp().iter().map(|(bind, _)| *bind).chain(table.https());
    let open = all.filter(|bind| !held.closed.contains(bind));
    open.chain(kept_ports(table, held).map(|(bind, _)| bind)).collect()
}

/// Old ports of services whose new port cannot be opened. Not for services that share a port by TLS server names.
fn kept_ports<'a>(table: &'a Table, held: &'a Held) -> impl Iterator<Item = (Bind, &'a Service)> {
    let binds = |service: &'a Service| service.tcp().into_iter().flat_map(|entry| entry.binds.iter().copied());
    let waits = move |kept: &&Service| {
        let now = table.service(Protocol::Tcp, kept.name.as_str());
        kept.sni().is_empty() && now.is_some_and(|now| binds(now).any(|bind| held.closed.contains(&bind)))
    };
    let kept = held.services.values().flatten().map(|kept| &**kept).filter(waits);
    let kept = kept.flat_map(move |service| binds(service).map(move |bind| (bind, service)));
    kept.filter(|(bind, _)| !table.tcp().iter().any(|(taken, _)| taken == bind))
}

/// The name of the frontend at an address: `tcp:0.0.0.0:5432`.
pub fn name(bind: Bind) -> String {
    format!("tcp:{}:{}", bind.address, bind.port)
}

/// Numbers of labels in the wildcards, highest first.
fn wildcard_labels(names: &[(HostPattern, u32)]) -> Vec<usize> {
    let labels = names.iter().filter_map(|(name, _)| match name {
        HostPattern::Exact(_) => None,
        HostPattern::Wildcard(domain) => Some(domain.split('.').count()),
    });
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable_by(|a, b| b.cmp(a));
    labels.dedup();
    labels
}

fn sni_key(bind: Bind, name: &HostPattern) -> Box<str> {
    format!("{bind}|{name}").into()
}
