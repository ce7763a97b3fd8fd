//! Brings a request's host into the form of the rules. Judges nothing: an invalid host matches no rule.

use crate::value::LONGEST_NAME;

/// Room for a host on the stack.
pub(crate) struct HostBuffer([u8; LONGEST_NAME]);

impl Default for HostBuffer {
    fn default() -> Self {
        Self([0; LONGEST_NAME])
    }
}

impl HostBuffer {
    /// Lower case, without port and without one dot at the end; empty when longer than any name.
    pub(crate) fn normal(&mut self, host: &str) -> &[u8] {
        let name = without_port(host.as_bytes());
        let name = name.strip_suffix(b".").unwrap_or(name);
        match self.0.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name);
                room.make_ascii_lowercase();
                room
            }
            None => &[],
        }
    }
}

/// A request's host as rules see it: in lower case, without port and without one dot at the end; empty when longer than
/// any name.
pub fn host_name(host: &str) -> String {
    String::from_utf8_lossy(HostBuffer::default().normal(host)).into_owned()
}

fn without_port(host: &[u8]) -> &[u8] {
    let end = match host.first() {
        Some(b'[') => host.iter().position(|&b| b == b']').map(|at| at + 1),
        _ => host.iter().position(|&b| b == b':'),
    };
    &host[..end.unwrap_or(host.len())]
}

/// The domains that a name is below, longest first: `b.c` and `c` of `a.b.c`.
pub(crate) fn parents(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = host.iter().enumerate().filter(|&(at, &b)| b == b'.' && at > 0);
    dots.map(|(at, _)| &host[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expected: &str) {
        assert_eq!(HostBuffer::default().normal(host), expected.as_bytes(), "{host}");
    }

    #[test]
    fn hosts_in_normal_form() {
        check("Shop.Test", "shop.test");
        check("shop.test:8080", "shop.test");
        check("shop.test.:8080", "shop.test");
        check("shop.test..", "shop.test.");
        check("[::1]:80", "[::1]");
        check("[::AB]", "[::ab]");
        check("[::1", "[::1");
        check(":80", "");
        check("", "");
        check(&"a".repeat(253), &"a".repeat(253));
        check(&"a".repeat(254), "");
    }

    #[test]
    fn parents_of_a_name() {
        let all: Vec<_> = parents(b".a.b.c").collect();
        assert_eq!(all, [&b"b.c"[..], b"c"]);
        assert_eq!(parents(b"[::1]").count(), 0);
    }
}
