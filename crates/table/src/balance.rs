//! `balance`: how an instance is picked. Parses and prints it; never picks.

use std::fmt::{Display, Formatter};

use crate::names::Protocol;
use crate::value::Parsed;

/// How an instance is picked, in HAProxy's words (Configuration Manual, `balance`), and `p2c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, weighted, dynamic.
    RoundRobin,
    /// In turn, weighted, fixed.
    StaticRoundRobin,
    /// Fewest open connections per weight.
    LeastConnections,
    /// The first with room.
    First,
    /// By a hash of the client's address.
    Source,
    /// By a hash of the path.
    Uri,
    /// By a hash of a request header.
    Header(Box<str>),
    /// By a hash of a query parameter.
    UrlParam(Box<str>),
    /// At random, weighted.
    Random,
    /// The less busy of two picked at random.
    PowerOfTwo,
}

/// Parses a value. A balance that reads the request needs HTTP.
pub(crate) fn parse(protocol: Protocol, text: &str) -> Parsed<Balance> {
    let found = match text {
        "roundrobin" => Some(Balance::RoundRobin),
        "static-rr" => Some(Balance::StaticRoundRobin),
        "leastconn" => Some(Balance::LeastConnections),
        "first" => Some(Balance::First),
        "source" => Some(Balance::Source),
        "random" => Some(Balance::Random),
        "p2c" => Some(Balance::PowerOfTwo),
        _ if protocol == Protocol::Tcp => None,
        "uri" => Some(Balance::Uri),
        _ => argument(text, "hdr").map(Balance::Header).or_else(|| argument(text, "url_param").map(Balance::UrlParam)),
    };
    let content = if protocol == Protocol::Http { ", uri, hdr(NAME), url_param(NAME)" } else { "" };
    found.ok_or_else(|| format!("expected roundrobin, static-rr, leastconn, first, source{content}, random or p2c"))
}

/// `NAME` of `function(NAME)`, a token as in RFC 9110 §5.6.2.
fn argument(text: &str, function: &str) -> Option<Box<str>> {
    let name = text.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (!name.is_empty() && name.bytes().all(token)).then(|| name.into())
}

/// The key's value, as an operator writes it.
impl Display for Balance {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("roundrobin"),
            Self::StaticRoundRobin => f.write_str("static-rr"),
            Self::LeastConnections => f.write_str("leastconn"),
            Self::First => f.write_str("first"),
            Self::Source => f.write_str("source"),
            Self::Uri => f.write_str("uri"),
            Self::Header(name) => write!(f, "hdr({name})"),
            Self::UrlParam(name) => write!(f, "url_param({name})"),
            Self::Random => f.write_str("random"),
            Self::PowerOfTwo => f.write_str("p2c"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn balances() {
        for name in ["roundrobin", "static-rr", "leastconn", "first", "source", "random", "p2c"] {
            for protocol in [Protocol::Http, Protocol::Tcp] {
                assert_eq!(parse(protocol, name).unwrap().to_string(), name);
            }
        }
        for name in ["uri", "hdr(X-User)", "url_param(id)"] {
            assert_eq!(parse(Protocol::Http, name).unwrap().to_string(), name);
            check(parse(Protocol::Tcp, name), "error: expected roundrobin");
        }
        for wrong in ["hdr()", "hdr(a b)", "hdr", "url_param(", "round robin"] {
            check(parse(Protocol::Http, wrong), "url_param(NAME), random or p2c");
        }
    }
}
