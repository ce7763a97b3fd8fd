//! The client at the other end of a connection. Decides nothing.

use std::net::IpAddr;

use pointsman_table::{Networks, is_near};
use pointsman_wire::{Arrived, RequestHead, Trust};

/// Where a client's connection comes from, and where it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The client's address.
    pub(crate) client: IpAddr,
    /// The port that it connected to.
    pub(crate) port: u16,
}

/// A client, as its connection and its requests show it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The address of the connection's other end.
    address: IpAddr,
    /// That address as text for headers: an IPv4 address never in IPv6 form.
    pub(crate) text: String,
    is_near: bool,
    /// What instances are told about its connection.
    pub(crate) arrived: Arrived,
    /// Its connection to us is encrypted.
    pub(crate) is_secure: bool,
    /// How far the headers of the current request are trusted about its client.
    pub(crate) trust: Trust,
    /// Where that request comes from: the other end, or the client that trusted proxies name.
    pub(crate) client: IpAddr,
}

impl Peer {
    pub(crate) fn new(Arrival { client, port }: Arrival, is_secure: bool) -> Self {
        let address = client.to_canonical();
        let is_near = is_near(address);
        let arrived = Arrived::new(if is_secure { "https" } else { "http" }, port);
        Self { address, text: address.to_string(), is_near, arrived, is_secure, trust: Trust::Nothing, client: address }
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
