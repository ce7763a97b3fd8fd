//! A connection as the kernel has it, without TLS: TCP or a Unix socket. Never waits, but for what callers poll.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};

use pointsman_engine::sys::unacknowledged;
use socket2::SockRef;
use tokio::io::{AsyncWriteExt as _, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// A connection without TLS.
#[derive(Debug)]
pub(crate) enum Bare {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Bare {
    /// Sends all bytes.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    /// What happens on it.
    pub(super) fn socket(&self) -> Socket<'_> {
        match self {
            Self::Tcp(stream) => Socket::Tcp(stream),
            Self::Unix(stream) => Socket::Unix(stream),
        }
    }
}

/// A client that shares its connection with others of its requests, and breaks this one off alone.
pub(crate) trait BreaksOff: std::fmt::Debug {
    /// Ready when the client broke it off, or its connection is lost; if not, the task is woken when that happens.
    fn poll_broken_off(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// The same, for as long as it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket<'a> {
    /// TCP.
    Tcp(&'a TcpStream),
    /// A Unix socket.
    Unix(&'a UnixStream),
    /// One of several requests on a connection: it is only watched.
    Part(&'a dyn BreaksOff),
}

impl<'a> Socket<'a> {
    /// The TCP connection, if it is one.
    pub(crate) fn tcp(self) -> Option<&'a TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Part(_) => None,
        }
    }

    /// Whether the connection is intact.
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok(),
            Self::Unix(stream) => stream.peer_addr().is_ok(),
            Self::Part(_) => true,
        }
    }

    /// Reads what is there.
    pub(super) fn try_read(self, buf: &mut [u8]) -> io::Result<usize> {
        let count = match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Unix(stream) => stream.try_read(buf),
            Self::Part(_) => Err(io::ErrorKind::Unsupported.into()),
        }?;
        if 0 < count && count < buf.len() {
            self.emptied();
        }
        Ok(count)
    }

    /// A read left room: the next one waits for more without asking the kernel. What came meanwhile is told by the next
    /// look at all sockets, which this thread takes.
    fn emptied(self) {
        let nothing = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
        // The error makes the runtime forget that there was something to read.
        let _ = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Part(_) => Ok(()),
        };
    }

    /// Writes as much as there is room for.
    pub(super) fn try_write(self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Part(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The same, of several pieces.
    pub(super) fn try_write_vectored(self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(parts),
            Self::Unix(stream) => stream.try_write_vectored(parts),
            Self::Part(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether there is room to write; if not, the task is woken when there is.
    pub(super) fn poll_writable(self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
            Self::Part(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Whether something happened since the last read; if not, the task is woken when it does.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
            Self::Part(part) => part.poll_broken_off(context).map(Ok),
        }
    }

    /// Waits for any of these, and returns those that are there.
    ///
    /// # Errors
    /// Only when the runtime ends.
    pub(crate) async fn ready(self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
            // It is asked only after it was readable.
            Self::Part(_) => Ok(Ready::ERROR),
        }
    }

    /// Ends our direction.
    pub(super) fn shutdown(self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Part(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Written bytes that the other side has not acknowledged yet.
    pub(super) fn unacknowledged(self) -> usize {
        match self {
            Self::Tcp(stream) => unacknowledged(stream),
            Self::Unix(stream) => unacknowledged(stream),
            Self::Part(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_read_that_leaves_room_waits_for_more() {
        let (near, far) = UnixStream::pair().unwrap();
        let (socket, mut buf) = (Socket::Unix(&far), [0; 4]);
        for (sent, is_emptied) in [(&b"one"[..], true), (b"four", false)] {
            near.writable().await.unwrap();
            near.try_write(sent).unwrap();
            poll_fn(|context| socket.poll_readable(context)).await.unwrap();
            assert_eq!(socket.try_read(&mut buf).unwrap(), sent.len());
            let waits = poll_fn(|context| Poll::Ready(socket.poll_readable(context).is_pending())).await;
            assert_eq!(waits, is_emptied, "{sent:?}");
        }
        drop(near);
        poll_fn(|context| socket.poll_readable(context)).await.unwrap();
        assert_eq!(socket.try_read(&mut buf).unwrap(), 0, "the end");
        assert!(poll_fn(|context| socket.poll_readable(context)).await.is_ok(), "it stays the end");
    }
}
