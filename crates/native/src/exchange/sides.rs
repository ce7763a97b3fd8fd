//! The two sides of an exchange, client and instance, whatever version of HTTP each speaks: requests come from the
//! client, and responses go to it. Costs one `match` per step of up to 64 KiB, and copies no byte.
//!
//! ```text
//! Downstream (client) ── Source ─> Sink ── Link (instance)       up
//!                     <── Sink <── Source ──                     down
//! ```

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use pointsman_wire::{BadBody, BodyReader, BodyWriter, Trailers};

use crate::http1::body::{Moved, transcode};
use crate::http1::client::{Client, ClientSide};
use crate::net::buffer::{Buffers, Input, Size};
use crate::net::deadline::Deadline;
use crate::net::pace::Pace;
use crate::net::send::send_until;
use crate::net::socket::Socket;
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::pool::checkout::Link;

/// How many bytes are collected before they are sent on.
const ROOM: usize = 64 * 1024;

/// The client of an exchange.
#[derive(Debug)]
pub(crate) enum Downstream<'c> {
    /// Its HTTP/1 connection.
    Http1(&'c mut Client),
}

/// Where a message comes from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// An HTTP/1 connection.
    Http1 { from: ReadHalf<'a>, input: &'a mut Input, body: &'a mut BodyReader },
}

/// Where a message goes to.
#[derive(Debug)]
pub(crate) enum Sink<'a> {
    /// An HTTP/1 connection, and bytes in its framing that were not sent yet.
    Http1 { to: WriteHalf<'a>, body: BodyWriter, output: Vec<u8>, size: Size },
}

impl Downstream<'_> {
    /// What a response must respect.
    pub(crate) fn side(&self) -> ClientSide {
        let Self::Http1(client) = self;
        client.side
    }

    /// Where the request's body comes from, and where the response goes to. `body`: replaced when a response begins.
    pub(crate) fn split(&mut self, body: BodyWriter) -> (Source<'_>, Sink<'_>) {
        let Self::Http1(client) = self;
        let (from, to) = client.stream.split();
        let source = Source::Http1 { from, input: &mut client.input, body: &mut client.body };
        (source, Sink::Http1 { to, body, output: Vec::new(), size: Size::Page })
    }
}

/// An instance's connection as the two ends of an exchange. `body`: replaced when a response begins.
pub(crate) fn split_link<'a>(
    link: &'a mut Link,
    input: &'a mut Input,
    body: &'a mut BodyReader,
    writer: BodyWriter,
) -> (Source<'a>, Sink<'a>) {
    let Link::Http1(stream) = link;
    let (from, to) = stream.split();
    (Source::Http1 { from, input, body }, Sink::Http1 { to, body: writer, output: Vec::new(), size: Size::Page })
}

impl Source<'_> {
    /// Whether there are unused bytes.
    pub(crate) fn has_unread(&self) -> bool {
        let Self::Http1 { input, .. } = self;
        !input.unread().is_empty()
    }

    /// Reads once. 0 bytes is the end of the stream.
    pub(crate) async fn fill(&mut self, buffers: &Buffers) -> io::Result<usize> {
        let Self::Http1 { from, input, .. } = self;
        input.fill(from, buffers).await
    }

    /// Reads once. While it waits, it checks the other side, which may still be reading what it was sent.
    pub(crate) async fn fill_at(&mut self, pace: &Pace<'_>, buffers: &Buffers) -> io::Result<usize> {
        let (Self::Http1 { from, input, .. }, mut waited) = (self, false);
        poll_fn(|context| {
            let filled = input.poll_fill(from, buffers, &mut waited, context);
            if filled.is_pending() {
                pace.look(from);
            }
            filled
        })
        .await
    }

    /// Acknowledges what has come, before a read for the rest of a message: its sender may hold the rest back until
    /// then.
    pub(crate) fn acknowledge(&self) {
        let Self::Http1 { from, .. } = self;
        from.acknowledge();
    }

    /// Gives the memory back if nothing is unread.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        let Self::Http1 { input, .. } = self;
        input.release(buffers);
    }

    /// Whether the end of the stream may end the body.
    pub(crate) fn may_close(&self) -> bool {
        let Self::Http1 { body, .. } = self;
        body.may_close()
    }
}

impl Sink<'_> {
    /// Takes memory for bytes, unless it has some.
    pub(crate) fn prepare(&mut self, buffers: &Buffers) {
        let Self::Http1 { output, size, .. } = self;
        if output.capacity() == 0 {
            *output = buffers.take(*size);
        }
    }

    /// The socket, to watch it.
    pub(crate) fn socket(&self) -> Socket<'_> {
        let Self::Http1 { to, .. } = self;
        to.socket()
    }

    /// Discards bytes that were not sent.
    pub(crate) fn throw_away(&mut self) {
        let Self::Http1 { output, .. } = self;
        output.clear();
    }

    /// Whether everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        let Self::Http1 { output, .. } = self;
        output.is_empty()
    }

    /// Ends a body that its source ended by a close.
    pub(crate) fn end_body(&mut self) {
        let Self::Http1 { body, output, .. } = self;
        body.end(&Trailers::default(), output);
    }

    /// Sends all bytes, for as long as the other side makes progress within `limit`, but not beyond `ends`, coarse
    /// time. Returns how many bytes there were.
    pub(crate) async fn flush(
        &mut self,
        deadline: &Deadline,
        (limit, ends): (Duration, impl Fn() -> u64),
    ) -> (usize, io::Result<()>) {
        let Self::Http1 { to, output, .. } = self;
        let sent = send_until(deadline, (limit, ends), to, output).await;
        let count = output.len();
        output.clear();
        (count, sent)
    }

    /// Gives the memory back: everything was sent, or nothing more will be.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        let Self::Http1 { output, size, .. } = self;
        if output.capacity() > 2 * Size::Page.bytes() {
            *size = Size::Large;
        }
        buffers.give(std::mem::take(output));
    }
}

/// Moves buffered body bytes from one side's framing into the other's.
///
/// # Errors
/// The source's framing is malformed.
pub(crate) fn pump(source: &mut Source<'_>, sink: &mut Sink<'_>) -> Result<Moved, BadBody> {
    match (source, sink) {
        (Source::Http1 { input, body, .. }, Sink::Http1 { body: writer, output, .. }) => {
            transcode(body, writer, input, output, ROOM)
        }
    }
}
