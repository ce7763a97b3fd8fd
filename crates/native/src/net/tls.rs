//! A TLS connection as bytes. Both directions are used by one task, so a cell serves where a lock would be needed.
//! Chooses no certificate.
//!
//! ```text
//! Stream::Tls ── Tls { session ── Carrier ─┐
//!                      socket ─────────────┴─ TcpStream }
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::ServerConfig;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// A TLS connection after its handshake.
pub(crate) struct Tls {
    socket: Rc<TcpStream>,
    session: RefCell<TlsStream<Carrier>>,
    /// Bytes that the session took, and whose ciphertext is not with the kernel yet.
    taken: Cell<usize>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Tls {
    /// Does the handshake of a connection of which these bytes were read. What went wrong was told to the client by an alert, if it still listens.
    ///
    /// # Errors
    /// What rustls says of the client, or what became of the connection.
    pub(crate) async fn accept(stream: TcpStream, read: Vec<u8>, config: Arc<ServerConfig>) -> io::Result<Self> {
        let socket = Rc::new(stream);
        let carrier = Carrier { socket: Rc::clone(&socket), read: read.into() };
        let start = LazyConfigAcceptor::new(Acceptor::default(), carrier).await?;
        let session = start.into_stream(config).await?;
        Ok(Self { socket, session: RefCell::new(session), taken: Cell::new(0) })
    }

    /// The connection below.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether there may be something to read; if not, the task is woken when there is.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Decrypted bytes, or the end of the stream.
        let has_some = !self.session.borrow().get_ref().1.wants_read();
        if has_some { Poll::Ready(Ok(())) } else { self.socket.poll_read_ready(context) }
    }

    pub(crate) fn poll_read(&self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_read(context, buf)
    }

    /// As [`AsyncWrite::poll_write`], and ready only when the kernel has the ciphertext: nobody flushes. Whoever was told
    /// to wait comes back with the same bytes, or writes no more.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut session = self.session.borrow_mut();
        if self.taken.get() == 0 {
            self.taken.set(ready!(Pin::new(&mut *session).poll_write(context, bytes))?);
        }
        ready!(Pin::new(&mut *session).poll_flush(context))?;
        Poll::Ready(Ok(self.taken.take()))
    }

    /// Ends our direction: an alert (RFC 8446 §6.1), and a FIN.
    pub(crate) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_shutdown(context)
    }

    /// Tells the other side that all was sent, if there is room for it now.
    pub(crate) fn take_leave(&self) {
        let mut session = self.session.borrow_mut();
        session.get_mut().1.send_close_notify();
        let mut flush = pin!(session.flush());
        // The connection is over, whether or not it was told.
        let _ = flush.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// A socket that a session uses, and that others may look at meanwhile.
struct Carrier {
    socket: Rc<TcpStream>,
    /// Bytes that were read from it before. No handshake is done without them, so they are gone after it.
    read: VecDeque<u8>,
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            self.get_mut().take(buf);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            match self.socket.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Carrier {
    /// Takes bytes that were read before, and gives their memory back after the last.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let piece = self.read.as_slices().0;
        let count = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..count]);
        self.read.drain(..count);
        if self.read.is_empty() {
            self.read = VecDeque::new();
        }
    }

    /// Writes once there is room.
    fn poll_with(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(context, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(context, |socket| socket.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}
