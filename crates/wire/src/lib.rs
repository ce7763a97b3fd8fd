//! Bytes in, bytes out: HTTP/1 heads and bodies (RFC 9110, RFC 9112). Pure: no IO, no clock, no runtime.
//!
//! ```text
//! bytes -> parse_request  -> RequestHead  -> RequestHead::write  -> bytes for the instance
//! bytes -> parse_response -> ResponseHead -> ResponseHead::write -> bytes for the client
//! bytes -> BodyReader::step -> Data.. End -> BodyWriter           -> bytes for the other side
//! Answer -> Answer::write -> bytes for the client
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `head`, `fields`, `framing` | what heads share: lines, header sorting, where a body ends |
//! | `refusal` | why a request or a body is refused |
//! | `target` | request targets and authorities |
//! | `request`, `response` | heads parsed, judged, written anew |
//! | `trailers`, `body` | bodies between framings |
//! | `answer` | responses of our own |
//!
//! Heads are parsed, judged and written anew; what two readers could read two ways is refused, never guessed.
//!
//! # Where the RFCs leave a choice
//! - Lines end with CRLF alone. Folded lines, control bytes and white space before a colon are refused both ways.
//! - A body has one length: a second Content-Length is refused even if it agrees, and so is one beside a
//!   Transfer-Encoding, which must be exactly `chunked`. Requests with `Content_Length` and the like are refused, for
//!   a CGI backend folds `_` into `-`.
//! - Target and Host must name the same place. A fragment, bytes beyond ASCII, and a backslash in the path are refused;
//!   the path is otherwise passed on as it came, neither decoded nor normalised.
//! - What Connection nominates is removed, except end-to-end headers such as `Cookie`, `Authorization`, `Content-*`
//!   and `X-Forwarded-*`. A request that nominates Host or a framing header is refused.
//! - `TE`, `Proxy`, `HTTP2-Settings` and proxy credentials end here; `Upgrade` passes for one protocol of another
//!   family than HTTP and TLS, without a body. Trailers pass, those that could be mistaken for headers excepted.
//! - `Expect` passes as `100-continue` where there is a body to wait for; any other is refused.

mod answer;
mod body;
mod fields;
mod framing;
mod head;
mod refusal;
mod request;
mod response;
mod target;
mod trailers;

pub use answer::{Answer, reason};
pub use body::{BodyReader, BodyWriter, Step};
pub use framing::BadFraming;
pub use head::{BadLine, BodyLength, HeadLimits, HeadProgress, Header, HeaderSpace, MAX_HEADERS, Version};
pub use refusal::{BadBody, BadRequest};
pub use request::{Forward, RequestHead, parse_request};
pub use response::{BadResponse, Reply, ResponseHead, parse_response};
pub use trailers::Trailers;
