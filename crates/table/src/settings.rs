//! Judges the keys of one service, instances aside. All of a service's settings are good, or none is used.

use std::sync::Arc;
use std::time::Duration;

use crate::acme::{self, AcmeWish};
use crate::address::{self, HostPattern};
use crate::balance::{self, Balance};
use crate::capabilities::{Capabilities, Consequence};
use crate::conditions::Conditions;
use crate::cookie;
use crate::discovery::Dns;
use crate::eject::{self, Eject, Percent};
use crate::health_check::{CheckKeys, Checked, HealthCheck, WayKey};
use crate::http_version::HttpVersion;
use crate::instance_link::InstanceLink;
use crate::keys::{Part, Tree, classify, did_you_mean, others_of_folder, would_protect};
use crate::limits::Limits;
use crate::model::{Config, Entry, HttpEntry, PathRule, ServiceTimeouts, TcpEntry, Timeouts};
use crate::names::{Protocol, ServiceName};
use crate::pattern::Pattern;
use crate::policy::{Policy, Scheme};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::reader::Reader;
use crate::retries::OwnBounds;
use crate::value::{self, Parsed};

/// Keys that name hosts, in order.
pub(crate) const HOST_KEYS: &[&str] = &["domain", "virtual_hosts"];
/// Keys that name listening ports, in order.
pub(crate) const BIND_KEYS: &[&str] = &["port", "external_port", "ports"];

/// Good settings of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) entry: Entry,
    /// Only the rules count: who asks by them is told that nobody serves them.
    pub(crate) closed: bool,
    /// Port of instances whose value names none.
    pub(crate) port: u16,
    pub(crate) balance: Balance,
    pub(crate) bounded: Option<u16>,
    pub(crate) http_version: HttpVersion,
    pub(crate) policy: Option<Arc<Policy>>,
    /// Whether it wants certificates; `None`: as `config/acme/auto` says.
    pub(crate) acme: Option<AcmeWish>,
    request_id: Option<bool>,
    pub(crate) dns: Option<Dns>,
    pub(crate) health_check: CheckKeys,
    eject: Option<Option<Eject>>,
    panic: Option<Option<Percent>>,
    pub(crate) link: Option<Arc<InstanceLink>>,
    pub(crate) custom_settings: Option<Box<str>>,
    pub(crate) bounds: Option<Box<OwnBounds>>,
    connect: Option<Duration>,
    server: Option<Duration>,
    tunnel: Option<Duration>,
    slow_start: Option<Duration>,
}

/// The outcome of judging one service's settings.
#[derive(Debug)]
pub(crate) struct Judged {
    /// `None`: some key is bad, or there is no rule.
    pub(crate) settings: Option<Arc<Settings>>,
    /// Good settings without a rule: enough for a service that others send requests to, by a split or as a mirror.
    pub(crate) unreached: Option<Arc<Settings>>,
    /// The service must not be served, even if its settings are good.
    pub(crate) held_back: bool,
    /// Its rules alone, if it asks for protection and may not be served as its keys say: another service with wider rules must
    /// not get its requests.
    pub(crate) closed: Option<Arc<Settings>>,
    /// What the present keys ask for, as far as it is good.
    policy: Option<Arc<Policy>>,
    pub(crate) problems: Box<[Problem]>,
}

impl Judged {
    /// Whether the settings in force are those of the present keys.
    pub(crate) fn are_in_force(&self, settings: Option<&Arc<Settings>>) -> bool {
        let ours = self.settings.as_ref().or(self.unreached.as_ref());
        ours.is_some_and(|ours| settings.is_some_and(|settings| Arc::ptr_eq(ours, settings)))
    }

    /// The last good settings, with the protection that the present keys ask for: it counts even if another key is bad.
    pub(crate) fn kept(&self, last: &Arc<Settings>) -> Arc<Settings> {
        let Some(asked) = &self.policy else { return Arc::clone(last) };
        let none = Policy::default();
        let had = last.policy.as_deref().unwrap_or(&none);
        let policy = had.protected_as(asked);
        match policy == *had {
            true => Arc::clone(last),
            false => Arc::new(Settings { policy: Some(Arc::new(policy)), ..(**last).clone() }),
        }
    }
}

impl Settings {
    /// The rules alone; those that served last if they are bad. `None`: there are none, or the engine cannot tell its requests
    /// from those of others.
    fn rules(&self, is_entry_good: bool, old: Option<&Self>, capabilities: Capabilities) -> Option<Self> {
        let entry = if is_entry_good { &self.entry } else { &old?.entry };
        let Entry::Http(http) = entry else { return None };
        let is_told_apart = http.conditions.is_none() || capabilities.honours("method");
        (!http.is_unreached() && is_told_apart).then(|| Self {
            entry: entry.clone(),
            closed: true,
            policy: None,
            acme: None,
            request_id: None,
            dns: None,
            custom_settings: None,
            link: None,
            ..self.clone()
        })
    }

    /// Whether no rule leads to it.
    pub(crate) fn is_unreached(&self) -> bool {
        self.http().is_some_and(HttpEntry::is_unreached)
    }

    /// The service's waits, and the configuration's where it sets none.
    pub(crate) fn timeouts(&self, defaults: &Timeouts) -> ServiceTimeouts {
        ServiceTimeouts {
            connect: self.connect.unwrap_or(defaults.connect),
            server: self.server.unwrap_or(defaults.server),
            tunnel: self.tunnel.unwrap_or(defaults.tunnel),
            slow_start: self.slow_start.or(defaults.slow_start),
        }
    }

    /// When an instance is ejected for its answers, which TCP services do not give.
    pub(crate) fn eject(&self, defaults: &Config) -> Option<Eject> {
        self.http()?;
        self.eject.unwrap_or(defaults.eject)
    }

    /// What is done with its requests.
    pub(crate) fn policy(&self, defaults: &Config) -> Option<Arc<Policy>> {
        match self.http() {
            Some(_) => Policy::with_request_id(self.policy.as_ref(), self.request_id.unwrap_or(defaults.request_id)),
            None => self.policy.clone(),
        }
    }

    /// Below which share of healthy instances all are used.
    pub(crate) fn panic(&self, defaults: &Config) -> Option<Percent> {
        self.panic.unwrap_or(defaults.panic)
    }

    /// The check of its instances, with the configuration's defaults.
    pub(crate) fn check(&self, protocol: Protocol, defaults: &CheckKeys) -> Option<Arc<HealthCheck>> {
        let hosts = self.http().map(|entry| &*entry.hosts).unwrap_or_default();
        self.health_check.check(defaults, Checked { protocol, hosts }).map(Arc::new)
    }

    pub(crate) fn http(&self) -> Option<&HttpEntry> {
        match &self.entry {
            Entry::Http(entry) => Some(entry),
            Entry::Tcp(_) => None,
        }
    }

    pub(crate) fn tcp(&self) -> Option<&TcpEntry> {
        match &self.entry {
            Entry::Tcp(entry) => Some(entry),
            Entry::Http(_) => None,
        }
    }

    /// The compiled expression of this text, if there is one.
    fn pattern(&self, text: &str) -> Option<&Arc<Pattern>> {
        self.http()?.paths.iter().find_map(|rule| match rule {
            PathRule::Pattern(pattern) if pattern.as_str() == text => Some(pattern),
            _ => None,
        })
    }
}

/// Whether two sets of raw keys differ in instances only.
pub(crate) fn same_settings(protocol: Protocol, a: &RawKeys, b: &RawKeys) -> bool {
    let counts =
        |&(key, value): &(&str, &[u8])| matches!(classify(protocol, key, value), Part::Setting | Part::Unknown(_));
    a.iter().filter(counts).eq(b.iter().filter(counts))
}

/// Judges the settings of one service. A compiled expression is taken from `old` if it is the same.
pub(crate) fn judge(
    (protocol, name): (Protocol, &ServiceName),
    raw: &RawKeys,
    old: Option<&Settings>,
    limits: &Limits,
) -> Judged {
    let mut reader = Reader::new(raw, Report::of_service(&limits.prefix, protocol, name));
    report_unknown(&mut reader, protocol);
    let (mut settings, is_protected, is_entry_good) = settings(&mut reader, (protocol, name), old, limits.capabilities);
    let held_back = report_unmet(&mut reader, protocol, &settings, limits.capabilities) || !is_protected;
    settings.dns = settings.dns.filter(|_| limits.capabilities.honours("dns"));
    if !limits.capabilities.honours("eject") {
        (settings.eject, settings.panic) = (Some(None), Some(None));
    }
    if settings.health_check.way == Some(WayKey::Grpc) && !limits.capabilities.honours("health_check") {
        settings.health_check.way = Some(WayKey::Off);
    }
    let policy = settings.policy.clone();
    let is_closed = protocol == Protocol::Http && (held_back || reader.bad && asks_for_protection(raw));
    let closed = is_closed.then(|| settings.rules(is_entry_good, old, limits.capabilities)).flatten().map(Arc::new);
    let good = (!reader.bad).then(|| Arc::new(settings));
    let (unreached, settings) = match good {
        Some(good) if good.is_unreached() => (Some(good), None),
        good => (None, good),
    };
    Judged { settings, unreached, held_back, closed, policy, problems: reader.report.finish() }
}

/// Whether a key of this service says who may come in.
fn asks_for_protection(raw: &RawKeys) -> bool {
    ["basic_auth_secrets", "forward_auth", "client_ca", "allow", "deny"].into_iter().any(|key| raw.get(key).is_some())
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
    let tree = Tree::from(protocol);
    let is_plain = !key.contains('/');
    match meant {
        _ if is_plain && would_protect(key) => unprotected(key, meant),
        Some(meant) => did_you_mean(key, meant, is_plain),
        None if key.is_empty() => "a service is a directory; write its keys below it".into(),
        None => others_of_folder(tree, key).unwrap_or_else(|| match is_plain {
            true => format!("no balancer reads it in {protocol}/; if this is an instance, write it below upstreams/"),
            false => "no balancer reads it".into(),
        }),
    }
}

/// About a key that is meant to protect the service, and does not.
fn unprotected(key: &str, meant: Option<&str>) -> String {
    let remedy = match meant {
        Some(meant) => did_you_mean(key, meant, true),
        None => "no key of this version does it. If this is an instance, write it below upstreams/".into(),
    };
    format!("it protects nothing, and the service is open without it; {remedy}")
}

/// Reports keys that the engine does not honour. Returns whether the service must therefore not be served.
fn report_unmet(reader: &mut Reader<'_>, protocol: Protocol, settings: &Settings, capabilities: Capabilities) -> bool {
    let mut held_back = false;
    for (key, is_asked, consequence) in wishes(reader.raw, protocol, settings) {
        if is_asked && !capabilities.honours(key) {
            held_back |= consequence == Consequence::HeldBack;
            let value = reader.raw.get(key).map(String::from_utf8_lossy);
            reader.report.add(ProblemKind::Unsupported, key, value.as_deref(), consequence.advice(key));
        }
    }
    report_folders(reader, capabilities) || held_back
}

/// Reports keys of shares, and of folders, that the engine does not honour. Returns whether the service must therefore not be
/// served.
fn report_folders(reader: &mut Reader<'_>, capabilities: Capabilities) -> bool {
    use Consequence::{HeldBack, Without};
    let names = [
        ("mirror/<service>", Without),
        ("errors/<status>", Without),
        ("header/<Name>", HeldBack),
        ("query/<name>", HeldBack),
    ];
    let mut held_back = false;
    for (name, consequence) in names.iter().filter(|(name, _)| !capabilities.honours(name)) {
        let begin = name.split('<').next().unwrap_or_default();
        let raw = reader.raw;
        for (key, value) in raw.iter().filter(|(key, value)| key.starts_with(begin) && !value.trim_ascii().is_empty()) {
            held_back |= *consequence == HeldBack;
            let advice = consequence.advice(name);
            reader.report.add(ProblemKind::Unsupported, key, Some(&String::from_utf8_lossy(value)), advice);
        }
    }
    held_back
}

/// Keys that some engine does not honour: whether the service sets them, and the consequence if they are not honoured.
/// Some are only parsed for an engine that honours them; for others it only counts whether they are set.
fn wishes(raw: &RawKeys, protocol: Protocol, settings: &Settings) -> [(&'static str, bool, Consequence); 11] {
    use Consequence::{HeldBack, Without};
    let is_set = |key: &str| raw.get(key).is_some_and(|value| classify(protocol, key, value) == Part::Setting);
    let scheme = settings.policy.as_ref().map(|policy| policy.scheme).unwrap_or_default();
    [
        ("forward_auth", is_set("forward_auth"), HeldBack),
        ("method", is_set("method"), HeldBack),
        ("rate_limit", is_set("rate_limit"), HeldBack),
        ("eject", settings.eject.flatten().is_some(), Without),
        ("panic", settings.panic.flatten().is_some(), Without),
        // Of its values, only this one is not honoured everywhere.
        ("health_check", settings.health_check.way == Some(WayKey::Grpc), Without),
        ("scheme", scheme != Scheme::Http, if scheme == Scheme::Https { HeldBack } else { Without }),
        ("custom_settings", is_set("custom_settings") && !is_key_of_cookie(raw, settings), Without),
        ("timeout/request", is_set("timeout/request"), Without),
        ("limit/requests", is_set("limit/requests"), Without),
        ("limit/queue", is_set("limit/queue"), Without),
    ]
}

/// Whether `custom_settings` hold nothing but the key of the service's `cookie`, which every engine takes from there.
fn is_key_of_cookie(raw: &RawKeys, settings: &Settings) -> bool {
    let cookie = settings.policy.as_ref().and_then(|policy| policy.cookie.as_ref());
    let lines = raw.get("custom_settings").map(String::from_utf8_lossy).unwrap_or_default();
    cookie.is_some_and(|cookie| cookie.key.is_some()) && cookie::key_in(&lines).1
}

/// The settings, whether the service has all the protection that it asks for, and whether its rules are good.
fn settings(
    reader: &mut Reader<'_>,
    (protocol, name): (Protocol, &ServiceName),
    old: Option<&Settings>,
    capabilities: Capabilities,
) -> (Settings, bool, bool) {
    let (entry, is_entry_good, port, balance) = match protocol {
        Protocol::Http => http(reader, old),
        Protocol::Tcp => tcp(reader),
    };
    let (policy, is_protected) = match protocol {
        Protocol::Http => Policy::read(reader, name, capabilities),
        Protocol::Tcp => (Policy::read_tcp(reader), true),
    };
    // The guard reads it from the keys, before they are compiled.
    let _ = reader.read("guard", eject::panic);
    let http_version = http_version(reader, protocol);
    let balance = reader.read("balance", |text| balance::parse(protocol, text)).unwrap_or(balance);
    let settings = Settings {
        entry,
        closed: false,
        port,
        bounded: reader.read("bounded", |text| balance::bounded(&balance, text)),
        balance,
        http_version,
        policy,
        acme: match protocol {
            Protocol::Http => wish(reader, capabilities),
            Protocol::Tcp => None,
        },
        request_id: match protocol {
            Protocol::Http => reader.read("request_id", value::boolean),
            Protocol::Tcp => None,
        },
        dns: reader.read("dns", Dns::parse),
        eject: match protocol {
            Protocol::Http => reader.read("eject", eject::eject),
            Protocol::Tcp => None,
        },
        panic: reader.read("panic", eject::panic),
        health_check: CheckKeys::read(reader, protocol, http_version),
        link: InstanceLink::read(reader, http_version),
        custom_settings: match capabilities.honours("custom_settings") {
            true => reader.read("custom_settings", lines),
            false => None,
        },
        bounds: match protocol {
            Protocol::Http => OwnBounds::read(reader, capabilities),
            Protocol::Tcp => None,
        },
        connect: reader.read("timeout/connect", value::duration),
        server: reader.read("timeout/server", value::duration),
        tunnel: reader.read("timeout/tunnel", value::duration),
        slow_start: reader.read("slow_start", value::duration),
    };
    (settings, is_protected, is_entry_good)
}

/// Whether the service wants certificates, and how; as this engine can.
fn wish(reader: &mut Reader<'_>, capabilities: Capabilities) -> Option<AcmeWish> {
    const KEY: &str = "acme";
    let wish = reader.read(KEY, acme::wish)?;
    Some(match wish {
        AcmeWish::By(kind) => AcmeWish::By(acme::answered(kind, &mut reader.report, KEY, capabilities)),
        AcmeWish::None | AcmeWish::Usual => wish,
    })
}

/// Connections to a TCP service speak whatever its clients speak.
fn http_version(reader: &mut Reader<'_>, protocol: Protocol) -> HttpVersion {
    match protocol {
        Protocol::Http => reader.read("protocol", HttpVersion::parse).unwrap_or_default(),
        Protocol::Tcp => HttpVersion::default(),
    }
}

/// The rules of an HTTP service, whether they are good, the instances' port and the default balance.
fn http(reader: &mut Reader<'_>, old: Option<&Settings>) -> (Entry, bool, u16, Balance) {
    let was_bad = reader.bad;
    let entry = HttpEntry {
        hosts: hosts(reader),
        paths: paths(reader, old),
        priority: reader.read("priority", value::integer).unwrap_or(0),
        either: reader.read("match", either).unwrap_or(false),
        default: reader.read("default", value::boolean).unwrap_or(false),
        keep_virtual_path: reader.read("keep_virtual_path", value::boolean).unwrap_or(false),
        conditions: Conditions::read(reader),
    };
    if reader.bad == was_bad && entry.is_unreached() {
        let advice = "no request can reach this service; set domain, path, url_beg, url_reg, virtual_path or default, or split/, mirror/ or forward_auth of another service";
        reader.report.add(ProblemKind::NoRule, "", None, advice);
    }
    let is_good = reader.bad == was_bad;
    (Entry::Http(entry), is_good, reader.read("port", value::port).unwrap_or(80), Balance::RoundRobin)
}

fn hosts(reader: &mut Reader<'_>) -> Box<[HostPattern]> {
    let mut hosts = Vec::new();
    for key in HOST_KEYS {
        hosts.extend(reader.read(key, |text| value::list(text, address::host_pattern)).unwrap_or_default());
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

/// The same of a TCP service.
fn tcp(reader: &mut Reader<'_>) -> (Entry, bool, u16, Balance) {
    let was_bad = reader.bad;
    let mut binds = Vec::new();
    for key in BIND_KEYS {
        binds.extend(reader.read(key, |text| value::list(text, address::bind)).unwrap_or_default());
    }
    if reader.bad == was_bad && binds.is_empty() {
        reader.bad = true;
        reader.report.add(ProblemKind::NoRule, "", None, "this service has no port to listen on; set port");
    }
    let first = binds.first().map_or(0, |bind| bind.port);
    let port = reader.read("internal_port", value::port).unwrap_or(first);
    let sni = reader.read("sni", |text| value::list(text, address::server_name)).unwrap_or_default();
    let terminates = reader.read("tls", terminate).is_some();
    let entry = TcpEntry { binds: distinct(binds), sni: distinct(sni), terminates };
    (Entry::Tcp(entry), !reader.bad, port, Balance::LeastConnections)
}

/// The one value of a TCP service's `tls`.
fn terminate(text: &str) -> Parsed<()> {
    match text {
        "terminate" => Ok(()),
        _ => Err("expected terminate; without the key, TLS passes through to the instances".into()),
    }
}

/// Lines for HAProxy, which judges them.
fn lines(text: &str) -> Parsed<Box<str>> {
    let text = text.replace("\r\n", "\n");
    match text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        true => Err("expected lines of text without control characters".into()),
        false => Ok(text.into()),
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

/// Which of several keys with the same meaning holds this item: the key that its problem is reported under.
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
