//! One client connection: requests one after another until either side is done. Holds no buffer while idle.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pointsman_wire::{Answer, HeadProgress, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use tracing::debug;

use crate::exchange::exchange;
use crate::exchange::plan::{ClientSide, Judged, head_limits, judge};
use crate::fault::Fault;
use crate::net::buffer::Input;
use crate::net::deadline::Deadline;
use crate::net::send::send;
use crate::net::stream::Stream;
use crate::worker::{Counted, Worker};

/// What an unfinished request may still send after our last answer, bytes, and for how long: enough for the client to
/// read the answer before a reset could take it away.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);
/// How long an idle connection may still bring a request after draining began.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) stream: Stream,
    /// Bytes from the client that were not used yet: the next pipelined request may be among them.
    pub(crate) input: Input,
    pub(crate) deadline: Deadline,
    address: IpAddr,
    address_text: String,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    Keep,
    /// It is over; everything was said.
    Close,
    /// It is over, and the client may still be sending: let it read our answer first.
    Linger,
    /// It is over in the middle of an answer: the client must see that it is incomplete.
    Reset,
}

/// Serves a client's connection until it is over.
pub(crate) async fn serve(counted: Counted, stream: Stream, address: IpAddr) {
    let mut client = Client::new(Rc::clone(counted.worker()), stream, address);
    let mut after = client.next(true).await;
    while after == After::Keep {
        after = client.next(false).await;
    }
    match after {
        After::Keep | After::Close => {}
        After::Linger => client.linger().await,
        After::Reset => client.stream.reset_on_close(),
    }
    let worker = Rc::clone(&client.worker);
    client.input.discard(&worker.buffers);
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(counted: Counted, stream: Stream, address: IpAddr) {
    let mut client = Client::new(Rc::clone(counted.worker()), stream, address);
    let fault = Fault::TooManyConnections;
    if client.answer(fault, ClientSide::UNKNOWN).await == After::Linger {
        client.linger().await;
    }
}

impl Client {
    fn new(worker: Rc<Worker>, stream: Stream, address: IpAddr) -> Self {
        let deadline = worker.timers.deadline();
        let address_text = address.to_canonical().to_string();
        Self { worker, stream, input: Input::default(), deadline, address, address_text }
    }

    /// Serves the next request.
    async fn next(&mut self, first: bool) -> After {
        match self.head(first).await {
            Ok(Judged::Forward(plan)) => {
                self.input.release(&self.worker.buffers);
                exchange(self, plan).await
            }
            Ok(Judged::Healthy(side)) => self.say(200, Some("ok\n"), side).await,
            Ok(Judged::Refused(fault, side)) => self.answer(fault, side).await,
            Ok(Judged::Partial) | Err(Fault::ClientGone) => After::Close,
            Err(fault) => self.answer(fault, ClientSide::UNKNOWN).await,
        }
    }

    /// Waits for a head and judges it.
    async fn head(&mut self, first: bool) -> Result<Judged, Fault> {
        let came = self.deadline.now();
        if self.input.unread().is_empty() {
            self.idle(first).await?;
        }
        let (limits, by) = {
            let view = self.worker.view();
            let config = view.table.config();
            let began = if first { came } else { self.deadline.now() };
            (head_limits(config), self.deadline.later(began, config.timeouts.head))
        };
        let mut progress = HeadProgress::default();
        loop {
            if progress.ready(self.input.unread(), limits) {
                match judge(&self.worker, &mut self.input, self.address, &self.address_text) {
                    Judged::Partial => {}
                    judged => return Ok(judged),
                }
            }
            let (mut from, _) = self.stream.split();
            let read = self.input.fill(&mut from, &self.worker.buffers);
            match self.deadline.until(by, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(Fault::ClientGone),
                Err(_) => return Err(Fault::HeadTimeout),
            }
        }
    }

    /// Waits for the first bytes of a request. A client that sends none is not told anything.
    async fn idle(&mut self, first: bool) -> Result<(), Fault> {
        self.input.release(&self.worker.buffers);
        let timeouts = self.worker.view().table.config().timeouts;
        let at = self.deadline.after(if first { timeouts.head } else { timeouts.keep_alive });
        let until = || match self.worker.drain_began() {
            Some(began) => at.min(began + DRAIN_GRACE.as_millis() as u64),
            None => at,
        };
        let (mut from, _) = self.stream.split();
        let read = self.input.fill(&mut from, &self.worker.buffers);
        match self.deadline.watched(until, read).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) | Err(_) => Err(Fault::ClientGone),
        }
    }

    /// Answers with a fault's status, and counts it.
    pub(crate) async fn answer(&mut self, fault: Fault, side: ClientSide) -> After {
        self.worker.stats().fault(fault.index());
        debug!("client {}: {}: {fault}", self.address_text, fault.name());
        let Some(status) = fault.status() else {
            return After::Reset;
        };
        let view = self.worker.view();
        let own = view.table.config().errors.iter().find(|(of, _)| *of == status);
        self.say(status, own.map(|(_, body)| &**body), side).await
    }

    /// Sends an answer of our own; without a body it is a short page that names the status.
    async fn say(&mut self, status: u16, body: Option<&str>, side: ClientSide) -> After {
        let keep_alive = side.keep_alive && side.version == Version::Http11 && !self.worker.is_draining();
        let mut answer = self.worker.buffers.take();
        Answer { status, body, keep_alive, head_request: side.head_request }.write(&mut answer);
        let limit = self.worker.view().table.config().timeouts.client;
        let sent = send(&self.deadline, limit, &mut self.stream, &answer).await;
        self.worker.buffers.give(answer);
        match (sent, keep_alive) {
            (Ok(()), true) => After::Keep,
            (Ok(()), false) => After::Linger,
            (Err(_), _) => After::Close,
        }
    }

    /// Says that nothing more comes, and reads on for a moment: a close with unread bytes would be a reset, which can
    /// take our answer away before the client has read it (RFC 9112 §9.6).
    async fn linger(&mut self) {
        let Self { stream, deadline, worker, .. } = self;
        let mut buffer = worker.buffers.take();
        let drained = async {
            stream.shutdown().await?;
            let mut seen = 0;
            while seen < LINGER_BYTES {
                buffer.clear();
                match stream.read_buf(&mut buffer).await? {
                    0 => break,
                    count => seen += count,
                }
            }
            io::Result::Ok(())
        };
        // Whatever happens here, the connection is over.
        let _ = deadline.within(LINGER, drained).await;
        worker.buffers.give(buffer);
    }
}
