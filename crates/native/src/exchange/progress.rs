//! How far an exchange has come: one state, shared by both directions. Moves nothing itself.

use std::cell::{Cell, OnceCell};

use super::bound::Remainder;
use super::decide::Sent;
use crate::fault::Fault;
use crate::net::watch::Guard;

/// A request that gets an answer of ours: why, and whether all of it has come from the client.
pub(super) type Unserved = (Fault, bool);

/// How far request and response have come.
#[derive(Debug)]
pub(crate) struct Progress<'w> {
    /// Watches the client.
    pub(crate) guard: Guard<'w>,
    sent: Cell<Sent>,
    answer: Cell<Answer>,
    /// When the request last moved, coarse time: an instance that still reads is not late with its answer.
    moved: Cell<u64>,
    /// The connection to the instance is logged in for this client, or about to be.
    login: Cell<bool>,
    /// The 5xx of an answer that is thrown away, or that a gRPC answer without a message stands for; 0: none.
    failure: Cell<u16>,
    /// Until when the response is read and discarded, as the client left, coarse time; `u64::MAX` while the client is
    /// there.
    abandoned: Cell<u64>,
    /// What is left to a request of a service with bounds; most have none.
    bound: OnceCell<Box<Remainder>>,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing came from the instance.
    Awaited,
    /// Something came from it; the client was sent nothing, or whole interim responses.
    Heard,
    /// A part of an interim (1xx) response was sent to the client.
    Interim,
    /// A part of the response with this status was sent to the client.
    Begun(u16),
}

impl<'w> Progress<'w> {
    pub(crate) fn new(whole: bool, guard: Guard<'w>) -> Self {
        let sent = Cell::new(Sent::Held { whole });
        Self {
            guard,
            sent,
            answer: Cell::new(Answer::Awaited),
            moved: Cell::new(0),
            login: Cell::new(false),
            failure: Cell::new(0),
            abandoned: Cell::new(u64::MAX),
            bound: OnceCell::new(),
        }
    }

    /// Begins an attempt on another connection, from which nothing came yet. `login`: the request carries a login that
    /// holds for that connection.
    pub(crate) fn begin_attempt(&self, login: bool) {
        self.answer.set(Answer::Awaited);
        self.login.set(login);
        self.failure.set(0);
    }

    /// Sets what is left to the request.
    pub(crate) fn bind(&self, bound: Remainder) -> &Remainder {
        self.bound.get_or_init(|| Box::new(bound))
    }

    /// What is left to the request, if its service has bounds.
    pub(crate) fn bound(&self) -> Option<&Remainder> {
        self.bound.get().map(|bound| &**bound)
    }

    /// The request gets an answer of ours.
    pub(crate) fn unserved(&self, fault: Fault) -> Unserved {
        (fault, self.sent().is_whole())
    }

    pub(crate) fn sent(&self) -> Sent {
        self.sent.get()
    }

    /// Notes that body bytes were taken from the client and are not kept.
    pub(crate) fn streamed(&self) {
        if let Sent::Held { .. } = self.sent.get() {
            self.sent.set(Sent::Partly);
        }
    }

    /// Notes that the last byte of the request was sent.
    pub(crate) fn uploaded(&self) {
        self.sent.set(match self.sent.get() {
            Sent::Held { .. } => Sent::Held { whole: true },
            Sent::Partly | Sent::Whole => Sent::Whole,
        });
    }

    pub(crate) fn answer(&self) -> Answer {
        self.answer.get()
    }

    pub(crate) fn set_answer(&self, answer: Answer) {
        self.answer.set(answer);
    }

    /// Notes that the instance asked for a login that holds for its connection.
    pub(crate) fn asked_for_login(&self) {
        self.login.set(true);
    }

    /// Whether the connection to the instance is logged in for this client, or about to be.
    pub(crate) fn is_login(&self) -> bool {
        self.login.get()
    }

    /// Notes the 5xx of an answer that is thrown away, or that a gRPC answer stands for; 0: none.
    pub(crate) fn failed(&self, status: u16) {
        self.failure.set(status);
    }

    /// The 5xx of an answer that is thrown away, or that a gRPC answer stands for; 0: none.
    pub(crate) fn failure(&self) -> u16 {
        self.failure.get()
    }

    /// Notes that the client left: the response is read and discarded until then, coarse time.
    pub(crate) fn abandon(&self, until: u64) {
        self.abandoned.set(until);
    }

    /// Until when the response is discarded, coarse time; `u64::MAX` while the client is there.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.get()
    }

    /// Whether the client left, and the response is discarded.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.get() < u64::MAX
    }

    /// Whether the final response has begun.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.answer.get(), Answer::Begun(_))
    }

    /// Whether the client was sent a part of a response: it would be incomplete if nothing followed.
    pub(crate) fn begun(&self) -> bool {
        matches!(self.answer.get(), Answer::Interim | Answer::Begun(_))
    }

    /// When the request last moved, coarse time; `u64::MAX` while the client is awaited.
    pub(crate) fn moved(&self) -> &Cell<u64> {
        &self.moved
    }

    /// The response moved: the instance's time limit starts again. While the client is awaited, it does not run.
    pub(crate) fn heard(&self, now: u64) {
        self.moved.set(self.moved.get().max(now));
    }

    /// The request moved: the instance's time limit starts again. `u64::MAX`: the client is awaited, and it does not
    /// run.
    pub(crate) fn set_moved(&self, now: u64) {
        self.moved.set(now);
    }
}
