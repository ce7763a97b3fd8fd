//! The rest of a request's body, from the client to the instance, as the instance takes it.

use std::io;

use pointsman_wire::BodyReader;

use crate::exchange::plan::Plan;
use crate::exchange::progress::Progress;
use crate::fault::Fault;
use crate::http1::body::{self, transcode};
use crate::net::buffer::Input;
use crate::net::deadline::Deadline;
use crate::net::send::send;
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::worker::Worker;
use pointsman_engine::live::Counters;

/// How much is taken before it is sent on, bytes.
const ROOM: usize = 64 * 1024;

/// A body on its way up.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) plan: &'a Plan,
    pub(crate) body: &'a mut BodyReader,
    pub(crate) counters: &'a Counters,
    pub(crate) deadline: &'a Deadline,
    pub(crate) progress: &'a Progress,
}

impl Upload<'_> {
    /// Moves the body until its end, or until the instance takes no more: what it has to say is its answer.
    ///
    /// # Errors
    /// The client's faults: [`Fault::BadRequestBody`], [`Fault::BodyTimeout`], [`Fault::ClientGone`]; and
    /// [`Fault::ServerTimeout`] when the instance stopped reading.
    pub(crate) async fn run(
        mut self,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
    ) -> Result<(), Fault> {
        let mut output = self.worker.buffers.take();
        let moved = self.move_all(from, input, to, &mut output).await;
        self.worker.buffers.give(output);
        moved
    }

    async fn move_all(
        &mut self,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        loop {
            let before = input.unread().len();
            let progress =
                transcode(self.body, &self.plan.writer, input, output, ROOM).map_err(Fault::BadRequestBody)?;
            self.progress.streamed.set(self.progress.streamed.get() || before > 0);
            if !self.pass_on(to, output).await? {
                return Ok(());
            }
            match progress {
                body::Progress::Done => {
                    self.progress.uploaded.set(true);
                    return Ok(());
                }
                body::Progress::Full => {}
                body::Progress::More => self.read(from, input).await?,
            }
        }
    }

    /// `false`: the instance takes no more.
    async fn pass_on(&self, to: &mut WriteHalf<'_>, output: &mut Vec<u8>) -> Result<bool, Fault> {
        let server = self.plan.live.service.timeouts.server;
        let sent = send(self.deadline, server, to, output).await;
        self.counters.bytes_in.add(output.len() as u64);
        self.progress.moved.set(self.deadline.now());
        output.clear();
        match sent {
            Ok(()) => Ok(true),
            // One that answers already may leave the rest of the body unread.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !self.progress.begun.get() => {
                Err(Fault::ServerTimeout)
            }
            Err(_) => Ok(false),
        }
    }

    async fn read(&self, from: &mut ReadHalf<'_>, input: &mut Input) -> Result<(), Fault> {
        input.grow_for_bulk(&self.worker.buffers);
        let read = input.fill(from, &self.worker.buffers);
        // While the client is awaited, the instance owes nothing.
        self.progress.moved.set(u64::MAX);
        let read = self.deadline.within(self.plan.timeouts.client, read).await;
        self.progress.moved.set(self.deadline.now());
        match read {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) => Err(Fault::ClientGone),
            Err(_) => Err(Fault::BodyTimeout),
        }
    }
}
