//! Proxies in front of us: whose word on their clients is taken. Compares addresses; reads no header.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::value::{self, Parsed};

/// Loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3), private (RFC 1918 §3, RFC 4193 §3.1) and link-local (RFC 3927 §2.1,
/// RFC 4291 §2.5.6) networks.
const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "169.254.0.0/16",
    "fe80::/10",
];
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// What `config/trusted_proxies` lists: networks, or nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Box<[IpNet]>);

impl Proxies {
    /// The networks that the word `private` stands for.
    pub fn private() -> Self {
        Self(PRIVATE.iter().filter_map(|network| network.parse().ok()).collect())
    }

    /// Networks in CIDR notation (RFC 4632 §3.1), addresses, `private` or `all`, comma separated.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        Ok(Self(value::list(text, item)?.concat().into()))
    }

    /// Whether the address is in one of the networks. An IPv4 address that is mapped into IPv6 counts as IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there are none: the key is not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks as they are written: `10.0.0.0/8`.
    pub fn networks(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(IpNet::to_string)
    }
}

/// Whether an address is of a loopback, private or link-local network: one of [`Proxies::private`], found faster.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn item(text: &str) -> Parsed<Vec<IpNet>> {
    let words: &[&str] = match text {
        "private" => &PRIVATE,
        "all" => &ALL,
        other => &[other],
    };
    words.iter().map(|word| network(word)).collect()
}

/// `10.0.0.0/8`, or one address. Bits behind the prefix are ignored.
fn network(text: &str) -> Parsed<IpNet> {
    let bare = || IpAddr::from_str(text).ok().map(IpNet::from);
    let network = IpNet::from_str(text).ok().or_else(bare).map(|network| network.trunc());
    network.ok_or_else(|| "expected networks such as 10.0.0.0/8 or fd00::/8, addresses, private or all".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn lists() {
        for (list, inside, outside) in [
            ("10.1.2.3/8", "::ffff:10.9.9.9", "11.0.0.1"),
            ("192.0.2.7, fd00::/8", "fd12::1", "192.0.2.8"),
            ("private", "127.0.0.1", "192.0.2.8"),
            ("private", "169.254.1.1", "2001:db8::1"),
            ("all", "2001:db8::1", ""),
        ] {
            let proxies = Proxies::parse(list).unwrap();
            assert!(proxies.contain(inside.parse().unwrap()), "{list}: {inside}");
            assert!(outside.parse().map_or(true, |outside| !proxies.contain(outside)), "{list}: {outside}");
        }
        for wrong in ["10.0.0.0/33", "localhost", "10.0.0", "Private", "10.0.0.0-10.0.0.9"] {
            check(Proxies::parse(wrong), "error: expected networks such as 10.0.0.0/8");
        }
        check(Proxies::parse(" , "), "error: expected at least one item");
    }

    #[test]
    fn private_networks_are_the_same_both_ways() {
        let private = Proxies::private();
        assert_eq!(private.networks().count(), PRIVATE.len());
        for address in [
            "127.0.0.1",
            "128.0.0.1",
            "10.0.0.0",
            "9.255.255.255",
            "172.15.0.1",
            "172.31.255.255",
            "172.32.0.0",
            "192.168.0.1",
            "192.169.0.1",
            "169.254.0.1",
            "::1",
            "::2",
            "fc00::1",
            "fdff::1",
            "fe00::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::ffff:192.0.2.1",
        ] {
            let address = address.parse().unwrap();
            assert_eq!(is_private(address), private.contain(address), "{address}");
        }
    }
}
