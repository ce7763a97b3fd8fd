//! The client at the other end of a connection. Decides nothing.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use pointsman_table::{Networks, is_near};
use pointsman_wire::{Arrived, RequestHead, Trust};

use super::presented::Presented;
use super::stream::Stream;

/// The two ends of a client's connection: its own, or those that the PROXY header names with which it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    /// What the client connected to, if that is known.
    pub(crate) local: Option<SocketAddr>,
}

/// A client, as its connection and its requests show it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address of the connection's other end.
    address: IpAddr,
    /// Its port.
    port: u16,
    /// What it connected to, if that is known.
    local: Option<SocketAddr>,
    /// That address as text for headers: an IPv4 address never in IPv6 form.
    pub(crate) text: Rc<str>,
    is_near: bool,
    /// What instances are told about its connection.
    pub(crate) arrived: Rc<Arrived>,
    /// Its connection to us is encrypted.
    pub(crate) is_secure: bool,
    /// `TLSv1.3`; empty in clear.
    pub(crate) tls_version: &'static str,
    /// What it showed in its handshake, if it was asked for a certificate.
    pub(crate) presented: Option<Rc<Presented>>,
    /// How far the headers of the current request are trusted about its client.
    pub(crate) trust: Trust,
    /// Where that request comes from: the other end, or the client that trusted proxies name.
    pub(crate) client: IpAddr,
}

impl Peer {
    pub(crate) fn new(ends: Ends, stream: &Stream) -> Self {
        let (address, port, local) = (ends.client.ip().to_canonical(), ends.client.port(), ends.local);
        let (is_near, text) = (is_near(address), Rc::from(address.to_string()));
        let (tls_version, presented) = match stream {
            Stream::Tls(tls) => (if tls.kind().0 { "TLSv1.3" } else { "TLSv1.2" }, tls.presented().cloned()),
            Stream::Tcp(_) | Stream::Unix(_) => ("", None),
        };
        let is_secure = !tls_version.is_empty();
        let scheme = if is_secure { "https" } else { "http" };
        let arrived = Rc::new(Arrived::new(scheme, local.map_or(0, |local| local.port())));
        let trust = Trust::Nothing;
        Self { address, port, local, text, is_near, arrived, is_secure, tls_version, presented, trust, client: address }
    }

    /// The client's port; 0 where nobody knows it.
    pub(crate) fn client_port(&self) -> u16 {
        if self.client == self.address { self.port } else { 0 }
    }

    /// The client and what it connected to, as a PROXY header names them. A client that a proxy in front names has no port
    /// that anybody knows.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((SocketAddr::new(self.client, self.client_port()), self.local?))
    }

    /// The connection's other end.
    pub(crate) fn other_end(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }

    /// What the client connected to, if that is known.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()))
    }

    /// The version of its TLS, if its connection is encrypted.
    pub(crate) fn tls(&self) -> Option<&'static str> {
        self.is_secure.then_some(self.tls_version)
    }

    /// Begins a new request, of which only the connection is known.
    pub(crate) fn forget(&mut self) {
        self.client = self.address;
    }

    /// Sets trust and client from the head of a request.
    #[inline]
    pub(crate) fn hear(&mut self, head: &RequestHead<'_, '_>, trusted: &Networks) {
        self.trust = match trusted.is_empty() {
            true if self.is_near => Trust::Passing,
            false if trusted.contain(self.address) => Trust::Full,
            _ => Trust::Nothing,
        };
        if self.trust == Trust::Full {
            self.client = head.client(self.address, |address| trusted.contain(address));
        }
    }
}
