//! Judges the keys of one service, instances aside. All of a service's settings are good, or none is used.

use std::sync::Arc;
use std::time::Duration;

use crate::abilities::{Abilities, Consequence};
use crate::compile::Limits;
use crate::cookie;
use crate::keys::{Part, classify};
use crate::model::{
    Balance, Bind, Cookie, Entry, Extras, HostPattern, HttpEntry, PathRule, Pattern, Protocol, ServiceName,
    ServiceTimeouts, TcpEntry, Timeouts, UserList,
};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::reader::Reader;
use crate::userlist;
use crate::value::{self, Parsed};

/// Keys that name hosts, in order.
pub(crate) const HOST_KEYS: &[&str] = &["domain", "virtual_hosts"];
/// Keys that name listening ports, in order.
pub(crate) const BIND_KEYS: &[&str] = &["port", "external_port", "ports"];

/// Good settings of one service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) entry: Entry,
    /// Port of instances whose value names none.
    pub(crate) port: u16,
    pub(crate) balance: Balance,
    pub(crate) extras: Extras,
    connect: Option<Duration>,
    server: Option<Duration>,
    tunnel: Option<Duration>,
}

/// What one service's settings came to.
#[derive(Debug)]
pub(crate) struct Judged {
    /// `None`: some key is bad, or there is no rule.
    pub(crate) settings: Option<Arc<Settings>>,
    /// Must not be served, good or not.
    pub(crate) held_back: bool,
    pub(crate) problems: Box<[Problem]>,
}

impl Settings {
    /// The waits, with the configuration's for those that the service does not set.
    pub(crate) fn timeouts(&self, defaults: &Timeouts) -> ServiceTimeouts {
        ServiceTimeouts {
            connect: self.connect.unwrap_or(defaults.connect),
            server: self.server.unwrap_or(defaults.server),
            tunnel: self.tunnel.unwrap_or(defaults.tunnel),
        }
    }

    pub(crate) fn http(&self) -> Option<&HttpEntry> {
        match &self.entry {
            Entry::Http(entry) => Some(entry),
            Entry::Tcp(_) => None,
        }
    }

    pub(crate) fn binds(&self) -> &[Bind] {
        match &self.entry {
            Entry::Http(_) => &[],
            Entry::Tcp(entry) => &entry.binds,
        }
    }

    /// The compiled expression, if this is the same.
    fn pattern(&self, text: &str) -> Option<&Arc<Pattern>> {
        self.http()?.paths.iter().find_map(|rule| match rule {
            PathRule::Pattern(pattern) if pattern.as_str() == text => Some(pattern),
            _ => None,
        })
    }
}

/// Whether two sets of raw keys differ in nothing but instances.
pub(crate) fn same_settings(protocol: Protocol, a: &RawKeys, b: &RawKeys) -> bool {
    let counts =
        |&(key, value): &(&str, &[u8])| matches!(classify(protocol, key, value), Part::Setting | Part::Unknown(_));
    a.iter().filter(counts).eq(b.iter().filter(counts))
}

/// Judges the settings of one service. `old` lends its compiled expression.
pub(crate) fn judge(
    (protocol, name): (Protocol, &ServiceName),
    raw: &RawKeys,
    old: Option<&Settings>,
    limits: &Limits,
) -> Judged {
    let mut reader = Reader::new(raw, Report::of_service(&limits.prefix, protocol, name));
    report_unknown(&mut reader, protocol);
    let (extras, protected) = extras(&mut reader, protocol, limits.abilities);
    let held_back = report_unmet(&mut reader, protocol, &extras, limits.abilities) || !protected;
    let settings = settings(&mut reader, protocol, extras, old);
    let settings = (!reader.bad).then(|| Arc::new(settings));
    Judged { settings, held_back, problems: reader.report.finish() }
}

fn report_unknown(reader: &mut Reader<'_>, protocol: Protocol) {
    for (key, value) in reader.raw.iter() {
        if let Part::Unknown(meant) = classify(protocol, key, value) {
            let value = String::from_utf8_lossy(value);
            reader.report.add(ProblemKind::UnknownKey, key, Some(&value), unknown_advice(protocol, key, meant));
        }
    }
}

fn unknown_advice(protocol: Protocol, key: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) if key.contains('/') => format!("nobody reads this key; did you mean {meant}?"),
        Some(meant) => {
            format!("did you mean {meant}? An instance of this name goes below upstreams/")
        }
        None if key.is_empty() => "a service is a directory: its keys go below it".into(),
        None if key.contains('/') => "nobody reads this key".into(),
        None => format!("no key of {protocol}/; an instance of this name goes below upstreams/"),
    }
}

fn report_unmet(reader: &mut Reader<'_>, protocol: Protocol, extras: &Extras, abilities: Abilities) -> bool {
    let mut held_back = false;
    let raw = reader.raw;
    for unmet in abilities.unmet(extras, |key| is_set(raw, protocol, key)) {
        held_back |= unmet.consequence == Consequence::HeldBack;
        let value = reader.raw.get(unmet.key).map(String::from_utf8_lossy);
        reader.report.add(ProblemKind::Unsupported, unmet.key, value.as_deref(), unmet.advice());
    }
    held_back
}

fn settings(reader: &mut Reader<'_>, protocol: Protocol, extras: Extras, old: Option<&Settings>) -> Settings {
    let (entry, port, balance) = match protocol {
        Protocol::Http => http(reader, old),
        Protocol::Tcp => tcp(reader),
    };
    Settings {
        entry,
        port,
        balance: reader.read("balance", |text| value::balance(protocol, text)).unwrap_or(balance),
        extras,
        connect: reader.read("timeout/connect", value::duration),
        server: reader.read("timeout/server", value::duration),
        tunnel: reader.read("timeout/tunnel", value::duration),
    }
}

/// The rules, the instances' port and the default balance of an HTTP service.
fn http(reader: &mut Reader<'_>, old: Option<&Settings>) -> (Entry, u16, Balance) {
    let was_bad = reader.bad;
    let entry = HttpEntry {
        hosts: hosts(reader),
        paths: paths(reader, old),
        priority: reader.read("priority", value::integer).unwrap_or(0),
        either: reader.read("match", either).unwrap_or(false),
        default: reader.read("default", value::boolean).unwrap_or(false),
        keep_virtual_path: reader.read("keep_virtual_path", value::boolean).unwrap_or(false),
    };
    if reader.bad == was_bad && entry.hosts.is_empty() && entry.paths.is_empty() && !entry.default {
        no_rule(
            reader,
            "no request can reach this service; set domain, path, url_beg, url_reg, virtual_path or default",
        );
    }
    (Entry::Http(entry), reader.read("port", value::port).unwrap_or(80), Balance::RoundRobin)
}

fn hosts(reader: &mut Reader<'_>) -> Box<[HostPattern]> {
    let mut hosts = Vec::new();
    for key in HOST_KEYS {
        hosts.extend(reader.read(key, |text| value::list(text, value::host_pattern)).unwrap_or_default());
    }
    distinct(hosts)
}

fn paths(reader: &mut Reader<'_>, old: Option<&Settings>) -> Box<[PathRule]> {
    let mut paths = Vec::new();
    let mut add = |key, item: fn(&str) -> Parsed<Box<str>>, rule: fn(Box<str>) -> PathRule| {
        let texts = reader.read(key, |text| value::list(text, item)).unwrap_or_default();
        paths.extend(texts.into_iter().map(rule));
    };
    add("url_beg", value::prefix, PathRule::Begins);
    add("virtual_path", value::prefix, PathRule::Virtual);
    add("path", value::segments, PathRule::Segments);
    let pattern = |text: &str| match old.and_then(|old| old.pattern(text)) {
        Some(pattern) => Ok(pattern.clone()),
        None => Pattern::new(text).map(Arc::new),
    };
    paths.extend(reader.read("url_reg", pattern).map(PathRule::Pattern));
    distinct(paths)
}

fn either(text: &str) -> Parsed<bool> {
    match text {
        "all" => Ok(false),
        "any" => Ok(true),
        _ => Err("expected all or any".into()),
    }
}

/// The ports, the instances' port and the default balance of a TCP service.
fn tcp(reader: &mut Reader<'_>) -> (Entry, u16, Balance) {
    let was_bad = reader.bad;
    let mut binds = Vec::new();
    for key in BIND_KEYS {
        binds.extend(reader.read(key, |text| value::list(text, value::bind)).unwrap_or_default());
    }
    if reader.bad == was_bad && binds.is_empty() {
        no_rule(reader, "this service has no port to listen on; set port");
    }
    let first = binds.first().map_or(0, |bind| bind.port);
    let port = reader.read("internal_port", value::port).unwrap_or(first);
    (Entry::Tcp(TcpEntry { binds: distinct(binds) }), port, Balance::LeastConnections)
}

fn no_rule(reader: &mut Reader<'_>, advice: &str) {
    reader.bad = true;
    reader.report.add(ProblemKind::NoRule, "", None, advice);
}

/// Keys that engines honour or not, see [`Abilities`]; and whether the service has the protection that it asks for.
fn extras(reader: &mut Reader<'_>, protocol: Protocol, abilities: Abilities) -> (Extras, bool) {
    let both = Extras {
        dns: reader.read("dns", dns),
        health_check_port: reader.read("health_check_port", value::port),
        custom_settings: if abilities.custom_settings { reader.read("custom_settings", lines) } else { None },
        ..Extras::default()
    };
    match protocol {
        Protocol::Tcp => {
            let sni = reader.read("sni", |text| value::list(text, value::server_name)).unwrap_or_default();
            (Extras { sni: distinct(sni), ..both }, true)
        }
        Protocol::Http => {
            let users = if abilities.basic_auth { users(reader) } else { Ok(None) };
            let protected = users.is_ok();
            let extras = Extras {
                cookie: if abilities.cookie { cookie(reader) } else { None },
                basic_auth_secrets: users.ok().flatten(),
                health_check_uri: reader.read("health_check_uri", value::uri),
                scheme: reader.read("scheme", scheme).flatten(),
                ..both
            };
            (extras, protected)
        }
    }
}

/// Whether a service's own key is set.
fn is_set(raw: &RawKeys, protocol: Protocol, key: &str) -> bool {
    raw.get(key).is_some_and(|value| classify(protocol, key, value) == Part::Setting)
}

/// Lines for HAProxy: what they say is for HAProxy to judge.
fn lines(text: &str) -> Parsed<Box<str>> {
    let text = text.replace("\r\n", "\n");
    match text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        true => Err("expected lines of text without control characters".into()),
        false => Ok(text.into()),
    }
}

fn dns(text: &str) -> Parsed<Box<str>> {
    let name = text.strip_prefix("srv:").unwrap_or(text);
    value::host_name(name.strip_suffix('.').unwrap_or(name))
        .map_err(|_| "expected a host name, or srv: and a name".to_owned())?;
    Ok(text.into())
}

/// The one key whose empty value means something.
fn cookie(reader: &mut Reader<'_>) -> Option<Cookie> {
    reader.raw.get("cookie")?;
    Some(reader.read("cookie", cookie::parse).unwrap_or_default())
}

/// Who may come in. An error is a problem, and more than a bad value: a service that asks for protection is held back,
/// not served in its last, perhaps unprotected form.
fn users(reader: &mut Reader<'_>) -> Result<Option<UserList>, ()> {
    let was_bad = std::mem::replace(&mut reader.bad, false);
    let users = reader.read("basic_auth_secrets", userlist::parse);
    let is_bad = std::mem::replace(&mut reader.bad, was_bad);
    if is_bad { Err(()) } else { Ok(users) }
}

fn scheme(text: &str) -> Parsed<Option<Box<str>>> {
    match text {
        "http" => Ok(None),
        "https" | "http-and-https" => Ok(Some(text.into())),
        _ => Err("expected http, https or http-and-https".into()),
    }
}

/// Without repetitions, in order.
fn distinct<T: PartialEq>(items: Vec<T>) -> Box<[T]> {
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept.into()
}

/// Which of several keys with one meaning names this, for problems with it.
pub(crate) fn key_that_names<T: PartialEq>(
    raw: &RawKeys,
    keys: &[&'static str],
    item: &T,
    parse: fn(&str) -> Parsed<T>,
) -> Option<&'static str> {
    let names = |key: &&&str| {
        let text = raw.get(key).map(String::from_utf8_lossy).unwrap_or_default();
        text.split(',').any(|text| parse(text.trim()).as_ref() == Ok(item))
    };
    keys.iter().find(names).copied()
}
