//! The variables of a template: the table as plain values, and our own sections as text. Holds no secret.

use std::sync::Arc;

use minijinja::{Value, context};
use pointsman_table::{CheckWay, Config, HostPattern, HttpCheck, Instance, PathRule, Service, Table};
use serde::Serialize;

use super::super::model::{Address, Addresses, BACKENDS, FOLDER, Part};
use super::super::names;
use super::super::shape::{Listen, Shape};
use super::sections::Sections;

/// All variables of a template.
pub(super) fn context(
    table: &Table,
    services: &[Arc<Service>],
    addresses: &Addresses,
    shape: &Shape,
    sections: &Sections,
) -> Value {
    let frontends: Vec<_> = sections.http.iter().chain(&sections.tcp).cloned().collect();
    context! {
        global => text(&sections.global),
        defaults => text(&sections.defaults),
        frontends => text(&frontends),
        rules => Value::from_safe_string(sections.rules.trim_end().to_owned()),
        backends => Value::from_safe_string(BACKENDS.trim_end().to_owned()),
        services => Value::from_serialize(services.iter().map(|service| View::new(service, addresses)).collect::<Vec<_>>()),
        config => Value::from_serialize(Settings::new(table.config())),
        http => listening(&shape.http),
        https => listening(&shape.https),
        folder => Value::from_safe_string(FOLDER.to_owned()),
        revision => table.revision(),
    }
}

/// Without the line feed at the end: the template writes it.
fn text(parts: &[Part]) -> Value {
    let text: String = parts.iter().map(|part| &*part.text).collect();
    Value::from_safe_string(text.trim_end().to_owned())
}

fn listening(listens: &[Listen]) -> Vec<String> {
    listens.iter().map(|listen| listen.address.to_string()).collect()
}

/// A service.
#[derive(Serialize)]
struct View<'a> {
    /// `http` or `tcp`.
    protocol: &'static str,
    name: &'a str,
    /// The name of its backend in our own sections.
    backend: String,
    hosts: Vec<String>,
    paths: Vec<Path<'a>>,
    priority: i64,
    default: bool,
    /// Host or path is enough.
    either: bool,
    /// Listening addresses of a TCP service.
    binds: Vec<String>,
    sni: Vec<String>,
    balance: String,
    instances: Vec<Place<'a>>,
    timeouts: Waits,
    dns: Option<String>,
    cookie: Option<String>,
    /// Whether requests need a name and password.
    protected: bool,
    health_check_uri: Option<&'a str>,
    health_check_port: Option<u16>,
    /// `http`, `https` or `http-and-https`.
    scheme: &'static str,
    http_version: &'static str,
    custom_settings: Option<&'a str>,
}

/// A path rule.
#[derive(Serialize)]
struct Path<'a> {
    /// `url_beg`, `virtual_path`, `path` or `url_reg`.
    key: &'static str,
    value: &'a str,
}

/// An instance.
#[derive(Serialize)]
struct Place<'a> {
    name: &'a str,
    /// The name of its server in our own sections.
    server: String,
    /// `10.0.0.1:80`, `web.test:80`, `unix@/run/web.sock`: as HAProxy writes it.
    target: String,
    /// IP address or name; `None` for a Unix socket.
    address: Option<String>,
    port: Option<u16>,
    weight: u16,
    maxconn: u32,
    backup: bool,
    drain: bool,
    tls: bool,
}

/// Waits in milliseconds.
#[derive(Serialize)]
struct Waits {
    connect: u128,
    server: u128,
    tunnel: u128,
}

/// Everything below `config/`, waits in milliseconds.
#[derive(Serialize)]
struct Settings<'a> {
    timeout: AllWaits,
    connections: Option<u32>,
    head_bytes: usize,
    headers: usize,
    health_uri: Option<&'a str>,
}

#[derive(Serialize)]
struct AllWaits {
    connect: u128,
    head: u128,
    keep_alive: u128,
    client: u128,
    server: u128,
    tunnel: u128,
    drain: u128,
}

impl<'a> View<'a> {
    fn new(service: &'a Service, addresses: &Addresses) -> Self {
        let entry = service.http();
        let hosts = entry.map(|entry| &*entry.hosts).unwrap_or_default();
        let waits = service.timeouts;
        Self {
            protocol: if entry.is_some() { "http" } else { "tcp" },
            name: service.name.as_str(),
            backend: names::backend(service.protocol, service.name.as_str()).to_string(),
            hosts: texts(hosts),
            paths: entry.iter().flat_map(|entry| &entry.paths).map(Path::new).collect(),
            priority: entry.map_or(0, |entry| entry.priority),
            default: entry.is_some_and(|entry| entry.default),
            either: entry.is_some_and(|entry| entry.either),
            binds: service.tcp().iter().flat_map(|entry| &entry.binds).map(ToString::to_string).collect(),
            sni: texts(service.sni()),
            balance: service.balance.to_string(),
            instances: service.instances.iter().map(|instance| Place::new(instance, addresses)).collect(),
            timeouts: Waits {
                connect: waits.connect.as_millis(),
                server: waits.server.as_millis(),
                tunnel: waits.tunnel.as_millis(),
            },
            dns: service.dns.as_ref().map(ToString::to_string),
            cookie: service.cookie().map(ToString::to_string),
            protected: service.basic_auth().is_some(),
            health_check_uri: checked_uri(service),
            health_check_port: service.health_check.as_ref().and_then(|check| check.port),
            scheme: service.scheme().as_str(),
            http_version: service.http_version.as_str(),
            custom_settings: service.custom_settings.as_deref(),
        }
    }
}

/// The path that a health check asks for.
fn checked_uri(service: &Service) -> Option<&str> {
    match &service.health_check.as_deref()?.way {
        CheckWay::Http(HttpCheck { uri, .. }) => Some(uri),
        CheckWay::Tcp | CheckWay::Grpc { .. } => None,
    }
}

fn texts(hosts: &[HostPattern]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

impl<'a> Path<'a> {
    fn new(rule: &'a PathRule) -> Self {
        Self { key: rule.key(), value: rule.text() }
    }
}

impl<'a> Place<'a> {
    fn new(instance: &'a Instance, addresses: &Addresses) -> Self {
        // HAProxy must not look up names itself: it would not be judged where they lead.
        let target = Address::new(instance, addresses);
        let (address, port) = match &target {
            Address::Socket(ip, port) => (Some(ip.to_string()), Some(*port)),
            Address::Name(name, port) => (Some(name.to_string()), Some(*port)),
            Address::Unix(_) => (None, None),
        };
        Self {
            name: instance.name.as_str(),
            server: names::server(instance.name.as_str()).into(),
            target: target.to_string(),
            address,
            port,
            weight: instance.weight,
            maxconn: instance.max_connections.map_or(0, std::num::NonZeroU32::get),
            backup: instance.backup,
            drain: instance.drain,
            tls: instance.tls,
        }
    }
}

impl<'a> Settings<'a> {
    fn new(config: &'a Config) -> Self {
        let waits = config.timeouts;
        Self {
            timeout: AllWaits {
                connect: waits.connect.as_millis(),
                head: waits.head.as_millis(),
                keep_alive: waits.keep_alive.as_millis(),
                client: waits.client.as_millis(),
                server: waits.server.as_millis(),
                tunnel: waits.tunnel.as_millis(),
                drain: waits.drain.as_millis(),
            },
            connections: config.max_connections.map(std::num::NonZeroU32::get),
            head_bytes: config.head_bytes,
            headers: config.headers,
            health_uri: config.health_uri.as_deref(),
        }
    }
}
