//! The bytes below the frames of an HTTP/2 connection: what was read before they were known to be HTTP/2, then the
//! connection. Notes since when writing has stalled. Knows no frame.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
}

impl FrameCarrier {
    /// `early`: what was read of the connection already.
    pub(crate) fn new(stream: Stream, early: Vec<u8>, timers: &Rc<Timers>) -> Self {
        Self { early, taken: 0, stream, timers: Rc::clone(timers), stalled: Rc::new(Cell::new(u64::MAX)) }
    }

    /// Since when writing has stalled.
    pub(crate) fn stalled(&self) -> Stalled {
        Rc::clone(&self.stalled)
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        match written {
            Poll::Pending => self.stalled.set(self.stalled.get().min(self.timers.now())),
            Poll::Ready(_) => self.stalled.set(u64::MAX),
        }
        written
    }
}

impl AsyncRead for FrameCarrier {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let early = &this.early[this.taken..];
        if early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buf);
        }
        let count = early.len().min(buf.remaining());
        buf.put_slice(&early[..count]);
        this.taken += count;
        if this.taken == this.early.len() {
            (this.early, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
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
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
