//! How far an exchange has come, for both of its directions to see. Moves nothing itself.

use std::cell::Cell;

use crate::fault::Fault;

/// How far request and response have come, for the other direction to see.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The whole request is sent.
    pub(crate) uploaded: Cell<bool>,
    /// Body bytes were taken from the client that nobody has any more.
    pub(crate) streamed: Cell<bool>,
    /// A part of the response was sent to the client.
    pub(crate) begun: Cell<bool>,
    /// When the request last moved, coarse time: an instance that still reads is not late with its answer.
    pub(crate) moved: Cell<u64>,
}

impl Progress {
    /// What is left to do after a fault: answer it, or cut what was begun.
    pub(crate) fn failed(&self, fault: Fault) -> Answered {
        if self.begun.get() { Answered::Cut(fault) } else { Answered::Fault(fault) }
    }

    pub(crate) fn new(now: u64, uploaded: bool) -> Self {
        Self {
            uploaded: Cell::new(uploaded),
            streamed: Cell::new(false),
            begun: Cell::new(false),
            moved: Cell::new(now),
        }
    }
}

/// How answering ended.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The whole response is sent.
    Complete {
        /// The client may send its next request.
        keep_client: bool,
        /// The instance keeps its connection.
        keep_instance: bool,
    },
    /// 101 is sent: from here on it is a tunnel.
    Switched,
    /// The instance closed without a byte of an answer.
    Nothing,
    /// Nothing was sent to the client.
    Fault(Fault),
    /// A part was sent to the client.
    Cut(Fault),
}
