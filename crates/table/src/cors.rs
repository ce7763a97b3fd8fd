//! `cors`: which pages of other origins may use a service (Fetch §3.2). Knows no request.

use std::fmt::{Display, Formatter};

use crate::value::{self, Parsed};

const SHAPE: &str = "expected * or origins such as https://app.test, https://*.app.test or http://localhost:3000";

/// Origins whose pages may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `*`: those of any origin, without credentials.
    pub any: bool,
    /// Others, in order.
    pub origins: Box<[Origin]>,
}

/// An origin in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This one: `https://app.test`.
    Exact(Box<str>),
    /// Those of one more label: `https://` and `.app.test`.
    Below(Box<str>, Box<str>),
}

/// How an origin is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginGrant {
    /// By its name, with credentials.
    Exact,
    /// By the name above it, without credentials.
    Below,
    /// As any other, without credentials.
    Any,
}

impl Cors {
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let items = value::list(text, |item| if item == "*" { Ok(None) } else { Origin::parse(item).map(Some) })?;
        Ok(Self { any: items.contains(&None), origins: items.into_iter().flatten().collect() })
    }

    /// Whether pages of this origin may read answers.
    pub fn grant(&self, origin: &str) -> Option<OriginGrant> {
        let origin = origin.to_ascii_lowercase();
        let grants = self.origins.iter().filter_map(|known| match known {
            Origin::Exact(name) => (origin == **name).then_some(OriginGrant::Exact),
            Origin::Below(scheme, name) => {
                let label = origin.strip_prefix(&**scheme)?.strip_suffix(&**name)?;
                is_label(label).then_some(OriginGrant::Below)
            }
        });
        let named: Vec<_> = grants.collect();
        let exact = named.iter().find(|grant| **grant == OriginGrant::Exact).or(named.first()).copied();
        exact.or(self.any.then_some(OriginGrant::Any))
    }

    /// Whether all origins get the same answer.
    pub fn is_uniform(&self) -> bool {
        self.origins.is_empty()
    }
}

impl Origin {
    fn parse(text: &str) -> Parsed<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or(SHAPE)?;
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(SHAPE.into());
        }
        if let Some(port) = port {
            value::port(port).map_err(|_| SHAPE)?;
        }
        value::host_name(host.strip_prefix("*.").unwrap_or(host)).map_err(|_| SHAPE)?;
        Ok(match authority.strip_prefix('*') {
            Some(name) => Self::Below(format!("{scheme}://").into(), name.into()),
            None => Self::Exact(text.into()),
        })
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Display for Cors {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let any = self.any.then(|| "*".to_owned());
        let origins = self.origins.iter().map(|origin| match origin {
            Origin::Exact(name) => name.to_string(),
            Origin::Below(scheme, name) => format!("{scheme}*{name}"),
        });
        f.write_str(&any.into_iter().chain(origins).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        for wrong in
            ["", "app.test", "https://", "https://app.test/", "https://a.*.test", "https://*", "null", "https://a:0"]
        {
            check(Cors::parse(wrong), "error: expected");
        }
        assert_eq!(
            Cors::parse("*, HTTPS://App.test , https://*.app.test:8443").unwrap().to_string(),
            "*,https://app.test,https://*.app.test:8443"
        );
    }

    #[test]
    fn origins() {
        let grant = |keys: &str, origin: &str| Cors::parse(keys).unwrap().grant(origin);
        let keys = "https://app.test,https://*.app.test,http://localhost:3000";
        assert_eq!(grant(keys, "https://APP.test"), Some(OriginGrant::Exact));
        assert_eq!(grant(keys, "http://localhost:3000"), Some(OriginGrant::Exact));
        assert_eq!(grant(keys, "https://a.app.test"), Some(OriginGrant::Below));
        assert_eq!(grant("https://*.a.test,https://b.a.test", "https://b.a.test"), Some(OriginGrant::Exact));
        for other in
            ["https://a.b.app.test", "http://app.test", "https://.app.test", "https://evil.test/.app.test", "null", ""]
        {
            assert_eq!(grant(keys, other), None, "{other}");
        }
        assert_eq!(grant("*", "https://evil.test"), Some(OriginGrant::Any));
    }
}
