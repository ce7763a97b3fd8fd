//! Lists of networks, and where instances may be. Compares addresses; resolves and opens nothing.

use std::fmt::{Debug, Display, Formatter, Result as Fmt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::value::{self, Parsed};

/// RFC 3927: link-local addresses, among them the metadata service of clouds, 169.254.169.254.
const LINK_LOCAL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
/// RFC 4291 §2.5.6.
const LINK_LOCAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// RFC 1122 §3.2.1.3, RFC 4291 §2.5.3.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// RFC 1918 §3, RFC 4193 §3.1.
const SITE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Some networks: `10.0.0.0/8, fd00::/8, 192.0.2.7, private`. However many there are, an address is found among them by
/// halving.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// As they were written.
    list: Box<[IpNet]>,
    /// First and last addresses of IPv4, ordered and apart.
    v4: Box<[(u32, u32)]>,
    /// The same of IPv6.
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// Parses a comma-separated list of networks in CIDR notation (RFC 4632 §3.1), addresses and words. The words are
    /// `loopback`, `private` (loopback, RFC 1918 §3, RFC 4193 §3.1), `link-local` (RFC 3927, RFC 4291 §2.5.6) and
    /// `all`.
    ///
    /// # Errors
    /// An item is none of these, or there is none; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::of_list(value::list(text, networks)?.concat()))
    }

    /// The networks of nearby machines: `private` and `link-local`.
    pub fn near() -> Self {
        let private = [&LOOPBACK[..], &SITE].concat().into_iter().filter_map(network);
        Self::of_list(private.chain(link_local()).collect())
    }

    fn of_list(list: Vec<IpNet>) -> Self {
        let v4 = list.iter().filter_map(|network| match network {
            IpNet::V4(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
            IpNet::V6(_) => None,
        });
        let v6 = list.iter().filter_map(|network| match network {
            IpNet::V4(_) => None,
            IpNet::V6(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
        });
        Self { v4: apart(v4.collect()), v6: apart(v6.collect()), list: list.into() }
    }

    /// Whether the address is in one of them. An IPv4 address that is mapped into IPv6 counts as IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_within(&self.v6, address.to_bits()),
        }
    }

    /// These and others.
    pub(crate) fn and(&self, others: &Self) -> Self {
        Self::of_list([&*self.list, &*others.list].concat())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each as it is written: `10.0.0.0/8`.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(IpNet::to_string)
    }

    /// The first network that the address is in.
    fn of(&self, address: IpAddr) -> Option<IpNet> {
        let address = address.to_canonical();
        self.list.iter().find(|network| network.contains(&address)).copied()
    }
}

impl Debug for Networks {
    fn fmt(&self, f: &mut Formatter<'_>) -> Fmt {
        f.debug_tuple("Networks").field(&self.list).finish()
    }
}

impl Display for Networks {
    fn fmt(&self, f: &mut Formatter<'_>) -> Fmt {
        f.write_str(&self.iter().collect::<Vec<_>>().join(","))
    }
}

/// Networks as ranges that are ordered and apart.
fn apart<A: Ord + Copy>(mut ranges: Vec<(A, A)>) -> Box<[(A, A)]> {
    ranges.sort_unstable();
    let mut kept: Vec<(A, A)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match kept.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => kept.push((first, last)),
        }
    }
    kept.into()
}

fn is_within<A: Ord + Copy>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|at| address <= ranges[at].1)
}

/// Whether an address is in one of [`Networks::near`], found faster.
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// The networks of one item.
fn networks(item: &str) -> Parsed<Vec<IpNet>> {
    let words = match item {
        "loopback" => LOOPBACK.to_vec(),
        "private" => [&LOOPBACK[..], &SITE].concat(),
        "link-local" => return Ok(link_local().into()),
        "all" => ALL.to_vec(),
        other => vec![other],
    };
    words.into_iter().map(|word| network(word).ok_or_else(|| expected(item))).collect()
}

fn link_local() -> [IpNet; 2] {
    [IpNet::V4(LINK_LOCAL_V4), IpNet::V6(LINK_LOCAL_V6)]
}

/// `10.0.0.0/8`, or one address. Bits behind the prefix are ignored.
fn network(text: &str) -> Option<IpNet> {
    let bare = || IpAddr::from_str(text).ok().map(IpNet::from);
    IpNet::from_str(text).ok().or_else(bare).map(|network| network.trunc())
}

fn expected(item: &str) -> String {
    format!(
        "{item:?} is no network; expected networks such as 10.0.0.0/8 or fd00::/8, addresses, loopback, private, link-local \
         or all"
    )
}

/// Where instances may be. Link-local addresses are denied unless a network within them is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// If not empty, instances may be here only.
    pub allow: Area,
    /// Instances may not be here, even if `allow` has it.
    pub deny: Area,
}

/// Networks and Unix paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    networks: Networks,
    paths: Box<[Box<Path>]>,
}

impl Area {
    /// Parses items: each as in [`Networks::parse`], or an absolute path: a Unix socket, or a folder with everything in
    /// it.
    ///
    /// # Errors
    /// An item is none of these; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let (paths, others): (Vec<_>, Vec<_>) = items.partition(|item| item.starts_with('/'));
        let networks = match others.is_empty() && !paths.is_empty() {
            true => Networks::default(),
            false => Networks::parse(&others.join(","))?,
        };
        Ok(Self { networks, paths: paths.into_iter().map(|path| Path::new(path).into()).collect() })
    }

    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.paths.is_empty()
    }

    fn path(&self, path: &Path) -> Option<&Path> {
        self.paths.iter().map(|own| &**own).find(|own| path.starts_with(own))
    }

    fn allows_link_local(&self, address: IpAddr) -> bool {
        let of = |network: &&IpNet| network.contains(&address) && is_within_link_local(network);
        self.networks.list.iter().any(|network| of(&network))
    }
}

fn is_within_link_local(network: &IpNet) -> bool {
    IpNet::V4(LINK_LOCAL_V4).contains(network) || IpNet::V6(LINK_LOCAL_V6).contains(network)
}

impl Places {
    /// The reason that forbids an instance at this address; `None`: it is allowed.
    pub(crate) fn forbid(&self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        if let Some(network) = self.deny.networks.of(address) {
            return Some(format!("--instances-deny {network} forbids instances at {address}"));
        }
        if is_within_link_local(&IpNet::from(address)) && !self.allow.allows_link_local(address) {
            return Some(format!(
                "{address} is a link-local address, where no instance may be unless --instances-allow link-local permits it"
            ));
        }
        match self.allow.is_empty() || self.allow.networks.contain(address) {
            true => None,
            false => Some(format!("--instances-allow does not permit instances at {address}")),
        }
    }

    /// The reason that forbids an instance at this Unix socket; `None`: it is allowed.
    pub(crate) fn forbid_path(&self, path: &Path) -> Option<String> {
        if let Some(denied) = self.deny.path(path) {
            return Some(format!("--instances-deny {} forbids instances at {}", denied.display(), path.display()));
        }
        match self.allow.is_empty() || self.allow.path(path).is_some() {
            true => None,
            false => Some(format!("--instances-allow does not permit instances at {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (list, inside, outside) in [
            ("10.0.0.0/8", "10.9.9.9", "11.0.0.1"),
            ("10.1.2.3/8", "::ffff:10.9.9.9", "::ffff:11.0.0.1"),
            ("192.0.2.7, fd00::/8", "fd12::1", "192.0.2.8"),
            ("private", "172.31.0.1", "169.254.1.1"),
            ("private", "127.0.0.1", "192.0.2.8"),
            ("private", "::ffff:192.168.0.1", "fe80::1"),
            ("loopback", "::1", "10.0.0.1"),
            ("link-local", "169.254.169.254", "169.253.0.1"),
            ("all", "2001:db8::1", "none"),
        ] {
            let networks = Networks::parse(list).unwrap();
            assert!(networks.contain(inside.parse().unwrap()), "{list}: {inside}");
            assert!(outside.parse().map_or(true, |outside| !networks.contain(outside)), "{list}: {outside}");
        }
        for wrong in ["10.0.0.0/33", "localhost", "10.0.0", "Private", "/run", "10.0.0.0-10.0.0.9"] {
            assert!(
                Networks::parse(wrong).unwrap_err().contains("is no network; expected networks such as 10.0.0.0/8"),
                "{wrong}"
            );
        }
        assert!(Networks::parse(" , ").unwrap_err().contains("expected at least one item"));
        assert_eq!(Networks::parse("10.1.1.1/8,::1").unwrap().to_string(), "10.0.0.0/8,::1/128");
    }

    #[test]
    fn long_lists_are_searched_by_halving() {
        let item = |number: u32| format!("{}/31", Ipv4Addr::from_bits(number << 3));
        let list: Vec<_> = (0..100_000).rev().map(item).chain(["0.0.16.0/20".into(), "fd00::/9".into()]).collect();
        let networks = Networks::parse(&list.join(",")).unwrap();
        assert_eq!(networks.count(), 100_002);
        // 17 steps each: what holds another is one range with it.
        assert_eq!((networks.v4.len(), networks.v6.len()), (100_000 - 511, 1));
        for number in (0..100_000).step_by(997) {
            let within = IpAddr::V4(Ipv4Addr::from_bits((number << 3) + 1));
            let without = Ipv4Addr::from_bits((number << 3) + 2);
            assert!(networks.contain(within), "{within}");
            assert_eq!(networks.contain(without.into()), (512..1024).contains(&number), "{without}");
        }
        assert!(!networks.contain("255.255.255.255".parse().unwrap()) && !networks.contain("::".parse().unwrap()));
        assert!(networks.contain("fd7f::1".parse().unwrap()) && !networks.contain("fd80::".parse().unwrap()));
    }

    #[test]
    fn networks_beside_us_are_the_same_both_ways() {
        let near = Networks::near();
        assert_eq!(near.iter().count(), LOOPBACK.len() + SITE.len() + link_local().len());
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
            assert_eq!(is_near(address), near.contain(address), "{address}");
        }
    }

    /// `expected`: a part of the reason; empty: it may be there.
    fn check(allow: &str, deny: &str, place: &str, expected: &str) {
        let area = |text: &str| if text.is_empty() { Area::default() } else { Area::parse(text).unwrap() };
        let places = Places { allow: area(allow), deny: area(deny) };
        let reason = match place.parse() {
            Ok(address) => places.forbid(address),
            Err(_) => places.forbid_path(Path::new(place)),
        };
        let reason = reason.unwrap_or_default();
        let as_expected = if expected.is_empty() { reason.is_empty() } else { reason.contains(expected) };
        assert!(as_expected, "{allow} {deny} {place}: {reason:?}");
    }

    #[test]
    fn places() {
        check("", "", "10.0.0.1", "");
        check("", "", "/run/a.sock", "");
        check("", "", "169.254.169.254", "link-local address");
        check("", "", "::ffff:169.254.169.254", "link-local address");
        check("", "", "fe80::1", "link-local address");
        check("all", "", "169.254.169.254", "link-local address");
        check("all,169.254.170.0/24", "", "169.254.170.2", "");
        check("all,169.254.170.0/24", "", "169.254.169.254", "link-local address");
        check("link-local", "", "fe80::1", "");
        check("link-local", "169.254.169.254", "169.254.169.254", "--instances-deny 169.254.169.254/32 forbids");
        check("private", "", "10.0.0.1", "");
        check("private", "", "127.0.0.1", "");
        check("private", "", "169.254.169.254", "link-local address");
        check("private", "", "192.0.2.1", "--instances-allow does not permit");
        check("private", "", "/run/a.sock", "--instances-allow does not permit");
        check("/run/apps", "", "/run/apps/a.sock", "");
        check("/run/apps", "", "/run/apps2/a.sock", "--instances-allow");
        check("/run/apps", "", "10.0.0.1", "--instances-allow");
        check("private", "10.0.0.0/8", "10.0.0.1", "--instances-deny 10.0.0.0/8 forbids instances at 10.0.0.1");
        check("", "/run/docker.sock", "/run/docker.sock", "--instances-deny /run/docker.sock");
        check("", "loopback,/run", "/var/a.sock", "");
        assert!(Area::parse("").is_err() && Area::parse("run/x").is_err());
    }
}
