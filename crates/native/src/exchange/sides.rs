//! The two sides of an exchange, client and instance, whatever version of HTTP each speaks: requests come from the
//! client, and responses go to it. Costs one `match` per step of up to 64 KiB, and copies no byte.
//!
//! ```text
//! Downstream (client) ── Source ─> Sink ── Link (instance)       up
//!                     <── Sink <── Source ──                     down
//! ```

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pointsman_wire::{
    BadBody, BodyLength, BodyReader, BodyWriter, HeaderEdits, Reply, ResponseHead, Step, Trailers, Version,
};
use tokio::io::AsyncWriteExt as _;

use super::inquiry::Inquiry;
use crate::http1::body::{Moved, transcode};
use crate::http1::client::{Client, ClientSide};
use crate::http2::fields;
use crate::http2::outgoing::Outgoing;
use crate::http2::recv::Recv;
use crate::http2::turn::Turn;
use crate::net::buffer::{Buffers, Input, Size};
use crate::net::deadline::Deadline;
use crate::net::pace::Pace;
use crate::net::send::{send_all, write_at_once};
use crate::net::socket::{BreaksOff, Socket};
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::pool::link::Link;

/// How many bytes are collected before they are sent on.
const ROOM: usize = 64 * 1024;

/// The client of an exchange.
#[derive(Debug)]
pub(crate) enum Downstream<'c> {
    /// Its HTTP/1 connection.
    Http1(&'c mut Client),
    /// A stream of its HTTP/2 connection.
    Http2(&'c mut Turn),
    /// Nobody: the request is a copy that has come whole, and its answer is thrown away.
    Nobody(ClientSide),
    /// We ourselves: it is a question about another request.
    Us(&'c Inquiry<'c>),
}

/// Where a message comes from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// An HTTP/1 connection.
    Http1 { from: ReadHalf<'a>, input: &'a mut Input, body: &'a mut BodyReader },
    /// A stream of an HTTP/2 connection.
    Http2(&'a mut Recv),
}

/// Where a message goes to.
#[derive(Debug)]
pub(crate) enum Sink<'a> {
    /// An HTTP/1 connection, and bytes in its framing that were not sent yet.
    Http1 { to: WriteHalf<'a>, body: BodyWriter, output: Vec<u8>, size: Size },
    /// A stream of an HTTP/2 connection.
    Http2(&'a mut Outgoing),
    /// Nowhere: it is thrown away.
    Nobody,
    /// To us.
    Us(&'a Inquiry<'a>),
}

/// How far a message went without waiting.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// It is over: how many bytes there were, and whether they were sent.
    All((usize, io::Result<()>)),
    /// So many bytes were sent, and others wait.
    Partly(usize),
}

/// The client of a copy: it never leaves.
#[derive(Debug)]
struct Nobody;

impl BreaksOff for Nobody {
    fn poll_broken_off(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Downstream<'_> {
    /// What a response must respect.
    pub(crate) fn side(&self) -> ClientSide {
        match self {
            Self::Http1(client) => client.side,
            Self::Http2(turn) => {
                ClientSide { version: Version::Http11, keep_alive: true, head_request: turn.head_request }
            }
            Self::Nobody(side) => *side,
            Self::Us(_) => ClientSide { version: Version::Http11, keep_alive: true, head_request: false },
        }
    }

    /// What reads a response.
    pub(crate) fn input(&self) -> Input {
        let most = match self {
            Self::Http1(_) | Self::Nobody(_) | Self::Us(_) => None,
            Self::Http2(turn) => turn.out.allowance(),
        };
        most.map_or(Input::new(Size::Page), |most| Input::bounded(Size::Page, most))
    }

    /// What shows whether the client is still there.
    pub(crate) fn socket(&self) -> Socket<'_> {
        match self {
            Self::Http1(client) => client.stream.socket(),
            Self::Http2(turn) => Socket::Part(&turn.out),
            Self::Nobody(_) => Socket::Part(&Nobody),
            Self::Us(inquiry) => inquiry.client,
        }
    }

    /// Where the response goes to, when no more of the request comes.
    pub(crate) fn sink(&mut self, body: BodyWriter) -> Sink<'_> {
        self.split(body).1
    }

    /// Where more of the request's body comes from, if anybody sends it, and where the response goes to. `body`: replaced
    /// when a response begins.
    pub(crate) fn split(&mut self, body: BodyWriter) -> (Option<Source<'_>>, Sink<'_>) {
        match self {
            Self::Http1(client) => {
                let (from, to) = client.stream.split();
                let source = Source::Http1 { from, input: &mut client.input, body: &mut client.body };
                (Some(source), Sink::Http1 { to, body, output: Vec::new(), size: Size::Page })
            }
            Self::Http2(turn) => (Some(Source::Http2(&mut turn.recv)), Sink::Http2(&mut turn.out)),
            Self::Nobody(_) => (None, Sink::Nobody),
            Self::Us(inquiry) => (None, Sink::Us(inquiry)),
        }
    }
}

/// An instance's connection as the source of a response, when no more of the request goes to it. `body`: replaced when
/// a response begins.
pub(crate) fn source<'a>(link: &'a mut Link, input: &'a mut Input, body: &'a mut BodyReader) -> Source<'a> {
    match link {
        Link::Http1(stream) => Source::Http1 { from: stream.split().0, input, body },
        Link::Http2(call) => Source::Http2(&mut call.recv),
    }
}

/// An instance's connection as the two ends of an exchange. `body`: replaced when a response begins.
pub(crate) fn split_link<'a>(
    link: &'a mut Link,
    input: &'a mut Input,
    body: &'a mut BodyReader,
    writer: BodyWriter,
) -> (Source<'a>, Sink<'a>) {
    match link {
        Link::Http1(stream) => {
            let (from, to) = stream.split();
            let sink = Sink::Http1 { to, body: writer, output: Vec::new(), size: Size::Page };
            (Source::Http1 { from, input, body }, sink)
        }
        Link::Http2(call) => (Source::Http2(&mut call.recv), Sink::Http2(&mut call.out)),
    }
}

impl Source<'_> {
    /// Whether there are unused bytes.
    pub(crate) fn has_unread(&self) -> bool {
        match self {
            Self::Http1 { input, .. } => !input.unread().is_empty(),
            Self::Http2(recv) => recv.has_unread(),
        }
    }

    /// Reads once. 0 bytes is the end of the stream.
    pub(crate) async fn fill(&mut self, buffers: &Buffers) -> io::Result<usize> {
        match self {
            Self::Http1 { from, input, .. } => input.fill(from, buffers).await,
            Self::Http2(recv) => poll_fn(|context| recv.poll_fill(context)).await,
        }
    }

    /// Reads once. While it waits, it checks the other side, which may still be reading what it was sent. `waited`: it was
    /// polled before.
    pub(crate) fn poll_fill_at(
        &mut self,
        pace: &Pace<'_>,
        (buffers, waited): (&Buffers, &mut bool),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Http1 { from, input, .. } => {
                let filled = input.poll_fill(from, buffers, waited, context);
                if filled.is_pending() {
                    pace.look(from);
                }
                filled
            }
            Self::Http2(recv) => recv.poll_fill(context),
        }
    }

    /// Acknowledges what has come, before a read for the rest of a message: its sender may hold the rest back until
    /// then.
    pub(crate) fn acknowledge(&self) {
        if let Self::Http1 { from, .. } = self {
            from.acknowledge();
        }
    }

    /// What was taken was sent on: its sender may send as much again.
    pub(crate) fn passed_on(&mut self) {
        if let Self::Http2(recv) = self {
            recv.passed_on();
        }
    }

    /// Gives the memory back if nothing is unread.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if let Self::Http1 { input, .. } = self {
            input.release(buffers);
        }
    }

    /// How long the rest of the body is, bytes. `None`: it is not known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Http1 { body, .. } => body.length(),
            Self::Http2(_) => None,
        }
    }

    /// Whether the end of the stream may end the body.
    pub(crate) fn may_close(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.may_close(),
            Self::Http2(recv) => recv.has_ended(),
        }
    }
}

impl Sink<'_> {
    /// Takes memory for bytes, unless it has some.
    pub(crate) fn prepare(&mut self, buffers: &Buffers) {
        if let Self::Http1 { output, size, .. } = self
            && output.capacity() == 0
        {
            *output = buffers.take(*size);
        }
    }

    /// The socket, to watch it.
    pub(crate) fn socket(&self) -> Socket<'_> {
        match self {
            Self::Http1 { to, .. } => to.socket(),
            Self::Http2(out) => Socket::Part(&**out),
            Self::Nobody => Socket::Part(&Nobody),
            Self::Us(inquiry) => inquiry.client,
        }
    }

    /// How many bytes of data are to be sent next.
    pub(crate) fn data(&self) -> u64 {
        match self {
            Self::Http1 { body, output, .. } => body.count(output),
            Self::Http2(out) => out.queued() as u64,
            Self::Nobody | Self::Us(_) => 0,
        }
    }

    /// Discards bytes that were not sent.
    pub(crate) fn throw_away(&mut self) {
        match self {
            Self::Http1 { output, .. } => output.clear(),
            Self::Http2(out) => out.throw_away(),
            Self::Nobody => {}
            Self::Us(inquiry) => inquiry.forget(),
        }
    }

    /// Whether everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Http1 { output, .. } => output.is_empty(),
            Self::Http2(out) => out.is_empty(),
            Self::Nobody => true,
            Self::Us(inquiry) => !inquiry.has_news(),
        }
    }

    /// Writes a head without a body: that of an interim response or of a tunnel. `edits`: what the service changes in it.
    pub(crate) fn interim(&mut self, head: &ResponseHead<'_, '_>, edits: Option<&HeaderEdits>) {
        match self {
            Self::Http1 { output, .. } => {
                let body = BodyLength::None;
                head.write(&Reply { version: Version::Http11, keep_alive: true, body, edits }, output);
            }
            Self::Http2(out) if head.status == 101 => out.begin(fields::response(head, BodyLength::None, edits)),
            Self::Http2(out) => out.interim(fields::response(head, BodyLength::None, edits)),
            Self::Nobody | Self::Us(_) => {}
        }
    }

    /// Writes the head that opens a WebSocket, for an instance that did so over HTTP/2. `accept`: answers the client's key.
    pub(crate) fn open_websocket(&mut self, head: &ResponseHead<'_, '_>, accept: impl FnOnce() -> String) {
        match self {
            Self::Http1 { output, .. } => head.write_websocket(&accept(), output),
            Self::Http2(out) => out.begin(fields::websocket_response(head)),
            Self::Nobody | Self::Us(_) => {}
        }
    }

    /// Writes the head of the response. `may_keep`: we can take another request on this connection. `edits`: what the
    /// service changes in it. Returns whether we will take another.
    pub(crate) fn begin(
        &mut self,
        head: &ResponseHead<'_, '_>,
        side: ClientSide,
        (may_keep, edits): (bool, Option<&HeaderEdits>),
    ) -> bool {
        let framing = head.body_for(side.version);
        let keep_alive = side.keep_alive && framing != BodyLength::UntilClose && may_keep;
        match self {
            Self::Http1 { output, body, .. } => {
                head.write(&Reply { version: side.version, keep_alive, body: framing, edits }, output);
                *body = BodyWriter::new(framing);
            }
            Self::Http2(out) => out.begin(fields::response(head, framing, edits)),
            Self::Nobody => {}
            Self::Us(inquiry) => inquiry.begin(head),
        }
        keep_alive
    }

    /// Appends bytes of the body.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Http1 { body, output, .. } => body.data(bytes, output),
            Self::Http2(out) => out.data(Bytes::copy_from_slice(bytes)),
            Self::Nobody | Self::Us(_) => {}
        }
    }

    /// Ends the body.
    pub(crate) fn end_body(&mut self, trailers: &Trailers<'_>) {
        match self {
            Self::Http1 { body, output, .. } => body.end(trailers, output),
            Self::Http2(out) => out.end(fields::trailers(trailers)),
            Self::Nobody => {}
            Self::Us(inquiry) => inquiry.end(),
        }
    }

    /// Sends all bytes, for as long as the other side makes progress within `limit`, but not beyond `ends`, coarse
    /// time. Returns how many bytes there were.
    pub(crate) async fn flush(
        &mut self,
        deadline: &Deadline,
        (limit, ends): (Duration, impl Fn() -> u64),
    ) -> (usize, io::Result<()>) {
        match self.flush_at_once().await {
            Flushed::All(sent) => sent,
            // Boxed, as few sends wait: otherwise every exchange would hold the memory for it.
            Flushed::Partly(written) => Box::pin(self.flush_rest(written, deadline, (limit, ends))).await,
        }
    }

    /// Sends what can be sent without waiting.
    pub(crate) async fn flush_at_once(&mut self) -> Flushed {
        match self {
            Self::Http1 { to, output, .. } => match write_at_once(to, output).await {
                Ok(written) if written < output.len() => Flushed::Partly(written),
                written => {
                    let count = output.len();
                    output.clear();
                    Flushed::All((count, written.map(drop)))
                }
            },
            Self::Http2(_) | Self::Us(_) => Flushed::Partly(0),
            Self::Nobody => Flushed::All((0, Ok(()))),
        }
    }

    /// Sends what [`Sink::flush_at_once`] did not. As [`Sink::flush`].
    pub(crate) async fn flush_rest(
        &mut self,
        written: usize,
        deadline: &Deadline,
        limits: (Duration, impl Fn() -> u64),
    ) -> (usize, io::Result<()>) {
        match self {
            Self::Http1 { to, output, .. } => {
                let sent = send_all(deadline, limits, to, &output[written..]).await;
                let count = output.len();
                output.clear();
                (count, sent)
            }
            Self::Http2(out) => out.flush(deadline, limits).await,
            Self::Nobody => (0, Ok(())),
            Self::Us(inquiry) => {
                inquiry.counted();
                (0, Ok(()))
            }
        }
    }

    /// Ends our direction of a connection that carries nothing else.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Http1 { to, .. } => to.shutdown().await,
            Self::Http2(_) | Self::Nobody | Self::Us(_) => Ok(()),
        }
    }

    /// Gives the memory back: everything was sent, or nothing more will be.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if let Self::Http1 { output, size, .. } = self {
            if output.capacity() > 2 * Size::Page.bytes() {
                *size = Size::Large;
            }
            buffers.give(std::mem::take(output));
        }
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
        (Source::Http1 { input, body, .. }, Sink::Http2(out)) => into_stream(body, input, out),
        (Source::Http2(recv), Sink::Http1 { body, output, .. }) => Ok(from_stream(recv, body, output)),
        (Source::Http2(recv), Sink::Http2(out)) => Ok(between_streams(recv, out)),
        (Source::Http1 { input, body, .. }, Sink::Nobody) => skip(body, input),
        (Source::Http1 { input, body, .. }, Sink::Us(inquiry)) => inquiry.take(body, input),
        (Source::Http2(recv), Sink::Us(inquiry)) => {
            inquiry.data(&recv.take(ROOM));
            Ok(moved(recv, |_| inquiry.end()))
        }
        (Source::Http2(recv), Sink::Nobody) => {
            recv.take(ROOM);
            recv.passed_on();
            Ok(moved(recv, |_| {}))
        }
    }
}

fn skip(reader: &mut BodyReader, input: &mut Input) -> Result<Moved, BadBody> {
    loop {
        let (used, moved) = match reader.step(input.unread())? {
            Step::Data { used, .. } => (used, None),
            Step::More { used } => (used, Some(Moved::More)),
            Step::End { used, .. } => (used, Some(Moved::Done)),
        };
        input.consume(used);
        if let Some(moved) = moved {
            return Ok(moved);
        }
    }
}

fn into_stream(reader: &mut BodyReader, input: &mut Input, out: &mut Outgoing) -> Result<Moved, BadBody> {
    while out.queued() < ROOM {
        let (used, moved) = match reader.step(input.unread())? {
            Step::Data { bytes, used } => {
                out.data(Bytes::copy_from_slice(bytes));
                (used, None)
            }
            Step::More { used } => (used, Some(Moved::More)),
            Step::End { used, trailers } => {
                out.end(fields::trailers(&trailers));
                (used, Some(Moved::Done))
            }
        };
        input.consume(used);
        if let Some(moved) = moved {
            return Ok(moved);
        }
    }
    Ok(Moved::Full)
}

fn from_stream(recv: &mut Recv, writer: &BodyWriter, output: &mut Vec<u8>) -> Moved {
    let room = ROOM.saturating_sub(output.len());
    writer.data(&recv.take(room), output);
    moved(recv, |trailers| writer.end(trailers, output))
}

fn between_streams(recv: &mut Recv, out: &mut Outgoing) -> Moved {
    let room = ROOM.saturating_sub(out.queued());
    out.data(recv.take(room));
    moved(recv, |trailers| out.end(fields::trailers(trailers)))
}

fn moved(recv: &Recv, end: impl FnOnce(&Trailers<'_>)) -> Moved {
    match () {
        () if recv.is_done() => {
            end(&recv.trailers());
            Moved::Done
        }
        () if recv.has_unread() => Moved::Full,
        () => Moved::More,
    }
}
