//! `health_check*`: how instances are checked while no request asks them. Reads these keys; checks nothing.

use std::fmt::{Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use crate::address::HostPattern;
use crate::http_version::HttpVersion;
use crate::names::Protocol;
use crate::pattern::Pattern;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// The shortest interval.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The longest wait for the outcome of a check: it holds one of a bounded number of places.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The most outcomes in a row that a change takes.
const MOST_IN_A_ROW: usize = 100;

/// How the instances of a service are checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked of them.
    pub way: CheckWay,
    /// The port to check, if not the instance's own. It is asked in plain text, without a PROXY header.
    pub port: Option<u16>,
    /// From one check to the next.
    pub interval: Duration,
    /// The longest time that a check may take.
    pub timeout: Duration,
    /// How many checks in a row must pass before an instance that is down gets work.
    pub rise: u32,
    /// How many checks in a row must fail before an instance gets no work.
    pub fall: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckWay {
    /// A connection, with a TLS handshake where the instance speaks TLS.
    Tcp,
    /// A request, in the version of HTTP that the instance speaks.
    Http(HttpCheck),
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The name of the service that is asked about; empty: the whole instance.
        service: Box<str>,
        /// The authority that is asked for.
        host: Box<str>,
    },
}

/// The request of a check, and the response that passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// The method.
    pub method: Box<str>,
    /// Path and query.
    pub uri: Box<str>,
    /// The `Host` header.
    pub host: Box<str>,
    /// What passes.
    pub expect: Expect,
}

/// The response that passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// A status in one of these ranges.
    Statuses(Box<[(u16, u16)]>),
    /// A status from 200 to 399, and this expression found in the first [`crate::CHECKED_BODY`] bytes of the body.
    Body(Arc<Pattern>),
}

/// A value of `health_check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayKey {
    Http,
    Tcp,
    Grpc,
    Off,
}

/// These keys of a service, or of `config/`, which has the defaults. `None`: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckKeys {
    pub(crate) way: Option<WayKey>,
    pub(crate) uri: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) method: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) expect: Option<Expect>,
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) rise: Option<u32>,
    pub(crate) fall: Option<u32>,
}

/// What a check of a service depends on besides these keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) hosts: &'a [HostPattern],
}

impl Expect {
    /// 2xx and 3xx.
    pub const USUAL: (u16, u16) = (200, 399);

    /// Whether a status passes, whatever the body.
    pub fn takes(&self, status: u16) -> bool {
        let within = |(least, most): &(u16, u16)| (*least..=*most).contains(&status);
        match self {
            Self::Statuses(ranges) => ranges.iter().any(within),
            Self::Body(_) => within(&Self::USUAL),
        }
    }

    fn usual() -> Self {
        Self::Statuses([Self::USUAL].into())
    }

    fn parse(text: &str) -> Parsed<Self> {
        match text.strip_prefix('~') {
            Some(expression) => Ok(Self::Body(Arc::new(Pattern::new(expression.trim_start())?))),
            None => Ok(Self::Statuses(value::list(text, statuses)?.into())),
        }
    }
}

/// As HAProxy and operators write them: `200-299,304`.
impl Display for Expect {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Statuses(ranges) => {
                for (at, (least, most)) in ranges.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    write!(f, "{least}")?;
                    if most > least {
                        write!(f, "-{most}")?;
                    }
                }
                Ok(())
            }
            Self::Body(pattern) => write!(f, "~{pattern}"),
        }
    }
}

/// What is asked, in words: `GET /health`.
impl Display for CheckWay {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp => f.write_str("connection"),
            Self::Http(HttpCheck { method, uri, .. }) => write!(f, "{method} {uri}"),
            Self::Grpc { service, .. } if service.is_empty() => f.write_str("grpc.health.v1.Health/Check"),
            Self::Grpc { service, .. } => write!(f, "grpc.health.v1.Health/Check of {service}"),
        }
    }
}

/// The method whose responses have no body.
const HEAD: &str = "HEAD";
/// Interim statuses are no answer to a check (RFC 9110 §15.2).
const FIRST_FINAL: u16 = 200;

fn statuses(text: &str) -> Parsed<(u16, u16)> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| value::within(text.trim(), 100, 599).ok().and_then(|status| u16::try_from(status).ok());
    match (status(least), status(most)) {
        (Some(least), Some(most)) if least <= most && most >= FIRST_FINAL => Ok((least, most)),
        _ => Err("expected statuses and ranges from 200 to 599, such as 200-299,304, or ~ and an expression".into()),
    }
}

impl CheckKeys {
    /// The keys of a service. `version`: what its instances speak, if it is an HTTP service.
    pub(crate) fn read(reader: &mut Reader<'_>, protocol: Protocol, version: HttpVersion) -> Self {
        let way = |text: &str| WayKey::parse(text, protocol, version);
        let method = reader.read("health_check_method", method);
        let expect = |text: &str| expect(text, method.as_deref());
        Self {
            way: reader.read("health_check", way),
            uri: reader.read("health_check_uri", value::uri),
            port: reader.read("health_check_port", value::port),
            host: reader.read("health_check_host", host),
            expect: reader.read("health_check_expect", expect),
            method,
            interval: reader.read("health_check_interval", interval),
            timeout: reader.read("health_check_timeout", timeout),
            rise: reader.read("health_check_rise", in_a_row),
            fall: reader.read("health_check_fall", in_a_row),
        }
    }

    /// The check of a service with these keys; `None`: traffic alone decides.
    pub(crate) fn check(&self, defaults: &Self, of: Checked<'_>) -> Option<HealthCheck> {
        let is_http = of.protocol == Protocol::Http;
        // What all HTTP services answer, a TCP service may not.
        let uri = self.uri.as_ref().or_else(|| defaults.uri.as_ref().filter(|_| is_http));
        let port = self.port.or(defaults.port);
        let default = defaults.way.filter(|way| is_http || *way != WayKey::Http);
        let by_keys = || match (uri, port) {
            (Some(_), _) => Some(WayKey::Http),
            (None, Some(_)) => Some(WayKey::Tcp),
            (None, None) => None,
        };
        let own = self.way.or_else(|| self.uri.is_some().then_some(WayKey::Http));
        let way = own.or_else(|| self.port.and_then(|_| by_keys())).or(default).or_else(by_keys)?;
        let host = || {
            let own = self.host.as_deref().or(defaults.host.as_deref());
            Box::from(own.or_else(|| of.hosts.first().map(HostPattern::name)).unwrap_or("localhost"))
        };
        let way = match way {
            WayKey::Off => return None,
            WayKey::Tcp => CheckWay::Tcp,
            WayKey::Grpc => CheckWay::Grpc {
                service: uri.map(|uri| uri.trim_start_matches('/').into()).unwrap_or_default(),
                host: host(),
            },
            WayKey::Http => {
                let (method, expect) = self.wants(defaults);
                CheckWay::Http(HttpCheck {
                    method,
                    uri: uri.cloned().unwrap_or_else(|| "/".into()),
                    host: host(),
                    expect,
                })
            }
        };
        Some(HealthCheck {
            way,
            port,
            interval: self.interval.or(defaults.interval).unwrap_or(Duration::from_secs(2)),
            timeout: self.timeout.or(defaults.timeout).unwrap_or(Duration::from_secs(1)),
            rise: self.rise.or(defaults.rise).unwrap_or(2),
            fall: self.fall.or(defaults.fall).unwrap_or(3),
        })
    }
}

impl CheckKeys {
    /// The method, and what passes. The response to HEAD has no body to search: a service's own key is stronger than a
    /// default that it cannot go with.
    fn wants(&self, defaults: &Self) -> (Box<str>, Expect) {
        let method = self.method.as_ref().or(defaults.method.as_ref());
        let expect = self.expect.as_ref().or(defaults.expect.as_ref());
        let is_blind = method.is_some_and(|method| **method == *HEAD) && matches!(expect, Some(Expect::Body(_)));
        let method = method.filter(|_| !is_blind || self.method.is_some()).cloned();
        let expect = expect.filter(|_| !is_blind || self.method.is_none()).cloned();
        (method.unwrap_or_else(|| "GET".into()), expect.unwrap_or_else(Expect::usual))
    }
}

impl WayKey {
    fn parse(text: &str, protocol: Protocol, version: HttpVersion) -> Parsed<Self> {
        match (text, protocol, version) {
            ("http", ..) => Ok(Self::Http),
            ("tcp", ..) => Ok(Self::Tcp),
            ("off", ..) => Ok(Self::Off),
            ("grpc", Protocol::Http, HttpVersion::Http2) => Ok(Self::Grpc),
            ("grpc", Protocol::Http, HttpVersion::Http1) => Err("expected protocol=h2 too, which gRPC needs".into()),
            (_, Protocol::Http, _) => Err("expected http, tcp, grpc or off".into()),
            (_, Protocol::Tcp, _) => Err("expected http, tcp or off".into()),
        }
    }

    /// The default of all services.
    pub(crate) fn of_all(text: &str) -> Parsed<Self> {
        match text {
            "grpc" => Err("expected http, tcp or off; set grpc at each service whose instances speak it".into()),
            _ => Self::parse(text, Protocol::Tcp, HttpVersion::Http1),
        }
    }
}

pub(crate) fn method(text: &str) -> Parsed<Box<str>> {
    let is_method = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match text {
        "CONNECT" => Err("expected a method that an instance answers with a response".into()),
        _ if is_method => Ok(text.into()),
        _ => Err("expected a method in capital letters, such as GET".into()),
    }
}

pub(crate) fn host(text: &str) -> Parsed<Box<str>> {
    let is_of_hosts = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    match (1..=value::LONGEST_NAME + 6).contains(&text.len()) && text.bytes().all(is_of_hosts) {
        true => Ok(text.into()),
        false => Err("expected a host name, with a port if need be".into()),
    }
}

/// What passes a check by this method.
pub(crate) fn expect(text: &str, method: Option<&str>) -> Parsed<Expect> {
    match Expect::parse(text)? {
        Expect::Body(_) if method == Some(HEAD) => {
            Err("expected statuses: the response to health_check_method=HEAD has no body".into())
        }
        expect => Ok(expect),
    }
}

pub(crate) fn interval(text: &str) -> Parsed<Duration> {
    match value::duration(text)? {
        interval if interval < SHORTEST_INTERVAL => Err("expected a duration of at least 100ms".into()),
        interval => Ok(interval),
    }
}

pub(crate) fn timeout(text: &str) -> Parsed<Duration> {
    match value::duration(text)? {
        timeout if timeout > LONGEST_TIMEOUT => Err("expected a duration of at most 60s".into()),
        timeout => Ok(timeout),
    }
}

pub(crate) fn in_a_row(text: &str) -> Parsed<u32> {
    value::within(text, 1, MOST_IN_A_ROW).map(|number| number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn single_values() {
        check(Expect::parse("200"), "Statuses([(200, 200)])");
        check(Expect::parse("200-299, 304"), "Statuses([(200, 299), (304, 304)])");
        check(Expect::parse("~^ok"), "Body(\"^ok\")");
        check(Expect::parse("~("), "error: expected a regular expression");
        for wrong in ["2xx", "299-200", "99", "100-199", "600", "200-", "ok"] {
            check(Expect::parse(wrong), "error: expected statuses and ranges");
        }
        check(method("OPTIONS"), "OPTIONS");
        check(method("get"), "error: expected a method");
        check(method("CONNECT"), "error: expected a method that");
        check(host("shop.test:81"), "shop.test:81");
        check(host("[::1]:81"), "[::1]:81");
        check(host("a b"), "error: expected a host name");
        check(host("a\r\nX: y"), "error: expected a host name");
        check(interval("99ms"), "error: expected a duration of at least");
        check(timeout("61s"), "error: expected a duration of at most");
        check(in_a_row("0"), "error: expected a number from 1 to 100");
        for text in ["200-399", "200-299,304"] {
            assert_eq!(Expect::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn ways() {
        let way = |text, protocol, version| WayKey::parse(text, protocol, version);
        check(way("grpc", Protocol::Http, HttpVersion::Http2), "Grpc");
        check(way("grpc", Protocol::Http, HttpVersion::Http1), "error: expected protocol=h2 too");
        check(way("grpc", Protocol::Tcp, HttpVersion::Http1), "error: expected http, tcp or off");
        check(way("on", Protocol::Http, HttpVersion::Http1), "error: expected http, tcp, grpc or off");
        check(WayKey::of_all("grpc"), "error: expected http, tcp or off; set grpc at each service");
    }

    #[test]
    fn nothing_is_searched_for_in_responses_to_head() {
        check(expect("~ok", Some("HEAD")), "error: expected statuses");
        check(expect("204", Some("HEAD")), "Statuses([(204, 204)])");
        check(expect("~ok", Some("GET")), "Body(\"ok\")");
        let keys = |method: Option<&str>, expect: Option<&str>| CheckKeys {
            method: method.map(Box::from),
            expect: expect.map(|text| Expect::parse(text).unwrap()),
            ..CheckKeys::default()
        };
        let none = || keys(None, None);
        for (own, all, expected) in [
            (keys(None, Some("~ok")), keys(Some("HEAD"), None), "GET ~ok"),
            (keys(Some("HEAD"), None), keys(None, Some("~ok")), "HEAD 200-399"),
            (none(), keys(Some("HEAD"), Some("~ok")), "GET ~ok"),
            (keys(Some("POST"), None), keys(Some("HEAD"), Some("~ok")), "POST ~ok"),
            (none(), keys(Some("HEAD"), Some("204")), "HEAD 204"),
            (none(), none(), "GET 200-399"),
        ] {
            let (method, expect) = own.wants(&all);
            assert_eq!(format!("{method} {expect}"), expected);
        }
    }

    #[test]
    fn what_is_checked_follows_from_what_is_set() {
        let uri = |uri: &str| CheckKeys { uri: Some(uri.into()), ..CheckKeys::default() };
        let port = |port: u16| CheckKeys { port: Some(port), ..CheckKeys::default() };
        let way = |way: WayKey| CheckKeys { way: Some(way), ..CheckKeys::default() };
        let none = CheckKeys::default;
        let said = |own: &CheckKeys, all: &CheckKeys, protocol| {
            let check = own.check(all, Checked { protocol, hosts: &[] });
            check.map_or("none".to_owned(), |check| match check.port {
                Some(port) => format!("{} at {port}", check.way),
                None => check.way.to_string(),
            })
        };
        for (own, all, http, tcp) in [
            (none(), none(), "none", "none"),
            (uri("/up"), none(), "GET /up", "GET /up"),
            (port(81), none(), "connection at 81", "connection at 81"),
            (CheckKeys { port: Some(81), ..uri("/up") }, none(), "GET /up at 81", "GET /up at 81"),
            (way(WayKey::Http), none(), "GET /", "GET /"),
            (CheckKeys { way: Some(WayKey::Off), ..uri("/up") }, none(), "none", "none"),
            (CheckKeys { way: Some(WayKey::Tcp), ..uri("/up") }, none(), "connection", "connection"),
            (none(), uri("/all"), "GET /all", "none"),
            (none(), way(WayKey::Tcp), "connection", "connection"),
            (none(), way(WayKey::Http), "GET /", "none"),
            (way(WayKey::Off), uri("/all"), "none", "none"),
            (port(81), uri("/all"), "GET /all at 81", "connection at 81"),
            (uri("/up"), way(WayKey::Off), "GET /up", "GET /up"),
            (none(), port(82), "connection at 82", "connection at 82"),
        ] {
            let found = [Protocol::Http, Protocol::Tcp].map(|protocol| said(&own, &all, protocol));
            assert_eq!(found, [http, tcp], "{own:?} {all:?}");
        }
    }
}
