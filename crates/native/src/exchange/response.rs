//! The response, from the instance to the client: head judged and written anew, body moved in the client's framing.

use pointsman_wire::{
    BodyLength, BodyReader, BodyWriter, HeadProgress, HeaderSpace, MAX_HEADERS, Reply, ResponseHead, Trailers, Version,
    parse_response,
};

use crate::exchange::plan::Plan;
use crate::exchange::progress::{Answered, Progress};
use crate::fault::Fault;
use crate::http1::body::{self, transcode};
use crate::net::buffer::Input;
use crate::net::deadline::Deadline;
use crate::net::send::send;
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::view::InstanceLive;
use crate::worker::Worker;

/// How much is taken before it is sent on, bytes.
const ROOM: usize = 64 * 1024;
/// How many interim (1xx) responses may come before the final one.
const INTERIM: usize = 32;

/// A response on its way down.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    worker: &'a Worker,
    plan: &'a Plan,
    instance: &'a InstanceLive,
    deadline: &'a Deadline,
    progress: &'a Progress,
}

/// What a judged head leads to; its bytes for the client are in the output.
enum Judged {
    Partial,
    Interim,
    Switch,
    Final(Final),
}

/// What came from the instance.
enum Read {
    Bytes,
    /// It has said all it has to say.
    Closed,
    /// The connection broke.
    Broken,
}

/// A final head's consequences.
struct Final {
    /// To be counted once something of it was sent.
    status: Option<u16>,
    reader: BodyReader,
    writer: BodyWriter,
    keep_client: bool,
    keep_instance: bool,
}

impl<'a> Response<'a> {
    pub(crate) fn new(
        worker: &'a Worker,
        plan: &'a Plan,
        instance: &'a InstanceLive,
        deadline: &'a Deadline,
        progress: &'a Progress,
    ) -> Self {
        Self { worker, plan, instance, deadline, progress }
    }

    /// Moves the response. `input` keeps what the instance sent beyond it.
    pub(crate) async fn run(&self, from: &mut ReadHalf<'_>, input: &mut Input, to: &mut WriteHalf<'_>) -> Answered {
        let mut output = Vec::new();
        let answered = match self.head(from, input, to, &mut output).await {
            Ok(Judged::Final(head)) => self.body(head, from, input, to, &mut output).await,
            Ok(Judged::Switch) => self.pass_on(to, &mut output).await.map(|()| Answered::Switched),
            Ok(Judged::Partial | Judged::Interim) => Ok(Answered::Nothing),
            Err(fault) => Err(fault),
        };
        self.worker.buffers.give(output);
        answered.unwrap_or_else(|fault| self.progress.failed(fault))
    }

    /// Reads until the final head, or 101, is in the output. `Partial`: the instance closed without a byte.
    async fn head(
        &self,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
        output: &mut Vec<u8>,
    ) -> Result<Judged, Fault> {
        let mut interim = 0;
        let mut progress = HeadProgress::default();
        loop {
            let ready = progress.ready(input.unread(), self.plan.limits);
            match if ready { self.judge(input, output)? } else { Judged::Partial } {
                Judged::Partial => match self.read(from, input).await? {
                    Read::Bytes => {}
                    Read::Closed | Read::Broken if interim == 0 && input.unread().is_empty() => {
                        return Ok(Judged::Partial);
                    }
                    Read::Closed | Read::Broken => return Err(Fault::NoAnswer),
                },
                Judged::Interim if interim == INTERIM => return Err(Fault::NoAnswer),
                Judged::Interim => {
                    interim += 1;
                    self.pass_on(to, output).await?;
                    // It is whole: a fault may still be answered.
                    self.progress.begun.set(false);
                    self.progress.moved.set(self.deadline.now());
                    progress = HeadProgress::default();
                }
                judged => return Ok(judged),
            }
        }
    }

    async fn read(&self, from: &mut ReadHalf<'_>, input: &mut Input) -> Result<Read, Fault> {
        let server = self.plan.live.service.timeouts.server;
        let read = input.fill(from, &self.worker.buffers);
        let instance = self.instance;
        let late = || self.deadline.later(self.progress.moved.get(), server).min(instance.expires());
        match self.deadline.watched(late, read).await {
            Ok(Ok(0)) => Ok(Read::Closed),
            Ok(Ok(_)) => Ok(Read::Bytes),
            Ok(Err(_)) => Ok(Read::Broken),
            Err(_) if instance.expires() <= self.deadline.now() => Err(Fault::Removed),
            Err(_) => Err(Fault::ServerTimeout),
        }
    }

    /// Judges a head and writes it anew. The output gets its memory here, when there is something to put in it.
    fn judge(&self, input: &mut Input, output: &mut Vec<u8>) -> Result<Judged, Fault> {
        if input.unread().is_empty() {
            return Ok(Judged::Partial);
        }
        let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
        let head_request = self.plan.client.head_request;
        let parsed = parse_response(input.unread(), head_request, self.plan.limits, &mut space);
        let Some(head) = parsed.map_err(Fault::BadResponse)? else {
            return Ok(Judged::Partial);
        };
        if output.capacity() == 0 {
            *output = self.worker.buffers.take();
        }
        let judged = match head.status {
            101 if self.plan.upgrade => self.switch(&head, output),
            101 => return Err(Fault::UnaskedSwitch),
            100..=199 => self.interim(&head, output),
            _ => self.finish(&head, output),
        };
        let length = head.len;
        input.consume(length);
        Ok(judged)
    }

    fn switch(&self, head: &ResponseHead<'_, '_>, output: &mut Vec<u8>) -> Judged {
        self.count(head.status);
        head.write(&Reply { version: Version::Http11, keep_alive: true, body: BodyLength::None }, output);
        Judged::Switch
    }

    /// Interim responses are not for HTTP/1.0 (RFC 9110 §15.2).
    fn interim(&self, head: &ResponseHead<'_, '_>, output: &mut Vec<u8>) -> Judged {
        if self.plan.client.version == Version::Http11 {
            head.write(&Reply { version: Version::Http11, keep_alive: true, body: BodyLength::None }, output);
        }
        Judged::Interim
    }

    fn finish(&self, head: &ResponseHead<'_, '_>, output: &mut Vec<u8>) -> Judged {
        let client = self.plan.client;
        let framing = head.body_for(client.version);
        let keep_client = client.keep_alive
            && framing != BodyLength::UntilClose
            && self.progress.uploaded.get()
            && !self.worker.is_draining();
        head.write(&Reply { version: client.version, keep_alive: keep_client, body: framing }, output);
        Judged::Final(Final {
            reader: BodyReader::new(head.body, self.plan.limits.bytes),
            writer: BodyWriter::new(framing),
            status: Some(head.status),
            keep_client,
            keep_instance: head.keep_alive,
        })
    }

    fn count(&self, status: u16) {
        self.instance.counters().responses[usize::from(status / 100).clamp(1, 5) - 1].add(1);
    }

    /// Moves the body, the head in front of its first bytes.
    async fn body(
        &self,
        mut head: Final,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        to: &mut WriteHalf<'_>,
        output: &mut Vec<u8>,
    ) -> Result<Answered, Fault> {
        loop {
            let moved = transcode(&mut head.reader, &head.writer, input, output, ROOM);
            let mut progress = moved.map_err(|_| Fault::BadResponseBody)?;
            if progress == body::Progress::More && output.is_empty() {
                progress = self.more(&mut head, from, input, output).await?;
            }
            head.status.take().into_iter().for_each(|status| self.count(status));
            self.pass_on(to, output).await?;
            if progress == body::Progress::Done {
                return Ok(Answered::Complete { keep_client: head.keep_client, keep_instance: head.keep_instance });
            }
        }
    }

    /// Reads more of the body. A close ends it only where its framing says so.
    async fn more(
        &self,
        head: &mut Final,
        from: &mut ReadHalf<'_>,
        input: &mut Input,
        output: &mut Vec<u8>,
    ) -> Result<body::Progress, Fault> {
        input.grow_for_bulk(&self.worker.buffers);
        self.progress.moved.set(self.deadline.now());
        match self.read(from, input).await? {
            Read::Bytes => Ok(body::Progress::More),
            Read::Closed if head.reader.may_close() => {
                head.writer.end(&Trailers::default(), output);
                head.keep_instance = false;
                Ok(body::Progress::Done)
            }
            Read::Closed | Read::Broken => Err(Fault::BadResponseBody),
        }
    }

    /// Sends what is in the output to the client.
    async fn pass_on(&self, to: &mut WriteHalf<'_>, output: &mut Vec<u8>) -> Result<(), Fault> {
        if output.is_empty() {
            return Ok(());
        }
        self.progress.begun.set(true);
        let sent = send(self.deadline, self.plan.timeouts.client, to, output).await;
        self.instance.counters().bytes_out.add(output.len() as u64);
        output.clear();
        sent.map_err(|_| Fault::ClientGone)
    }
}
