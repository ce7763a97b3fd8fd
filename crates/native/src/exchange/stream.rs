//! A tunnel with a stream of HTTP/2 on one side, or on both: a WebSocket (RFC 8441). Bytes both ways until both sides are
//! done.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use pointsman_wire::{BodyLength, BodyReader, BodyWriter, Trailers};

use super::context::Cx;
use super::sides::{Downstream, Sink, Source, pump, split_link};
use crate::http1::body::Moved;
use crate::net::buffer::Input;
use crate::net::deadline::Deadline;
use crate::pool::checkout::Checkout;
use crate::pool::link::Link;
use crate::relay::End;

/// Moves bytes both ways. `idle`: the longest time in which none moves.
pub(crate) async fn tunnel(
    cx: &Cx<'_>,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    input: &mut Input,
    idle: Duration,
) -> End {
    let writer = BodyWriter::new(BodyLength::UntilClose);
    let mut body = BodyReader::new(BodyLength::UntilClose, 0);
    if let Downstream::Http1(client) = downstream {
        client.body = BodyReader::new(BodyLength::UntilClose, 0);
    }
    let (link, instance) = checked_out.parts();
    let (from_instance, to_instance) = split_link(link, input, &mut body, writer);
    let (Some(from_client), to_client) = downstream.split(writer) else { return End::Broken };
    let moved = Cell::new(cx.deadline.now());
    let (upward, downward) = (cx.worker.timers.deadline(), cx.worker.timers.deadline());
    let meter = cx.meter(instance.live);
    let up = OneWay { cx, deadline: &upward, moved: &moved, idle, source: from_client, sink: to_instance };
    let down = OneWay { cx, deadline: &downward, moved: &moved, idle, source: from_instance, sink: to_client };
    let both = async { tokio::try_join!(up.run(|count| meter.up(count)), down.run(|count| meter.down(count))) };
    let ends = || cx.deadline.later(moved.get(), idle).min(instance.expires());
    let outcome = cx.deadline.watched(ends, both).await;
    match outcome {
        Ok(Ok(_)) => End::Done,
        Ok(Err(_)) | Err(_) => {
            if let (Link::Http1(stream), _) = checked_out.parts() {
                stream.reset_on_close();
            }
            End::Broken
        }
    }
}

/// One direction of a tunnel.
struct OneWay<'a> {
    cx: &'a Cx<'a>,
    deadline: &'a Deadline,
    /// When a byte last moved, in either direction, coarse time.
    moved: &'a Cell<u64>,
    idle: Duration,
    source: Source<'a>,
    sink: Sink<'a>,
}

impl OneWay<'_> {
    async fn run(mut self, count: impl Fn(usize)) -> io::Result<()> {
        let buffers = &self.cx.worker.buffers;
        loop {
            self.sink.prepare(buffers);
            // Bytes of a tunnel have no framing that could be malformed.
            let moved = pump(&mut self.source, &mut self.sink).unwrap_or(Moved::Done);
            let (bytes, sent) = self.sink.flush(self.deadline, (self.idle, || u64::MAX)).await;
            sent?;
            count(bytes);
            self.moved.set(self.deadline.now());
            self.source.passed_on();
            self.sink.release(buffers);
            match moved {
                Moved::Full => {}
                Moved::More if self.source.fill(buffers).await? > 0 => self.moved.set(self.deadline.now()),
                Moved::More | Moved::Done => return self.end().await,
            }
        }
    }

    /// Passes the end of the direction on; the other may go on.
    async fn end(&mut self) -> io::Result<()> {
        self.sink.end_body(&Trailers::default());
        self.sink.flush(self.deadline, (self.idle, || u64::MAX)).await.1?;
        self.sink.shutdown().await
    }
}
