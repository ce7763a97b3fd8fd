//! This machine's own addresses, from Linux's lists. Only the two readers touch files; the parsers are pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses of this machine. Omits unreadable ones, so the loop check then covers fewer addresses.
pub fn addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = v4(&read("/proc/self/net/fib_trie")).into_iter().map(IpAddr::V4);
    v4.chain(v6(&read("/proc/self/net/if_inet6")).into_iter().map(IpAddr::V6)).collect()
}

/// In `fib_trie`, a leaf is `|-- ADDRESS`, with one line below for each route; `/32 host LOCAL` marks our own.
fn v4(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    // The local and the main table both list it.
    found.sort_unstable();
    found.dedup();
    found
}

/// In `if_inet6`, each line starts with the address in 32 hexadecimal digits.
fn v6(text: &str) -> Vec<Ipv6Addr> {
    let digits = text.lines().filter_map(|line| line.split_whitespace().next());
    let bits = digits.filter(|digits| digits.len() == 32).filter_map(|digits| u128::from_str_radix(digits, 16).ok());
    bits.map(Ipv6Addr::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.2
           /32 host LOCAL
           /32 link UNICAST
Local:
        |-- 127.0.0.1
           /32 host LOCAL
";

    #[test]
    fn reads_linux_lists() {
        for (text, expected) in [
            (FIB_TRIE, vec!["127.0.0.1", "172.17.0.2"]),
            ("", vec![]),
            ("/32 host LOCAL", vec![]),
            ("|-- not an address\n/32 host LOCAL", vec![]),
        ] {
            let found: Vec<String> = v4(text).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe800000000000000042acfffe110002 02 40 20 80     eth0\nzz\n";
        let found: Vec<String> = v6(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["::1", "fe80::42:acff:fe11:2"]);
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        assert!(addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
