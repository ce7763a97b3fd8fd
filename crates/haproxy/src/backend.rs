//! One service as a backend of HAProxy. Pure: settings in, lines out; never decides which services are served.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Balance, Config, CookieFlag, Password, PathRule, Protocol, Service, UserList};

use super::model::{Addresses, Backend, Owner, Part, Server};
use super::names::{self, BackendName};
use super::shape::Shape;
use super::words::{quote, time};
use super::{confine, routing, server};

/// How many instances of a `dns` name can serve at once.
const DNS_SLOTS: usize = 32;
/// The section that says how names are resolved.
pub const RESOLVERS: &str = "pointsman";
/// The section that holds our own pages.
pub const PAGES: &str = "pointsman";

/// Raw lines that begin with one of these may change how servers are told apart or picked, or bring servers of their
/// own: then nothing is done to the backend at run time.
const RIGID: &[&str] = &[
    "balance",
    "cookie",
    "default-server",
    "dispatch",
    "hash-type",
    "mode",
    "no",
    "option",
    "server",
    "server-template",
    "use-server",
];

/// A service's key that cannot be honoured, and why.
pub type Refusal = (&'static str, String);

/// What all backends of a table share.
pub struct BackendBuilder<'a> {
    /// The defaults that services' waits are compared with.
    pub config: &'a Config,
    /// What was resolved of instances' names.
    pub addresses: &'a Addresses,
    /// What HAProxy can do.
    pub shape: &'a Shape,
    /// The lines of a backend without anything special, shared by all of them.
    pub plain: Arc<[Part]>,
}

/// The lines of a backend without anything special, and of every spare. They name no backend and no service.
pub fn plain() -> Arc<[Part]> {
    Arc::from([Part::ours(NO_INSTANCE)])
}

/// Before HAProxy finds out by itself: its own 503 also stands for a refused connection, which is a 502 to us.
const NO_INSTANCE: &str = "    http-request return status 503 errorfiles pointsman if { nbsrv eq 0 } !{ stopping }\n";

impl<'a> BackendBuilder<'a> {
    /// For backends of one table.
    pub fn new(config: &'a Config, addresses: &'a Addresses, shape: &'a Shape) -> Self {
        Self { config, addresses, shape, plain: plain() }
    }

    /// The backend of a service.
    ///
    /// # Errors
    /// Keys that HAProxy must not be given, each with the reason.
    pub fn build(&self, service: &Service) -> Result<(BackendName, Backend), Vec<Refusal>> {
        let name = names::backend(service.protocol, service.name.as_str());
        let raw = raw_lines(service)?;
        self.patterns(service)?;
        records(service)?;
        let reachable =
            service.instances.iter().filter(|instance| server::refusal(instance, self.shape.version).is_none());
        let driven = self.shape.socket.is_some();
        let server = |instance| Server::new(service, instance, self.addresses, driven);
        let servers: Box<[Server]> = reachable.map(server).collect();
        let elastic = self.is_elastic(service, &servers, &raw);
        let mut lines = Lines { service, name: &name, config: self.config, parts: Vec::new() };
        lines.write(&raw);
        let backend = Backend {
            protocol: service.protocol,
            service: service.name.clone(),
            options: self.shared(lines.parts),
            servers,
            sections: sections(service, &name),
            elastic,
        };
        Ok((name, backend))
    }

    /// An expression that HAProxy cannot have would leave requests to other services.
    fn patterns(&self, service: &Service) -> Result<(), Vec<Refusal>> {
        let unsupported = routing::unsupported(service);
        let mut refusals: Vec<_> = unsupported.into_iter().map(|(_, why)| ("url_reg", why)).collect();
        let paths = service.http().map(|entry| &*entry.paths).unwrap_or_default();
        if !self.shape.version.pcre && paths.iter().any(|rule| matches!(rule, PathRule::Pattern(_))) {
            refusals.push(("url_reg", "this HAProxy was built without PCRE, which expressions need".to_owned()));
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }

    /// Most backends are plain, and share their lines.
    fn shared(&self, parts: Vec<Part>) -> Arc<[Part]> {
        if *parts == *self.plain { self.plain.clone() } else { parts.into() }
    }

    /// Servers come and go at run time only with a dynamic balance, an address, and no cookie (HAProxy Management
    /// Guide, `add server`).
    fn is_elastic(&self, service: &Service, servers: &[Server], raw: &[&str]) -> bool {
        use super::model::Address;
        let extras = &service.extras;
        self.shape.version.has_dynamic_servers()
            && service.balance != Balance::StaticRoundRobin
            && extras.cookie.is_none()
            && extras.dns.is_none()
            && servers.iter().all(|server| !matches!(server.address, Address::Name(..)))
            && !confine::mentions(raw, RIGID)
    }
}

/// HAProxy tells names of SRV records by their first byte.
fn records(service: &Service) -> Result<(), Vec<Refusal>> {
    match service.extras.dns.as_deref().and_then(|name| name.strip_prefix("srv:")) {
        Some(name) if !name.starts_with('_') => {
            Err(vec![("dns", "expected a name that begins with _, such as srv:_http._tcp.shop.test".to_owned())])
        }
        _ => Ok(()),
    }
}

fn raw_lines(service: &Service) -> Result<Vec<&str>, Vec<Refusal>> {
    let text = service.extras.custom_settings.as_deref().unwrap_or_default();
    confine::lines(text).map_err(|bad| bad.into_iter().map(|advice| ("custom_settings", advice)).collect())
}

/// Writes the lines of one backend, in the order in which HAProxy acts on them.
struct Lines<'a> {
    service: &'a Service,
    name: &'a str,
    config: &'a Config,
    parts: Vec<Part>,
}

impl Lines<'_> {
    fn write(&mut self, raw: &[&str]) {
        self.waits();
        self.balance();
        self.cookie();
        self.health();
        self.schemes();
        self.auth();
        self.raw(raw);
        self.strips();
        if self.service.protocol == Protocol::Http {
            self.ours(NO_INSTANCE);
        }
        self.dns();
    }

    fn ours(&mut self, text: impl AsRef<str>) {
        self.parts.push(Part::ours(text.as_ref()));
    }

    fn add(&mut self, key: &'static str, text: String) {
        let owner = Owner::Service(self.service.protocol, self.service.name.clone(), key);
        self.parts.push(Part { text: text.into(), owner: Some(owner) });
    }

    /// Waits that are not as the defaults section has them.
    fn waits(&mut self) {
        let (own, all) = (self.service.timeouts, self.config.timeouts);
        if self.service.protocol == Protocol::Tcp {
            self.ours("    mode tcp\n");
        }
        if own.connect != all.connect {
            // A request that waits for room waits no longer than one that waits for a connection.
            self.wait("timeout/connect", &["connect", "queue"], own.connect);
        }
        match self.service.protocol {
            Protocol::Http => {
                if own.server != all.server {
                    self.wait("timeout/server", &["server"], own.server);
                }
                if own.tunnel != all.tunnel {
                    self.wait("timeout/tunnel", &["tunnel"], own.tunnel);
                }
            }
            // All of a TCP connection is a tunnel.
            Protocol::Tcp => self.wait("timeout/tunnel", &["server", "tunnel"], own.tunnel),
        }
    }

    fn wait(&mut self, key: &'static str, kinds: &[&str], wait: Duration) {
        let lines = kinds.iter().map(|kind| format!("    timeout {kind} {}\n", time(wait)));
        self.add(key, lines.collect());
    }

    /// `roundrobin` is HAProxy's own default.
    fn balance(&mut self) {
        let hash = "\n    hash-type consistent";
        let (balance, hash) = match &self.service.balance {
            Balance::RoundRobin => return,
            Balance::StaticRoundRobin => ("static-rr".to_owned(), ""),
            Balance::LeastConnections => ("leastconn".to_owned(), ""),
            Balance::First => ("first".to_owned(), ""),
            Balance::Source => ("source".to_owned(), hash),
            Balance::Uri => ("uri".to_owned(), hash),
            Balance::Header(name) => (quote(&format!("hdr({name})")).into_owned(), hash),
            Balance::UrlParam(name) => (format!("url_param {}", quote(name)), hash),
            Balance::Random => ("random(1)".to_owned(), ""),
            // Two taken by chance, the less busy one of them.
            Balance::PowerOfTwo => ("random(2)".to_owned(), ""),
        };
        self.add("balance", format!("    balance {balance}{hash}\n"));
    }

    fn cookie(&mut self) {
        let Some(cookie) = &self.service.extras.cookie else {
            return;
        };
        let mut text = format!("    cookie {cookie}");
        if self.service.extras.dns.is_some() {
            // Servers made from a template have no cookie of their own: it is made from this and their address.
            let already = cookie.flags.contains(&CookieFlag::Dynamic);
            text.push_str(if already { "" } else { " dynamic" });
            write!(text, "\n    dynamic-cookie-key {}", self.name).expect("a String takes whatever is written");
        }
        text.push('\n');
        self.add("cookie", text);
    }

    fn health(&mut self) {
        let Some(uri) = self.service.extras.health_check_uri.as_deref() else {
            return;
        };
        let host = self.service.http().and_then(|entry| entry.hosts.first()).map_or("localhost", |host| host.name());
        let uri = quote(uri);
        self.add(
            "health_check_uri",
            format!(
                "    option httpchk\n    http-check send meth GET uri {uri} ver HTTP/1.1 hdr Host {}\n",
                quote(host)
            ),
        );
    }

    /// The header is the frontend's own word, whatever the client sent.
    fn schemes(&mut self) {
        if self.service.extras.scheme.as_deref() == Some("https") {
            let redirect = "    http-request redirect prefix https://%[var(txn.host)] code 301 unless { req.hdr(x-forwarded-proto) https }\n";
            self.add("scheme", redirect.to_owned());
        }
    }

    fn auth(&mut self) {
        if self.service.extras.basic_auth_secrets.is_some() {
            let realm = names::server(self.service.name.as_str());
            let auth = format!("    http-request auth realm {realm} unless {{ http_auth({}) }}\n", self.name);
            self.add("basic_auth_secrets", auth);
        }
    }

    /// Before the path is cut, so that these lines see what the client asked for.
    fn raw(&mut self, lines: &[&str]) {
        if lines.is_empty() {
            return;
        }
        let tree = self.service.protocol.tree();
        let name = names::server(self.service.name.as_str());
        let mut text = format!("    # {tree}/{name}/custom_settings\n");
        for line in lines {
            text.extend(["    ", line, "\n"]);
        }
        self.add("custom_settings", text);
    }

    /// One line for each length that a `virtual_path` of this service has.
    fn strips(&mut self) {
        let Some(entry) = self.service.http().filter(|entry| !entry.keep_virtual_path) else {
            return;
        };
        let virtuals = entry.paths.iter().filter(|rule| matches!(rule, PathRule::Virtual(_)));
        let mut lengths: Vec<_> = virtuals.map(|rule| rule.text().len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths {
            self.ours(format!(
                "    http-request set-pathq '%[pathq,regsub(\"^.{{{length}}}/?\",/)]' if {{ var(txn.strip) -m int {length} }}\n"
            ));
        }
    }

    fn dns(&mut self) {
        let Some(name) = self.service.extras.dns.as_deref() else {
            return;
        };
        let check = format!(" {}", server::check(self.service));
        let prefix = self.unused_prefix();
        let target = match name.strip_prefix("srv:") {
            Some(record) => record.to_owned(),
            None => format!("{name}:{}", self.service.port),
        };
        self.add(
            "dns",
            format!(
                "    server-template {prefix} {DNS_SLOTS} {target} resolvers {RESOLVERS} init-addr last,none{check}\n"
            ),
        );
    }

    /// The beginning of the names of servers that stand for a name's addresses. No instance's name begins like it.
    fn unused_prefix(&self) -> String {
        let mut prefix = "dns_".to_owned();
        while self.service.instances.iter().any(|instance| instance.name.as_str().starts_with(&prefix)) {
            prefix.push('_');
        }
        prefix
    }
}

/// The user list of a service that has one.
fn sections(service: &Service, name: &str) -> Arc<[Part]> {
    let Some(users) = &service.extras.basic_auth_secrets else {
        return Arc::from([]);
    };
    let owner = Owner::Service(service.protocol, service.name.clone(), "basic_auth_secrets");
    let text = format!("userlist {name}\n{}", user_lines(users));
    Arc::from([Part { text: text.into(), owner: Some(owner) }])
}

fn user_lines(users: &UserList) -> String {
    let list = |word: &str, names: &[Box<str>]| match names {
        [] => String::new(),
        names => format!(" {word} {}", quote(&names.join(","))),
    };
    let groups =
        users.groups.iter().map(|group| format!("    group {}{}\n", quote(&group.name), list("users", &group.users)));
    let users = users.users.iter().map(|user| {
        let (word, password) = match &user.password {
            Password::Hash(hash) => ("password", hash),
            Password::Plain(password) => ("insecure-password", password),
        };
        format!("    user {} {word} {}{}\n", quote(&user.name), quote(password), list("groups", &user.groups))
    });
    groups.chain(users).collect()
}
