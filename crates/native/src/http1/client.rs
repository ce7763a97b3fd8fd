//! A client's HTTP/1 connection between its requests. Serves nothing, counts nothing.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use pointsman_wire::{BodyLength, BodyReader, RequestHead, Version};
use tokio::io::AsyncWriteExt as _;

use crate::fault::Fault;
use crate::net::buffer::{Buffers, Input, Size};
use crate::net::deadline::Deadline;
use crate::net::send::settle;
use crate::net::stream::Stream;

/// How long the rest of a request may still come after our last answer, and how long without a byte.
pub(crate) const LINGER: Duration = Duration::from_secs(30);
pub(crate) const LINGER_QUIET: Duration = Duration::from_secs(5);

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// Unused bytes from the client: the next pipelined request may be among them.
    pub(crate) input: Input,
    /// The body of the current request.
    pub(crate) body: BodyReader,
    /// What the response to that request must respect.
    pub(crate) side: ClientSide,
}

/// What a response must respect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSide {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) head_request: bool,
}

impl ClientSide {
    /// For a request of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self { version: Version::Http11, keep_alive: false, head_request: false };

    pub(crate) fn of(head: &RequestHead<'_, '_>) -> Self {
        Self { version: head.version, keep_alive: head.keep_alive, head_request: head.method == "HEAD" }
    }
}

/// What becomes of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    Keep,
    /// It is over; everything was sent.
    Close,
    /// It is over, but the client may still be sending: let it read our answer first.
    Linger,
    /// It is over in the middle of an answer: the client gets what was written, and must see that it is incomplete.
    Reset,
    /// The same, of a tunnel that a side broke off.
    Broken,
    /// The same, and its place is needed at once.
    Abort,
}

impl After {
    /// After a fault without an answer, or in the middle of an answer.
    pub(crate) fn cut_by(fault: Fault) -> Self {
        if fault == Fault::GaveWay { Self::Abort } else { Self::Reset }
    }
}

impl Client {
    pub(crate) fn new(stream: Stream) -> Self {
        let body = BodyReader::new(BodyLength::None, 0);
        Self { stream, input: Input::new(Size::Head), body, side: ClientSide::UNKNOWN }
    }

    /// Ends the connection. `is_evicted`: another connection needs its place.
    pub(crate) async fn end(
        &mut self,
        after: After,
        buffers: &Buffers,
        deadline: &Deadline,
        is_evicted: &dyn Fn() -> bool,
    ) {
        self.input.discard(buffers);
        match after {
            After::Keep | After::Close => self.stream.take_leave(),
            // Boxed: otherwise every idle connection would hold the memory for it.
            After::Linger => Box::pin(self.linger(buffers, deadline, is_evicted)).await,
            After::Reset | After::Broken => {
                Box::pin(settle(deadline, &self.stream, is_evicted)).await;
                self.stream.reset_on_close();
            }
            After::Abort => self.stream.reset_on_close(),
        }
    }

    /// Closes our direction, and reads on: a close with unread bytes would be a reset, which can destroy our answer
    /// before the client has read it (RFC 9112 §9.6), and many clients read only when they have sent everything.
    async fn linger(&mut self, buffers: &Buffers, deadline: &Deadline, is_evicted: &dyn Fn() -> bool) {
        let mut read = Input::new(Size::Page);
        let since = Cell::new(deadline.now());
        let until = deadline.after(LINGER);
        let read_on = async {
            self.stream.shutdown().await?;
            let (mut from, _) = self.stream.split();
            while read.fill(&mut from, buffers).await? > 0 {
                since.set(deadline.now());
                read.discard(buffers);
            }
            io::Result::Ok(())
        };
        let ends = || match is_evicted() {
            true => 0,
            false => deadline.later(since.get(), LINGER_QUIET).min(until),
        };
        // Whatever happens here, the connection is over.
        let _ = deadline.watched(ends, read_on).await;
        read.discard(buffers);
    }
}
