//! Turns a table into everything that HAProxy should run. Pure: the same table, `held`, addresses and shape give the
//! same answer. Never talks to HAProxy, so it cannot know what HAProxy will refuse; see `Held`.

#[cfg(test)]
mod balance_tests;
mod cache;
#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod outbound_tests;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_table::{Asking, PemText, Problem, ProblemKind, Protocol, Service, ServiceName, Table};

use super::backend::{BackendBuilder, UnsupportedKey};
use super::frame::{self, Frame, frame};
use super::frontend::{self, Https, Tcp};
use super::model::{Addresses, BACKENDS, Backend, Desired, Held, Part};
use super::names::BackendName;
use super::render::staple_file;
use super::shape::Shape;
use super::template::{self, Sections};
use super::{clients, names, outbound, routing, server, tickets};
use cache::Made;

pub use cache::Cache;

/// Everything that HAProxy should run, and the problems of keys that it cannot honour.
///
/// A service whose keys must not reach HAProxy is served in its form in `held`, else not at all. If the template fails,
/// [`Desired::frame`] is empty: the previous configuration should stay in force.
pub fn desire(table: &Table, held: &Held, addresses: &Addresses, shape: &Shape) -> (Desired, Vec<Problem>) {
    desire_cached(&mut Cache::default(), table, held, addresses, shape)
}

/// The same, faster: what did not change since the last call is shared with it.
pub fn desire_cached(
    cache: &mut Cache,
    table: &Table,
    held: &Held,
    addresses: &Addresses,
    shape: &Shape,
) -> (Desired, Vec<Problem>) {
    let builder = BackendBuilder::new(table.config(), addresses, shape);
    let mut problems = Vec::new();
    let mut served = serve(cache, table, held, &builder, &mut problems);
    let asking = withdraw(table, &mut served, shape, &mut problems);
    let is_served = |service: &Service| !served.left_out.contains(&(service.protocol, service.name.clone()));
    let tls = frontend::tls(has_certs(table, held), table.config(), shape);
    let tcp = Tcp { table, served: &is_served, held, tls: Some(&*tls).filter(|_| shape.version.tls) };
    let maps = cache.maps(&served.services, &tcp.names(), table.answers());
    problems.extend(tcp.problems());
    problems.extend(served.services.iter().flat_map(|service| unshared(table, service, &served.services)));
    let https = frontend::https(table, held, shape);
    let ends_tls = !https.is_empty() || tcp.ends_tls();
    let certs = certs(table, held, (shape, ends_tls), &mut problems);
    let Frame { global, defaults, mut files, problems: found } =
        frame(table, &served.services, shape, !https.is_empty());
    files.extend(served.services.iter().flat_map(|service| outbound::files(service)));
    if ends_tls {
        files.extend(staples(table, held, &mut problems));
    }
    let of_clients = if https.is_empty() { BTreeMap::new() } else { asked_files(&asking, table, &certs) };
    let asks = !of_clients.is_empty();
    let asking_tls = asks.then(|| frontend::asking_tls(has_certs(table, held), table.config()));
    let https = Https { listens: &https, tls: asking_tls.as_ref().unwrap_or(&tls), asks };
    files.extend(of_clients);
    problems.extend(found);
    let rules = frontend::request_rules(table.config(), &maps, shape.version);
    let http = frontend::http(&rules, table.config(), shape, &https);
    let sections = Sections { global, defaults, http, tcp: tcp.parts(), rules };
    let mut desired = Desired {
        revision: table.revision(),
        backends: served.backends,
        maps,
        certs,
        ends_tls,
        files,
        ..Desired::default()
    };
    match &shape.template {
        None => desired.frame = plain_frame(sections),
        Some(source) => match template::frame(source, table, &served.services, addresses, shape, &sections) {
            Ok(frame) => desired.frame = frame,
            Err(why) => problems.push(Problem::of_setting(ProblemKind::Engine, "haproxy-template", why)),
        },
    }
    if !desired.has_backends() {
        desired.backends.clear();
    }
    desired.tickets = shape.tickets.clone().filter(|_| desired.names(tickets::FILE));
    problems.sort();
    (desired, problems)
}

impl Desired {
    /// Whether the configuration names a file: a template may do without.
    fn names(&self, file: &str) -> bool {
        let path = frame::path(file);
        self.frame.iter().any(|part| part.text.contains(&path))
    }

    /// Whether the configuration has a place for our backends: a template may write its own.
    pub fn has_backends(&self) -> bool {
        self.frame.iter().any(Part::is_backends)
    }
}

impl Part {
    /// Whether it is the placeholder of the backends.
    pub fn is_backends(&self) -> bool {
        self.owner.is_none() && &*self.text == BACKENDS
    }
}

fn plain_frame(sections: Sections) -> Vec<Part> {
    let Sections { global, defaults, http, tcp, .. } = sections;
    [global, defaults, http, tcp, vec![Part::ours(BACKENDS)]].into_iter().flatten().collect()
}

/// The services of the table that are served.
#[derive(Default)]
struct ServedServices {
    services: Vec<Arc<Service>>,
    left_out: BTreeSet<(Protocol, ServiceName)>,
    backends: BTreeMap<BackendName, Arc<Backend>>,
}

fn serve(
    cache: &mut Cache,
    table: &Table,
    held: &Held,
    builder: &BackendBuilder<'_>,
    problems: &mut Vec<Problem>,
) -> ServedServices {
    let (mut served, mut cached) = (ServedServices::default(), cache.take(builder));
    let (mut made, mut backends) = (Vec::new(), Vec::new());
    for service in table.services() {
        let new = || make(service, builder).map_err(|refusals| report(table, service, refusals, problems)).ok();
        let newest = cached.of(service).or_else(new);
        made.extend(newest.clone());
        let serving = match held_form(held, service) {
            None => newest,
            Some(form) => form.and_then(|form| make(form, builder).ok()),
        };
        let Some(Made { service, name, backend }) = serving else {
            served.left_out.insert((service.protocol, service.name.clone()));
            continue;
        };
        problems
            .extend(service.instances.iter().filter_map(|instance| unreachable(table, &service, instance, builder)));
        served.services.push(service);
        backends.push((name, backend));
    }
    cache.keep(made);
    // All at once: faster than one by one, as most are in order.
    served.backends = backends.into_iter().collect();
    served
}

/// Leaves out the services that ask for clients' certificates and that HAProxy cannot protect. Returns what the others ask
/// for. Without one service, requests for its hosts may reach another, so all are judged again.
fn withdraw(table: &Table, served: &mut ServedServices, shape: &Shape, problems: &mut Vec<Problem>) -> Asking {
    loop {
        let asking = Asking::of(&served.services);
        let obstacle = |service: &Arc<Service>| clients::obstacle(service, &asking, shape.version);
        let out: Vec<_> = served.services.iter().filter_map(|it| Some((it.clone(), obstacle(it)?))).collect();
        if out.is_empty() {
            return asking;
        }
        for (service, why) in out {
            let (protocol, name) = (service.protocol, &service.name);
            let advice = format!("{why}; the service is not served; --engine native honours it");
            problems.push(table.key_problem(ProblemKind::Unsupported, protocol, name, "client_ca", advice));
            served.services.retain(|other| !Arc::ptr_eq(other, &service));
            served.backends.remove(&names::backend(protocol, name.as_str()));
            served.left_out.insert((protocol, name.clone()));
        }
    }
}

/// What the handshakes of HTTPS ask for, as files; none: nobody is asked.
fn asked_files(asking: &Asking, table: &Table, certs: &BTreeMap<Box<str>, PemText>) -> BTreeMap<Box<str>, Arc<[u8]>> {
    let in_use = table.certs().iter().filter(|(name, _)| certs.contains_key(*name));
    let in_use: Vec<_> = in_use.map(|(name, cert)| (name, &**cert)).collect();
    clients::files(asking, &in_use, table.config().tls_strict_sni)
}

fn make(service: &Arc<Service>, builder: &BackendBuilder<'_>) -> Result<Made, Vec<UnsupportedKey>> {
    let (name, backend) = builder.build(service)?;
    Ok(Made { service: service.clone(), name, backend: Arc::new(backend) })
}

/// The form that serves in place of a held-back service; `Some(None)`: none does. `None`: it is not held back.
fn held_form<'a>(held: &'a Held, service: &Service) -> Option<Option<&'a Arc<Service>>> {
    // The usual case, without a lookup for each service.
    if held.services.is_empty() {
        return None;
    }
    held.services.get(&(service.protocol, service.name.clone())).map(Option::as_ref)
}

fn report(table: &Table, service: &Service, refusals: Vec<UnsupportedKey>, problems: &mut Vec<Problem>) {
    let problem = |(key, why): UnsupportedKey| {
        let advice = format!("{why}; the service keeps the form that it had, or is not served");
        table.key_problem(ProblemKind::Rejected, service.protocol, &service.name, key, advice)
    };
    problems.extend(refusals.into_iter().map(problem));
}

/// The problem of an instance that HAProxy cannot have, under the key that it was written to.
fn unreachable(
    table: &Table,
    service: &Service,
    instance: &pointsman_table::Instance,
    builder: &BackendBuilder<'_>,
) -> Option<Problem> {
    let why = server::refusal(service, instance, builder.shape.version)?;
    let problem = |key: &str| table.key_problem(ProblemKind::Unsupported, service.protocol, &service.name, key, why);
    let below = problem(&format!("upstreams/{}", instance.name));
    Some(if below.value.is_some() { below } else { problem(instance.name.as_str()) })
}

/// The problems of shares that HAProxy cannot give away.
fn unshared(table: &Table, service: &Service, services: &[Arc<Service>]) -> Vec<Problem> {
    let problem = |(key, why): (String, String)| {
        let advice = format!("{why}; {} takes the share; --engine native honours it", service.name);
        table.key_problem(ProblemKind::Unsupported, service.protocol, &service.name, &key, advice)
    };
    routing::obstacles(service, services).into_iter().map(problem).collect()
}

/// Whether there is a certificate to serve.
fn has_certs(table: &Table, held: &Held) -> bool {
    table.certs().keys().any(|name| cert(table, held, name).is_some())
}

fn certs(
    table: &Table,
    held: &Held,
    (shape, ends_tls): (&Shape, bool),
    problems: &mut Vec<Problem>,
) -> BTreeMap<Box<str>, PemText> {
    if !shape.https.is_empty() && !shape.version.tls {
        let why = "this HAProxy was built without TLS; nothing is served there";
        problems.push(Problem::of_setting(ProblemKind::Engine, "https", why));
    }
    if ends_tls {
        return table.certs().keys().filter_map(|name| Some((name.into(), cert(table, held, name)?.clone()))).collect();
    }
    problems.extend(table.unused_certs());
    BTreeMap::new()
}

/// OCSP responses, as files beside their certificates. HAProxy passes over one that does not count, but a certificate with
/// one whose issuer it cannot find stops it.
fn staples(table: &Table, held: &Held, problems: &mut Vec<Problem>) -> BTreeMap<Box<str>, Arc<[u8]>> {
    let in_use = table.certs().iter().filter(|(name, _)| !held.certs.contains_key(*name));
    let stapled = in_use.filter_map(|(name, cert)| Some((name, cert.has_issuer, cert.staple.as_ref()?)));
    let (usable, others): (Vec<_>, Vec<_>) = stapled.partition(|(_, has_issuer, _)| *has_issuer);
    problems.extend(others.into_iter().map(|(name, ..)| {
        let advice = "HAProxy sends its OCSP response only if the certificate of the issuer follows it in its PEM";
        table.tree_problem(ProblemKind::Unsupported, &format!("certs/{name}"), advice)
    }));
    usable.into_iter().map(|(name, _, staple)| (staple_file(name).into(), staple.der.clone())).collect()
}

/// The form of a certificate to serve.
fn cert<'a>(table: &'a Table, held: &'a Held, name: &str) -> Option<&'a PemText> {
    match held.certs.get(name) {
        Some(kept) => kept.as_ref(),
        None => table.certs().get(name).map(|cert| &cert.pem),
    }
}
