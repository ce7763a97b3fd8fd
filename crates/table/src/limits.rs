//! What compile must know besides the keys. Only data.

use std::net::{IpAddr, SocketAddr};

use crate::capabilities::Capabilities;

/// What compile must know besides the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The prefix, `/haproxy-haproxy-1`, for the full keys in problems. No slash at the end.
    pub prefix: Box<str>,
    /// Our own HTTP and admin addresses: an instance there is a loop, a TCP service there is a taken port.
    pub own: Box<[SocketAddr]>,
    /// This machine's addresses: those that `0.0.0.0` stands for.
    pub local: Box<[IpAddr]>,
    /// Most addresses that TCP services may listen on, all together; `None`: any number.
    pub listeners: Option<usize>,
    /// Which keys the engine honours.
    pub capabilities: Capabilities,
}
