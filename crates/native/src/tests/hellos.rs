//! ClientHellos that rustls writes: the name that we read is the one that rustls reads.

use std::io::Cursor;
use std::sync::Arc;

use pointsman_wire::{FirstBytes, HelloReader};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

/// A hello for this server, with so many protocols, of these versions of TLS.
fn hello(server: &str, protocols: usize, versions: &[&'static SupportedProtocolVersion]) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![vec![b'x'; 200]; protocols];
    let server = ServerName::try_from(server.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What rustls reads.
fn as_rustls(bytes: &[u8]) -> Option<String> {
    let (mut acceptor, mut rest) = (Acceptor::default(), Cursor::new(bytes));
    loop {
        assert!(acceptor.read_tls(&mut rest).unwrap() > 0, "more is wanted");
        if let Ok(Some(accepted)) = acceptor.accept() {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
    }
}

#[test]
fn the_name_is_the_one_that_rustls_reads() {
    let both: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];
    for versions in [both, &[&version::TLS12], &[&version::TLS13]] {
        for (server, expected) in
            [("shop.test", Some("shop.test")), ("a.b.c.test", Some("a.b.c.test")), ("10.0.0.1", None)]
        {
            // The last one takes several records.
            for protocols in [0, 2, 200] {
                let bytes = hello(server, protocols, versions);
                let read = HelloReader::default().read(&bytes);
                assert_eq!(
                    read,
                    Ok(Some(FirstBytes::Hello { name: expected.map(Into::into) })),
                    "{server}, {protocols}"
                );
                assert_eq!(as_rustls(&bytes).as_deref(), expected);
            }
        }
    }
}
