//! A connection to an instance, as one request has it. Opens none.

use crate::http2::connection::Call;
use crate::net::stream::Stream;

/// What a request goes over.
#[derive(Debug)]
pub(crate) enum Link {
    /// A connection used by one request at a time: HTTP/1, or the bytes of a TCP service.
    Http1(Stream),
    /// A place on an HTTP/2 connection.
    Http2(Box<Call>),
}
