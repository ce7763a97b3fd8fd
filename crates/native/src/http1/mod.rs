//! HTTP/1 of a client: its connection, and bodies in its framing.

pub(crate) mod body;
pub(crate) mod client;
