//! An HTTP/2 connection to an instance, shared by requests. Picks none, pools none.
//!
//! | bound | value |
//! |---|---|
//! | requests at once | what the instance allows, at most [`STREAMS`] |
//! | unread bytes of a response | [`WINDOW`] |
//! | the same of all responses | [`CONNECTION_WINDOW`]: slow clients never hold up others |
//! | bytes of a request in our memory | [`SEND_BUFFER`] |
//! | a response's head, as decoded | [`HEAD`] |
//! | requests that we broke off, whose late frames are expected | [`RESETS`] |

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::Request;

use super::carrier::{FrameCarrier, Stalled};
use super::outgoing::Outgoing;
use super::recv::Recv;
use crate::net::deadline::{Deadline, Timers};
use crate::net::stream::Stream;

/// The most requests at once. More would need a larger [`CONNECTION_WINDOW`], or let slow clients hold up others.
const STREAMS: u32 = 128;
/// How much of a response may come before it is passed on, bytes.
const WINDOW: u32 = 128 * 1024;
/// The same for all responses.
const CONNECTION_WINDOW: u32 = STREAMS * WINDOW;
/// How much of a request is held until the connection takes it, bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// The largest head, names and values and 32 bytes a field, bytes.
const HEAD: u32 = 64 * 1024;
/// How many broken-off requests are remembered, so that frames that were under way do not count as errors.
const RESETS: usize = 1_024;
/// How long the instance may take nothing of what is to be sent.
const STALL: Duration = Duration::from_secs(60);

/// A connection. It ends when it is no longer pooled and its last request is over.
#[derive(Debug)]
pub(crate) struct SharedConnection {
    sender: SendRequest<Bytes>,
    /// Requests on it now.
    streams: Cell<usize>,
    /// It takes no more requests.
    is_retired: Cell<bool>,
    /// Since when it has no request, as far as was looked, coarse time; `u64::MAX` while it has some.
    idle_since: Cell<u64>,
    /// It runs over TLS.
    is_secure: bool,
}

impl SharedConnection {
    /// Begins HTTP/2 on a new connection, and waits for the instance's settings: they show that it speaks HTTP/2, and
    /// tell how many requests it takes at once (RFC 9113 §3.4).
    ///
    /// # Errors
    /// The instance does not speak HTTP/2, or closes the connection.
    pub(crate) async fn open(stream: Stream, timers: &Rc<Timers>) -> io::Result<Rc<Self>> {
        let is_secure = matches!(stream, Stream::Tls(_));
        let carrier = FrameCarrier::new(stream, Vec::new(), timers);
        let stalled = carrier.stalled();
        let (sender, mut connection) = builder().handshake(carrier).await.map_err(not_http2)?;
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(not_http2(error))),
            Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        drop(tokio::task::spawn_local(drive(connection, stalled, timers.deadline())));
        let (streams, is_retired) = (Cell::new(0), Cell::new(false));
        Ok(Rc::new(Self { sender, streams, is_retired, idle_since: Cell::new(u64::MAX), is_secure }))
    }

    /// A place for one more request. `None`: the connection is full, or takes no more.
    pub(crate) fn place(self: &Rc<Self>) -> Option<Call> {
        if !self.is_open() || self.streams.get() >= self.sender.current_max_send_streams().min(STREAMS as usize) {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        self.idle_since.set(u64::MAX);
        Some(Call { place: Place(Rc::clone(self)), recv: Recv::unasked(), out: Outgoing::request(None) })
    }

    /// Whether it takes requests: it is connected, and the instance has not said that it takes no more (GOAWAY).
    pub(crate) fn is_open(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.is_retired.get() && !matches!(self.sender.clone().poll_ready(&mut context), Poll::Ready(Err(_)))
    }

    /// Whether a request is on it.
    pub(crate) fn is_busy(&self) -> bool {
        self.streams.get() > 0
    }

    /// How long it has had no request, milliseconds, as far as was looked.
    pub(crate) fn idle_for(&self, now: u64) -> u64 {
        if self.is_busy() {
            return 0;
        }
        self.idle_since.set(self.idle_since.get().min(now));
        now - self.idle_since.get()
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // Until its settings come, the instance is sent nothing.
        .initial_max_send_streams(0)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEAD)
        .max_concurrent_reset_streams(RESETS);
    builder
}

fn not_http2(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()),
        false => io::Error::other(format!("it does not speak HTTP/2: {error}")),
    }
}

/// Moves the frames of a connection until it is over, or until the instance takes nothing any more.
async fn drive(connection: Connection<FrameCarrier, Bytes>, stalled: Stalled, deadline: Deadline) {
    let late = || match stalled.get() {
        u64::MAX => u64::MAX,
        since => deadline.later(since, STALL),
    };
    // Its requests learn by themselves how it ended.
    let _ = deadline.watched(late, connection).await;
}

/// A request's place on a connection.
#[derive(Debug)]
struct Place(Rc<SharedConnection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

/// One request on a connection, and its response. Dropping it breaks off what is not over; the connection goes on.
#[derive(Debug)]
pub(crate) struct Call {
    /// Declared before `place`: the stream is closed before another request has the place.
    pub(crate) recv: Recv,
    pub(crate) out: Outgoing,
    place: Place,
}

impl Call {
    /// Whether its connection runs over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.place.0.is_secure
    }

    /// Whether the instance takes WebSockets over HTTP/2 (RFC 8441 §3).
    pub(crate) fn takes_websockets(&self) -> bool {
        self.place.0.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends the head. `is_whole`: nothing follows it.
    ///
    /// # Errors
    /// The connection takes no more requests: the instance was sent nothing.
    pub(crate) fn begin(&mut self, head: Request<()>, is_whole: bool) -> Result<(), h2::Error> {
        let (response, body) = self.place.0.sender.clone().send_request(head, is_whole)?;
        self.recv = Recv::response(response);
        self.out = Outgoing::request((!is_whole).then_some(body));
        Ok(())
    }

    /// Its connection gets no more requests: it may be dead.
    pub(crate) fn retire_connection(&self) {
        self.place.0.is_retired.set(true);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the zero of a test's times")]
mod tests {
    use std::time::Instant;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build_local(Default::default()).unwrap().block_on(work)
    }

    /// A connection to an instance that takes this many requests at once, until it is told to say goodbye.
    async fn connection(most: u32, goodbye: Rc<tokio::sync::Notify>) -> Rc<SharedConnection> {
        let (near, far) = UnixStream::pair().unwrap();
        drop(tokio::task::spawn_local(async move {
            let mut server = h2::server::Builder::new();
            let mut server = server.max_concurrent_streams(most).handshake::<_, Bytes>(far).await.unwrap();
            tokio::select! {
                _ = server.accept() => {}
                () = goodbye.notified() => server.graceful_shutdown(),
            }
            while server.accept().await.is_some() {}
        }));
        SharedConnection::open(Stream::Unix(near), &Timers::new(Instant::now())).await.unwrap()
    }

    #[test]
    fn there_are_as_many_places_as_the_instance_allows() {
        block_on(async {
            let connection = connection(2, Rc::default()).await;
            let places: Vec<_> = (0..3).filter_map(|_| connection.place()).collect();
            assert_eq!(places.len(), 2);
            assert_eq!((connection.is_busy(), connection.idle_for(1_000)), (true, 0));
            drop(places);
            assert_eq!((connection.idle_for(1_000), connection.idle_for(3_000)), (0, 2_000));
            assert!(connection.place().is_some());
            assert_eq!(connection.idle_for(4_000), 0, "it was used meanwhile");
        });
    }

    #[test]
    fn an_instance_that_says_goodbye_gets_no_more() {
        block_on(async {
            let goodbye = Rc::<tokio::sync::Notify>::default();
            let connection = connection(2, Rc::clone(&goodbye)).await;
            let place = connection.place();
            goodbye.notify_one();
            while connection.is_open() {
                tokio::task::yield_now().await;
            }
            assert!(place.is_some() && connection.place().is_none());
        });
    }

    #[test]
    fn other_protocols_are_told_of() {
        block_on(async {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let opened = SharedConnection::open(Stream::Unix(near), &Timers::new(Instant::now())).await;
            assert!(opened.unwrap_err().to_string().contains("it does not speak HTTP/2"));
        });
    }
}
