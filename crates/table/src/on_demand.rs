//! `config/acme/on_demand`: the names that a handshake may have a certificate asked for. Asks nobody.

use crate::address::{HostPattern, server_name};
use crate::value::{self, Parsed};

/// The names that the first handshake for them may have a certificate asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDemand {
    /// These names, and those one label below a wildcard.
    Names(Box<[HostPattern]>),
    /// Those that this URL of the operator allows, once its query says `domain=NAME`.
    Endpoint(Box<str>),
}

/// Whether a handshake may have a certificate asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance<'a> {
    /// It may.
    Yes,
    /// It may not.
    No,
    /// This URL says, once its query says `domain=NAME`.
    Endpoint(&'a str),
}

impl OnDemand {
    /// `config/acme/on_demand`.
    pub(crate) fn parse(text: &str) -> Parsed<Option<Self>> {
        if text.contains("://") {
            return endpoint(text).map(|url| Some(Self::Endpoint(url)));
        }
        let names = value::list(text, pattern)?;
        Ok(Some(Self::Names(names.into())))
    }
}

fn pattern(text: &str) -> Parsed<HostPattern> {
    let pattern = server_name(text)?;
    match pattern.name().contains('.') {
        true => Ok(pattern),
        false => Err("expected public names or wildcards, *.example.org, comma separated, or a URL".into()),
    }
}

fn endpoint(text: &str) -> Parsed<Box<str>> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte));
    match is_plain && !host.is_empty() && !host.contains('@') {
        true => Ok(text.into()),
        false => {
            Err("expected an http:// or https:// URL, without a fragment, that answers ?domain=NAME with 200".into())
        }
    }
}

impl OnDemand {
    /// Whether it allows this name, in lower case.
    pub(crate) fn allows(&self, name: &str) -> Allowance<'_> {
        let is_public = matches!(pattern(name), Ok(HostPattern::Exact(known)) if *known == *name);
        match self {
            _ if !is_public => Allowance::No,
            Self::Endpoint(url) => Allowance::Endpoint(url),
            Self::Names(names) => {
                let parent = name.split_once('.').map(|(_, parent)| parent);
                let covers = |pattern: &HostPattern| match pattern {
                    HostPattern::Exact(exact) => **exact == *name,
                    HostPattern::Wildcard(below) => parent == Some(&**below),
                };
                if names.iter().any(covers) { Allowance::Yes } else { Allowance::No }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        check(OnDemand::parse("Shop.test, *.a.test"), "Some(Names([Exact(\"shop.test\"), Wildcard(\"a.test\")]))");
        check(OnDemand::parse("http://10.0.0.1:9/ask"), "Some(Endpoint(\"http://10.0.0.1:9/ask\"))");
        check(OnDemand::parse("https://ask.test?token=1"), "Some(Endpoint(\"https://ask.test?token=1\"))");
        for wrong in ["localhost", "*.test", "10.0.0.1", "*"] {
            check(OnDemand::parse(wrong), "error: expected");
        }
        for wrong in ["http://", "https:///ask", "ftp://a.test", "http://me@a.test", "http://a.test/#x"] {
            check(OnDemand::parse(wrong), "error: expected an http:// or https:// URL");
        }
    }

    #[test]
    fn names() {
        let parsed = |value: &str| OnDemand::parse(value).unwrap().unwrap();
        let names = parsed("shop.test,*.a.test");
        for (name, expected) in [
            ("shop.test", Allowance::Yes),
            ("x.a.test", Allowance::Yes),
            ("a.test", Allowance::No),
            ("x.y.a.test", Allowance::No),
            ("*.a.test", Allowance::No),
            ("www.shop.test", Allowance::No),
        ] {
            assert_eq!(names.allows(name), expected, "{name}");
        }
        let endpoint = parsed("http://ask.test");
        for (name, expected) in [
            ("any.test", Allowance::Endpoint("http://ask.test")),
            ("localhost", Allowance::No),
            ("10.0.0.1", Allowance::No),
        ] {
            assert_eq!(endpoint.allows(name), expected, "{name}");
        }
    }
}
