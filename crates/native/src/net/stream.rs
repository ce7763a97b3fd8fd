//! A connection, whatever it runs over, whole or as two halves. Adds nothing to what the kernel does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use pointsman_engine::sys::unacknowledged;

use super::socket::{Bare, Socket};
use super::tls::Tls;

/// A connection that bytes are written to.
pub(crate) trait Written {
    /// Written bytes that the other side has not acknowledged yet.
    fn unacknowledged(&self) -> usize;
}

/// A connection to a client or an instance.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<Tls>),
}

impl From<Bare> for Stream {
    fn from(bare: Bare) -> Self {
        match bare {
            Bare::Tcp(stream) => Self::Tcp(stream),
            Bare::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl Stream {
    /// The two directions, for use at the same time in one task.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
            Self::Tls(tls) => (ReadHalf::Tls(tls), WriteHalf::Tls(tls)),
        }
    }

    /// The socket, to see what happens on it.
    pub(crate) fn socket(&self) -> Socket<'_> {
        match self {
            Self::Tcp(stream) => Socket::Tcp(stream),
            Self::Unix(stream) => Socket::Unix(stream),
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Makes the coming close a reset, so that a stream cut short does not look complete.
    pub(crate) fn reset_on_close(&self) {
        if let Some(stream) = self.tcp() {
            // Fails only on a socket that is gone already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        #[cfg(test)]
        if let Self::Unix(stream) = self {
            crate::tests::resets::note(stream);
        }
    }

    /// Whether written bytes may still arrive: never after the other side broke the connection.
    pub(crate) fn is_settling(&self) -> bool {
        self.is_open() && self.unacknowledged() > 0
    }

    /// Whether the connection is intact: `false` once the other side has broken it.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok(),
            Self::Unix(stream) => stream.peer_addr().is_ok(),
            Self::Tls(tls) => tls.socket().is_open(),
        }
    }

    /// Whether an idle connection may be used again: it is open, and the instance sent nothing unasked. Makes no system
    /// call when nothing happened on it.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Tls(tls) => return tls.is_quiet(),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether it serves requests for this host: it was opened for it, or the host has no part in it.
    pub(crate) fn is_for(&self, host: Option<&str>) -> bool {
        match self {
            Self::Tls(tls) => tls.host() == host,
            Self::Tcp(_) | Self::Unix(_) => true,
        }
    }

    /// Tells the other side that all was sent, where the close alone does not say so.
    pub(crate) fn take_leave(&self) {
        if let Self::Tls(tls) = self {
            tls.take_leave();
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) => None,
            Self::Tls(tls) => tls.socket().tcp(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Tls(tls) => tls.poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(tls) => tls.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(tls) => {
                tls.poll_write(context, parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(tls) => tls.poll_shutdown(context),
        }
    }
}

impl Written for Stream {
    fn unacknowledged(&self) -> usize {
        match self {
            Self::Tcp(stream) => unacknowledged(stream),
            Self::Unix(stream) => unacknowledged(stream),
            Self::Tls(tls) => tls.socket().unacknowledged(),
        }
    }
}

/// The reading direction.
#[derive(Debug)]
pub(crate) enum ReadHalf<'a> {
    /// TCP.
    Tcp(tcp::ReadHalf<'a>),
    /// A Unix socket.
    Unix(unix::ReadHalf<'a>),
    /// TLS over TCP.
    Tls(&'a Tls),
}

impl ReadHalf<'_> {
    /// Whether there may be something to read; if not, the task is woken when there is.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_read_ready(context),
            Self::Unix(half) => half.as_ref().poll_read_ready(context),
            Self::Tls(tls) => tls.poll_readable(context),
        }
    }

    /// Acknowledges at once what has come, instead of up to 40 ms later: a sender with Nagle's algorithm on keeps the
    /// rest of its message back until then (RFC 9293 §3.7.4, `TCP_QUICKACK` of tcp(7)). Applies only to what has come
    /// by now.
    pub(crate) fn acknowledge(&self) {
        let socket = match self {
            Self::Tcp(half) => Some(half.as_ref()),
            Self::Unix(_) => None,
            Self::Tls(tls) => tls.socket().tcp(),
        };
        // Fails only on a socket that is gone, which the next read reports.
        let _ = socket.map(|socket| SockRef::from(socket).set_tcp_quickack(true));
    }
}

impl Written for ReadHalf<'_> {
    fn unacknowledged(&self) -> usize {
        match self {
            Self::Tcp(half) => unacknowledged(half.as_ref()),
            Self::Unix(half) => unacknowledged(half.as_ref()),
            Self::Tls(tls) => tls.socket().unacknowledged(),
        }
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(context, buf),
            Self::Unix(half) => Pin::new(half).poll_read(context, buf),
            Self::Tls(tls) => tls.poll_read(context, buf),
        }
    }
}

/// The writing direction.
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    /// TCP.
    Tcp(tcp::WriteHalf<'a>),
    /// A Unix socket.
    Unix(unix::WriteHalf<'a>),
    /// TLS over TCP.
    Tls(&'a Tls),
}

impl WriteHalf<'_> {
    /// The socket, to see what happens on it.
    pub(crate) fn socket(&self) -> Socket<'_> {
        match self {
            Self::Tcp(half) => Socket::Tcp(half.as_ref()),
            Self::Unix(half) => Socket::Unix(half.as_ref()),
            Self::Tls(tls) => tls.socket(),
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(context, bytes),
            Self::Unix(half) => Pin::new(half).poll_write(context, bytes),
            Self::Tls(tls) => tls.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(context),
            Self::Unix(half) => Pin::new(half).poll_shutdown(context),
            Self::Tls(tls) => tls.poll_shutdown(context),
        }
    }
}

impl Written for WriteHalf<'_> {
    fn unacknowledged(&self) -> usize {
        match self {
            Self::Tcp(half) => unacknowledged(half.as_ref()),
            Self::Unix(half) => unacknowledged(half.as_ref()),
            Self::Tls(tls) => tls.socket().unacknowledged(),
        }
    }
}
