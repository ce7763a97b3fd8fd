//! Reads single values. Pure; every error says what is wrong and what is expected, and never names the flag: the caller
//! does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use pointsman_store::Location;
use pointsman_table::Networks;

const DNS_PORT: u16 = 53;
const ETCD_PORT: u16 = 2379;
const MOST_WORKERS: usize = 1024;
const MOST_RECENT: usize = 100_000;
/// The least limit of series: what is always there has so many.
const LEAST_SERIES: usize = 500;
/// A lease is renewed three times within it, over a network.
const SHORTEST_TTL: Duration = Duration::from_secs(2);

/// `IP:PORT`, `:PORT` or `PORT`; the last two mean every IPv4 address, like HAProxy's `*:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match decimal(port) {
        Some(port) => Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        None => Err(format!("{text:?} is not an address; write 0.0.0.0:80 or [::]:80 or :8080")),
    }
}

/// `IP[:PORT]` of a name server, DNS's port by default; an IPv6 address with a port goes in brackets.
pub(super) fn resolver(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse().ok().map(|address: IpAddr| SocketAddr::new(address, DNS_PORT));
    let wrong = || format!("{text:?} is not a name server; write 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53");
    text.parse().ok().or_else(bare).filter(|server| server.port() > 0).ok_or_else(wrong)
}

/// A port in plain digits: `u16::from_str` alone accepts `+80`.
fn decimal(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A number in plain digits.
fn decimal_number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Etcd's URLs or a folder. The older variables may also hold `host:port` or a bare host.
pub(super) fn store(text: &str, legacy: bool) -> Result<Location, String> {
    let is_url = |text: &str| text.contains("://");
    if !legacy && !is_url(text) {
        return folder(text);
    }
    let endpoints = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let endpoints = endpoints.map(|part| match is_url(part) {
        true => endpoint(part),
        false if legacy => endpoint(&format!("http://{}", bracketed(part))),
        false => Err(format!("{part:?} is not a URL; write http://HOST:2379 for each endpoint")),
    });
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
    if endpoints.is_empty() {
        return Err("it has no endpoint; write http://HOST:2379".to_owned());
    }
    Ok(Location::Etcd(endpoints))
}

/// A bare IPv6 address needs brackets in a URL.
fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

fn folder(text: &str) -> Result<Location, String> {
    let looks_like_a_host = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && decimal(port).is_some());
    if looks_like_a_host {
        return Err(format!(
            "{text:?} is neither a URL nor a folder; write http://{text} for etcd, ./{text} for a folder"
        ));
    }
    Ok(Location::Directory(PathBuf::from(text)))
}

/// `http[s]://HOST[:PORT]`, with etcd's port by default.
fn endpoint(text: &str) -> Result<String, String> {
    if text.contains('@') {
        // The value may hold a password, so it is not repeated.
        return Err("the URL has a user; write it without the user and give --etcd-user".to_owned());
    }
    let wrong = || format!("{text:?} is not an endpoint of etcd; write http://HOST:2379 or https://HOST:2379");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(wrong)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
        return Err(format!("{text:?} has a path; write {scheme}://{host}:2379 and give the path as --prefix"));
    }
    // `Uri` has no port if it is out of range; the default port must not replace it.
    let given = uri.authority().is_some_and(|authority| authority.as_str().len() > host.len());
    match uri.port_u16() {
        Some(port) => Ok(format!("{scheme}://{host}:{port}")),
        None if given => Err(wrong()),
        None => Ok(format!("{scheme}://{host}:{ETCD_PORT}")),
    }
}

/// One path segment.
pub(super) fn id(text: &str) -> Result<String, String> {
    match text.contains('/') || text == "." || text == ".." {
        true => Err(format!("{text:?} is not an id; write one name without a slash, or give --prefix {text}")),
        false => Ok(text.to_owned()),
    }
}

/// A host name without a port, in lower case.
pub(super) fn host_name(text: &str) -> Result<Box<str>, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name = text.strip_suffix('.').unwrap_or(text);
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name.to_ascii_lowercase().into()),
        false => Err(format!("{text:?} is not a host name; write one without a port, such as lb.example.org")),
    }
}

/// One path segment, to tell this process from others.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_plain = !matches!(text, "." | "..") && !text.contains(|c: char| c == '/' || c.is_control());
    is_plain.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is not a name; write one without a slash"))
}

/// A slash in front, none at the end, none doubled; `/` becomes the empty text.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    if trimmed.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(format!("{text:?} has an empty or dotted segment; write it like /kontena/haproxy/lb"));
    }
    Ok(format!("/{trimmed}"))
}

/// `USER` or `USER:PASSWORD`. Errors never repeat the text.
pub(super) fn user(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err("it has no user name; write USER or USER:PASSWORD".to_owned()),
        false => Ok((name.to_owned(), password.to_owned())),
    }
}

/// A number of threads.
pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= MOST_WORKERS);
    count.ok_or_else(|| format!("{text:?} is not a number of threads; write 1 to {MOST_WORKERS}"))
}

/// An absolute path.
pub(super) fn health_uri(text: &str) -> Result<Box<str>, String> {
    let good = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.into()).ok_or_else(|| format!("{text:?} is not a path; write it like /health"))
}

/// Networks. The variable of the older image says yes: from everybody.
pub(super) fn accept_proxy(text: &str) -> Result<Option<Box<str>>, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Ok(Some("all".into())),
        "no" | "false" | "0" => Ok(None),
        _ => Networks::parse(text).map(|_| Some(text.into())),
    }
}

/// A cipher list of OpenSSL: one word, so that it can be written into HAProxy's configuration.
pub(super) fn ciphers(text: &str) -> Result<Box<str>, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ":,+-!@=_.".contains(c);
    let good = text.chars().all(is_plain);
    good.then(|| text.into())
        .ok_or_else(|| format!("{text:?} is not a list of ciphers; write it like ECDHE+AESGCM:!RC4"))
}

/// A duration such as `500ms`, `5s`, `2m` or `1h`.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write it like 500ms, 5s, 2m or 1h");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u32 = text[..unit].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match Duration::from_millis(u64::from(number) * milliseconds) {
        Duration::ZERO => Err(format!("{text:?} is zero; write a longer time, like 500ms, 5s, 2m or 1h")),
        wait => Ok(wait),
    }
}

/// A time to live: etcd counts in whole seconds.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    match wait(text)? {
        ttl if ttl < SHORTEST_TTL => {
            Err(format!("{text:?} is too short for a time to live; write {SHORTEST_TTL:?} or more"))
        }
        ttl => Ok(ttl),
    }
}

/// A share of all requests.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share; write 0 to 1, such as 0.01"))
}

/// The most series of the metrics; `None`: no limit.
pub(super) fn metrics_detail(text: &str) -> Result<Option<usize>, String> {
    if text == "all" {
        return Ok(None);
    }
    let most = decimal_number(text).filter(|most| *most >= LEAST_SERIES);
    most.map(Some).ok_or_else(|| format!("{text:?} is not a number of series; write {LEAST_SERIES} or more, or all"))
}

/// How many requests are kept in memory.
pub(super) fn recent(text: &str) -> Result<usize, String> {
    let count = decimal_number(text).filter(|count| *count <= MOST_RECENT);
    count.ok_or_else(|| format!("{text:?} is not a number of requests; write 0 to {MOST_RECENT}"))
}

/// A level, or a filter of `tracing`.
pub(super) fn log(text: &str) -> Result<String, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| levels.iter().any(|level| level.eq_ignore_ascii_case(text));
    // The filter would take a single unknown word for a module's name, and log nothing.
    let is_filter = text.contains(['=', ',']) && text.parse::<tracing_subscriber::EnvFilter>().is_ok();
    match is_level(text) || is_filter {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a level; write error, warn, info, debug or trace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(outcome: &Result<T, String>, expected: &str) {
        let shown = match outcome {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.clone(),
        };
        assert!(shown.contains(expected), "{shown:?} does not say {expected:?}");
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80"),
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("*:80", "0.0.0.0:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("80x", "\"80x\" is not an address; write 0.0.0.0:80 or [::]:80 or :8080"),
            ("+80", "is not an address"),
            ("127.0.0.1", "is not an address"),
            ("70000", "is not an address"),
            (":", "is not an address"),
        ] {
            check(&address(text), expected);
        }
    }

    #[test]
    fn resolvers() {
        for (text, expected) in [
            ("10.0.0.53", "10.0.0.53:53"),
            ("10.0.0.53:5353", "10.0.0.53:5353"),
            ("fd00::53", "[fd00::53]:53"),
            ("[fd00::53]:5353", "[fd00::53]:5353"),
            ("dns.test", "\"dns.test\" is not a name server; write 10.0.0.53"),
            ("10.0.0.53:0", "is not a name server"),
        ] {
            check(&resolver(text), expected);
        }
    }

    #[test]
    fn waits() {
        for (text, expected) in
            [("500ms", "500ms"), ("5s", "5s"), ("10m", "600s"), ("1h", "3600s"), ("0s", "\"0s\" is zero")]
        {
            check(&wait(text), expected);
        }
        for wrong in ["", "5", "s", "-5s", "5d", "5 s", "99999999999h", "1.5s"] {
            check(&wait(wrong), "is not a duration; write it like 500ms");
        }
    }

    #[test]
    fn stores() {
        for (text, legacy, expected) in [
            ("http://a:1", false, r#"Etcd(["http://a:1"])"#),
            ("http://a:1/", false, r#"Etcd(["http://a:1"])"#),
            ("https://a, http://b:2", false, r#"Etcd(["https://a:2379", "http://b:2"])"#),
            ("http://[::1]:2379", false, r#"Etcd(["http://[::1]:2379"])"#),
            ("/var/keys", false, r#"Directory("/var/keys")"#),
            ("keys", false, r#"Directory("keys")"#),
            ("10.0.0.1:2379", false, "write http://10.0.0.1:2379 for etcd"),
            ("10.0.0.1:2379", true, r#"Etcd(["http://10.0.0.1:2379"])"#),
            ("etcd", true, r#"Etcd(["http://etcd:2379"])"#),
            ("::1", true, r#"Etcd(["http://[::1]:2379"])"#),
            ("http://etcd:4001", true, r#"Etcd(["http://etcd:4001"])"#),
            ("http://a:1,b:2", false, "\"b:2\" is not a URL"),
            ("http://a:1,b:2", true, r#"Etcd(["http://a:1", "http://b:2"])"#),
            ("ftp://a", false, "is not an endpoint"),
            ("http://a:99999", false, "is not an endpoint"),
            ("http://a/v2/keys", false, "has a path; write http://a:2379"),
            ("http://", false, "is not an endpoint"),
            (",", true, "it has no endpoint"),
        ] {
            check(&store(text, legacy), expected);
        }
        let error = store("http://root:hunter2@a:1", false).unwrap_err();
        assert!(error.contains("--etcd-user") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn prefixes_and_ids() {
        for (text, expected) in [
            ("/", "\"\""),
            ("/kontena/haproxy/lb", "\"/kontena/haproxy/lb\""),
            ("kontena/lb/", "\"/kontena/lb\""),
            ("/a//b", "empty or dotted segment"),
            ("/a/../b", "empty or dotted segment"),
        ] {
            check(&prefix(text), expected);
        }
        for (text, expected) in [("haproxy-1", "\"haproxy-1\""), ("a/b", "give --prefix a/b")] {
            check(&id(text), expected);
        }
    }

    #[test]
    fn single_words() {
        check(&user("root:a:b"), r#"("root", "a:b")"#);
        check(&user("root"), r#"("root", "")"#);
        check(&user(":x"), "it has no user name");
        check(&workers("4"), "4");
        check(&workers("0"), "write 1 to 1024");
        check(&share("0.01"), "0.01");
        check(&share("1.1"), "write 0 to 1");
        check(&share("NaN"), "write 0 to 1");
        check(&recent("0"), "0");
        check(&recent("-1"), "write 0 to 100000");
        check(&health_uri("/up"), "/up");
        check(&health_uri("up"), "write it like /health");
        check(&ciphers("ECDHE+AESGCM:!RC4:@SECLEVEL=2"), "ECDHE+AESGCM");
        check(&ciphers("HIGH\nuser root"), "is not a list of ciphers");
        check(&log("Debug"), "Debug");
        check(&log("info,pointsman::store=debug"), "info,");
        check(&log("verbose"), "is not a level");
    }
}
