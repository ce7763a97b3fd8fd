//! Everything that can go wrong between a client and an instance, each with its status, its name and whose it is.
//! One exhaustive map; the rest of the engine never writes a status number.

use pointsman_wire::{BadBody, BadRequest, BadResponse};

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
    /// No service takes the request.
    #[error("no service takes this request")]
    NoRoute,
    /// The service has no instance that takes work.
    #[error("the service has no instance that takes work")]
    NoInstance,
    /// Every instance is at its `maxconn`, and none was free in time.
    #[error("every instance is at its maxconn")]
    Full,
    /// The machine has no descriptors or ports left for one more connection.
    #[error("no descriptors or ports left for a connection to an instance")]
    Exhausted,
    /// The instance refused the connection, or no way leads to it.
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
    /// More open connections than `limit/connections`.
    #[error("too many open connections")]
    TooManyConnections,
}

impl Fault {
    /// The status that answers it, if an answer can still be given. `None`: nobody is there to read it.
    pub(crate) fn status(self) -> Option<u16> {
        Some(match self {
            Self::BadRequest(bad) => bad.status(),
            Self::BadRequestBody(_) => 400,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::ClientGone => return None,
            Self::NoRoute | Self::NoInstance | Self::Full | Self::Exhausted | Self::TooManyConnections => 503,
            Self::ConnectRefused
            | Self::NoAnswer
            | Self::BadResponse(_)
            | Self::BadResponseBody
            | Self::UnaskedSwitch => 502,
            Self::ConnectTimeout | Self::ServerTimeout | Self::Removed => 504,
        })
    }

    /// The name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// Position in [`NAMES`] and in counters.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::BadRequest(_) => 0,
            Self::BadRequestBody(_) => 1,
            Self::HeadTimeout => 2,
            Self::BodyTimeout => 3,
            Self::ClientGone => 4,
            Self::NoRoute => 5,
            Self::NoInstance => 6,
            Self::Full => 7,
            Self::Exhausted => 8,
            Self::ConnectRefused => 9,
            Self::ConnectTimeout => 10,
            Self::NoAnswer => 11,
            Self::ServerTimeout => 12,
            Self::BadResponse(_) => 13,
            Self::BadResponseBody => 14,
            Self::TooManyConnections => 15,
            Self::UnaskedSwitch => 16,
            Self::Removed => 17,
        }
    }

    /// Whether the instance is to blame for not taking the connection: three in a row take it out of rotation.
    pub(crate) fn blames_instance(self) -> bool {
        matches!(self, Self::ConnectRefused | Self::ConnectTimeout)
    }
}

/// Names in metrics and logs, in the order of [`Fault::index`].
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

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        let faults = [Fault::ClientGone, Fault::NoRoute, Fault::Full, Fault::Removed, Fault::TooManyConnections];
        for (fault, name) in faults.iter().zip(["client_gone", "no_route", "full", "removed", "too_many_connections"]) {
            assert_eq!(fault.name(), name);
        }
        assert_eq!(Fault::Removed.index() + 1, NAMES.len());
    }
}
