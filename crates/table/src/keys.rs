//! The list of keys and their trees; tells settings, instances and misspellings apart. Judges no value otherwise.

use std::net::{IpAddr, SocketAddr};

use crate::instance;
use crate::names::Protocol;
use crate::value;

/// A key that the table reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its tree.
    pub tree: Tree,
    /// Its name below the service, or below the tree where there is none: `timeout/connect`, `<instance>`.
    pub name: &'static str,
    /// What it is for, in one line.
    pub meaning: &'static str,
}

/// The marker key below the prefix. In a store without revisions it tells which changes a balancer has seen; it is no
/// setting.
pub const BARRIER: &str = "barrier";

/// Instances of any name.
const UPSTREAMS: &str = "upstreams/<instance>";
/// The key that protects a service.
const BASIC_AUTH: &str = "basic_auth_secrets";
/// Keys about protection that hold no secret.
const FORWARD_AUTH: &str = "forward_auth";
const FORWARD_AUTH_CA: &str = "forward_auth_ca";
/// Keys that protect, and do not count as absent without a value: that would open the service.
const CLOSED_WHEN_EMPTY: [&str; 6] = [BASIC_AUTH, FORWARD_AUTH, FORWARD_AUTH_CA, "allow", "client_ca", "tls_ca"];
/// The key that holds a private key.
const CLIENT_KEY: &str = "tls_cert";

/// The parts of the store that hold keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// `services/<service>/`
    Http,
    /// `tcp-services/<service>/`
    Tcp,
    /// `config/`
    Config,
    /// `certs/`
    Certs,
}

const fn http(name: &'static str, meaning: &'static str) -> KnownKey {
    KnownKey { tree: Tree::Http, name, meaning }
}

const fn tcp(name: &'static str, meaning: &'static str) -> KnownKey {
    KnownKey { tree: Tree::Tcp, name, meaning }
}

const fn config(name: &'static str, meaning: &'static str) -> KnownKey {
    KnownKey { tree: Tree::Config, name, meaning }
}

/// Every key that is read, tree by tree. Names in angle brackets stand for any one segment.
pub const KNOWN_KEYS: &[KnownKey] = &[
    http("domain", "host names, comma separated; *.example.org is every name below it"),
    http("virtual_hosts", "the same as domain; both may be set"),
    http("url_reg", "a regular expression searched for in path and query, ASCII case ignored"),
    http("url_beg", "prefixes of path and query, comma separated, plain string prefix"),
    http("virtual_path", "like url_beg, and the prefix is taken off before the request goes on"),
    http("keep_virtual_path", "true: virtual_path is not taken off"),
    http("path", "path prefixes by whole segments, comma separated"),
    http("method", "methods that requests must have, comma separated: GET,HEAD"),
    http("header/<Name>", "the value that this header of a request must have; * for any, ~EXPRESSION to search it"),
    http("query/<name>", "the value that the query must have under this name; * for any, ~EXPRESSION to search it"),
    http("priority", "integer, higher wins before anything else"),
    http("match", "all: host and path must both match; any: either is enough"),
    http("default", "true: takes what no other service takes"),
    http("port", "port of instances whose value names none"),
    http("<instance>", "an instance: ADDRESS[:PORT] and options"),
    http(UPSTREAMS, "an instance, of any name"),
    http("dns", "a name to resolve: every address is an instance"),
    http("balance", "how an instance is picked"),
    http("bounded", "hashing balances: how much of the mean work an instance may have"),
    http("slow_start", "from its return or appearance to an instance's full share; overrides config/slow_start"),
    http("protocol", "http1 or h2: what instances speak"),
    http("acme", "true, or http-01, tls-alpn-01, dns-01: certificates for its domains are asked of an authority"),
    http("cookie", "sessions stick to an instance by this cookie"),
    http("allow", "networks whose clients are served, comma separated; nobody else is"),
    http("deny", "networks whose clients are not served; goes before allow"),
    http("rate_limit", "how many requests are let in: 100/s, then burst=N and by=client, service or header:NAME"),
    http("max_body", "the greatest body of a request: 10MiB"),
    http("maintenance", "true: the service is closed, and answers 503"),
    http("maintenance/except", "networks and header:NAME=VALUE that get in during maintenance"),
    http("maintenance_except", "the same; both may be set"),
    http("errors/<status>", "body of our own answers with this status; overrides config/errors/<status>"),
    http(BASIC_AUTH, "user names and passwords that a request must bring"),
    http(
        FORWARD_AUTH,
        "http(s)://HOST[:PORT]/PATH or SERVICE:/PATH: asked whether a request may go on; headers to copy",
    ),
    http(FORWARD_AUTH_CA, "how a server of forward_auth over https:// is verified: authorities, PEM, or system"),
    http("client_ca", "authorities that clients' certificates must come from, PEM"),
    http("client_verify", "required or optional: whether a client must show a certificate"),
    http("health_check", "how instances are checked: http, tcp, grpc (with protocol=h2) or off"),
    http("health_check_uri", "path that an instance must answer"),
    http("health_check_port", "port for health checks, if not the instance's"),
    http("health_check_method", "method of health checks"),
    http("health_check_host", "host that health checks ask for"),
    http("health_check_expect", "statuses that pass: 200-399; or ~EXPRESSION, searched for in the body"),
    http("health_check_interval", "from one health check to the next"),
    http("health_check_timeout", "longest time that a health check may take"),
    http("health_check_rise", "health checks in a row that bring an instance back"),
    http("health_check_fall", "failed health checks in a row that take an instance out"),
    http("eject", "errors=N: how many errors in a row eject an instance; or off"),
    http("panic", "below this share of healthy instances, all are used; or off"),
    http("guard", "what share of its instances may be taken away at once; or off"),
    http("tls_ca", "how instances with tls are verified: authorities, PEM, or system"),
    http("tls_server_name", "the name sent to instances with tls, and expected of them"),
    http("tls_cert", "certificate and key that instances with tls are shown, PEM"),
    http("send_proxy", "v1 or v2: the PROXY header that connections to instances begin with"),
    http("scheme", "http, https (plain HTTP is redirected) or http-and-https"),
    http("hsts", "Strict-Transport-Security on HTTPS answers: a duration, then includeSubDomains and preload"),
    http("cors", "origins, comma separated, or *: whose pages may use the service in a browser"),
    http(
        "request_id",
        "true: requests have an X-Request-Id, which instances and clients are told; overrides config/request_id",
    ),
    http("redirect", "a status and an address: clients are to ask there instead"),
    http("rewrite", "PREFIX REPLACEMENT or ~EXPRESSION REPLACEMENT: another path for requests to instances"),
    http("request_headers", "lines set NAME TEXT, add NAME TEXT, remove NAME: headers of requests to instances"),
    http("response_headers", "lines set NAME TEXT, add NAME TEXT, remove NAME: headers of answers to clients"),
    http("compress", "content types of answers to compress, comma separated, or on for the usual ones"),
    http("split/<service>", "a share of the requests that this other service takes: 10%"),
    http("split_by", "client, cookie:NAME or header:NAME: who stays on which side of a split"),
    http("mirror/<service>", "a share of the requests of which this other service gets copies: 10%"),
    http("abort", "false: a request whose client left is finished all the same"),
    http("custom_settings", "raw HAProxy backend lines"),
    http("retries", "how often a request is sent again, after what, and for which share of requests"),
    http("limit/requests", "requests at work at once, on all instances together"),
    http("limit/queue", "requests that wait at once"),
    http("timeout/connect", "overrides config/timeout/connect"),
    http("timeout/queue", "how long a request may wait"),
    http("timeout/request", "for a whole request, from its head to the end of the answer"),
    http("timeout/server", "overrides config/timeout/server"),
    http("timeout/tunnel", "overrides config/timeout/tunnel"),
    tcp("port", "where to listen: PORT or ADDR:PORT, comma separated"),
    tcp("external_port", "the same as port; all may be set"),
    tcp("ports", "the same as port; all may be set"),
    tcp("internal_port", "port of instances whose value names none"),
    tcp("<instance>", "an instance: ADDRESS[:PORT] and options"),
    tcp(UPSTREAMS, "an instance, of any name"),
    tcp("dns", "a name to resolve: every address is an instance"),
    tcp("balance", "how an instance is picked"),
    tcp("bounded", "hashing balances: how much of the mean work an instance may have"),
    tcp("slow_start", "from its return or appearance to an instance's full share; overrides config/slow_start"),
    tcp("allow", "networks whose clients are served, comma separated; nobody else is"),
    tcp("deny", "networks whose clients are not served; goes before allow"),
    tcp("custom_settings", "raw HAProxy backend lines"),
    tcp("health_check", "how instances are checked: tcp, http or off"),
    tcp("health_check_uri", "path that an instance must answer"),
    tcp("health_check_port", "port for health checks, if not the instance's"),
    tcp("health_check_method", "method of health checks"),
    tcp("health_check_host", "host that health checks ask for"),
    tcp("health_check_expect", "statuses that pass: 200-399; or ~EXPRESSION, searched for in the body"),
    tcp("health_check_interval", "from one health check to the next"),
    tcp("health_check_timeout", "longest time that a health check may take"),
    tcp("health_check_rise", "health checks in a row that bring an instance back"),
    tcp("health_check_fall", "failed health checks in a row that take an instance out"),
    tcp("panic", "below this share of healthy instances, all are used; or off"),
    tcp("guard", "what share of its instances may be taken away at once; or off"),
    tcp("tls_ca", "how instances with tls are verified: authorities, PEM, or system"),
    tcp("tls_server_name", "the name sent to instances with tls, and expected of them"),
    tcp("tls_cert", "certificate and key that instances with tls are shown, PEM"),
    tcp("send_proxy", "v1 or v2: the PROXY header that connections to instances begin with"),
    tcp("sni", "host names: services share a port, chosen by the TLS server name"),
    tcp("tls", "terminate: TLS ends here, with the certificates below certs/"),
    tcp("timeout/connect", "overrides config/timeout/connect"),
    tcp("timeout/server", "overrides config/timeout/server"),
    tcp("timeout/tunnel", "overrides config/timeout/tunnel"),
    config("timeout/connect", "to connect to an instance"),
    config("timeout/queue", "timeout/queue of services that set none"),
    config("timeout/request", "timeout/request of services that set none"),
    config("timeout/head", "for a whole request head"),
    config("timeout/keep_alive", "idle between requests"),
    config("timeout/client", "without a byte from a client in the middle of a request"),
    config("timeout/server", "without a byte from an instance"),
    config("timeout/tunnel", "idle tunnel or TCP relay"),
    config("timeout/drain", "to finish work after a removal or TERM"),
    config("retries", "retries of services that set none"),
    config("limit/requests", "limit/requests of each service that sets none"),
    config("limit/queue", "limit/queue of each service that sets none"),
    config("limit/connections", "open client connections"),
    config("limit/head_bytes", "longest request head, in bytes"),
    config("limit/headers", "most headers in a head"),
    config("limit/streams", "most requests at the same time on an HTTP/2 connection"),
    config("slow_start", "from its return or appearance to an instance's full share"),
    config("eject", "how many errors in a row eject an instance, for services that do not say"),
    config("panic", "below which share of healthy instances all are used, for services that do not say"),
    config("guard", "what share of all services or instances may be taken away at once; or off; overrides --guard"),
    config("request_id", "request_id of services that do not say"),
    config("health_uri", "path answered 200 by the balancer itself"),
    config("health_check", "default for all services: http, tcp or off"),
    config("health_check_uri", "default for all services: path that an instance must answer"),
    config("health_check_port", "default for all services: port for health checks, if not the instance's"),
    config("health_check_method", "default for all services: method of health checks"),
    config("health_check_host", "default for all services: host that health checks ask for"),
    config("health_check_expect", "default for all services: statuses that pass; or ~EXPRESSION of the body"),
    config("health_check_interval", "default for all services: from one health check to the next"),
    config("health_check_timeout", "default for all services: longest time that a health check may take"),
    config("health_check_rise", "default for all services: health checks in a row that bring an instance back"),
    config("health_check_fall", "default for all services: failed health checks in a row that take an instance out"),
    config("trusted_proxies", "networks, private or all: whose X-Forwarded-*, X-Real-IP and Forwarded are believed"),
    config("accept_proxy", "networks, private or all: whose connections begin with a PROXY header"),
    config("tls_min_version", "1.2 or 1.3: the oldest TLS version of clients"),
    config("tls_strict_sni", "true: no handshake for a server name that no certificate covers, or for none"),
    config("acme/agree", "true: you agree to the authority's terms; nothing is asked before"),
    config("acme/auto", "true: certificates for all services that do not say"),
    config("acme/challenge", "http-01, tls-alpn-01 or dns-01: how the authority is shown that a name is ours"),
    config("acme/check", "true or false: whether a name must lead to the balancers before the authority is asked"),
    config("acme/contact", "mail addresses that the authority may write to, comma separated"),
    config("acme/directory", "letsencrypt, letsencrypt-staging or an https:// URL: the authority"),
    config("acme/eab", "an account at the authority that ours belongs to: KEY-ID HMAC-KEY"),
    config("acme/key", "p256 or rsa2048: the keys of certificates"),
    config(
        "acme/on_demand",
        "names, wildcards or a URL that says: the first handshake for a name asks for its certificate",
    ),
    config("acme/profile", "a profile of the authority, such as shortlived"),
    config("errors/<status>", "body of our own error answers"),
    KnownKey { tree: Tree::Certs, name: "<name>", meaning: "a certificate and its key, PEM" },
];

/// The first words of keys that are read.
const TREES: [&str; 4] = ["services", "tcp-services", "config", "certs"];

/// Words in the names of keys whose values are secret.
const SECRET_NAMES: [&str; 5] = ["secret", "auth", "passw", CLIENT_KEY, "acme/eab"];
/// What only secret values hold, in any case and whatever their key: private keys, and passwords in HAProxy's own lines.
const SECRET_VALUES: [&str; 5] = ["private key-----", "stats auth", "password", "dynamic-cookie-key", "authorization"];

/// Whether a value is not to be shown. `key` is relative to the prefix, or to a service; it may be misspelt.
pub fn is_secret(key: &str, value: &str) -> bool {
    // A service may have any name.
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        ["certs", _, ..] => return true,
        ["services" | "tcp-services", _, rest @ ..] => rest.join("/"),
        _ => key.to_owned(),
    };
    let (name, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
    SECRET_NAMES.iter().any(|word| name.contains(word)) && ![FORWARD_AUTH, FORWARD_AUTH_CA].contains(&&*name)
        || resembling(Tree::Http, &name) == Some(BASIC_AUTH)
        || distance_within(&name, CLIENT_KEY, tolerance(CLIENT_KEY))
        || SECRET_VALUES.iter().any(|mark| value.contains(mark))
}

/// When a key, relative to the prefix, is written if keys are written one by one, lowest first: those that bring a service
/// its traffic come last, hosts and ports after path rules, so that a half-written service takes none.
pub fn place_in_writing(key: &str) -> u8 {
    let mut parts = key.splitn(3, '/');
    match (parts.next(), parts.nth(1)) {
        (Some("services"), Some("url_reg" | "url_beg" | "virtual_path" | "path")) => 1,
        (Some("services"), Some("domain" | "virtual_hosts" | "default")) => 2,
        (Some("tcp-services"), Some("port" | "external_port" | "ports")) => 2,
        _ => 0,
    }
}

/// The meaning of a key below a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Not set: an empty value, or what a store shows of a directory.
    Nothing,
    /// One of the service's own keys.
    Setting,
    /// An instance, straight under the service.
    Direct(&'a str),
    /// An instance below `upstreams/`.
    Upstream(&'a str),
    /// Unknown; the key that was perhaps meant.
    Unknown(Option<&'static str>),
}

impl From<Protocol> for Tree {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Http,
            Protocol::Tcp => Self::Tcp,
        }
    }
}

/// Whether a key relative to the prefix, with this value, is an instance of a service.
pub fn is_instance_key(key: &str, value: &[u8]) -> bool {
    let (tree, rest) = key.split_once('/').unwrap_or((key, ""));
    let protocol = [Protocol::Http, Protocol::Tcp].into_iter().find(|protocol| protocol.tree() == tree);
    let (Some(protocol), Some((_, rest))) = (protocol, rest.split_once('/')) else { return false };
    matches!(classify(protocol, rest, value), Part::Direct(_) | Part::Upstream(_))
}

/// Whether this key of a service counts even if its value is empty: the default `cookie`; a bad value of keys that protect.
pub fn counts_when_empty(protocol: Protocol, key: &str) -> bool {
    (key == "cookie" || CLOSED_WHEN_EMPTY.contains(&key)) && is_known(protocol.into(), key)
}

/// Classifies a key below a service.
pub(crate) fn classify<'a>(protocol: Protocol, key: &'a str, value: &[u8]) -> Part<'a> {
    let tree = Tree::from(protocol);
    if value.trim_ascii().is_empty() && !counts_when_empty(protocol, key) {
        return Part::Nothing;
    }
    match key.strip_prefix("upstreams/") {
        Some(name) if is_segment(name) => Part::Upstream(name),
        Some(_) => Part::Unknown(Some(UPSTREAMS)),
        None if is_known(tree, key) || is_in_folder(tree, key) => Part::Setting,
        None => direct(tree, key, value),
    }
}

fn direct<'a>(tree: Tree, key: &'a str, value: &[u8]) -> Part<'a> {
    if !is_segment(key) || is_reserved(key) || would_protect(key) {
        return Part::Unknown(meant(tree, key));
    }
    if names_an_address(value) {
        return Part::Direct(key);
    }
    match resembling(tree, key).or_else(|| related(tree, key).filter(|_| !is_instance(value))) {
        Some(meant) => Part::Unknown(Some(meant)),
        None => Part::Direct(key),
    }
}

fn is_segment(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

fn names(tree: Tree) -> impl Iterator<Item = &'static str> {
    KNOWN_KEYS.iter().filter(move |key| key.tree == tree).map(|key| key.name)
}

/// Whether this tree has this key.
pub(crate) fn is_known(tree: Tree, key: &str) -> bool {
    names(tree).any(|name| name == key) && !key.contains('<')
}

/// Whether it is one of many keys of a kind: `split/canary`. The instances of `upstreams/` are none.
fn is_in_folder(tree: Tree, key: &str) -> bool {
    let Some((folder, name)) = key.split_once('/').filter(|(_, name)| is_segment(name)) else { return false };
    debug_assert!(!name.is_empty() && folder != "upstreams", "instances are told first");
    names(tree).any(|known| known.strip_prefix(folder).is_some_and(|rest| rest.starts_with("/<")))
}

/// Names of keys in some tree: they are instances in none, so that a name means one thing everywhere.
fn is_reserved(key: &str) -> bool {
    matches!(key, "upstreams" | "timeout" | "split" | "mirror" | "errors" | "header" | "query")
        || is_known(Tree::Http, key)
        || is_known(Tree::Tcp, key)
}

/// The known key closest to a misspelt one.
pub(crate) fn resembling(tree: Tree, key: &str) -> Option<&'static str> {
    let close = |name: &&str| distance_within(key, name, tolerance(name));
    let plain = names(tree).filter(|name| !name.contains('<'));
    plain.filter(close).min_by_key(|name| name.len().abs_diff(key.len()))
}

/// The key that an unknown one most likely stands for.
pub(crate) fn meant(tree: Tree, key: &str) -> Option<&'static str> {
    resembling(tree, key).or_else(|| related(tree, key))
}

/// The known key that has the same words, that these words begin or end, or that they go on from: `basicauth` and
/// `health_check`, `timeout_connect` and `domain_name`, but not `domain-123`. `upstream/red` is meant to be below `upstreams/`.
fn related(tree: Tree, key: &str) -> Option<&'static str> {
    let asked = squeezed(key);
    let first = squeezed(key.split('/').next().unwrap_or_default());
    let goes_on = |name: &str| {
        let rest = key.strip_prefix(name).and_then(|rest| rest.strip_prefix(['_', '-']));
        rest.is_some_and(|rest| rest.bytes().any(|b| !b.is_ascii_digit()))
    };
    let is_near = |name: &&'static str| match *name {
        UPSTREAMS => tree != Tree::Config && ["upstream", "upstreams"].contains(&&*first),
        name if name.contains('<') => false,
        name => {
            let name_squeezed = squeezed(name);
            let part = name_squeezed.starts_with(&asked) || name_squeezed.ends_with(&asked);
            asked.len() >= SHORTEST_PART && part || goes_on(name)
        }
    };
    // Which key of a folder is meant, its name does not tell.
    let is_folder =
        names(tree).any(|name| name != UPSTREAMS && name.strip_prefix(key).is_some_and(|rest| rest.starts_with('/')));
    names(tree).filter(|_| !is_folder).filter(is_near).min_by_key(|name| name.len().abs_diff(key.len()))
}

/// The shortest part of a key's name that stands for it.
const SHORTEST_PART: usize = 4;

/// Letters and digits, in lower case.
fn squeezed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Names of access control, here and in other proxies, squeezed.
const PROTECTING: [&str; 9] =
    ["basicauth", "forwardauth", "authsecrets", "allow", "deny", "clientca", "whitelist", "allowlist", "denylist"];

/// Whether an operator who writes this name wants to protect the service. As an instance it would leave the service open,
/// whatever its value.
pub(crate) fn would_protect(name: &str) -> bool {
    let letters = || name.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
    PROTECTING.iter().any(|word| letters().eq(word.bytes())) || distance_within(name, BASIC_AUTH, tolerance(BASIC_AUTH))
}

/// Whether a value is an instance's, and not the duration or number that a key of a like name takes.
fn is_instance(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).map(str::trim);
    text.is_ok_and(|text| instance::parse("x", text, 1).is_ok() && value::duration(text).is_err())
}

/// Why an operator who writes this key, relative to the prefix, probably means another one, although a balancer would take
/// it for an instance with a host name. `None`: the key is as it seems.
pub fn doubt(key: &str, value: &[u8]) -> Option<String> {
    let (protocol, rest) = [Protocol::Http, Protocol::Tcp]
        .into_iter()
        .find_map(|protocol| Some((protocol, key.strip_prefix(protocol.tree())?.strip_prefix('/')?)))?;
    let name = rest.split_once('/')?.1;
    let is_direct = matches!(classify(protocol, name, value), Part::Direct(_));
    let meant = related(protocol.into(), name).filter(|_| is_direct && !names_an_address(value))?;
    // A host with a port is meant to be an instance, and so is one word that is only a part of a key.
    let has_port = value.contains(&b':');
    let is_sure = meant == UPSTREAMS || !has_port && name.contains(['_', '-']) && !meant.contains('/');
    is_sure.then(|| did_you_mean(name, meant, true))
}

/// The advice about an unknown key.
pub(crate) fn did_you_mean(key: &str, meant: &str, may_be_instance: bool) -> String {
    let last = key.rsplit('/').next().unwrap_or_default();
    let is_below = key.split('/').count() == 2 && !key.starts_with("upstreams/");
    let meant = match meant {
        UPSTREAMS if is_below => format!("upstreams/{last}"),
        meant => meant.to_owned(),
    };
    let otherwise = if may_be_instance { " If this is an instance, write it below upstreams/" } else { "" };
    format!("did you mean {meant}?{otherwise}")
}

/// Keys of the folder that an unknown one is in, or is, in words: `timeout/ has connect, server and tunnel`.
pub(crate) fn others_of_folder(tree: Tree, key: &str) -> Option<String> {
    let folder = key.split('/').next()?;
    let known: Vec<_> = names(tree).filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/')).collect();
    let (last, rest) = known.split_last().filter(|(last, _)| !last.contains('<'))?;
    let rest = if rest.is_empty() { String::new() } else { format!("{} and ", rest.join(", ")) };
    Some(format!("{folder}/ has {rest}{last}"))
}

/// Whether a key may begin with this word.
pub(crate) fn is_tree(word: &str) -> bool {
    TREES.contains(&word)
}

/// The first word that a misspelt one most likely stands for.
pub(crate) fn resembling_tree(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let near = TREES.into_iter().map(|tree| (distance(&word, tree), tree));
    near.filter(|(far, tree)| *far <= tolerance(tree)).min().map(|(_, tree)| tree)
}

/// How many typing errors still mean this key. Short names allow none: `db1` is an instance, not a misspelt `dns`.
fn tolerance(name: &str) -> usize {
    match name.len() {
        0..=3 => 0,
        4..=5 => 1,
        _ => 2,
    }
}

/// Whether two names differ by at most `most` letters: added, left out, changed or swapped.
fn distance_within(a: &str, b: &str, most: usize) -> bool {
    if most == 0 || a.len().abs_diff(b.len()) > most {
        return false;
    }
    distance(a, b) <= most
}

/// The edit distance of two words, in bytes: optimal string alignment, which is Levenshtein's distance with a swap of
/// neighbours as one step.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let change = row[j] + usize::from(x != y);
            let swap = i > 0 && j > 0 && x == b[j - 1] && y == a[i - 1];
            let swapped = if swap { before[j - 1] + 1 } else { usize::MAX };
            next.push(change.min(row[j + 1] + 1).min(next[j] + 1).min(swapped));
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// Whether a value starts with an IP address or a Unix socket, which no other key's value does.
fn names_an_address(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
    first.starts_with("unix:")
        || first.parse::<SocketAddr>().is_ok()
        || [first, host].iter().any(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
