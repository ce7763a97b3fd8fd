//! One request of a client's HTTP/2 connection: where it comes from and where its response goes. Serves nothing.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;

use h2::Reason;

use super::outgoing::Outgoing;
use super::recv::Recv;
use crate::http1::client::{LINGER, LINGER_QUIET};
use crate::net::deadline::Deadline;

/// A request of a client's connection, and its response.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) recv: Recv,
    pub(crate) out: Outgoing,
    /// It is a HEAD request.
    pub(crate) head_request: bool,
    /// It is a call of gRPC.
    pub(crate) is_grpc: bool,
}

impl Turn {
    /// Breaks the response off, so that the client sees that it is incomplete. Does nothing when all of it was sent.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.out.reset(reason);
    }

    /// After an early response: reads the rest of the request and discards it. Then the stream ends with `NO_ERROR` (RFC
    /// 9113 §8.1), which some clients take for a failure while they still send.
    pub(crate) async fn linger(&mut self, deadline: &Deadline) {
        let (since, until) = (Cell::new(deadline.now()), deadline.after(LINGER));
        let read_on = async {
            while poll_fn(|context| self.recv.poll_fill(context)).await? > 0 {
                since.set(deadline.now());
                self.recv.take(usize::MAX);
                self.recv.passed_on();
            }
            io::Result::Ok(())
        };
        let ends = || deadline.later(since.get(), LINGER_QUIET).min(until);
        // Whatever happens here, the request is over.
        let _ = deadline.watched(ends, read_on).await;
    }
}
