//! How far an exchange has come: one state, seen by both of its directions. Moves nothing itself.

use std::cell::Cell;

use super::decide::Sent;
use crate::net::watch::Guard;

/// How far request and response have come.
#[derive(Debug)]
pub(crate) struct Progress<'w> {
    /// Looks after the client.
    pub(crate) guard: Guard<'w>,
    sent: Cell<Sent>,
    answer: Cell<Answer>,
    /// When the request last moved, coarse time: an instance that still reads is not late with its answer.
    moved: Cell<u64>,
    /// The connection to the instance is logged in for this client, or about to be.
    login: Cell<bool>,
    /// The client left, and the response is thrown away: until when, coarse time; `u64::MAX` while the client is there.
    abandoned: Cell<u64>,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing came from the instance.
    Awaited,
    /// Something came from it; the client was sent nothing that is incomplete.
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
            abandoned: Cell::new(u64::MAX),
        }
    }

    /// Begins anew on another connection: nothing came from it yet.
    /// `login`: the request brings a login that holds for that connection.
    pub(crate) fn begin_attempt(&self, login: bool) {
        self.answer.set(Answer::Awaited);
        self.login.set(login);
    }

    pub(crate) fn sent(&self) -> Sent {
        self.sent.get()
    }

    /// Body bytes were taken from the client that nobody has any more.
    pub(crate) fn streamed(&self) {
        if let Sent::Held { .. } = self.sent.get() {
            self.sent.set(Sent::Partly);
        }
    }

    /// The last byte of the request was sent.
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

    /// The instance asked for a login that holds for its connection.
    pub(crate) fn asked_for_login(&self) {
        self.login.set(true);
    }

    /// Whether the connection to the instance is logged in for this client, or about to be.
    pub(crate) fn is_login(&self) -> bool {
        self.login.get()
    }

    /// The client left: the response is thrown away, until then, coarse time.
    pub(crate) fn abandon(&self, until: u64) {
        self.abandoned.set(until);
    }

    /// Until when the response is thrown away, coarse time; `u64::MAX` while the client is there.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.get()
    }

    /// Whether the client left, and the response is thrown away.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.get() < u64::MAX
    }

    /// Whether the final response has begun.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.answer.get(), Answer::Begun(_))
    }

    /// Whether what the client was sent would be incomplete if nothing followed.
    pub(crate) fn begun(&self) -> bool {
        matches!(self.answer.get(), Answer::Interim | Answer::Begun(_))
    }

    /// When the request last moved, coarse time; `u64::MAX` while the client is awaited.
    pub(crate) fn moved(&self) -> &Cell<u64> {
        &self.moved
    }

    /// The response moved: meanwhile the instance owes nothing, and neither does it while the client is awaited.
    pub(crate) fn heard(&self, now: u64) {
        self.moved.set(self.moved.get().max(now));
    }

    /// The request moved, or the client is awaited (`u64::MAX`): meanwhile the instance owes nothing.
    pub(crate) fn set_moved(&self, now: u64) {
        self.moved.set(now);
    }
}
