//! A message that comes on a stream: a request's body, or a response. Grants its sender new room only for bytes that
//! were passed on, so that a slow reader slows its sender down, and no other (RFC 9113 §5.2).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response};
use pointsman_wire::Trailers;

/// Why the rest of a message does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The instance did nothing with the request, and says so (RFC 9113 §8.7).
    Refused,
    /// The other side broke it off.
    Reset,
    /// The other side broke the rules of HTTP/2.
    Malformed,
    /// The connection is lost.
    Lost,
}

impl Cut {
    /// What an error of [`Recv::poll_fill`] tells.
    pub(crate) fn of(error: &io::Error) -> Self {
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<h2::Error>());
        match error {
            // The stream is beyond the last one that the instance takes.
            Some(error) if error.is_go_away() && error.is_remote() => Self::Refused,
            Some(error) if error.is_reset() && error.is_remote() => match error.reason() {
                Some(Reason::REFUSED_STREAM) => Self::Refused,
                _ => Self::Reset,
            },
            Some(error) if error.is_library() => match error.reason() {
                Some(
                    Reason::PROTOCOL_ERROR
                    | Reason::COMPRESSION_ERROR
                    | Reason::FRAME_SIZE_ERROR
                    | Reason::FLOW_CONTROL_ERROR
                    | Reason::STREAM_CLOSED,
                ) => Self::Malformed,
                _ => Self::Lost,
            },
            Some(_) | None => Self::Lost,
        }
    }
}

/// A message that comes.
pub(crate) struct Recv {
    state: State,
    /// Heads of a response that came and were not taken: at most one, the next is read after it.
    head: Option<Response<()>>,
    /// Body bytes that came and were not passed on.
    unread: Bytes,
    /// Bytes that were passed on, but for which the sender has no new room yet.
    owed: usize,
    /// Trailers as lines; see [`Trailers::push`].
    trailers: Vec<u8>,
    has_ended: bool,
    /// It has no content, whatever comes.
    is_bodiless: bool,
    /// Its trailers are discarded.
    drops_trailers: bool,
}

enum State {
    /// Its request was not sent.
    Unasked,
    /// Its final head has not come.
    Awaited(ResponseFuture),
    Body(RecvStream),
}

impl std::fmt::Debug for Recv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recv").field("unread", &self.unread.len()).field("has_ended", &self.has_ended).finish()
    }
}

impl Recv {
    /// The body of a request.
    pub(crate) fn request(body: RecvStream) -> Self {
        let has_ended = body.is_end_stream();
        Self::new(State::Body(body), has_ended)
    }

    /// A response.
    pub(crate) fn response(response: ResponseFuture) -> Self {
        Self::new(State::Awaited(response), false)
    }

    /// A response that nobody has asked for yet.
    pub(crate) fn unasked() -> Self {
        Self::new(State::Unasked, false)
    }

    fn new(state: State, has_ended: bool) -> Self {
        Self {
            state,
            head: None,
            unread: Bytes::new(),
            owed: 0,
            trailers: Vec::new(),
            has_ended,
            is_bodiless: false,
            drops_trailers: false,
        }
    }

    /// Whether there are body bytes that were not passed on.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether all of it has come, and is passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.has_ended && self.unread.is_empty()
    }

    /// Whether nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The next head of a response, if it has come.
    pub(crate) fn take_head(&mut self) -> Option<Response<()>> {
        self.head.take()
    }

    /// The response has no content, by its status or its request's method: what comes of it all the same is discarded.
    pub(crate) fn skip_content(&mut self) {
        self.is_bodiless = true;
    }

    /// The trailers, once all has come.
    pub(crate) fn trailers(&self) -> Trailers<'_> {
        Trailers::of(&self.trailers)
    }

    /// Takes body bytes to pass on, at most this many.
    pub(crate) fn take(&mut self, most: usize) -> Bytes {
        let bytes = self.unread.split_to(most.min(self.unread.len()));
        self.owed += bytes.len();
        bytes
    }

    /// What was taken was passed on: its sender may send as much again.
    pub(crate) fn passed_on(&mut self) {
        if let (State::Body(stream), 1..) = (&mut self.state, self.owed) {
            // Fails only if more is released than came.
            let _ = stream.flow_control().release_capacity(self.owed);
            self.owed = 0;
        }
    }

    /// Waits until more has come. 1: something did; 0: nothing more comes.
    ///
    /// # Errors
    /// The stream was reset, or its connection is lost.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let stream = match &mut self.state {
                State::Unasked => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                State::Awaited(_) => return self.poll_head(context),
                State::Body(stream) => stream,
            };
            if self.has_ended {
                return Poll::Ready(Ok(0));
            }
            if self.is_bodiless {
                // Fails only if more is released than came.
                let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.owed));
            }
            match ready!(stream.poll_data(context)) {
                Some(bytes) => {
                    let mut bytes = bytes.map_err(io::Error::other)?;
                    self.has_ended = stream.is_end_stream();
                    if self.is_bodiless {
                        self.owed += bytes.len();
                        bytes.clear();
                    }
                    // An empty frame is nothing, unless it is the last.
                    if bytes.has_remaining() || self.has_ended {
                        self.unread = bytes;
                        return Poll::Ready(Ok(1));
                    }
                }
                None => {
                    let trailers = ready!(stream.poll_trailers(context)).map_err(io::Error::other)?;
                    self.end(trailers.unwrap_or_default());
                    return Poll::Ready(Ok(1));
                }
            }
        }
    }

    /// Discards the trailers, if any come.
    pub(crate) fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    fn end(&mut self, trailers: HeaderMap) {
        self.has_ended = true;
        for (name, value) in trailers.iter().filter(|_| !self.drops_trailers) {
            Trailers::push(name.as_str(), value.as_bytes(), &mut self.trailers);
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let State::Awaited(response) = &mut self.state else { return Poll::Ready(Ok(1)) };
        if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
            self.head = Some(interim.map_err(io::Error::other)?);
            return Poll::Ready(Ok(1));
        }
        let (parts, body) = ready!(Pin::new(response).poll(context)).map_err(io::Error::other)?.into_parts();
        self.head = Some(Response::from_parts(parts, ()));
        self.has_ended = body.is_end_stream();
        self.state = State::Body(body);
        Poll::Ready(Ok(1))
    }
}
