//! The proxies with TLS and HTTP/2 from clients, each on one thread, with the same certificates, suite and tickets.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::certificates::{self, KeyKind};
use super::terms::{RSA_HOST, SUITE};
use crate::options::Options;
use crate::peers::{self, HOST, PROXY_CORE, Peer, Workplace};

/// A proxy, and where it listens.
pub(crate) struct EdgeProxy {
    /// Its process. Its address is for plain HTTP/1.1.
    pub(crate) peer: Peer,
    /// For HTTP/2 in clear.
    pub(crate) clear: SocketAddr,
    /// For TLS, with HTTP/1.1 and HTTP/2.
    pub(crate) secure: SocketAddr,
}

/// Makes the certificates that all proxies have: ECDSA for the usual host, RSA for the other.
///
/// # Errors
/// If openssl cannot.
pub(crate) fn prepare(place: &Workplace) -> io::Result<()> {
    for (name, kind, host) in [("bench", KeyKind::Ecdsa, HOST), ("rsa", KeyKind::Rsa, RSA_HOST)] {
        fs::write(place.path().join(format!("{name}.pem")), certificates::make(place, kind, host)?)?;
    }
    Ok(())
}

/// All proxies.
///
/// # Errors
/// If one does not start.
pub(crate) fn all(options: &Options, to: SocketAddr, place: &Workplace) -> io::Result<Vec<EdgeProxy>> {
    let mut proxies = vec![haproxy(to, place)?, nginx(to, place)?];
    if options.pointsman.exists() {
        proxies.push(pointsman(&options.pointsman, to, place)?);
    }
    Ok(proxies)
}

/// Pointsman.
///
/// # Errors
/// If it does not start.
pub(crate) fn pointsman(program: &Path, to: SocketAddr, place: &Workplace) -> io::Result<EdgeProxy> {
    let (keys, secure) = (place.path().join("keys"), peers::free_address()?);
    peers::write_service(&keys, "bench", &format!("{HOST},{RSA_HOST}"), &[to])?;
    fs::create_dir_all(keys.join("certs"))?;
    for name in ["bench", "rsa"] {
        fs::copy(place.path().join(format!("{name}.pem")), keys.join("certs").join(name))?;
    }
    let (store, https) = (keys.to_string_lossy(), secure.to_string());
    let flags = ["--store", &store, "--prefix", "/", "--https", &https];
    let peer = peers::pointsman_of("Pointsman", program, &keys.with_extension("state"), &flags)?;
    Ok(EdgeProxy { clear: peer.address, peer, secure })
}

/// Debian's HAProxy.
///
/// # Errors
/// If it does not start.
pub(crate) fn haproxy(to: SocketAddr, place: &Workplace) -> io::Result<EdgeProxy> {
    let template = include_str!("../../configs/haproxy-edge.cfg");
    start("HAProxy", &["haproxy", "-db", "-f"], ("haproxy-edge.cfg", template), to, place)
}

/// Debian's nginx.
///
/// # Errors
/// If it does not start.
pub(crate) fn nginx(to: SocketAddr, place: &Workplace) -> io::Result<EdgeProxy> {
    let (template, home) = (include_str!("../../configs/nginx-edge.conf"), place.path().to_string_lossy());
    start("nginx", &["nginx", "-p", &home, "-c"], ("nginx-edge.conf", template), to, place)
}

fn start(
    name: &'static str,
    command: &[&str],
    (file, template): (&str, &str),
    to: SocketAddr,
    place: &Workplace,
) -> io::Result<EdgeProxy> {
    let [address, clear, secure] = [peers::free_address()?, peers::free_address()?, peers::free_address()?];
    let names = [
        ("@clear@", clear.to_string()),
        ("@secure@", secure.to_string()),
        ("@suite@", SUITE.to_owned()),
        ("@rsa@", RSA_HOST.to_owned()),
    ];
    let text = names.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    let file = peers::configure(place, file, &text, address, to)?;
    let peer = Peer::start(name, address, PROXY_CORE, &[command, &[&file.to_string_lossy()]].concat())?;
    Ok(EdgeProxy { peer, clear, secure })
}
