//! Listening sockets: one per worker on the same address; the kernel spreads connections over them (`SO_REUSEPORT`).

use std::io;
use std::net::{SocketAddr, TcpListener};

use pointsman_table::Bind;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, per socket; the kernel caps them at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Whether the first socket of an address is refused when another already listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Refused: with `SO_REUSEPORT` it would silently share the address with any process of the same user.
    Alone,
    /// Accepted: our own sockets there are about to be closed.
    BesideOurs,
}

/// Opens `count` sockets on the address. With port 0, all get the port of the first.
pub fn listen(address: SocketAddr, count: usize, claim: Claim) -> io::Result<Vec<TcpListener>> {
    let first = listen_one(address, claim)?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| listen_one(address, Claim::BesideOurs));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn listen_one(address: SocketAddr, claim: Claim) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(claim == Claim::BesideOurs)?;
    // Accepted connections inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the address is free now. Only binds: listening would accept clients and lose them.
///
/// # Errors
/// Why not.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port counts as free while its last connections end.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// What is logged when HTTPS cannot be served at its usual address.
pub fn unserved_https(bind: Bind, why: &str) -> String {
    format!(
        "HTTPS is not served: cannot listen on {bind}: {why}. Free the port, name another with --https, or set --https off; \
         it is tried again every second"
    )
}

/// Advice when an address cannot be bound, by the reason.
pub fn hint(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "this user may not open ports below 1024; name one from 1024 up, such as :8080, or allow it: \
             CAP_NET_BIND_SERVICE for the program, or `sysctl net.ipv4.ip_unprivileged_port_start={port}`. A container on \
             the host's network: `-e POINTSMAN_HTTP=:8080`, or `--user 0:0 --cap-drop ALL --cap-add NET_BIND_SERVICE`"
        ),
        io::ErrorKind::AddrInUse => format!(
            "another process listens there (`ss -ltnp 'sport = :{port}'` names it); stop it, or name another address. A \
             container on the host's network shares its ports"
        ),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; name one that it has".to_owned(),
        _ => "cannot listen there; name a free address of this machine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_refused_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [[127, 0, 0, 1], [0, 0, 0, 0]] {
            let error = probe((address, port).into()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address:?}");
        }
        drop(listener);
        assert!(probe(([127, 0, 0, 1], port).into()).is_ok());
    }

    #[test]
    fn advice_fits_the_reason() {
        for (kind, port, expected) in [
            (io::ErrorKind::PermissionDenied, 80, "ip_unprivileged_port_start=80"),
            (io::ErrorKind::AddrInUse, 80, "another process listens there (`ss -ltnp 'sport = :80'`"),
            (io::ErrorKind::AddrNotAvailable, 8080, "this machine has no such address"),
            (io::ErrorKind::PermissionDenied, 8080, "cannot listen there; name a free address"),
        ] {
            let said = hint(([0, 0, 0, 0], port).into(), &kind.into());
            assert!(said.contains(expected), "{kind:?}: {said}");
        }
    }

    #[test]
    fn an_address_is_ours_alone_unless_we_say_otherwise() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = listen(any, 2, Claim::Alone).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(sockets[1].local_addr().unwrap(), address);
        assert_eq!(listen(address, 2, Claim::Alone).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(listen(address, 2, Claim::BesideOurs).unwrap().len(), 2);
    }
}
