//! PROXY protocol headers: what a proxy sends ahead of a connection to say whose connection it is (HAProxy's
//! `proxy-protocol.txt`, sections 2.1 and 2.2). Never decides who may send one.
//!
//! ```text
//! bytes -> parse_proxy -> ProxyHeader          SendProxy -> SendProxy::write -> bytes ahead of a connection
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `header` | what a header says, and why one is refused |
//! | `v1`, `v2` | parsing: the line of text, the binary form |
//! | `crc32c` | the checksum of the binary form |
//! | `write` | writing both |

mod crc32c;
mod header;
mod v1;
mod v2;
mod write;

pub use header::{BadProxyHeader, ProxyHeader, ProxyOrigin, ProxyVersion};
pub use v2::MAX_PROXY_HEADER;
pub use write::SendProxy;

/// Parses the header that these bytes begin with. `Ok(None)`: more bytes are needed.
///
/// Each call parses from the first byte, and looks at no more than [`MAX_PROXY_HEADER`] bytes; an incomplete header
/// costs at most 107 of them. It allocates nothing.
///
/// # Errors
/// [`BadProxyHeader`] as soon as the bytes can become no header, for the signature at the first byte that differs. Once
/// refused, no further bytes make it a header.
pub fn parse_proxy(buffer: &[u8]) -> Result<Option<ProxyHeader<'_>>, BadProxyHeader> {
    match buffer.first() {
        None => Ok(None),
        Some(b'P') => v1::parse(buffer),
        Some(b'\r') => v2::parse(buffer),
        Some(_) => Err(BadProxyHeader::Signature),
    }
}
