//! The rest of a request's body, from the client to the instance, as fast as the instance takes it.

use std::io;
use std::num::NonZeroU64;

use pointsman_table::Balance;

use super::context::Cx;
use super::decide::Plan;
use super::progress::{Answer, Progress};
use super::sides::{Sink, Source, pump};
use crate::fault::Fault;
use crate::http1::body::Moved;
use crate::net::deadline::Deadline;
use crate::record::Meter;

/// A request's body on its way to the instance.
#[derive(Debug)]
pub(crate) struct Up<'a> {
    pub(crate) cx: &'a Cx<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) meter: Meter<'a>,
    /// A deadline of its own: the response waits at the same time.
    pub(crate) deadline: &'a Deadline,
    pub(crate) progress: &'a Progress<'a>,
    pub(crate) source: Source<'a>,
    pub(crate) sink: Sink<'a>,
    /// A read left the body incomplete, and what it brought was acknowledged at once.
    pub(crate) acknowledged: bool,
    /// Bytes of its data so far, with those that the plan holds, where they are bounded.
    pub(crate) streamed: u64,
}

impl Up<'_> {
    /// Moves the body until its end, or until the instance takes no more: then its answer tells why.
    ///
    /// # Errors
    /// The client's faults: [`Fault::BadRequestBody`], [`Fault::BodyTimeout`], [`Fault::ClientGone`]; and
    /// [`Fault::ServerTimeout`] when the instance stopped reading.
    pub(crate) async fn run(mut self) -> Result<(), Fault> {
        let moved = self.move_all().await;
        self.sink.release(&self.cx.worker.buffers);
        moved
    }

    async fn move_all(&mut self) -> Result<(), Fault> {
        loop {
            if self.source.has_unread() {
                self.progress.streamed();
            }
            self.sink.prepare(&self.cx.worker.buffers);
            let moved = pump(&mut self.source, &mut self.sink).map_err(Fault::BadRequestBody)?;
            if !self.sink.is_empty() {
                // The end of a body may come without a byte of it, and is not held either.
                self.progress.streamed();
            }
            if let Some(most) = self.plan.most {
                self.measure(most)?;
            }
            if !self.pass_on().await? {
                return Ok(());
            }
            match moved {
                Moved::Done => {
                    self.progress.uploaded();
                    if self.plan.live.service.balance == Balance::PowerOfTwo {
                        self.cx.record.sent();
                    }
                    if let Some(copies) = &self.plan.copies {
                        copies.complete();
                    }
                    return Ok(());
                }
                Moved::Full => {}
                Moved::More if self.read().await? => {}
                Moved::More => return Ok(()),
            }
        }
    }

    /// Counts what is about to be sent: of a body that is too large, nothing more is.
    #[cold]
    fn measure(&mut self, most: NonZeroU64) -> Result<(), Fault> {
        self.streamed += self.sink.data();
        if self.streamed > most.get() {
            self.sink.throw_away();
            return Err(Fault::BodyTooLarge);
        }
        Ok(())
    }

    /// Sends what is in the sink. `false`: the instance takes no more.
    async fn pass_on(&mut self) -> Result<bool, Fault> {
        if let Some(copies) = &self.plan.copies {
            copies.keep(&self.sink, self.plan.writer);
        }
        let (count, sent) = self.sink.flush(self.deadline, (self.plan.live.service.timeouts.server, || u64::MAX)).await;
        self.source.passed_on();
        self.meter.up(count);
        self.progress.set_moved(self.deadline.now());
        match sent {
            Ok(()) => Ok(true),
            // An instance that answers already may leave the rest of the body unread.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !self.progress.begun() => {
                Err(Fault::ServerTimeout)
            }
            Err(_) => Ok(false),
        }
    }

    /// Reads more of the body. `false`: the client sends no more.
    async fn read(&mut self) -> Result<bool, Fault> {
        if !std::mem::replace(&mut self.acknowledged, true) {
            self.source.acknowledge();
        }
        let buffers = &self.cx.worker.buffers;
        self.sink.release(buffers);
        let read = self.source.fill(buffers);
        // While the client is awaited, the instance owes nothing.
        self.progress.set_moved(u64::MAX);
        // While both directions stream, the client may pause for as long as in a tunnel.
        let pause = || match self.progress.begun() {
            true => self.plan.live.service.timeouts.tunnel,
            false => self.cx.globals.config.timeouts.client,
        };
        let since = self.deadline.now();
        let read = self.deadline.watched(|| self.deadline.later(since, pause()), read).await;
        self.progress.set_moved(self.deadline.now());
        match read {
            Ok(Ok(1..)) => Ok(true),
            // The client has its answer, or is getting it: that it ends its body early does not change this.
            Ok(Ok(0)) if self.progress.begun() && self.progress.answer() != Answer::Begun(101) => Ok(false),
            Ok(Ok(0) | Err(_)) => Err(Fault::ClientGone),
            Err(_) => Err(Fault::BodyTimeout),
        }
    }
}
