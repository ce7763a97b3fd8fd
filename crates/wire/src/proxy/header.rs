//! What a PROXY header says, and why one is refused. Parses nothing.

use std::net::SocketAddr;

/// A complete, valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader<'b> {
    /// Its length in the buffer; what follows belongs to the connection.
    pub len: usize,
    /// The form it has.
    pub version: ProxyVersion,
    /// Whose connection it is.
    pub origin: ProxyOrigin,
    /// The host name that the client asked for (`PP2_TYPE_AUTHORITY`), as sent: any bytes, not checked.
    pub authority: Option<&'b [u8]>,
    /// The connection's identifier (`PP2_TYPE_UNIQUE_ID`): any bytes, at most 128.
    pub unique_id: Option<&'b [u8]>,
}

impl ProxyHeader<'_> {
    /// Source and destination, as sent. `None`: those of the connection itself hold.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self.origin {
            ProxyOrigin::Ip { source, destination } => Some((source, destination)),
            ProxyOrigin::Local | ProxyOrigin::Unknown | ProxyOrigin::Unix => None,
        }
    }
}

/// The protocol's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Whose connection a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyOrigin {
    /// The proxy's own, such as a health check (version 2: LOCAL).
    Local,
    /// A client's, whose addresses the proxy does not tell (UNKNOWN, `AF_UNSPEC`).
    Unknown,
    /// A client's, by a Unix socket. Its paths are not kept.
    Unix,
    /// A client's, by TCP or UDP.
    Ip {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

/// The reason to refuse a header, and to close its connection. The sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadProxyHeader {
    /// Neither `PROXY ` nor version 2's signature.
    #[error("the connection does not begin with a PROXY header")]
    Signature,
    /// Version 1: neither TCP4 nor TCP6 nor UNKNOWN.
    #[error("the PROXY line names an unknown protocol")]
    Protocol,
    /// Version 1: no CRLF within 107 bytes.
    #[error("the PROXY line is longer than 107 bytes")]
    LineTooLong,
    /// Version 1: a carriage return or a line feed alone.
    #[error("the PROXY line does not end with CRLF")]
    LineEnd,
    /// Version 1: a byte that neither an address of the line's family nor a port has.
    #[error("the PROXY line holds a byte that belongs to no address or port")]
    LineByte,
    /// Version 1: not two addresses and two ports with one space between.
    #[error("the PROXY line does not have two addresses and two ports")]
    LineFields,
    /// Version 1: a malformed address.
    #[error("the PROXY line has a malformed address")]
    Address,
    /// Version 1: a port that is no decimal number up to 65535, or has a leading zero.
    #[error("the PROXY line has a malformed port")]
    Port,
    /// Version 2's signature with another version.
    #[error("the PROXY header has an unknown version")]
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// Version 2: an unknown address family.
    #[error("the PROXY header has an unknown address family")]
    Family,
    /// Version 2: an unknown transport protocol.
    #[error("the PROXY header has an unknown transport protocol")]
    Transport,
    /// Version 2: addresses and TLVs of more than 4 KiB.
    #[error("the PROXY header is longer than 4112 bytes")]
    TooLong,
    /// Version 2: a length too small for the addresses of its family.
    #[error("the PROXY header is too short for its addresses")]
    TooShort,
    /// Version 2: a TLV that goes beyond the header, or fewer bytes than a TLV has.
    #[error("the PROXY header has a malformed TLV")]
    Tlv,
    /// Version 2: a second authority, unique identifier or checksum.
    #[error("the PROXY header has a TLV twice")]
    RepeatedTlv,
    /// Version 2: a unique identifier of more than 128 bytes.
    #[error("the PROXY header has a unique identifier of more than 128 bytes")]
    UniqueId,
    /// Version 2: a checksum that is not 32 bits, or not the header's.
    #[error("the PROXY header has a wrong checksum")]
    Checksum,
}

/// Whether `text`, as far as received, begins with `start`.
pub(super) fn may_begin(text: &[u8], start: &[u8]) -> bool {
    let received = text.len().min(start.len());
    text[..received] == start[..received]
}
