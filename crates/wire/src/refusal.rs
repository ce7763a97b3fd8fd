//! Why a request or a body is refused. Never decides which of these it is.

use crate::framing::BadFraming;
use crate::head::BadLine;

/// The reason to refuse a request. Each closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// Head longer than the limit: 431.
    #[error("the request head is longer than the limit")]
    HeadTooLong,
    /// Request line longer than the limit for the whole head: 414.
    #[error("the request line is longer than the limit")]
    TargetTooLong,
    /// More header lines than the limit: 431.
    #[error("there are more headers than the limit")]
    TooManyHeaders,
    /// More than two empty lines before the request line (RFC 9112 §2.2 asks for one to be ignored).
    #[error("there are too many empty lines before the request")]
    EmptyLines,
    /// Not `method SP target SP version CRLF`.
    #[error("the request line is malformed")]
    RequestLine,
    /// A well-formed version other than 1.0 and 1.1: 505.
    #[error("the HTTP version is not supported")]
    Version,
    /// A method longer than any in use: 501 (RFC 9112 §3).
    #[error("the method is too long")]
    MethodTooLong,
    /// CONNECT: 405. Pointsman is not a forward proxy.
    #[error("CONNECT is not allowed")]
    Connect,
    /// A target that is not a path, an http or https URL, or `*` with OPTIONS.
    #[error("the request target has an unsupported form")]
    TargetForm,
    /// A byte beyond ASCII in the target, or a backslash in its path.
    #[error("the request target holds a byte that must be encoded")]
    TargetByte,
    /// A `#` in the target.
    #[error("the request target has a fragment")]
    Fragment,
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    #[error("there is no Host header")]
    NoHost,
    /// More than one Host, even if they agree.
    #[error("there are several Host headers")]
    SeveralHosts,
    /// A Host that is not `host[:port]`.
    #[error("the Host header is not a host and port")]
    Host,
    /// Target and Host name different hosts or ports.
    #[error("the Host header differs from the request target")]
    HostMismatch,
    /// A malformed header line.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// Framing headers that are invalid or ambiguous: 400, or 501 for an unsupported coding.
    #[error(transparent)]
    Framing(#[from] BadFraming),
    /// `Content_Length` and the like, which a CGI backend reads as `Content-Length`.
    #[error("a header could be taken for Content-Length or Transfer-Encoding")]
    FramingLookAlike,
    /// Connection lists Host, Content-Length or Transfer-Encoding.
    #[error("the Connection header lists a routing or framing header")]
    ConnectionOption,
    /// Connection has too many options.
    #[error("the Connection header has too many options")]
    TooManyOptions,
    /// A field that belongs to a connection, in HTTP/2 (RFC 9113 §8.2.2).
    #[error("a header of HTTP/1 connections came over HTTP/2")]
    ConnectionField,
    /// A WebSocket without `Sec-WebSocket-Key` (RFC 6455 §4.1), which we would have to answer ourselves.
    #[error("the request for a WebSocket has no Sec-WebSocket-Key")]
    WebsocketKey,
    /// An expectation other than `100-continue`: 417 (RFC 9110 §10.1.1).
    #[error("the expectation is not supported")]
    Expectation,
}

impl BadRequest {
    /// The response status: 400, 405, 414, 417, 431, 501 or 505.
    pub fn status(self) -> u16 {
        match self {
            BadRequest::HeadTooLong | BadRequest::TooManyHeaders => 431,
            BadRequest::TargetTooLong => 414,
            BadRequest::Version => 505,
            BadRequest::MethodTooLong => 501,
            BadRequest::Connect => 405,
            BadRequest::Expectation => 417,
            BadRequest::Line(line) => line.status(),
            BadRequest::Framing(framing) => framing.status(),
            BadRequest::EmptyLines
            | BadRequest::RequestLine
            | BadRequest::TargetForm
            | BadRequest::TargetByte
            | BadRequest::Fragment
            | BadRequest::NoHost
            | BadRequest::SeveralHosts
            | BadRequest::Host
            | BadRequest::HostMismatch
            | BadRequest::FramingLookAlike
            | BadRequest::ConnectionOption
            | BadRequest::ConnectionField
            | BadRequest::WebsocketKey
            | BadRequest::TooManyOptions => 400,
        }
    }
}

/// The reason to refuse a body; its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadBody {
    /// A chunk size that is not plain hex digits, is too long, or overflows.
    #[error("a chunk size is malformed")]
    ChunkSize,
    /// A chunk extension that is not `;name`, `;name=token` or `;name="text"` (RFC 9112 §7.1.1).
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    /// Too many chunk extension bytes for the amount of data.
    #[error("there are too many chunk extension bytes for the data")]
    ChunkOverhead,
    /// Chunk data that is not followed by CRLF.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer line that is not a valid header line.
    #[error("the trailer section is malformed")]
    Trailers,
    /// A trailer section longer than the limit for a head.
    #[error("the trailer section is longer than the limit")]
    TrailersTooLong,
    /// Too many trailer lines.
    #[error("there are too many trailers")]
    TooManyTrailers,
}
