//! Encodes names of services and instances for HAProxy, and decodes them. Reversible; knows nothing else of either.
//!
//! HAProxy's names may hold letters, digits and `_ . - :`. The colon is our escape: any other byte is `:` and two hex
//! digits; `:-2` is an instance's second server.

use std::sync::Arc;

use pointsman_table::{Protocol, plain_name};

/// The section of our own error pages.
pub const PAGES: &str = "pointsman";

/// The name of a backend in HAProxy: `services:web`, `tcp-services:db`, or a spare's, `spare:7`.
pub type BackendName = Arc<str>;

/// The backend of a service: `services:web`.
pub fn backend(protocol: Protocol, service: &str) -> BackendName {
    let mut name = format!("{}:", protocol.tree());
    encode_onto(&mut name, service);
    name.into()
}

/// The service whose backend has this name; `None` for names that [`backend`] does not make.
pub fn service_of(backend: &str) -> Option<(Protocol, String)> {
    let (tree, name) = backend.split_once(':')?;
    let protocol = [Protocol::Http, Protocol::Tcp].into_iter().find(|protocol| protocol.tree() == tree)?;
    Some((protocol, decode(name)?))
}

/// The server of an instance.
pub fn server(instance: &str) -> Box<str> {
    encode(instance).into()
}

/// The later servers of an instance: `web-1:-2` is its second, counted from 1.
pub fn again(server: &str, turn: usize) -> Box<str> {
    if turn <= 1 { server.into() } else { format!("{server}:-{turn}").into() }
}

/// The name of an instance's first server, and this one's number, counted from 1.
pub fn turn_of(server: &str) -> (&str, usize) {
    let split = server.rsplit_once(":-").and_then(|(first, turn)| Some((first, turn.parse().ok()?)));
    split.unwrap_or((server, 1))
}

/// The instance whose server has this name; `None` for names that [`server`] and [`again`] do not make.
pub fn instance_of(server: &str) -> Option<String> {
    decode(turn_of(server).0)
}

/// Encodes a text as part of a name.
pub(super) fn encode(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    encode_onto(&mut name, text);
    name
}

fn encode_onto(name: &mut String, text: &str) {
    name.push_str(&plain_name(text));
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Accepts only what [`encode`] makes, so that two names never mean the same.
fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b':' => bytes.push(escaped(rest.next()?, rest.next()?)?),
            _ if is_plain(byte) => bytes.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?).filter(|&byte| !is_plain(byte))
}

/// The name of the certificate for server names that no other one covers.
pub(crate) const DEFAULT_CERT: &str = "default";

/// The file of a certificate.
pub fn cert_file(name: &str) -> String {
    format!("certs/{}.pem", server(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_backends() {
        let check = |protocol, service: &str, expected: &str| {
            assert_eq!(&*backend(protocol, service), expected);
            assert_eq!(service_of(expected), Some((protocol, service.to_owned())));
        };
        check(Protocol::Http, "web", "services:web");
        check(Protocol::Tcp, "db", "tcp-services:db");
        check(Protocol::Http, "My_web-1.x", "services:My_web-1.x");
        check(Protocol::Http, "a b:c|d", "services:a:20b:3Ac:7Cd");
        check(Protocol::Http, "ü", "services::C3:BC");
        check(Protocol::Http, "\n", "services::0A");
    }

    #[test]
    fn names_that_are_not_ours() {
        let rows = [
            "web",
            "spare:7",
            "services:",
            "services:a b",
            "services::4",
            "services::61",
            "services::3a",
            "services::FF",
        ];
        for name in rows {
            assert_eq!(service_of(name), None, "{name}");
        }
        assert_eq!(instance_of(""), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn names_come_back(text in "\\PC{1,12}|[ -~]{1,12}|\\x00", other in "[ -~]{1,3}") {
            let name = server(&text);
            prop_assert!(name.bytes().all(|byte| is_plain(byte) || byte == b':'), "{}", name);
            prop_assert_eq!(instance_of(&name), Some(text.clone()));
            prop_assert_eq!(service_of(&backend(Protocol::Tcp, &text)), Some((Protocol::Tcp, text)));
            if let Some(text) = instance_of(&other) {
                prop_assert_eq!(&*server(&text), other);
            }
        }
    }
}
