//! A PROXY header is the same in any pieces, and a rewritten one reads back the same.

use pointsman_wire::{MAX_PROXY_HEADER, ProxyOrigin, ProxyVersion, SendProxy, parse_proxy};

/// Any bytes as the first of a connection.
pub(crate) fn run(input: &[u8]) {
    let whole = parse_proxy(input);
    for cut in 0..input.len().min(MAX_PROXY_HEADER) {
        match (parse_proxy(&input[..cut]), whole) {
            (Ok(None), _) => {}
            (part, whole) => {
                assert!(part == whole || part.is_err() && whole.is_err(), "cut at {cut}: {part:?}, whole: {whole:?}");
                break;
            }
        }
    }
    match whole {
        Ok(Some(header)) => {
            assert!(header.len <= input.len().min(MAX_PROXY_HEADER), "{header:?}");
            assert_eq!(parse_proxy(&input[..header.len]), whole);
            rewrite(header.origin, header.authority);
        }
        Ok(None) => assert!(input.len() < MAX_PROXY_HEADER),
        Err(_) => {}
    }
}

fn rewrite(origin: ProxyOrigin, authority: Option<&[u8]>) {
    let ProxyOrigin::Ip { source, destination } = origin else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut out = Vec::new();
        SendProxy { version, addresses: Some((source, destination)), authority }.write(&mut out);
        let again = parse_proxy(&out).expect("what is written is accepted").expect("and whole");
        assert_eq!((again.len, again.version), (out.len(), version));
        let (client, server) = again.addresses().expect("addresses");
        assert_eq!((client.ip().to_canonical(), client.port()), (source.ip().to_canonical(), source.port()));
        assert_eq!((server.ip().to_canonical(), server.port()), (destination.ip().to_canonical(), destination.port()));
        let fits = authority.filter(|name| (1..=255).contains(&name.len()) && version == ProxyVersion::V2);
        assert_eq!(again.authority, fits);
    }
}
