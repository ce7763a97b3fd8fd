//! ClientHellos in whatever pieces and records, and what is none.

use super::*;

/// A list behind its length, which takes so many bytes.
fn list(width: usize, items: &[u8]) -> Vec<u8> {
    [&items.len().to_be_bytes()[8 - width..], items].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list(2, content)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &list(2, &[&[0][..], &list(2, name.as_bytes())].concat()))
}

/// A ClientHello with these extensions; empty: it has no block of extensions.
fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &list(1, &[9; 32]), &list(2, &[0x13, 1]), &list(1, &[0])].concat();
    let extensions = if extensions.is_empty() { Vec::new() } else { list(2, &extensions.concat()) };
    [&[1][..], &list(3, &[body, extensions].concat())].concat()
}

/// A message in records of at most this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |content: &[u8]| [&[22, 3, 1][..], &list(2, content)].concat();
    message.chunks(size).flat_map(record).collect()
}

/// What is read, in pieces of any size; how many bytes it took.
#[track_caller]
fn read(bytes: &[u8], piece: usize) -> (Result<Option<FirstBytes>, HelloTooLong>, usize) {
    let mut reader = HelloReader::default();
    let ends = (1..=bytes.len()).filter(|end| end % piece == 0 || *end == bytes.len());
    let mut looks = ends.map(|end| (reader.read(&bytes[..end]), end));
    looks.find(|(look, _)| *look != Ok(None)).unwrap_or((Ok(None), bytes.len()))
}

#[track_caller]
fn check(bytes: &[u8], expected: &FirstBytes) {
    for piece in [1, 7, bytes.len()] {
        assert_eq!(read(bytes, piece).0, Ok(Some(expected.clone())), "pieces of {piece}: {}", bytes.escape_ascii());
    }
}

fn named(name: &str) -> FirstBytes {
    FirstBytes::Hello { name: Some(name.into()) }
}

/// A hello of about so many bytes.
fn long(length: usize) -> Vec<u8> {
    // Two extensions, as one has at most 64 KiB.
    let filler = vec![5; length / 2];
    let half = || extension(51, &filler);
    let body = [&[3, 3][..], &[7; 32], &[0], &list(2, &[0x13, 1]), &list(1, &[0])].concat();
    let block = [server_name("a.test"), half(), half()].concat();
    [&[1][..], &list(3, &[body, list(2, &block[..])].concat())].concat()
}

#[test]
fn the_name_is_read_in_any_records_and_pieces() {
    let message = hello(&[extension(51, &[1; 900]), server_name("Shop.test"), extension(43, &[2, 3, 4])]);
    for size in [1, 2, 3, 4, 5, 100, 1 << 14] {
        check(&records(&message, size), &named("Shop.test"));
    }
}

#[test]
fn hellos_of_every_kind() {
    check(&records(&hello(&[]), 99), &FirstBytes::Hello { name: None });
    check(&records(&hello(&[extension(43, &[1])]), 99), &FirstBytes::Hello { name: None });
    // The name inside of an encrypted hello (ECH) is nobody's to see.
    check(&records(&hello(&[extension(0xfe0d, b"inner.test"), server_name("outer.test")]), 99), &named("outer.test"));
    check(&records(&hello(&[server_name("ü.test")]), 99), &named("ü.test"));
    check(&records(&hello(&[server_name(&"a".repeat(255))]), 99), &named(&"a".repeat(255)));
    // What follows a hello is not looked at.
    let more = [records(&hello(&[server_name("a.test")]), 99), b"\x17\x03\x03rest".to_vec()].concat();
    check(&more, &named("a.test"));
}

#[test]
fn the_version_of_a_record_says_nothing() {
    for minor in [0, 1, 3, 4, 0xff] {
        let mut bytes = records(&hello(&[server_name("a.test")]), 1 << 14);
        bytes[2] = minor;
        check(&bytes, &named("a.test"));
    }
}

#[test]
fn other_protocols_are_told_at_the_first_byte_that_differs() {
    let rows: [(&[u8], usize); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", 1),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", 1),
        // SSL 2 had no names.
        (b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10", 1),
        (b"\x15\x03\x01\0\x02\x02\x28", 1),
        (b"\x16\x04\x01\0\x05", 2),
        (b"\x16\x03\x01\0\0", 5),
        (b"\x16\x03\x01\x40\x01\x01", 5),
        (b"\x16\x03\x01\0\x05\x02", 6),
        (b"\x16\x03\x01\0\x01\x01\x17", 7),
    ];
    for (bytes, after) in rows {
        assert_eq!(read(bytes, 1), (Ok(Some(FirstBytes::Other)), after), "{}", bytes.escape_ascii());
    }
    assert_eq!(read(b"\x16\x03", 1).0, Ok(None));
}

#[test]
fn malformed_hellos_are_no_hellos() {
    let name = |list_length: u8, kind: u8, length: u8, text: &[u8]| {
        extension(0, &[&[0, list_length, kind, 0, length][..], text].concat())
    };
    let mut session = hello(&[]);
    session[4 + 34] = 33;
    let mut short = hello(&[server_name("a.test")]);
    short[3] -= 1;
    let mut beyond = hello(&[extension(43, &[1])]);
    let at = beyond.len() - 2;
    beyond[at] = 9;
    let rows = [
        session,
        short,
        beyond,
        vec![1, 0, 0, 0],
        vec![1, 0, 0, 34].into_iter().chain([0; 34]).collect(),
        hello(&[server_name("a.test"), server_name("b.test")]),
        hello(&[server_name("")]),
        hello(&[server_name(&"a".repeat(256))]),
        hello(&[name(9, 1, 6, b"a.test")]),
        hello(&[name(8, 0, 6, b"a.test")]),
        hello(&[name(9, 0, 7, b"a.test")]),
        hello(&[extension(0, &[])]),
        hello(&[name(9, 0, 6, b"a.tes"), extension(43, &[0; 40])]),
    ];
    for message in rows {
        check(&records(&message, 1 << 14), &FirstBytes::Other);
        check(&records(&message, 3), &FirstBytes::Other);
    }
}

#[test]
fn length_is_bounded_and_long_hellos_cost_no_more_than_their_bytes() {
    let largest = long(MAX_HELLO - 100);
    assert!(largest.len() <= MAX_HELLO);
    check(&records(&largest, 1 << 14), &named("a.test"));
    // Byte by byte, in records of a byte: millions of looks if each began at the first byte.
    assert_eq!(read(&records(&largest, 1), 1).0, Ok(Some(named("a.test"))));
    let beyond = [1, 0, 0xff, 0xfd];
    assert_eq!(read(&records(&beyond, 1), 1).0, Err(HelloTooLong));
    assert_eq!(read(b"\x16\x03\x01\0\x04\x01\0\xff\xfc", 1).0, Ok(None));
}
