//! What comes close to a request or a connection that no service takes, for an operator who mistyped one of the two.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Bind, HostPattern};
use crate::host::{host_name, parents};
use crate::index::Numbered;
use crate::index_build;
use crate::keys::distance;
use crate::model::{HttpEntry, PathRule, Service};
use crate::ports::stands_for;

/// Most lines.
const MOST: usize = 3;
/// Most path rules of one service that a line names.
const MOST_PATHS: usize = 3;
/// How many characters of a path are compared, so that a long one costs no more than a short one.
const COMPARED: usize = 64;
/// The least number of typing errors that may lead to another host name, and the share of its bytes that may.
const HOST_ERRORS: usize = 3;
const HOST_SHARE: usize = 3;
/// The number of typing errors that may lead to another port.
const PORT_ERRORS: usize = 2;

/// A service, its rules, and how far they are from the request.
type Near<'a> = (usize, &'a Service, &'a HttpEntry);

/// What comes close to a request: services that have the host or the path, the nearest host names, and a TCP service at
/// the port. At most three lines.
pub(crate) fn of_request(services: &[Arc<Service>], host: &str, target: &str) -> Vec<String> {
    let name = host_name(host);
    let http = || services.iter().filter_map(|service| Some((&**service, service.rules()?)));
    let mut lines = with_this_host(http(), &name, target);
    lines.extend(at_this_port(services, host, &name));
    if lines.is_empty() && !name.is_empty() {
        let each = http().flat_map(|(service, entry)| entry.hosts.iter().map(move |host| (host, service)));
        lines.extend(nearest_names(each, &name, "host"));
    }
    if lines.is_empty() {
        lines.extend(http().filter_map(|(service, entry)| of_another_host(service, entry, &name, target)));
    }
    lines.truncate(MOST);
    lines
}

/// What comes close to a connection: the port at another address, the nearest ports or server names. `own`: the
/// listeners of the balancer itself. At most three lines.
pub(crate) fn of_connection(services: &[Arc<Service>], own: &[SocketAddr], host: &str, port: u16) -> Vec<String> {
    let name = host_name(host);
    let all = || {
        let binds = |service: &'_ Arc<Service>| service.tcp().map(|tcp| tcp.binds.to_vec()).unwrap_or_default();
        services.iter().flat_map(move |service| binds(service).into_iter().map(move |bind| (bind, &**service)))
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        all().filter(|(bind, _)| bind.port == port).partition(|(bind, _)| reaches(*bind, &name));
    if !here.is_empty() {
        let each = here.iter().flat_map(|(_, service)| service.sni().iter().map(|name| (name, *service)));
        return nearest_names(each, &name, "server name");
    }
    let mut lines: Vec<_> =
        elsewhere.iter().map(|(bind, service)| format!("{} listens on {bind}, not on {name}", path(service))).collect();
    let ours = own.iter().find(|own| own.port() == port);
    lines.extend(ours.map(|ours| format!("{ours} is a listener of the balancer itself, not of a TCP service")));
    if lines.is_empty() {
        let far = |bind: Bind| distance(&bind.port.to_string(), &port.to_string());
        let near = all().map(|(bind, service)| (far(bind), bind, service)).filter(|(far, ..)| *far <= PORT_ERRORS);
        let near = nearest(near.collect(), |(far, ..)| *far);
        lines = near.iter().map(|(_, bind, service)| format!("nearest port: {bind} ({})", path(service))).collect();
    }
    lines.truncate(MOST);
    lines
}

/// Services that have the host, and not the path; those with the nearest path first, those of any host last.
fn with_this_host<'a>(
    http: impl Iterator<Item = (&'a Service, &'a HttpEntry)>,
    name: &str,
    target: &str,
) -> Vec<String> {
    let wanted = beginning(target.split('?').next().unwrap_or(target));
    let far = |entry: &HttpEntry| entry.paths.iter().map(|rule| distance(beginning(rule.text()), wanted)).min();
    let has_host = |entry: &HttpEntry| entry.hosts.is_empty() || entry.hosts.iter().any(|host| matches(host, name));
    let near = http.filter(|(_, entry)| has_host(entry));
    let mut near: Vec<Near<'_>> = near.filter_map(|(service, entry)| Some((far(entry)?, service, entry))).collect();
    near.sort_by_key(|(far, _, entry)| (entry.hosts.is_empty(), *far));
    let line = |(_, service, entry): Near<'_>| {
        let host = if entry.hosts.is_empty() { "takes any host" } else { "has this host" };
        format!("{} {host}, but only {}", path(service), listed(&entry.paths))
    };
    near.into_iter().take(MOST).map(line).collect()
}

/// A TCP service that listens on the port of the host.
fn at_this_port(services: &[Arc<Service>], host: &str, name: &str) -> Option<String> {
    let port: u16 = host.rsplit_once(':').filter(|_| !host.ends_with(']'))?.1.parse().ok()?;
    let of = |service: &Service| service.tcp()?.binds.iter().find(|bind| bind.port == port).copied();
    let (bind, service) = services.iter().find_map(|service| Some((of(service)?, service)))?;
    Some(format!("{} listens on {bind}; explain tcp://{name}:{port}", path(service)))
}

/// That a service has the path, and another host. Without a host, a service of any path counts too.
fn of_another_host(service: &Service, entry: &HttpEntry, name: &str, target: &str) -> Option<String> {
    let any_path = entry.paths.is_empty();
    if entry.hosts.is_empty() || any_path && !name.is_empty() {
        return None;
    }
    let only_paths = HttpEntry { paths: entry.paths.clone(), ..HttpEntry::default() };
    let alone = [Numbered { number: 0, entry: &only_paths, is_empty: false }];
    let takes = any_path || index_build::build(&alone, None).closest("", target).is_ok_and(|found| found.is_some());
    let first = entry.hosts.first().filter(|_| takes)?;
    let paths = if any_path { "takes any path" } else { "has this path" };
    Some(format!("{} {paths}, but only host {first}", path(service)))
}

/// The names with the fewest typing errors between them and the one asked for.
fn nearest_names<'a>(
    each: impl Iterator<Item = (&'a HostPattern, &'a Service)>,
    name: &str,
    what: &str,
) -> Vec<String> {
    let most = HOST_ERRORS.max(name.len() / HOST_SHARE);
    let close = |host: &HostPattern| host.name().len().abs_diff(name.len()) <= most;
    let each = each.filter(|(host, _)| close(host)).map(|(host, service)| (distance(host.name(), name), host, service));
    let near = nearest(each.filter(|(far, ..)| *far <= most).collect(), |(far, ..)| *far);
    near.iter().map(|(_, host, service)| format!("nearest {what}: {host} ({})", path(service))).collect()
}

/// Those at the least distance, in their order.
fn nearest<T>(mut all: Vec<T>, far: impl Fn(&T) -> usize) -> Vec<T> {
    let least = all.iter().map(&far).min();
    all.retain(|one| Some(far(one)) == least);
    all.truncate(MOST);
    all
}

fn matches(host: &HostPattern, name: &str) -> bool {
    match host {
        HostPattern::Exact(exact) => **exact == *name,
        HostPattern::Wildcard(parent) => parents(name.as_bytes()).any(|above| above == parent.as_bytes()),
    }
}

/// Whether a connection to this host comes in there. A name counts as any address.
pub(crate) fn reaches(bind: Bind, host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(true, |address| bind.address == address || stands_for(bind.address, address))
}

fn listed(paths: &[PathRule]) -> String {
    let named: Vec<_> = paths.iter().take(MOST_PATHS).map(ToString::to_string).collect();
    let rest = paths.len().saturating_sub(MOST_PATHS);
    let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    format!("{}{more}", named.join(", "))
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(COMPARED).map_or(text, |(end, _)| &text[..end])
}

fn path(service: &Service) -> String {
    format!("{}/{}", service.protocol, service.name)
}
