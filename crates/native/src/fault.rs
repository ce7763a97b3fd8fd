//! Everything that can go wrong between a client and an instance, each with its status, its name and whose fault it is.
//! One exhaustive map; the rest of the engine never writes a status number.

use pointsman_wire::{BadBody, BadRequest, BadResponse};

use crate::net::watch::Left;

/// Why a request was not answered by an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The client's head is malformed, too long or not ours to serve.
    #[error("bad request: {0}")]
    BadRequest(BadRequest),
    /// The client's body framing is malformed.
    #[error("bad request body: {0}")]
    BadRequestBody(BadBody),
    /// The head did not come in time.
    #[error("the request head did not come in time")]
    HeadTimeout,
    /// The client stopped sending its body.
    #[error("the client stopped sending its body")]
    BodyTimeout,
    /// The client closed or broke the connection in the middle of a request.
    #[error("the client left in the middle of a request")]
    ClientGone,
    /// The client had half-closed its connection (FIN), and another one needed its place.
    #[error("the client sends no more, and its place was needed")]
    GaveWay,
    /// No service takes the request.
    #[error("no service takes this request")]
    NoRoute,
    /// The request has passed so many proxies that it must be in a loop.
    #[error("the request goes in circles")]
    Loop,
    /// The service has no instance that takes work.
    #[error("the service has no instance that takes work")]
    NoInstance,
    /// Every instance is at its `maxconn`, and none was free in time.
    #[error("every instance is at its maxconn")]
    Full,
    /// The machine has no descriptors or ports left for one more connection.
    #[error("no descriptors or ports left for a connection to an instance")]
    Exhausted,
    /// The instance refused the connection, or there is no route to it.
    #[error("the instance refused the connection or cannot be reached")]
    ConnectRefused,
    /// The instance did not accept within `timeout/connect`.
    #[error("the instance did not accept the connection in time")]
    ConnectTimeout,
    /// The instance closed the connection before it answered.
    #[error("the instance closed the connection before it answered")]
    NoAnswer,
    /// The instance sent nothing for `timeout/server`.
    #[error("the instance did not answer in time")]
    ServerTimeout,
    /// The instance's head is malformed.
    #[error("bad response: {0}")]
    BadResponse(BadResponse),
    /// The instance's body framing is malformed, or the body ended early.
    #[error("the response body is malformed or incomplete")]
    BadResponseBody,
    /// The instance switched protocols and nobody had asked it to.
    #[error("the instance switched protocols unasked")]
    UnaskedSwitch,
    /// The instance left the table, and its time to finish is over.
    #[error("the instance was removed and its time to finish is over")]
    Removed,
    /// The target is so long that searching it for so many expressions would hold up other requests.
    #[error("the target is too long to be searched for so many expressions")]
    TargetTooLong,
    /// More open connections than `limit/connections`.
    #[error("too many open connections")]
    TooManyConnections,
    /// The client's TLS handshake failed.
    #[error("the TLS handshake failed")]
    TlsHandshake,
    /// The client's TLS handshake was not done in time, or had to make room for others.
    #[error("the TLS handshake was not done in time")]
    TlsTimeout,
    /// A connection did not begin with a valid PROXY header, and was to.
    #[error("the PROXY header is missing or malformed")]
    BadProxyHeader,
    /// A PROXY header was not complete in time.
    #[error("the PROXY header did not come in time")]
    ProxyTimeout,
    /// The TLS handshake with the instance failed: its certificate, ours, or its TLS.
    #[error("the TLS handshake with the instance failed")]
    InstanceTls,
    /// The request's host is the server name, and the instance has no certificate for it.
    #[error("the instance has no certificate for the host of the request")]
    InstanceName,
    /// A ClientHello that must say which service is meant is longer than any should be.
    #[error("the ClientHello is too long")]
    HelloTooLong,
    /// It was not complete in time.
    #[error("the ClientHello did not come in time")]
    HelloTimeout,
    /// No service of the address has its server name, or takes what has none.
    #[error("no TCP service takes this server name")]
    UnknownServerName,
    /// Plain HTTP on a TLS port.
    #[error("plain HTTP came to a port for HTTPS")]
    PlainOnTls,
    /// The service requires a client's certificate from its authorities.
    #[error("the service requires a client's certificate from its authorities")]
    ClientCertificate,
    /// The service asks for clients' certificates, and the connection was made for another name.
    #[error("the connection was made for another name than that of this service")]
    Misdirected,
    /// The instance refused the request and did nothing with it (HTTP/2).
    #[error("the instance refused the request and did nothing with it")]
    StreamRefused,
    /// The instance speaks HTTP/2, and takes no WebSockets over it (RFC 8441 §3).
    #[error("the instance takes no WebSockets over HTTP/2")]
    NoWebsocket,
    /// An HTTP/2 client broke the protocol, or flooded its connection.
    #[error("the client broke the rules of HTTP/2, or flooded its connection")]
    Http2,
    /// So many copies for mirrors are at work that this one was not sent.
    #[error("too many copies for mirrors are at work")]
    CopyDropped,
    /// The request was not done within `timeout/request`.
    #[error("the request was not done within timeout/request")]
    RequestTimeout,
    /// As many requests as `limit/requests` are at work, and as many as `limit/queue` wait.
    #[error("limit/requests is reached, and the queue is full")]
    QueueFull,
    /// As many requests as `limit/requests` were at work for `timeout/queue`.
    #[error("limit/requests is reached, and no place was free within timeout/queue")]
    QueueTimeout,
    /// The queue is so long that the request would not be served in time.
    #[error("limit/requests is reached, and the queue takes longer than timeout/queue")]
    Shed,
    /// The client is in a network that `deny` names, or in none that `allow` names.
    #[error("allow and deny let no client of this address in")]
    Denied,
    /// The body is greater than `max_body`.
    #[error("the request's body is greater than max_body")]
    BodyTooLarge,
    /// More requests than `rate_limit` lets in.
    #[error("more requests came than rate_limit lets in")]
    RateLimited,
    /// The service is closed: `maintenance=true`.
    #[error("the service is in maintenance")]
    Maintenance,
    /// `basic_auth_secrets`: it brings no password of a user, or a wrong one.
    #[error("the request has no password of a user of the service")]
    Unauthorized,
    /// `basic_auth_secrets`: more passwords are to be computed than can be.
    #[error("too many passwords wait to be computed")]
    PasswordsBusy,
    /// `forward_auth`: nobody answered whether the request may go on.
    #[error("forward_auth: the server asked whether the request may go on did not answer")]
    AuthUnreachable,
    /// `forward_auth`: the answer is malformed, incomplete or too large.
    #[error("forward_auth: the server asked whether the request may go on gave no valid answer")]
    AuthBadAnswer,
}

/// Facts about a kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The status that answers it, if an answer can still be given. `None`: no client is there to read it.
    pub(crate) status: Option<u16>,
    /// The name in metrics and logs.
    pub(crate) name: &'static str,
    /// Whose fault it is.
    pub(crate) side: Side,
    /// Whether the request may be sent again.
    pub(crate) repeat: Repeat,
    /// Position in [`NAMES`] and in counters.
    pub(crate) index: usize,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client's.
    Client,
    /// The instance's.
    Instance,
    /// The keys': no service or no instance takes the request, or their limits are reached.
    Keys,
    /// Ours, or this machine's.
    Us,
}

/// Whether a request that met a fault may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// No.
    Never,
    /// Yes, to another instance: nothing of it was sent.
    Elsewhere,
    /// Only if nothing came back and a second copy does no harm (RFC 9110 §9.2.2).
    Unanswered,
    /// Yes, if all that was sent is held: the instance did nothing with it (RFC 9113 §8.7).
    Unprocessed,
}

impl From<Left> for Fault {
    fn from(left: Left) -> Self {
        match left {
            Left::Reset => Self::ClientGone,
            Left::GaveWay => Self::GaveWay,
        }
    }
}

impl Fault {
    /// Whether every place was taken: other requests of the service were served meanwhile.
    pub(crate) fn is_crowded(self) -> bool {
        matches!(self, Self::Full | Self::QueueFull | Self::QueueTimeout | Self::Shed)
    }

    /// Everything that depends on the kind of fault, in one map.
    pub(crate) fn facts(self) -> Facts {
        use Repeat::{Elsewhere, Never, Unanswered, Unprocessed};
        use Side::{Client, Instance, Keys, Us};
        let (index, status, side, repeat) = match self {
            Self::BadRequest(bad) => (0, Some(bad.status()), Client, Never),
            Self::BadRequestBody(_) => (1, Some(400), Client, Never),
            Self::HeadTimeout => (2, Some(408), Client, Never),
            Self::BodyTimeout => (3, Some(408), Client, Never),
            Self::ClientGone => (4, None, Client, Never),
            Self::NoRoute => (5, Some(503), Keys, Never),
            Self::NoInstance => (6, Some(503), Keys, Never),
            Self::Full => (7, Some(503), Keys, Never),
            Self::Exhausted => (8, Some(503), Us, Never),
            Self::ConnectRefused => (9, Some(502), Instance, Elsewhere),
            Self::ConnectTimeout => (10, Some(504), Instance, Elsewhere),
            Self::NoAnswer => (11, Some(502), Instance, Unanswered),
            Self::ServerTimeout => (12, Some(504), Instance, Never),
            Self::BadResponse(_) => (13, Some(502), Instance, Never),
            Self::BadResponseBody => (14, Some(502), Instance, Never),
            Self::TooManyConnections => (15, Some(503), Keys, Never),
            Self::UnaskedSwitch => (16, Some(502), Instance, Never),
            Self::Removed => (17, Some(504), Keys, Never),
            // RFC 5842 §7.2.
            Self::Loop => (18, Some(508), Keys, Never),
            Self::TargetTooLong => (19, Some(414), Client, Never),
            Self::GaveWay => (20, None, Client, Never),
            Self::TlsHandshake => (21, None, Client, Never),
            Self::TlsTimeout => (22, None, Client, Never),
            Self::PlainOnTls => (23, Some(400), Client, Never),
            Self::BadProxyHeader => (24, None, Client, Never),
            Self::ProxyTimeout => (25, None, Client, Never),
            Self::InstanceTls => (26, Some(502), Instance, Elsewhere),
            // Not the instance's: a client may ask for any host, and must not be able to eject it.
            Self::InstanceName => (27, Some(502), Keys, Never),
            Self::ClientCertificate => (28, Some(403), Client, Never),
            // RFC 9110 §15.5.20.
            Self::Misdirected => (29, Some(421), Client, Never),
            Self::Http2 => (30, None, Client, Never),
            Self::StreamRefused => (31, Some(503), Instance, Unprocessed),
            Self::HelloTooLong => (32, None, Client, Never),
            Self::HelloTimeout => (33, None, Client, Never),
            Self::UnknownServerName => (34, None, Keys, Never),
            Self::CopyDropped => (35, None, Keys, Never),
            Self::NoWebsocket => (36, Some(502), Instance, Never),
            Self::RequestTimeout => (37, Some(504), Instance, Never),
            Self::QueueFull => (38, Some(503), Keys, Never),
            Self::QueueTimeout => (39, Some(503), Keys, Never),
            Self::Shed => (40, Some(503), Keys, Never),
            Self::Denied => (41, Some(403), Client, Never),
            Self::BodyTooLarge => (42, Some(413), Client, Never),
            // RFC 6585 §4.
            Self::RateLimited => (43, Some(429), Client, Never),
            Self::Maintenance => (44, Some(503), Keys, Never),
            Self::Unauthorized => (45, Some(401), Client, Never),
            Self::PasswordsBusy => (46, Some(503), Us, Never),
            Self::AuthUnreachable => (47, Some(503), Keys, Never),
            Self::AuthBadAnswer => (48, Some(502), Keys, Never),
        };
        Facts { status, name: NAMES[index], side, repeat, index }
    }
}

/// Names in metrics and logs, in the order of their counters.
pub const NAMES: &[&str] = &[
    "bad_request",
    "bad_request_body",
    "head_timeout",
    "body_timeout",
    "client_gone",
    "no_route",
    "no_instance",
    "full",
    "exhausted",
    "connect_refused",
    "connect_timeout",
    "no_answer",
    "server_timeout",
    "bad_response",
    "bad_response_body",
    "too_many_connections",
    "unasked_switch",
    "removed",
    "loop",
    "target_too_long",
    "gave_way",
    "tls_handshake",
    "tls_timeout",
    "plain_on_tls",
    "bad_proxy_header",
    "proxy_timeout",
    "instance_tls",
    "instance_name",
    "client_certificate",
    "misdirected",
    "http2",
    "stream_refused",
    "hello_too_long",
    "hello_timeout",
    "unknown_server_name",
    "copy_dropped",
    "no_websocket",
    "request_timeout",
    "queue_full",
    "queue_timeout",
    "shed",
    "denied",
    "body_too_large",
    "rate_limited",
    "maintenance",
    "unauthorized",
    "passwords_busy",
    "auth_unreachable",
    "auth_bad_answer",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_documented() {
        let page = include_str!("../../../docs/native.md");
        for name in NAMES {
            assert!(page.contains(&format!("`{name}`")), "docs/native.md does not name {name}");
        }
    }

    /// Every fault, one of each kind.
    const ALL: [Fault; 49] = [
        Fault::BadRequest(BadRequest::Connect),
        Fault::BadRequestBody(BadBody::ChunkSize),
        Fault::HeadTimeout,
        Fault::BodyTimeout,
        Fault::ClientGone,
        Fault::NoRoute,
        Fault::NoInstance,
        Fault::Full,
        Fault::Exhausted,
        Fault::ConnectRefused,
        Fault::ConnectTimeout,
        Fault::NoAnswer,
        Fault::ServerTimeout,
        Fault::BadResponse(BadResponse::Status),
        Fault::BadResponseBody,
        Fault::TooManyConnections,
        Fault::UnaskedSwitch,
        Fault::Removed,
        Fault::Loop,
        Fault::TargetTooLong,
        Fault::GaveWay,
        Fault::TlsHandshake,
        Fault::TlsTimeout,
        Fault::PlainOnTls,
        Fault::BadProxyHeader,
        Fault::ProxyTimeout,
        Fault::InstanceTls,
        Fault::InstanceName,
        Fault::ClientCertificate,
        Fault::Misdirected,
        Fault::Http2,
        Fault::StreamRefused,
        Fault::HelloTooLong,
        Fault::HelloTimeout,
        Fault::UnknownServerName,
        Fault::CopyDropped,
        Fault::NoWebsocket,
        Fault::RequestTimeout,
        Fault::QueueFull,
        Fault::QueueTimeout,
        Fault::Shed,
        Fault::Denied,
        Fault::BodyTooLarge,
        Fault::RateLimited,
        Fault::Maintenance,
        Fault::Unauthorized,
        Fault::PasswordsBusy,
        Fault::AuthUnreachable,
        Fault::AuthBadAnswer,
    ];

    #[test]
    fn every_fault_has_a_place_of_its_own() {
        let places: Vec<_> = ALL.iter().map(|fault| fault.facts().index).collect();
        assert_eq!(places, (0..NAMES.len()).collect::<Vec<_>>());
    }

    #[test]
    fn the_status_says_whose_fault_it_is() {
        for fault in ALL {
            let Facts { status, side, name, .. } = fault.facts();
            let Some(status) = status else { continue };
            assert!((400..600).contains(&status), "{name}: {status}");
            assert!(status >= 500 || side == Side::Client, "{name}: {status} blames the client");
        }
    }

    #[test]
    fn nothing_is_repeated_that_an_instance_may_have_acted_on() {
        for fault in ALL {
            let Facts { repeat, side, name, .. } = fault.facts();
            assert!(repeat == Repeat::Never || side == Side::Instance, "{name}");
        }
    }
}
