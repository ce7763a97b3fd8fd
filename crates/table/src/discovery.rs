//! `dns`: instances that come from a name. Resolves nothing.

use std::fmt::{Display, Formatter};

use crate::value::{self, Parsed};

/// `dns`: a name whose addresses are instances. In lower case, without the dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// Every address of this host name is an instance, at [`crate::Service::port`].
    Name(Box<str>),
    /// `srv:NAME`: every SRV record of this name is an instance, at the record's port.
    Srv(Box<str>),
}

impl Dns {
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let name = |text| {
            let name = value::host_name(value::without_dot(text));
            name.map_err(|_| "expected a host name, or srv: and a name".to_owned())
        };
        match text.strip_prefix("srv:") {
            Some(record) => name(record).map(Self::Srv),
            None => name(text).map(Self::Name),
        }
    }
}

/// The key's value, as an operator writes it.
impl Display for Dns {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn names_and_records() {
        check(Dns::parse("web.test"), "Name(\"web.test\")");
        check(Dns::parse("Web.Test."), "Name(\"web.test\")");
        check(Dns::parse("srv:_http._tcp.web.test."), "Srv(\"_http._tcp.web.test\")");
        for wrong in ["", ".", "web.test..", "srv:", "srv: a", "http://web.test", "srv:srv:a"] {
            check(Dns::parse(wrong), "error: expected a host name, or srv: and a name");
        }
        for text in ["web.test", "srv:_http._tcp.web.test"] {
            assert_eq!(Dns::parse(text).unwrap().to_string(), text);
        }
    }
}
