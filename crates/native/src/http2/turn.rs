//! One request of a client's HTTP/2 connection: where it comes from and where its response goes. Serves nothing.

use h2::Reason;

use super::outgoing::Outgoing;
use super::recv::Recv;

/// A request of a client's connection, and its response.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) recv: Recv,
    pub(crate) out: Outgoing,
    /// It is a HEAD request.
    pub(crate) head_request: bool,
}

impl Turn {
    /// Breaks the response off: the client must see that it is incomplete.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.out.reset(reason);
    }
}
