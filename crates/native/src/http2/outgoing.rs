//! A message that goes on a stream: a response, or a request's body. Sends what the other side has room for (RFC 9113
//! §5.2), and no more is taken from its source meanwhile.
//!
//! ```text
//! Respond ── head ──> Body ── data ──> Body ── end, trailers ──> Over
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};
use pointsman_wire::{BodyWriter, Trailers};

use crate::http2::backlog::Backlog;
use crate::net::buffer::Size;
use crate::net::deadline::Deadline;
use crate::net::pace::LEAST;
use crate::net::socket::BreaksOff;

/// How many interim heads of one response are sent.
const INTERIM: usize = 100;

/// A message that goes.
pub(crate) struct Outgoing {
    /// In a cell, as the stream is watched while something else is awaited.
    stage: RefCell<Stage>,
    /// The head of the response, to be sent next.
    head: Option<Response<()>>,
    /// Body bytes to be sent next, and how many.
    chunks: VecDeque<Bytes>,
    queued: usize,
    /// The message ends after them, perhaps with trailers.
    end: Option<Option<HeaderMap>>,
    /// How many interim heads there were.
    interim: usize,
    /// What its client's connection holds.
    backlog: Option<Rc<Backlog>>,
}

enum Stage {
    Respond(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    Over,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("queued", &self.queued).field("end", &self.end).finish_non_exhaustive()
    }
}

impl BreaksOff for Outgoing {
    fn poll_broken_off(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.stage.borrow_mut() {
            Stage::Respond(respond) => respond.poll_reset(context).map(drop),
            Stage::Body(stream) => stream.poll_reset(context).map(drop),
            Stage::Over => Poll::Pending,
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.throw_away();
    }
}

impl Outgoing {
    /// A response.
    pub(crate) fn response(respond: SendResponse<Bytes>, backlog: &Rc<Backlog>) -> Self {
        Self::new(Stage::Respond(respond), Some(Rc::clone(backlog)))
    }

    /// The body of a request. `None`: it has none.
    pub(crate) fn request(body: Option<SendStream<Bytes>>) -> Self {
        Self::new(body.map_or(Stage::Over, Stage::Body), None)
    }

    fn new(stage: Stage, backlog: Option<Rc<Backlog>>) -> Self {
        Self {
            stage: RefCell::new(stage),
            head: None,
            chunks: VecDeque::new(),
            queued: 0,
            end: None,
            interim: 0,
            backlog,
        }
    }

    /// How much to read of the message at once, if its connection bounds it.
    pub(crate) fn allowance(&self) -> Option<Rc<Cell<Size>>> {
        self.backlog.as_ref().map(|backlog| backlog.allowance())
    }

    /// Puts the head of the response first.
    pub(crate) fn begin(&mut self, head: Response<()>) {
        self.head = Some(head);
    }

    /// Sends an interim head at once. The client may not read, so those behind the first [`INTERIM`] are left out.
    pub(crate) fn interim(&mut self, head: Response<()>) {
        self.interim += 1;
        if self.interim > INTERIM {
            return;
        }
        if let Stage::Respond(respond) = &mut *self.stage.borrow_mut() {
            // A client that is gone is noticed by whoever watches it.
            let _ = respond.send_informational(head);
        }
    }

    /// Appends body bytes.
    pub(crate) fn data(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queued += bytes.len();
            self.backlog.iter().for_each(|backlog| backlog.queue(bytes.len()));
            // Mostly there is one, and a client may hold a hundred responses.
            if self.chunks.capacity() == 0 {
                self.chunks.reserve_exact(1);
            }
            self.chunks.push_back(bytes);
        }
    }

    /// Ends the message.
    pub(crate) fn end(&mut self, trailers: Option<HeaderMap>) {
        self.end = Some(trailers);
    }

    /// Body bytes that were not sent.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none() && self.queued == 0 && self.end.is_none()
    }

    /// Appends what is queued of the body in the framing of HTTP/1.
    #[cold]
    pub(crate) fn write_queued(&self, writer: BodyWriter, into: &mut Vec<u8>) {
        self.chunks.iter().for_each(|chunk| writer.data(chunk, into));
        if let Some(trailers) = &self.end {
            let mut lines = Vec::new();
            let fields = trailers.iter().flatten();
            fields.for_each(|(name, value)| Trailers::push(name.as_str(), value.as_bytes(), &mut lines));
            writer.end(&Trailers::of(&lines), into);
        }
    }

    /// Discards what was not sent.
    pub(crate) fn throw_away(&mut self) {
        self.backlog.iter().for_each(|backlog| backlog.unqueue(self.queued));
        (self.head, self.end, self.queued) = (None, None, 0);
        self.chunks.clear();
    }

    /// Breaks the message off. Does nothing when all of it was sent.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.throw_away();
        match self.stage.replace(Stage::Over) {
            Stage::Respond(mut respond) => respond.send_reset(reason),
            Stage::Body(mut stream) => stream.send_reset(reason),
            Stage::Over => {}
        }
    }

    /// Sends all that there is, for as long as the other side gives room for it within `limit`, but not beyond `ends`,
    /// coarse time. Returns how many body bytes there were.
    pub(crate) async fn flush(
        &mut self,
        deadline: &Deadline,
        (limit, ends): (Duration, impl Fn() -> u64),
    ) -> (usize, io::Result<()>) {
        let (count, pace) = (self.queued, Flow { moved: Cell::new(deadline.now()), bytes: Cell::new(0) });
        let until = || deadline.later(pace.moved.get(), limit).min(ends());
        let sent = deadline.watched(until, poll_fn(|context| self.poll_flush(deadline, &pace, context))).await;
        (count, sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
    }

    fn poll_flush(&mut self, clock: &Deadline, pace: &Flow, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send_head()?;
        while let Some(front) = self.chunks.front_mut() {
            let Stage::Body(stream) = self.stage.get_mut() else { return gone() };
            if let Some(backlog) = &self.backlog {
                ready!(backlog.poll_room(context));
            }
            stream.reserve_capacity(self.queued);
            let room = match stream.capacity() {
                0 => ready!(stream.poll_capacity(context)).unwrap_or(Ok(0)).map_err(io::Error::other)?,
                room => room,
            };
            let piece = front.split_to(room.min(front.len()));
            pace.moved(piece.len(), clock.now());
            self.queued -= piece.len();
            if let Some(backlog) = &self.backlog {
                backlog.unqueue(piece.len());
                backlog.give(piece.len());
            }
            if front.is_empty() {
                self.chunks.pop_front();
            }
            let is_last = self.queued == 0 && self.end == Some(None);
            stream.send_data(piece, is_last).map_err(io::Error::other)?;
            if is_last {
                return self.over();
            }
        }
        self.send_end()
    }

    /// Sends the head, with the end of the message if nothing else comes.
    fn send_head(&mut self) -> io::Result<()> {
        let Some(head) = self.head.take() else { return Ok(()) };
        let is_last = self.queued == 0 && self.end == Some(None);
        let Stage::Respond(respond) = self.stage.get_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let stream = respond.send_response(head, is_last).map_err(io::Error::other)?;
        *self.stage.get_mut() = if is_last { Stage::Over } else { Stage::Body(stream) };
        if is_last {
            self.end = None;
        }
        Ok(())
    }

    fn send_end(&mut self) -> Poll<io::Result<()>> {
        let Some(end) = self.end.take() else { return Poll::Ready(Ok(())) };
        match (self.stage.get_mut(), end) {
            (Stage::Body(stream), Some(trailers)) => stream.send_trailers(trailers).map_err(io::Error::other)?,
            (Stage::Body(stream), None) => stream.send_data(Bytes::new(), true).map_err(io::Error::other)?,
            (Stage::Respond(_) | Stage::Over, _) => {}
        }
        self.over()
    }

    fn over(&mut self) -> Poll<io::Result<()>> {
        self.end = None;
        self.stage.replace(Stage::Over);
        Poll::Ready(Ok(()))
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}

/// When bytes last moved: a window that opens by a byte now and then is no progress (CVE-2026-49975).
struct Flow {
    moved: Cell<u64>,
    bytes: Cell<u64>,
}

impl Flow {
    fn moved(&self, count: usize, now: u64) {
        self.bytes.set(self.bytes.get() + count as u64);
        if self.bytes.get() >= now.saturating_sub(self.moved.get()).saturating_mul(LEAST) / 1_000 {
            self.bytes.set(0);
            self.moved.set(now);
        }
    }
}
