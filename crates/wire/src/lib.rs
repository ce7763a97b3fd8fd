//! HTTP messages: parses and writes heads and bodies (RFC 9110, RFC 9112), PROXY headers, and the server name of TLS
//! connections. Pure: no IO, no clock, no runtime.
//!
//! ```text
//! bytes -> parse_request  -> RequestHead  -> RequestHead::write  -> bytes for the instance
//! bytes -> parse_response -> ResponseHead -> ResponseHead::write -> bytes for the client
//! bytes -> BodyReader::step -> Data.. End -> BodyWriter           -> bytes for the other side
//! Answer -> Answer::write -> bytes for the client
//! bytes for the instance -> WrittenRequest -> HTTP/2 fields
//! HTTP/2 fields -> judge_http2_request, judge_http2_response -> the same heads
//! bytes -> parse_proxy    -> ProxyHeader     SendProxy::write -> bytes for the instance
//! bytes -> HelloReader::read -> FirstBytes
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `head`, `fields`, `framing` | what heads share: lines, header sorting, where a body ends |
//! | `lists` | lists with quoted texts |
//! | `login` | logins that hold for a connection |
//! | `refusal` | why a request or a body is refused |
//! | `target` | request targets and authorities |
//! | `forwarded` | headers about a request's way, written by proxies |
//! | `request`, `response` | heads: parsing, checking, rewriting |
//! | `question` | heads that ask another server whether a request may go on |
//! | `http2` | heads of HTTP/2, judged like those |
//! | `written` | a rewritten request head, read back for HTTP/2 |
//! | `trailers`, `extension`, `body` | bodies between framings |
//! | `answer` | responses of our own |
//! | `edits` | changes to heads that services ask for |
//! | `proxy` | PROXY headers |
//! | `hello` | TLS ClientHellos: the server name |
//!
//! Heads are parsed, checked and rewritten. A message that two readers could understand differently is refused.
//!
//! # Where the RFCs leave a choice
//! - Lines end with CRLF only. Folded lines, control bytes and white space before a colon are refused in both
//!   directions.
//! - A body has one length. A second Content-Length is refused even if both agree; a Content-Length beside a
//!   Transfer-Encoding is refused too. The only Transfer-Encoding accepted is exactly `chunked`. Requests with
//!   `Content_Length` and the like are refused, because a CGI backend folds `_` into `-`.
//! - Target and Host must name the same host and port. A fragment, bytes beyond ASCII, and a backslash in the path are
//!   refused; the path is otherwise forwarded unchanged, neither decoded nor normalised.
//! - Headers listed in Connection are removed, except end-to-end headers such as `Cookie`, `Authorization`, `Content-*`
//!   and `X-Forwarded-*`. A request whose Connection lists Host or a framing header is refused.
//! - `TE`, `Proxy`, `HTTP2-Settings` and proxy credentials are removed. `Upgrade` is forwarded if it names one protocol
//!   that is neither HTTP nor TLS and the request has no body. Trailers are forwarded, except those that could be
//!   mistaken for headers.
//! - Chunk extensions must follow the grammar, and are not forwarded.
//! - `Expect: 100-continue` is forwarded if the request has a body; any other expectation is refused.

mod answer;
mod body;
mod edits;
mod extension;
mod fields;
mod forwarded;
mod framing;
mod head;
mod hello;
mod http2;
mod lists;
mod login;
mod proxy;
mod question;
mod refusal;
mod request;
mod response;
mod target;
mod trailers;
mod written;

pub use answer::{Answer, reason};
pub use body::{BodyReader, BodyWriter, Step};
pub use edits::{HeaderEdits, RequestEdits};
pub use fields::look_alikes;
pub use forwarded::{Arrived, Trust};
pub use framing::BadFraming;
pub use head::{BadLine, BodyLength, HeadLimits, HeadProgress, Header, HeaderSpace, MAX_HEADERS, Version, add_header};
pub use hello::{FirstBytes, HelloReader, HelloTooLong, MAX_HELLO, NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME};
pub use http2::{Http2Request, judge_http2_request, judge_http2_response};
pub use lists::{is_token_list, quoted_list, tag_list};
pub use proxy::{BadProxyHeader, MAX_PROXY_HEADER, ProxyHeader, ProxyOrigin, ProxyVersion, SendProxy, parse_proxy};
pub use refusal::{BadBody, BadRequest};
pub use request::{Forward, RequestHead, begins_head_request, parse_request};
pub use response::{BadResponse, Reply, ResponseHead, WEBSOCKET_ACCEPT, parse_response};
pub use trailers::Trailers;
pub use written::WrittenRequest;
