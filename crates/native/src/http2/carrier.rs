//! The bytes below the frames of an HTTP/2 connection: what was read before they were known to be HTTP/2, then the
//! connection. Notes since when writing has stalled, and shows a client's frames to whoever counts them. Knows no frame.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::backlog::Backlog;
use crate::http2::glitches::Glitches;
use crate::net::deadline::Timers;
use crate::net::stream::Stream;

/// Since when the other side has taken nothing while something was to be written, coarse time; `u64::MAX` while it
/// takes what comes.
pub(crate) type Stalled = Rc<Cell<u64>>;

/// A connection for frames.
#[derive(Debug)]
pub(crate) struct FrameCarrier {
    /// What was read already, and how much of it was taken.
    early: Vec<u8>,
    taken: usize,
    stream: Stream,
    timers: Rc<Timers>,
    stalled: Stalled,
    /// Where it is a client's: sees its frames; counts what it has not taken.
    client: Option<(Rc<Glitches>, Rc<Backlog>)>,
}

impl FrameCarrier {
    /// `early`: what was read of the connection already.
    pub(crate) fn new(stream: Stream, early: Vec<u8>, timers: &Rc<Timers>) -> Self {
        Self { early, taken: 0, stream, timers: Rc::clone(timers), stalled: Rc::new(Cell::new(u64::MAX)), client: None }
    }

    /// Shows the frames of a client to this, and reads nothing more once they are a breach; and what it has taken.
    pub(crate) fn watched(self, glitches: &Rc<Glitches>, backlog: &Rc<Backlog>) -> Self {
        Self { client: Some((Rc::clone(glitches), Rc::clone(backlog))), ..self }
    }

    /// Since when writing has stalled.
    pub(crate) fn stalled(&self) -> Stalled {
        Rc::clone(&self.stalled)
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.stalled.set(self.stalled.get().min(self.timers.now())),
            Poll::Ready(_) => self.stalled.set(u64::MAX),
        }
        if let (Poll::Ready(Ok(count)), Some((glitches, backlog))) = (&written, &self.client) {
            glitches.sent(*count);
            backlog.written(*count, self.timers.now());
        }
        written
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let early = &self.early[self.taken..];
        if early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buf);
        }
        let count = early.len().min(buf.remaining());
        buf.put_slice(&early[..count]);
        self.taken += count;
        if self.taken == self.early.len() {
            (self.early, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FrameCarrier {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.client.as_ref().is_some_and(|(glitches, _)| glitches.breach().is_some()) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let filled = this.poll_fill(context, buf);
        if let Some((glitches, _)) = &this.client {
            glitches.came(&buf.filled()[before..], this.timers.now());
        }
        filled
    }
}

impl AsyncWrite for FrameCarrier {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if let (Poll::Ready(Ok(())), Some((_, backlog))) = (&flushed, &this.client) {
            backlog.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
