//! One service as a backend of HAProxy. Pure: a service in, lines out; never decides which services are served.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{
    Balance, CheckWay, Config, CookieFlag, Dns, Expect, HttpCheck, HttpVersion, Password, PathRule, Protocol, Scheme,
    Service, UserList, default_key,
};

use super::changes::Changes;
use super::forwarded::{CLIENT, OVER_HTTPS};
use super::model::{Addresses, Backend, Owner, Part, Server};
use super::names::{self, BackendName, PAGES};
use super::shape::Shape;
use super::words::{quote, time};
use super::{admission, clients, confine, outbound, routing, server};

/// How long a check may take, as the defaults section says it.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Most addresses of a `dns` name that serve at once.
const DNS_SLOTS: usize = 32;
/// The section that configures DNS.
pub const RESOLVERS: &str = "pointsman";

/// Operators' lines that begin with one of these may change how servers are named or picked, or add servers: such a
/// backend is never changed at run time.
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

/// The answer over a connection that was made for another server name (RFC 9110 §15.5.20).
const MISDIRECTED: &str = "This connection was made for another name, or was not asked for what this one needs.";

/// A service's key that cannot be honoured, and why.
pub type UnsupportedKey = (&'static str, String);

/// Makes the backends of one table, from what they share.
pub struct BackendBuilder<'a> {
    /// The defaults: a service's timeouts are written only where they differ.
    pub config: &'a Config,
    /// Resolved names of instances.
    pub addresses: &'a Addresses,
    /// What does not depend on the keys.
    pub shape: &'a Shape,
    /// The lines of a backend without special settings, shared by all such backends.
    pub plain: Arc<[Part]>,
}

/// The lines of a backend without special settings, and of every spare. They name no backend and no service.
pub fn plain() -> Arc<[Part]> {
    Arc::from([Part::ours(NO_INSTANCE)])
}

/// Answers before HAProxy does: its own 503 would also be sent for a refused connection, which must be a 502.
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
    pub fn build(&self, service: &Service) -> Result<(BackendName, Backend), Vec<UnsupportedKey>> {
        let name = names::backend(service.protocol, service.name.as_str());
        let raw = raw_lines(service)?;
        self.patterns(service)?;
        records(service)?;
        let reachable = service
            .instances
            .iter()
            .filter(|instance| server::refusal(service, instance, self.shape.version).is_none());
        let driven = self.shape.socket.is_some();
        let server = |instance| Server::new(service, instance, self.addresses, driven);
        let servers: Box<[Server]> = reachable.map(server).collect();
        let elastic = self.is_elastic(service, &servers, &raw);
        let changes = Changes::of(service, self.config)?;
        let mut lines =
            Lines { service, name: &name, changes, config: self.config, shape: self.shape, parts: Vec::new() };
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

    /// Refuses expressions that HAProxy cannot match: their requests would reach other services; and a balance that it
    /// does not know.
    fn patterns(&self, service: &Service) -> Result<(), Vec<UnsupportedKey>> {
        let unsupported = routing::unsupported(service);
        let mut refusals: Vec<_> = unsupported.into_iter().map(|(_, why)| ("url_reg", why)).collect();
        let paths = service.http().map(|entry| &*entry.paths).unwrap_or_default();
        let searches_body = service
            .health_check
            .as_deref()
            .is_some_and(|check| matches!(&check.way, CheckWay::Http(HttpCheck { expect: Expect::Body(_), .. })));
        if !self.shape.version.pcre && searches_body {
            let why = "this HAProxy was built without PCRE, which expressions need".to_owned();
            refusals.push(("health_check_expect", why));
        }
        if !self.shape.version.pcre && paths.iter().any(|rule| matches!(rule, PathRule::Pattern(_))) {
            refusals.push(("url_reg", "this HAProxy was built without PCRE, which expressions need".to_owned()));
        }
        if matches!(service.balance, Balance::Cookie(_)) && !self.shape.version.at_least(2, 6) {
            refusals.push(("balance", "cookie(NAME) needs HAProxy 2.6".to_owned()));
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }

    /// Most backends have no special settings and share their lines.
    fn shared(&self, parts: Vec<Part>) -> Arc<[Part]> {
        if *parts == *self.plain { self.plain.clone() } else { parts.into() }
    }

    /// Servers come and go at run time only with a dynamic balance, an address, and no cookie (HAProxy Management
    /// Guide, `add server`).
    fn is_elastic(&self, service: &Service, servers: &[Server], raw: &[&str]) -> bool {
        use super::model::Address;
        self.shape.version.has_dynamic_servers()
            && service.balance != Balance::StaticRoundRobin
            && service.cookie().is_none()
            && service.dns.is_none()
            && !outbound::is_rigid(service)
            && servers.iter().all(|server| !matches!(server.address, Address::Name(..)))
            && !confine::mentions(raw, RIGID)
    }
}

/// HAProxy recognizes names of SRV records by their first byte.
fn records(service: &Service) -> Result<(), Vec<UnsupportedKey>> {
    match &service.dns {
        Some(Dns::Srv(name)) if !name.starts_with('_') => {
            Err(vec![("dns", "expected a name that begins with _, such as srv:_http._tcp.shop.test".to_owned())])
        }
        _ => Ok(()),
    }
}

fn raw_lines(service: &Service) -> Result<Vec<&str>, Vec<UnsupportedKey>> {
    let text = service.custom_settings.as_deref().unwrap_or_default();
    confine::lines(text).map_err(|bad| bad.into_iter().map(|advice| ("custom_settings", advice)).collect())
}

/// Writes the lines of one backend, in the order in which HAProxy applies them.
struct Lines<'a> {
    service: &'a Service,
    name: &'a str,
    config: &'a Config,
    shape: &'a Shape,
    changes: Changes,
    parts: Vec<Part>,
}

impl Lines<'_> {
    fn write(&mut self, raw: &[&str]) {
        self.waits();
        self.retries();
        self.abandoned();
        self.balance();
        self.cookie();
        self.health();
        self.add_all(|changes| std::mem::take(&mut changes.variables));
        self.schemes();
        self.clients();
        self.version();
        self.hsts();
        self.admission();
        self.add_all(|changes| std::mem::take(&mut changes.first));
        self.auth();
        self.add_all(|changes| std::mem::take(&mut changes.redirect));
        self.maintenance();
        self.add_all(|changes| std::mem::take(&mut changes.before));
        self.announced();
        self.raw(raw);
        self.strips();
        self.add_all(|changes| std::mem::take(&mut changes.after));
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

    /// The lines of a policy's changes.
    fn add_all(&mut self, lines: impl FnOnce(&mut Changes) -> Vec<(&'static str, String)>) {
        lines(&mut self.changes).into_iter().for_each(|(key, text)| self.add(key, text));
    }

    /// A connection that begins with a client's address serves that client alone.
    fn announced(&mut self) {
        if self.service.protocol == Protocol::Http && self.service.send_proxy().is_some() {
            self.add("send_proxy", "    http-reuse never\n".to_owned());
        }
    }

    /// In every answer over HTTPS, our own too.
    fn hsts(&mut self) {
        if let Some(hsts) = self.service.hsts() {
            let (value, over_https) = (quote(hsts.header()), OVER_HTTPS);
            let line =
                format!("    http-after-response set-header Strict-Transport-Security {value} if {over_https}\n");
            self.add("hsts", line);
        }
    }

    /// The handling of a request whose client left.
    fn abandoned(&mut self) {
        if self.service.finishes_abandoned() {
            self.add("abort", "    no option abortonclose\n".to_owned());
        }
    }

    /// Timeouts that differ from the defaults section.
    fn waits(&mut self) {
        let (own, all) = (self.service.timeouts, self.config.timeouts);
        if self.service.protocol == Protocol::Tcp {
            // An end is passed on: the other side may go on sending.
            self.ours("    mode tcp\n    no option abortonclose\n");
        }
        let queue = self.service.bounds.as_ref().and_then(|bounds| bounds.queue_wait);
        if own.connect != all.connect {
            // Queueing has the same limit as connecting, if no key says more.
            let kinds: &[_] = if queue.is_some() { &["connect"] } else { &["connect", "queue"] };
            self.wait("timeout/connect", kinds, own.connect);
        }
        if let Some(wait) = queue {
            self.wait("timeout/queue", &["queue"], wait);
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
            // A TCP connection is a tunnel from beginning to end.
            Protocol::Tcp => self.wait("timeout/tunnel", &["server", "tunnel"], own.tunnel),
        }
    }

    /// HAProxy reads no more of a request that may be sent again than fits its buffer. The frontend has disabled it for
    /// methods that are not idempotent, and nothing enables it again: those go without.
    fn retries(&mut self) {
        let Some(retries) = self.service.bounds.as_ref().and_then(|bounds| bounds.retries) else { return };
        let named = [
            (retries.on_connect(), "conn-failure"),
            (retries.on_reset(), "empty-response"),
            (retries.on_timeout(), "response-timeout"),
        ];
        let named = named.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, word)| word.to_owned());
        let words: Vec<_> = named.chain(retries.statuses().map(|status| status.to_string())).collect();
        let on = if words.is_empty() { "none".to_owned() } else { words.join(" ") };
        self.add("retries", format!("    retries {}\n    retry-on {on}\n", retries.times));
    }

    fn wait(&mut self, key: &'static str, kinds: &[&str], wait: Duration) {
        let lines = kinds.iter().map(|kind| format!("    timeout {kind} {}\n", time(wait)));
        self.add(key, lines.collect());
    }

    /// Whether `source` uses the client named by trusted proxies. `balance hash` needs 2.6.
    fn by_client(&self) -> bool {
        !self.config.trusted_proxies.is_empty()
            && self.service.protocol == Protocol::Http
            && self.shape.version.at_least(2, 6)
    }

    /// `roundrobin` is HAProxy's own default.
    fn balance(&mut self) {
        let hash = "\n    hash-type consistent";
        let (balance, hash) = match &self.service.balance {
            Balance::RoundRobin => return,
            Balance::StaticRoundRobin => ("static-rr".to_owned(), ""),
            Balance::LeastConnections => ("leastconn".to_owned(), ""),
            Balance::First => ("first".to_owned(), ""),
            Balance::Source if self.by_client() => (format!("hash var({CLIENT})"), hash),
            Balance::Source => ("source".to_owned(), hash),
            Balance::Uri => ("uri".to_owned(), hash),
            Balance::Header(name) => (quote(&format!("hdr({name})")).into_owned(), hash),
            Balance::UrlParam(name) => (format!("url_param {}", quote(name)), hash),
            Balance::Cookie(name) => (format!("hash {}", quote(&format!("req.cook({name})"))), hash),
            Balance::Random => ("random(1)".to_owned(), ""),
            // The less busy of two random servers.
            Balance::PowerOfTwo => ("random(2)".to_owned(), ""),
        };
        self.add("balance", format!("    balance {balance}{hash}\n"));
        if let Some(percent) = self.service.bounded {
            // 100 is no bound that HAProxy takes.
            self.add("bounded", format!("    hash-balance-factor {}\n", percent.max(101)));
        }
    }

    fn cookie(&mut self) {
        let Some(cookie) = self.service.cookie() else {
            return;
        };
        let mut text = format!("    cookie {cookie}");
        let is_dynamic = cookie.has(CookieFlag::Dynamic);
        // Servers of a `server-template` have no cookie of their own: HAProxy derives it from the key and their address.
        let needs_key = is_dynamic || self.service.dns.is_some();
        text.push_str(if needs_key && !is_dynamic { " dynamic" } else { "" });
        // Another key stands in `custom_settings`.
        if needs_key && cookie.key.is_none() {
            let key = default_key(&self.service.name);
            write!(text, "\n    dynamic-cookie-key {key}").expect("a String takes whatever is written");
        }
        text.push('\n');
        self.add("cookie", text);
    }

    /// Active checks: what is asked, what passes, and for how long it is waited.
    fn health(&mut self) {
        let Some(check) = self.service.health_check.as_deref() else { return };
        if let CheckWay::Http(HttpCheck { method, uri, host, expect }) = &check.way {
            let (uri, host) = (quote(uri), quote(host));
            let send = format!("http-check send meth {method} uri {uri} ver HTTP/1.1 hdr Host {host}");
            self.add("health_check_uri", format!("    option httpchk\n    {send}\n"));
            self.expect(expect);
        }
        if check.timeout != CHECK_TIMEOUT {
            self.add("health_check_timeout", format!("    timeout check {}\n", time(check.timeout)));
        }
    }

    /// 2xx and 3xx pass by HAProxy's own choice.
    fn expect(&mut self, expect: &Expect) {
        let usual = Expect::Statuses([Expect::USUAL].into());
        let lines = match expect {
            expect if *expect == usual => return,
            Expect::Statuses(_) => format!("    http-check expect status {expect}\n"),
            Expect::Body(pattern) => {
                let expression = quote(&format!("(?i){pattern}")).into_owned();
                format!("    http-check expect status {usual}\n    http-check expect rstring {expression}\n")
            }
        };
        self.add("health_check_expect", lines);
    }

    /// Who is let in, in the order of the policy's steps.
    fn admission(&mut self) {
        for (key, lines) in admission::access(self.service, self.config) {
            self.add(key, lines);
        }
        if let Some(line) = admission::max_body(self.service) {
            self.add("max_body", line);
        }
    }

    fn maintenance(&mut self) {
        if let Some(lines) = admission::maintenance(self.service, self.config) {
            self.add("maintenance", lines);
        }
    }

    /// The frontend sets this header itself; the client's is overwritten.
    fn schemes(&mut self) {
        if self.service.scheme() == Scheme::Https {
            let to = "https://%[var(txn.host)]";
            self.add("scheme", format!("    http-request redirect prefix {to} code 301 unless {OVER_HTTPS}\n"));
        }
    }

    /// A client's certificate counts only in the handshake that it was shown in, for the name that asked for it, and if that
    /// name asks for these authorities in what now runs. `clients` says what handshakes ask for. The frontend removes
    /// clients' own `Client-Cert` (RFC 9440).
    fn clients(&mut self) {
        let Some(auth) = self.service.client_auth() else { return };
        let (id, shown) = (clients::id(&auth.authorities), "{ ssl_fc_has_crt } { ssl_c_verify 0 }");
        let mut text = format!(
            "    http-request return status 421 content-type \"text/plain; charset=utf-8\" string \"{MISDIRECTED}\\n\" if {{ ssl_fc }} !{{ var(sess.clients) -m str {id} }} or {{ ssl_fc }} !{{ var(txn.host),strcmp(sess.sni) eq 0 }} or {{ ssl_fc_is_resumed }}
"
        );
        if auth.is_required {
            let line = format!("    http-request return status 403 errorfiles {PAGES} unless {shown}\n");
            text.push_str(&line);
        }
        text.push_str(&format!("    http-request set-header Client-Cert :%[ssl_c_der,base64]: if {shown}\n"));
        self.add("client_ca", text);
    }

    /// Trailers are passed on, and gRPC insists on being told so; the frontend removes the client's word about it.
    fn version(&mut self) {
        if self.service.http_version == HttpVersion::Http2 {
            let lines = "    http-request set-var(txn.http2) bool(true)\n    http-request set-header TE trailers\n";
            self.add("protocol", lines.to_owned());
        }
    }

    fn auth(&mut self) {
        if self.service.basic_auth().is_some() {
            let realm = names::server(self.service.name.as_str());
            let auth = format!("    http-request auth realm {realm} unless {{ http_auth({}) }}\n", self.name);
            self.add("basic_auth_secrets", auth);
        }
    }

    /// Stands before the path is cut, so that these lines see the path that the client sent.
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

    /// One line for each length of this service's `virtual_path`s.
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
        let Some(dns) = &self.service.dns else {
            return;
        };
        let version = server::version(self.service).map(|version| format!(" {version}")).unwrap_or_default();
        let slow = server::slow_start(self.service).map(|slow| format!(" {slow}")).unwrap_or_default();
        let check = format!(" {}{slow}{version}", server::check(self.service));
        let prefix = self.unused_prefix();
        let target = match dns {
            Dns::Srv(record) => record.to_string(),
            Dns::Name(name) => format!("{name}:{}", self.service.port),
        };
        self.add(
            "dns",
            format!(
                "    server-template {prefix} {DNS_SLOTS} {target} resolvers {RESOLVERS} init-addr last,none{check}\n"
            ),
        );
    }

    /// The prefix of the servers' names in a `server-template`. No instance's name begins with it.
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
    let Some(users) = service.basic_auth() else {
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
