//! `maintenance` and `maintenance/except`: a service that is closed, and who gets in all the same. Knows no request.

use std::net::IpAddr;

use crate::networks::Networks;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// After how many seconds a client is told to come again.
pub const COME_AGAIN: u32 = 60;

/// A service that is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Clients from here get in.
    pub networks: Networks,
    /// Requests with one of these headers, of this value, get in.
    pub headers: Box<[(Box<str>, Box<str>)]>,
}

impl Maintenance {
    /// Reads the keys: `None` if the service is open.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let is_closed = reader.read("maintenance", value::boolean).unwrap_or(false);
        let except = reader.read("maintenance/except", Self::except).unwrap_or_default();
        // For stores where no key has others below it.
        let more = reader.read("maintenance_except", Self::except).unwrap_or_default();
        is_closed.then(|| except.and(more))
    }

    fn and(self, more: Self) -> Self {
        Self { networks: self.networks.and(&more.networks), headers: [self.headers, more.headers].concat().into() }
    }

    fn except(text: &str) -> Parsed<Self> {
        let items: Vec<_> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        let (headers, networks): (Vec<&str>, Vec<&str>) =
            items.into_iter().partition(|item| item.starts_with("header:"));
        let headers: Box<[_]> = headers.into_iter().map(header).collect::<Parsed<_>>()?;
        let networks = match networks.is_empty() && !headers.is_empty() {
            true => Networks::default(),
            false => {
                Networks::parse(&networks.join(",")).map_err(|advice| format!("{advice}, or header:NAME=VALUE"))?
            }
        };
        Ok(Self { networks, headers })
    }

    /// Whether a client, or a request with these headers, gets in. `has`: whether the request has this header with this
    /// value.
    pub fn lets_in(&self, client: IpAddr, has: impl Fn(&str, &str) -> bool) -> bool {
        self.networks.contain(client) || self.headers.iter().any(|(name, value)| has(name, value))
    }
}

fn header(item: &str) -> Parsed<(Box<str>, Box<str>)> {
    let parts = item.strip_prefix("header:").and_then(|rest| rest.split_once('='));
    let is_good = |(name, value): &(&str, &str)| {
        value::is_token(name) && !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    let (name, value) =
        parts.filter(is_good).ok_or_else(|| "expected networks, or header:NAME=VALUE in printable ASCII".to_owned())?;
    Ok((name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions() {
        let except = Maintenance::except("10.0.0.0/8, header:X-Staff=a=b").unwrap();
        let has = |name: &str, value: &str| (name, value) == ("X-Staff", "a=b");
        assert!(except.lets_in("10.1.1.1".parse().unwrap(), |_, _| false));
        assert!(except.lets_in("11.1.1.1".parse().unwrap(), has));
        assert!(!except.lets_in("11.1.1.1".parse().unwrap(), |_, _| false));
        assert!(Maintenance::except("header:X-Staff=1").unwrap().networks.is_empty());
        for wrong in
            ["", "header:=x", "header:X-Staff=", "header:X Staff=1", "header:X-Staff", "staff", "header:X=\u{7f}"]
        {
            assert!(Maintenance::except(wrong).is_err(), "{wrong}");
        }
    }
}
