//! PROXY headers: the rows of `proxy.txt`, what is written, and properties of every input.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pointsman_wire::{MAX_PROXY_HEADER, ProxyHeader, ProxyOrigin, ProxyVersion, SendProxy, parse_proxy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::rows::{self, Row};
use crate::vectors::check_all;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The rows of `proxy.txt`.
pub(crate) fn rows() -> Vec<Row> {
    rows::without_method(include_str!("../../vectors/proxy.txt"))
}

/// The outcome in the terms of `proxy.txt`.
fn judge(bytes: &[u8]) -> String {
    match parse_proxy(bytes) {
        Ok(Some(header)) => describe(&header),
        Ok(None) => "more".into(),
        Err(error) => format!("{error:?}"),
    }
}

fn describe(header: &ProxyHeader<'_>) -> String {
    let origin = match header.origin {
        ProxyOrigin::Local => "local".into(),
        ProxyOrigin::Unknown => "unknown".into(),
        ProxyOrigin::Unix => "unix".into(),
        ProxyOrigin::Ip { source, destination } => format!("{source}>{destination}"),
    };
    let mut said = format!("{}/{origin}", header.len);
    for (name, value) in [("authority", header.authority), ("id", header.unique_id)] {
        if let Some(value) = value {
            let _ = write!(said, "/{name}={}", value.escape_ascii());
        }
    }
    said
}

#[test]
fn vectors() {
    let rows = rows();
    check_all(&rows, 180, |row| judge(&row.bytes));
    for row in &rows {
        if let Ok(Some(header)) = parse_proxy(&row.bytes) {
            let version = if row.bytes[0] == b'P' { ProxyVersion::V1 } else { ProxyVersion::V2 };
            assert_eq!(header.version, version, "{}", row.name);
            assert_eq!(header.addresses().is_some(), row.expected.contains('>'), "{}", row.name);
        }
    }
}

/// Cut at every byte: more is needed until the header is there, and what was refused stays so.
#[test]
fn every_row_is_the_same_in_any_segments() {
    for row in rows() {
        check_cuts(&row.bytes).unwrap_or_else(|error| panic!("{}: {error}", row.name));
    }
}

fn check_cuts(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = parse_proxy(bytes);
    let cuts: Vec<_> = (0..=bytes.len()).map(|cut| parse_proxy(&bytes[..cut])).collect();
    let waited = cuts.iter().take_while(|part| matches!(part, Ok(None))).count();
    for (cut, part) in cuts.iter().enumerate().skip(waited) {
        let same = *part == whole || part.is_err() && whole.is_err();
        prop_assert!(same, "cut at {}: {:?}, whole: {:?}", cut, part, whole);
    }
    match whole {
        // Complete with its last byte, neither before nor later.
        Ok(Some(header)) => prop_assert_eq!(waited, header.len),
        Ok(None) => prop_assert!(bytes.len() < MAX_PROXY_HEADER),
        Err(_) => prop_assert!(waited <= MAX_PROXY_HEADER),
    }
    Ok(())
}

/// Bytes that can be no header are refused at the first that differs.
#[test]
fn the_first_byte_that_differs_refuses() {
    let beginnings: [&[u8]; 4] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", SIGNATURE];
    for beginning in beginnings {
        for at in 0..beginning.len() {
            assert_eq!(judge(&beginning[..at]), "more");
            let wrong = (0..=u8::MAX).filter(|byte| {
                let bytes = [&beginning[..at], &[*byte]].concat();
                !beginnings.iter().any(|other| other.starts_with(&bytes))
            });
            for byte in wrong {
                let bytes = [&beginning[..at], &[byte]].concat();
                let expected = if at < 6 || beginning == SIGNATURE { "Signature" } else { "Protocol" };
                assert_eq!(judge(&bytes), expected, "{}", bytes.escape_ascii());
            }
        }
    }
}

/// The version and command, the family and transport, and the length, each by its own byte.
#[test]
fn every_value_of_the_fixed_part() {
    for byte in 0..=u8::MAX {
        let expected = match byte {
            0x20 | 0x21 => "more",
            0x22..=0x2f => "Command",
            _ => "Version",
        };
        assert_eq!(judge(&[SIGNATURE, &[byte]].concat()), expected, "version and command {byte:#x}");
        let expected = match (byte >> 4, byte & 0xf) {
            (0..=3, 0..=2) => "more",
            (0..=3, _) => "Transport",
            _ => "Family",
        };
        assert_eq!(judge(&[SIGNATURE, &[0x21, byte]].concat()), expected, "family and transport {byte:#x}");
        assert_eq!(judge(&[SIGNATURE, &[0x20, byte, 0, 0]].concat()), "16/local", "the same of LOCAL {byte:#x}");
        let expected = if byte > 0x10 { "TooLong" } else { "more" };
        assert_eq!(judge(&[SIGNATURE, &[0x21, 0x11, byte]].concat()), expected, "length {byte:#x}..");
    }
}

/// Except where a bit decides whether there is a checksum at all: command, kind, length and type.
#[test]
fn a_checksum_finds_every_flipped_bit() {
    let row = rows().into_iter().find(|row| row.name == "v2-checksum").unwrap();
    assert_eq!(parse_proxy(&row.bytes).unwrap().unwrap().len, 35);
    for at in (0..12).chain(16..28).chain(29..35) {
        for bit in 0..8 {
            let mut bytes = row.bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(parse_proxy(&bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}

fn parsed(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn written(version: ProxyVersion, ends: Option<(&str, &str)>, authority: Option<&[u8]>) -> Vec<u8> {
    let addresses = ends.map(|(source, destination)| (parsed(source), parsed(destination)));
    let mut out = b"before".to_vec();
    SendProxy { version, addresses, authority }.write(&mut out);
    out.split_off(6)
}

#[test]
fn lines_as_written() {
    let check = |ends, expected: &str| {
        let line = written(ProxyVersion::V1, ends, Some(b"shop.test"));
        assert_eq!(line.escape_ascii().to_string(), format!("PROXY {expected}\\r\\n"));
    };
    check(None, "UNKNOWN");
    check(Some(("203.0.113.7:0", "198.51.100.1:65535")), "TCP4 203.0.113.7 198.51.100.1 0 65535");
    check(Some(("[2001:db8::7]:1", "[2001:DB8:0:0:1::]:2")), "TCP6 2001:db8::7 2001:db8:0:0:1:: 1 2");
    check(Some(("[fe80::1%3]:1", "[::1]:2")), "TCP6 fe80::1 ::1 1 2");
    check(Some(("[::ffff:203.0.113.7]:1", "198.51.100.1:2")), "TCP4 203.0.113.7 198.51.100.1 1 2");
    check(Some(("203.0.113.7:1", "[2001:db8::1]:2")), "TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2");
    check(Some(("[2001:db8::7]:1", "198.51.100.1:2")), "TCP6 2001:db8::7 ::ffff:198.51.100.1 1 2");
}

#[test]
fn binary_headers_as_written() {
    let check = |ends, authority, expected: &[u8]| {
        let header = written(ProxyVersion::V2, ends, authority);
        let expected = [SIGNATURE, expected].concat();
        assert_eq!(header.escape_ascii().to_string(), expected.escape_ascii().to_string());
    };
    check(None, None, b"\x20\0\0\0");
    check(None, Some(b"shop.test"), b"\x20\0\0\0");
    let v4 = Some(("203.0.113.7:56324", "198.51.100.1:443"));
    check(v4, None, b"\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb");
    check(v4, Some(b""), b"\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb");
    check(v4, Some(&[b'a'; 256]), b"\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb");
    check(v4, Some(b"a.test"), b"\x21\x11\0\x15\xcb\0\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb\x02\0\x06a.test");
    let longest = [&b"\x21\x11\x01\x0e\xcb\0\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb\x02\0\xff"[..], &[b'a'; 255]];
    check(v4, Some(&[b'a'; 255]), &longest.concat());
    let v6 = Some(("[2001:db8::7]:56324", "198.51.100.1:443"));
    let expected = [
        &b"\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"[..],
        b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x01\xdc\x04\x01\xbb",
    ];
    check(v6, None, &expected.concat());
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(Ipv4Addr::from(bytes))),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(Ipv6Addr::from(bytes))),
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(Ipv4Addr::from(bytes).to_ipv6_mapped())),
        // Zeros in many places: the shortest and the longest gaps.
        vec(select(&[0u16, 0, 1, 0xffff][..]), 8).prop_map(|groups| {
            let groups: [u16; 8] = groups.try_into().expect("eight");
            IpAddr::from(Ipv6Addr::from(groups))
        }),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn canonical((source, destination): (SocketAddr, SocketAddr)) -> [(IpAddr, u16); 2] {
    [source, destination].map(|end| (end.ip().to_canonical(), end.port()))
}

/// TLVs of any kind, most of them well framed.
fn tlvs() -> impl Strategy<Value = Vec<u8>> {
    let tlv =
        (select(&[1, 2, 3, 4, 5, 0x20, 0xea][..]), vec(any::<u8>(), 0..140), 0..20u8).prop_map(|(kind, value, off)| {
            // One in twenty tells a length of its own.
            let told = u16::try_from(value.len()).expect("short") + u16::from(off == 0);
            [&[kind][..], &told.to_be_bytes(), &value].concat()
        });
    vec(tlv, 0..4).prop_map(|tlvs| tlvs.concat())
}

/// A version 2 header around anything, with a length that is mostly right.
fn binary() -> impl Strategy<Value = Vec<u8>> {
    let addresses = prop_oneof![Just(0usize), Just(12), Just(36), Just(216), 0..300usize];
    let command = select(&[0x20, 0x21, 0x21, 0x21, 0x22][..]);
    let kind = select(&[0x11, 0x21, 0x12, 0x22, 0x31, 0x00, 0x01, 0x10, 0x13, 0x41][..]);
    (command, kind, addresses, any::<u8>(), tlvs()).prop_map(|(command, kind, addresses, fill, tlvs)| {
        let block = [vec![fill; addresses], tlvs].concat();
        let length = u16::try_from(block.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, kind], &length, &block].concat()
    })
}

/// A version 1 line, mostly well formed.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = select(
        &[
            "203.0.113.7",
            "::1",
            "0.0.0.0",
            "1.2.3.4",
            "2001:db8::1",
            "1.2.3.256",
            "80",
            "0",
            "65535",
            "65536",
            "080",
            "",
        ][..],
    );
    let start = select(&["PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN ", "PROXY UNKNOWN", "PROXY "][..]);
    let end = select(&["\r\n", "\r\n", "\r\n", "\n", "\r", ""][..]);
    (start, vec(word, 0..6), end)
        .prop_map(|(start, words, end)| format!("{start}{}{end}", words.join(" ")).into_bytes())
}

fn changed(mut bytes: Vec<u8>, changes: &[(Index, u8)]) -> Vec<u8> {
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        source in address(), destination in address(), name in vec(any::<u8>(), 0..300),
        rest in vec(any::<u8>(), 0..20),
    ) {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut out = Vec::new();
            SendProxy { version, addresses: Some((source, destination)), authority: Some(&name) }.write(&mut out);
            let len = out.len();
            out.extend_from_slice(&rest);
            let header = parse_proxy(&out).unwrap().unwrap();
            prop_assert_eq!((header.len, header.version), (len, version));
            prop_assert_eq!(header.addresses().map(canonical), Some(canonical((source, destination))));
            let fits = version == ProxyVersion::V2 && (1..=255).contains(&name.len());
            prop_assert_eq!(header.authority, fits.then_some(&name[..]));
            check_cuts(&out)?;
        }
    }

    #[test]
    fn a_header_is_the_same_in_any_segments(
        bytes in prop_oneof![binary(), line()], changes in vec((any::<Index>(), any::<u8>()), 0..3),
        rest in vec(any::<u8>(), 0..20),
    ) {
        check_cuts(&changed(bytes.clone(), &changes))?;
        check_cuts(&[bytes, rest].concat())?;
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        check_cuts(&bytes)?;
        check_cuts(&[b"PROXY TCP6 ", &bytes[..]].concat())?;
        check_cuts(&[b"PROXY UNKNOWN ", &bytes[..]].concat())?;
        check_cuts(&[SIGNATURE, b"\x21\x11", &bytes[..]].concat())?;
    }
}
