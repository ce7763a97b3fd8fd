//! `forward_auth`: who is asked whether a request may go on, and what is taken over from the answer. Asks nobody.

use std::fmt::{Display, Formatter};

use crate::header_edit;
use crate::instance;
use crate::instance_link::InstanceAuthorities;
use crate::names::ServiceName;
use crate::raw::RawKeys;
use crate::value::{Parsed, is_token};

const SHAPE: &str = "expected http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or SERVICE:/PATH, then names of headers to \
                     copy from the answer";
/// The longest address, bytes, and most headers.
const LONGEST: usize = 2048;
const MOST_HEADERS: usize = 64;
/// What only a balancer may tell of a request's way.
const WAY: [&str; 7] = ["for", "proto", "host", "port", "uri", "method", "server"];
/// The keys of the service that stands for the server of a URL: its one instance, and how that is verified.
const INSTANCE: &str = "upstreams/server";
const AUTHORITIES: &str = "tls_ca";

/// Who is asked whether a request may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// The service whose instances are asked: one of the keys, or one that stands for a URL's server. That has a name which
    /// no key can have, `http://HOST:PORT`, `https://HOST:PORT`, or, with authorities of its own, `https://HOST:PORT of SERVICE`.
    pub service: ServiceName,
    /// The host that is asked for; `None`: that of the request.
    pub host: Option<Box<str>>,
    /// The path, with a query if there is one.
    pub path: Box<str>,
    /// Names of headers that are copied from the answer, as written. `Set-Cookie` goes to the client, others to the instance.
    pub copied: Box<[Box<str>]>,
    server: Option<UrlServer>,
}

/// The server of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UrlServer {
    /// `HOST:PORT`.
    at: Box<str>,
    /// Whose certificate it must show over TLS; `None`: plain HTTP.
    authorities: Option<InstanceAuthorities>,
}

impl ForwardAuth {
    /// `own`: the name of the service that has the key.
    pub(crate) fn parse(own: &ServiceName, text: &str) -> Parsed<Self> {
        let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
        let address = words.next().ok_or(SHAPE)?;
        let copied = words.map(header).collect::<Parsed<Vec<_>>>()?;
        if address.len() > LONGEST || copied.len() > MOST_HEADERS {
            return Err(format!("{SHAPE}; at most {LONGEST} bytes, and {MOST_HEADERS} headers"));
        }
        let asked = match address.split_once("://") {
            Some(("http", rest)) => Self::url(rest, None)?,
            Some(("https", rest)) => Self::url(rest, Some(InstanceAuthorities::System))?,
            Some(_) => return Err(SHAPE.into()),
            None => Self::service(own, address)?,
        };
        Ok(Self { copied: copied.into(), ..asked })
    }

    /// The same, but a server over TLS must show a certificate of these authorities. `None`: of those that this machine trusts.
    pub(crate) fn trusting(mut self, own: &ServiceName, authorities: Option<InstanceAuthorities>) -> Self {
        if let (Some(UrlServer { at, authorities: Some(known) }), Some(authorities)) = (&mut self.server, authorities) {
            if authorities != InstanceAuthorities::System {
                self.service = ServiceName(format!("https://{at} of {own}").into());
            }
            *known = authorities;
        }
        self
    }

    /// The service that stands for the server of a URL, and its keys.
    pub(crate) fn implied(&self) -> Option<(ServiceName, RawKeys)> {
        let UrlServer { at, authorities } = self.server.as_ref()?;
        let keys = match authorities {
            None => vec![(INSTANCE, at.to_string())],
            Some(authorities) => vec![(INSTANCE, format!("{at} tls")), (AUTHORITIES, authorities.to_string())],
        };
        let keys = keys.into_iter().map(|(key, value)| (key.into(), value.into_bytes().into()));
        Some((self.service.clone(), RawKeys::collect(keys.collect())))
    }

    fn service(own: &ServiceName, address: &str) -> Parsed<Self> {
        let (name, path) =
            address.split_once(":/").filter(|(name, _)| !name.is_empty() && !name.contains('/')).ok_or(SHAPE)?;
        if name == own.as_str() {
            return Err(format!("{name} is this service itself; name the service that knows who may come in"));
        }
        let path = path_and_query(&format!("/{path}"))?;
        Ok(Self { service: ServiceName(name.into()), host: None, path, copied: Box::default(), server: None })
    }

    /// `authorities`: whose certificate the server must show; `None`: plain HTTP.
    fn url(rest: &str, authorities: Option<InstanceAuthorities>) -> Parsed<Self> {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(format!("{SHAPE}; without a user or a password"));
        }
        let (scheme, port) = if authorities.is_some() { ("https", 443) } else { ("http", 80) };
        let instance = instance::parse("server", authority, port).map_err(|why| format!("{SHAPE}; {why}"))?;
        let at: Box<str> = match &instance.target {
            instance::Target::Unix(_) => return Err(SHAPE.into()),
            target => target.to_string().into(),
        };
        Ok(Self {
            service: ServiceName(format!("{scheme}://{at}").into()),
            host: Some(authority.into()),
            path: path_and_query(if path.is_empty() { "/" } else { path })?,
            copied: Box::default(),
            server: Some(UrlServer { at, authorities }),
        })
    }
}

fn path_and_query(text: &str) -> Parsed<Box<str>> {
    let is_good = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_good { Ok(text.into()) } else { Err(SHAPE.into()) }
}

/// A header that may be copied: of those that only a balancer may write, users and groups may be told by the server asked.
fn header(name: &str) -> Parsed<Box<str>> {
    if !is_token(name) {
        return Err(format!("{SHAPE}; the names have letters, digits and - usually"));
    }
    let folded = header_edit::folded(name);
    let tells_way = folded.strip_prefix(header_edit::FORWARDED).map(|rest| WAY.contains(&rest));
    match tells_way.unwrap_or_else(|| header_edit::is_ours(&folded)) {
        true => Err(format!("{name} cannot be copied: it frames messages, or tells what the balancer says itself")),
        false => Ok(name.into()),
    }
}

/// As it was written, in one line.
impl Display for ForwardAuth {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let is_secure = self.server.as_ref().is_some_and(|server| server.authorities.is_some());
        match &self.host {
            Some(host) => write!(f, "http{}://{host}{}", if is_secure { "s" } else { "" }, self.path)?,
            None => write!(f, "{}:{}", self.service, self.path)?,
        }
        self.copied.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    fn parse(text: &str) -> Parsed<ForwardAuth> {
        ForwardAuth::parse(&ServiceName("shop".into()), text)
    }

    #[test]
    fn servers_and_services() {
        for (text, service, shown) in [
            ("http://auth.test", "http://auth.test:80", "http://auth.test/"),
            (
                "http://auth.test:4180/verify?x=y  Remote-User,X-Groups",
                "http://auth.test:4180",
                "http://auth.test:4180/verify?x=y Remote-User X-Groups",
            ),
            ("http://10.0.0.1:9/", "http://10.0.0.1:9", "http://10.0.0.1:9/"),
            ("http://[::1]:9/", "http://[::1]:9", "http://[::1]:9/"),
            ("https://auth.test/x Remote-User", "https://auth.test:443", "https://auth.test/x Remote-User"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443", "https://10.0.0.1:8443/"),
            ("auth:/verify X-Forwarded-User Set-Cookie", "auth", "auth:/verify X-Forwarded-User Set-Cookie"),
        ] {
            let asked = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((asked.service.as_str(), &*asked.to_string()), (service, shown), "{text}");
        }
    }

    #[test]
    fn a_server_over_tls_is_always_verified() {
        let own = ServiceName("shop".into());
        let keys = |text: &str, authorities: Option<&str>| {
            let these = authorities.map(|pem| InstanceAuthorities::These(pem.into()));
            let asked = parse(text).unwrap().trusting(&own, these).implied();
            asked.map(|(name, raw)| {
                let value = |key| raw.get(key).map(String::from_utf8_lossy).unwrap_or_default();
                format!("{name}: {}, {}", value(INSTANCE), value(AUTHORITIES))
            })
        };
        let (system, these) =
            ("https://a.test:443: a.test:443 tls, system", "https://a.test:443 of shop: a.test:443 tls, PEM");
        assert_eq!(keys("https://a.test/", None).as_deref(), Some(system));
        assert_eq!(keys("https://a.test/", Some("PEM")).as_deref(), Some(these));
        assert_eq!(keys("http://a.test/", Some("PEM")).as_deref(), Some("http://a.test:80: a.test:80, "));
        assert_eq!(keys("auth:/", Some("PEM")), None);
    }

    #[test]
    fn what_asks_nobody() {
        for wrong in [
            "",
            "auth",
            "auth:verify",
            ":/x",
            "/x",
            "a/b:/x",
            "ftp://a/",
            "http://",
            "http://a b/",
            "http://a:x/",
            "http://unix:/run/x",
            "https://",
            "https://unix:/run/x",
        ] {
            check(parse(wrong), "error: expected http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or SERVICE:/PATH");
        }
        check(parse("http://user:word@a/"), "error: expected http://HOST[:PORT]/PATH");
        check(parse("http://a/#x"), "error: expected http://HOST[:PORT]/PATH");
        check(parse("shop:/verify"), "error: shop is this service itself");
        for name in ["Host", "Content-Length", "X-Forwarded-For", "x_forwarded_proto", "Connection", "X-Real-IP"] {
            check(parse(&format!("auth:/ {name}")), &format!("error: {name} cannot be copied"));
        }
        check(parse("auth:/ a:b"), "error: expected http://HOST[:PORT]/PATH");
    }
}
