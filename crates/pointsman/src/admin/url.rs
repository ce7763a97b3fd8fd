//! The URL that `explain` is asked about. Resolves and routes nothing.

use std::str::FromStr;

use pointsman_table::Protocol;

/// The URL to explain: `http://shop.test/cart?x=1`, `shop.test/cart`, `/cart` or `tcp://db.test:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainUrl {
    pub(super) protocol: Protocol,
    /// Host and port, or empty.
    pub(super) host: String,
    /// Path and query, or the port.
    pub(super) target: String,
    /// `https://`. A URL without a scheme is plain HTTP.
    pub(super) is_secure: bool,
}

impl FromStr for ExplainUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (protocol, host, target) = match tcp_address(url) {
            Some(address) => address.map(|(host, port)| (Protocol::Tcp, host, port.to_string()))?,
            None => split(url).map(|(host, target)| (Protocol::Http, host, target))?,
        };
        let is_secure = url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"));
        Ok(Self { protocol, host, target, is_secure })
    }
}

/// Host and port of `tcp://HOST:PORT`; `None` if the URL is not of that form.
fn tcp_address(url: &str) -> Option<Result<(String, u16), String>> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("tcp") {
        return None;
    }
    if let Err(wrong) = check_port(rest.trim_end_matches('/')) {
        return Some(Err(wrong));
    }
    let parts = rest.trim_end_matches('/').rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let is_host = |host: &str| !host.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    let good = parts.filter(|(_, port)| *port != 0).filter(|(host, _)| is_host(host));
    let wrong = || format!("{url:?} is not an address; write tcp://HOST:PORT, such as tcp://db.test:5432");
    Some(good.map(|(host, port)| (host.to_owned(), port)).ok_or_else(wrong))
}

/// That the port of `HOST:PORT`, if there is one, can be one. Colons in brackets are those of an IPv6 address.
fn check_port(authority: &str) -> Result<(), String> {
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    match after.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Err(format!("{authority:?}: {port:?} is not a port between 1 and 65535"))
        }
        _ => Ok(()),
    }
}

/// Host and target of a URL.
fn split(url: &str) -> Result<(String, String), String> {
    let wrong =
        || format!("{url:?} is not a URL; write http://shop.test/cart, shop.test/cart, /cart or tcp://HOST:PORT");
    if url.is_empty() || url.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return Err(wrong());
    }
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => rest,
        Some((scheme, _)) if !scheme.contains(['/', '?']) => return Err(wrong()),
        _ => url,
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    check_port(host)?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok((host.to_owned(), format!("{slash}{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_addresses() {
        for (url, expected) in [
            ("tcp://db.test:5432", Some(Some(("db.test", 5432)))),
            ("TCP://[::1]:1/", Some(Some(("[::1]", 1)))),
            ("tcp://:5432", Some(Some(("", 5432)))),
            ("tcp://db.test", Some(None)),
            ("tcp://db.test:0", Some(None)),
            ("tcp://a/b:1", Some(None)),
            ("http://db.test:5432", None),
            ("db.test:5432", None),
        ] {
            let expected = expected.map(|good| good.map(|(host, port)| (host.to_owned(), port)));
            assert_eq!(tcp_address(url).map(Result::ok), expected, "{url}");
        }
    }

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://shop.test/cart?x=1", Some(("shop.test", "/cart?x=1"))),
            ("HTTPS://shop.test:8443/#top", Some(("shop.test:8443", "/"))),
            ("shop.test", Some(("shop.test", "/"))),
            ("shop.test?x", Some(("shop.test", "/?x"))),
            ("/cart", Some(("", "/cart"))),
            ("/go?to=http://a", Some(("", "/go?to=http://a"))),
            ("ftp://shop.test/", None),
            ("", None),
            ("a b", None),
            ("http://shop.test:99999/", None),
            ("shop.test:0", None),
            ("shop.test:x/cart", None),
            ("shop.test:/cart:x", Some(("shop.test:", "/cart:x"))),
            ("http://[::1]/", Some(("[::1]", "/"))),
            ("[::1]:99999/", None),
        ] {
            let expected = expected.map(|(host, target)| (host.to_owned(), target.to_owned()));
            assert_eq!(split(url).ok(), expected, "{url}");
        }
    }
}
