//! The client at the other end of a connection. Decides nothing.

use std::net::IpAddr;

/// A client, as its connection shows it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The address as text, as headers and logs have it: an IPv4 address never in IPv6 form.
    pub(crate) text: String,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self { address, text: address.to_canonical().to_string() }
    }
}
