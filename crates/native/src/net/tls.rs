//! A TLS connection as bytes, to a client or to an instance. Both directions are used by one task, so a cell serves where a lock would be needed.
//! Chooses no certificate and verifies none.
//!
//! ```text
//! Stream::Tls ── Tls { session ── Carrier ─┐
//!                      socket ─────────────┴─ Bare }
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector, TlsStream};

use super::socket::{Bare, Socket};

use super::presented::{AskedId, Presented};

/// What an authority's check of a name speaks (RFC 8737 §6.2). Nobody else gets it.
pub(crate) const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// A TLS connection after its handshake.
pub(crate) struct Tls {
    socket: Rc<Bare>,
    session: RefCell<TlsStream<Carrier>>,
    /// Bytes that the session took, and whose ciphertext is not with the kernel yet.
    taken: Cell<usize>,
    /// With an instance: the host of the request that it was opened for, if that chose the server name.
    host: Option<Box<str>>,
    /// With a client: what it showed, if it was asked for a certificate.
    presented: Option<Rc<Presented>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Tls {
    /// Begins the handshake with a client, of whose connection these bytes were read. What went wrong was told to the
    /// client by an alert, if it still listens.
    ///
    /// # Errors
    /// What rustls says of the client, or what became of the connection.
    pub(crate) async fn greeted(stream: TcpStream, read: Vec<u8>) -> io::Result<Greeted> {
        let socket = Rc::new(Bare::Tcp(stream));
        let carrier = Carrier { socket: Rc::clone(&socket), read: read.into() };
        let start = LazyConfigAcceptor::new(Acceptor::default(), carrier).await?;
        let name = start.client_hello().server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
        Ok(Greeted { socket, start, name })
    }

    /// Does the handshake with an instance. `host`: the host of the request that it is opened for, if that chose the
    /// server name.
    ///
    /// # Errors
    /// What rustls says of the instance, or what became of the connection.
    pub(crate) async fn connect(
        bare: Bare,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        host: Option<&str>,
    ) -> io::Result<Self> {
        let socket = Rc::new(bare);
        let session = TlsConnector::from(config)
            .connect(name, Carrier { socket: Rc::clone(&socket), read: VecDeque::new() })
            .await?;
        let host = host.map(Box::from);
        Ok(Self { socket, session: RefCell::new(session.into()), taken: Cell::new(0), host, presented: None })
    }

    /// What the client showed, if it was asked for a certificate.
    pub(crate) fn presented(&self) -> Option<&Rc<Presented>> {
        self.presented.as_ref()
    }

    /// Whether it speaks TLS 1.3, and whether it resumed a session.
    pub(crate) fn kind(&self) -> (bool, bool) {
        let session = self.session.borrow();
        let (_, session) = session.get_ref();
        let is_tls13 = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        (is_tls13, session.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Whether the handshake agreed on HTTP/2 (RFC 9113 §3.2).
    pub(crate) fn speaks_http2(&self) -> bool {
        self.session.borrow().get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// Whether this was an authority's check of a name, and there is nothing else to do (RFC 8737 §3).
    pub(crate) fn was_challenge(&self) -> bool {
        self.session.borrow().get_ref().1.alpn_protocol() == Some(CHALLENGE_PROTOCOL)
    }

    /// The connection below.
    pub(crate) fn socket(&self) -> Socket<'_> {
        self.socket.socket()
    }

    /// The host of the request that it was opened for, if that chose the server name.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Whether there is nothing to read, not even the end. Takes in what TLS says for itself, such as tickets for later
    /// sessions, which come behind the handshake (RFC 8446 §4.6).
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        // The runtime would else say that there is nothing when the task has used up its turn.
        let read = pin!(unconstrained(poll_fn(|context| self.poll_read(context, &mut buf))));
        read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether there may be something to read; if not, the task is woken when there is.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Decrypted bytes, or the end of the stream.
        let has_some = !self.session.borrow().get_ref().1.wants_read();
        if has_some { Poll::Ready(Ok(())) } else { self.socket().poll_readable(context) }
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

/// A client's connection whose handshake has begun: its ClientHello is here.
pub(crate) struct Greeted {
    socket: Rc<Bare>,
    start: StartHandshake<Carrier>,
    name: Option<Box<str>>,
}

impl Greeted {
    /// The server name that the client asks for, in lower case.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether this is an authority's check of the name: it speaks that protocol, and no other (RFC 8737 §3).
    pub(crate) fn is_challenge(&self) -> bool {
        let Some(mut protocols) = self.start.client_hello().alpn() else { return false };
        protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none()
    }

    /// Does the rest of the handshake, and asks this of the client. What went wrong was told to the client by an alert, if
    /// it still listens.
    ///
    /// # Errors
    /// What rustls says of the client, or what became of the connection.
    pub(crate) async fn accept(self, config: Arc<ServerConfig>, asked: Option<AskedId>) -> io::Result<Tls> {
        let Self { socket, start, name } = self;
        let session = start.into_stream(config).await?;
        let presented =
            asked.map(|asked| Rc::new(Presented::new(name, asked, session.get_ref().1.peer_certificates())));
        Ok(Tls { socket, session: RefCell::new(session.into()), taken: Cell::new(0), host: None, presented })
    }

    /// Ends the connection with this alert.
    pub(crate) fn refuse(self, alert: &[u8]) {
        // The connection is over, whether or not the client can be told.
        let _ = self.socket.socket().try_write(alert);
    }
}

/// A socket that a session uses, and that others may look at meanwhile.
struct Carrier {
    socket: Rc<Bare>,
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
            ready!(self.socket.socket().poll_readable(context))?;
            match self.socket.socket().try_read(buf.initialize_unfilled()) {
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
        mut write: impl FnMut(Socket<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.socket().poll_writable(context))?;
            match write(self.socket.socket()) {
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
        Poll::Ready(self.socket.socket().shutdown())
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::Interest;
    use tokio::net::TcpListener;

    use super::*;

    const AUTHORITY: &[u8] = include_bytes!("../../../table/tests/certificates/authority.pem");
    const LEAF: &[u8] = include_bytes!("../../../table/tests/certificates/leaf.pem");
    const KEY: &[u8] = include_bytes!("../../../table/tests/certificates/leaf.key");

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (chain, key) = (CertificateDer::from_pem_slice(LEAF), PrivateKeyDer::from_pem_slice(KEY));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![chain.unwrap()], key.unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(AUTHORITY).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
    }

    /// A server's end and a client's.
    async fn pair() -> (Tls, Tls) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let (server, client) = configs();
        let name = ServerName::try_from("shop.test").unwrap();
        let connect = Tls::connect(Bare::Tcp(near), client, name, None);
        let accept = async { Tls::greeted(far, Vec::new()).await?.accept(server, None).await };
        let (server, client) = tokio::join!(accept, connect);
        (server.unwrap(), client.unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn tickets_leave_a_connection_quiet_and_bytes_and_the_end_do_not() {
        let (server, client) = pair().await;
        client.socket().ready(Interest::READABLE).await.unwrap();
        assert!(client.is_quiet(), "those were tickets");
        poll_fn(|context| server.poll_write(context, b"x")).await.unwrap();
        client.socket().ready(Interest::READABLE).await.unwrap();
        assert!(!client.is_quiet(), "a byte nobody asked for");
        let (server, client) = pair().await;
        server.take_leave();
        drop(server);
        // The end comes behind the tickets.
        while client.is_quiet() {
            client.socket().ready(Interest::READABLE).await.unwrap();
        }
    }
}
