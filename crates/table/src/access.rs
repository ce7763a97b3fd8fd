//! `allow` and `deny`: the networks of clients that a service serves. Knows no request.

use std::fmt::{Display, Formatter};
use std::net::IpAddr;

use crate::networks::Networks;
use crate::reader::Reader;

/// Whose clients a service serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Nobody from here, even if `allow` has them.
    pub deny: Networks,
    /// If not empty, nobody from elsewhere.
    pub allow: Networks,
}

impl Access {
    /// Reads the keys: `None` if neither is set.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let deny = reader.read("deny", Networks::parse);
        let allow = reader.protecting("allow", Networks::parse);
        (deny.is_some() || allow.is_some())
            .then(|| Self { deny: deny.unwrap_or_default(), allow: allow.unwrap_or_default() })
    }

    /// These lists, and the other's where one of these is empty.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let list = |own: &Networks, other: &Networks| if own.is_empty() { other.clone() } else { own.clone() };
        Self { deny: list(&self.deny, &other.deny), allow: list(&self.allow, &other.allow) }
    }

    /// Whether a client at this address is served.
    pub fn admits(&self, client: IpAddr) -> bool {
        !self.deny.contain(client) && (self.allow.is_empty() || self.allow.contain(client))
    }
}

/// `clients of 2 networks are denied, those of 1 allowed`.
impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let part = |networks: &Networks, what: &str| match networks.count() {
            0 => None,
            1 => Some(format!("{what} {networks}")),
            count => Some(format!("{what} {count} networks")),
        };
        let parts = [part(&self.deny, "deny"), part(&self.allow, "allow")];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_goes_before_allow() {
        let networks = |text: &str| if text.is_empty() { Networks::default() } else { Networks::parse(text).unwrap() };
        for (deny, allow, client, expected) in [
            ("", "10.0.0.0/8", "10.1.1.1", true),
            ("", "10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("", "10.0.0.0/8", "11.1.1.1", false),
            ("", "10.0.0.0/8", "fd00::1", false),
            ("10.1.0.0/16", "10.0.0.0/8", "10.1.1.1", false),
            ("10.1.0.0/16", "10.0.0.0/8", "10.2.1.1", true),
            ("fd00::/8", "", "fd00::1", false),
            ("fd00::/8", "", "127.0.0.1", true),
        ] {
            let access = Access { deny: networks(deny), allow: networks(allow) };
            assert_eq!(access.admits(client.parse().unwrap()), expected, "{access}: {client}");
        }
    }
}
