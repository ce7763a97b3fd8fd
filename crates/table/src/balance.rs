//! `balance`: how an instance is picked. Parses and prints it; never picks.

use std::fmt::{Display, Formatter};

use crate::names::Protocol;
use crate::value::{self, Parsed};

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
    /// By a hash of a cookie.
    Cookie(Box<str>),
    /// At random, weighted.
    Random,
    /// The less busy of two picked at random.
    PowerOfTwo,
}

impl Balance {
    /// Whether the same key goes to the same instance.
    pub fn is_hashed(&self) -> bool {
        match self {
            Self::Source | Self::Uri | Self::Header(_) | Self::UrlParam(_) | Self::Cookie(_) => true,
            Self::RoundRobin
            | Self::StaticRoundRobin
            | Self::LeastConnections
            | Self::First
            | Self::Random
            | Self::PowerOfTwo => false,
        }
    }
}

/// Parses `bounded`: how much of the mean open work an instance may have, in percent.
pub(crate) fn bounded(balance: &Balance, text: &str) -> Parsed<u16> {
    if !balance.is_hashed() {
        return Err(format!("balance {balance} has no use for it; it bounds the hashing balances, such as source"));
    }
    let percent = text.strip_suffix('%').and_then(|number| value::within(number, 100, 1_000).ok());
    let percent = percent.and_then(|percent| u16::try_from(percent).ok());
    percent.ok_or_else(|| "expected a share of the mean, from 100% to 1000%, such as 125%".into())
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
        _ => argument(text, "hdr")
            .map(Balance::Header)
            .or_else(|| argument(text, "url_param").map(Balance::UrlParam))
            .or_else(|| argument(text, "cookie").map(Balance::Cookie)),
    };
    let content = if protocol == Protocol::Http { ", uri, hdr(NAME), url_param(NAME), cookie(NAME)" } else { "" };
    found.ok_or_else(|| format!("expected roundrobin, static-rr, leastconn, first, source{content}, random or p2c"))
}

/// `NAME` of `function(NAME)`, a token as in RFC 9110 §5.6.2.
fn argument(text: &str, function: &str) -> Option<Box<str>> {
    let name = text.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')?;
    value::is_token(name).then(|| name.into())
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
            Self::Cookie(name) => write!(f, "cookie({name})"),
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
        for name in ["uri", "hdr(X-User)", "url_param(id)", "cookie(sid)"] {
            assert_eq!(parse(Protocol::Http, name).unwrap().to_string(), name);
            check(parse(Protocol::Tcp, name), "error: expected roundrobin");
        }
        for wrong in ["hdr()", "cookie(a;b)", "hdr(a b)", "hdr", "url_param(", "round robin"] {
            check(parse(Protocol::Http, wrong), "cookie(NAME), random or p2c");
        }
    }

    #[test]
    fn bounds() {
        check(bounded(&Balance::Source, "125%"), "125");
        check(bounded(&Balance::Uri, "100%"), "100");
        for wrong in ["125", "99%", "1001%", "%", "1.25", "-125%"] {
            check(bounded(&Balance::Source, wrong), "error: expected a share of the mean, from 100%");
        }
        check(bounded(&Balance::RoundRobin, "125%"), "error: balance roundrobin has no use for it");
    }
}
