//! The response, from the instance to the client: head checked and rewritten, body moved in the client's framing.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{Balance, HttpVersion};
use pointsman_wire::{
    BadResponse, BodyLength, BodyReader, HeadProgress, HeaderEdits, HeaderSpace, MAX_HEADERS, ResponseHead, Trailers,
    Version, WrittenRequest, judge_http2_response, parse_response,
};

use super::again;
use super::compress::{Squeeze, Stuck};
use super::context::Cx;
use super::decide::{Plan, head_limits};
use super::progress::{Answer, Progress};
use super::sides::{Flushed, Sink, Source, pump};
use super::sticky::today;
use crate::coding::Coding;
use crate::fault::Fault;
use crate::http1::body::Moved;
use crate::http1::client::ClientSide;
use crate::http2::fields;
use crate::http2::recv::Cut;
use crate::net::pace::Pace;
use crate::net::watch::{Left, LongWait, Watch};
use crate::pool::connect::tell;
use crate::pool::judge::{Verdict, err, succeeded};
use crate::pool::secure::late_refusal;
use crate::pool::view::{InstanceLive, Reached};
use crate::worker::Compressing;

/// Codes of gRPC (INTERNAL, UNAVAILABLE) that say what a 5xx says, and that status.
const CODES: [(&[u8], u16); 2] = [(b"13", 500), (b"14", 503)];

/// A response on its way to the client.
#[derive(Debug)]
pub(crate) struct Down<'a> {
    pub(crate) cx: &'a Cx<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) instance: Reached<'a>,
    pub(crate) progress: &'a Progress<'a>,
    /// What the response must respect.
    pub(crate) side: ClientSide,
    pub(crate) source: Source<'a>,
    pub(crate) sink: Sink<'a>,
    /// A read left the response incomplete, and what it brought was acknowledged at once.
    pub(crate) acknowledged: bool,
}

/// How a response ended, unless it was cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answered {
    /// The whole response is sent.
    Complete {
        /// The client may send its next request.
        keep_client: bool,
        /// The instance keeps its connection.
        keep_instance: bool,
    },
    /// It has a status after which the request is sent again; nothing of it was sent to the client.
    Again,
    /// The client left, and the whole response was read and discarded, as the service's `abort=false` asks for.
    Abandoned { keep_instance: bool },
    /// 101 was sent: a tunnel follows.
    Switched,
}

/// The kind of a judged head; its bytes for the client are in the sink.
enum Judged {
    Partial,
    Interim,
    Switch,
    Final(Final),
}

/// The outcome of a read from the instance.
enum Read {
    Bytes,
    /// The instance sends no more.
    Closed,
    /// The connection broke.
    Broken,
    /// It broke the response off.
    Reset,
    /// It did nothing with the request.
    Refused,
    /// It broke the rules of HTTP/2.
    Malformed,
}

/// What follows from a final head.
#[derive(Clone, Copy)]
struct Final {
    status: u16,
    body: AnswerBody,
    keep_client: bool,
    keep_instance: bool,
}

/// What becomes of the body.
#[derive(Clone, Copy)]
enum AnswerBody {
    /// The answer is thrown away, and the request sent again.
    Discarded,
    Passed,
    Compressed(Coding),
}

impl Read {
    #[cold]
    fn broken(error: &io::Error) -> Self {
        match Cut::of(error) {
            Cut::Lost => Self::Broken,
            Cut::Reset => Self::Reset,
            Cut::Refused => Self::Refused,
            Cut::Malformed => Self::Malformed,
        }
    }
}

impl Down<'_> {
    /// Moves the response.
    ///
    /// # Errors
    /// The instance's faults, and [`Fault::ClientGone`]. [`Progress::answer`] tells what the client has got.
    pub(crate) async fn run(&mut self) -> Result<Answered, Fault> {
        let answered = match self.head().await {
            Ok(Some(head)) => {
                if let Some(noted) = &self.cx.record.noted {
                    noted.answered(head.status);
                }
                succeeded(&self.plan.live, self.instance.live, self.cx.deadline.now());
                if self.plan.live.service.balance == Balance::PowerOfTwo {
                    self.cx.record.answered(self.instance.live, self.cx.deadline.now());
                }
                match head.body {
                    AnswerBody::Discarded => Ok(Answered::Again),
                    AnswerBody::Passed => self.body(head).await,
                    // Boxed: otherwise every exchange would hold the memory for it.
                    AnswerBody::Compressed(coding) => Box::pin(self.compressed(head, coding)).await,
                }
            }
            Ok(None) => {
                self.cx.record.noted.iter().for_each(|noted| noted.answered(101));
                succeeded(&self.plan.live, self.instance.live, self.cx.deadline.now());
                self.pass_on(Answer::Begun(101)).await.map(|()| Answered::Switched)
            }
            Err(fault) => Err(fault),
        };
        self.sink.release(&self.cx.worker.buffers);
        answered
    }

    /// Reads until the final head is in the sink. `None`: it is 101.
    ///
    /// Each interim response restarts `timeout/server`, as in HAProxy; all of them together may take `timeout/tunnel`.
    async fn head(&mut self) -> Result<Option<Final>, Fault> {
        let mut progress = HeadProgress::default();
        // When interim responses have taken too long, coarse time; 0: none came yet.
        let mut until = 0;
        loop {
            let ready = match &self.source {
                Source::Http1 { input, .. } if input.unread().is_empty() => false,
                Source::Http1 { input, .. } => progress.ready(input.unread(), head_limits(&self.cx.globals.config)),
                Source::Http2(_) => true,
            };
            match if ready { self.judge()? } else { Judged::Partial } {
                Judged::Partial => match self.read().await? {
                    Read::Bytes => self.progress.set_answer(Answer::Heard),
                    Read::Closed | Read::Broken => return Err(Fault::NoAnswer),
                    Read::Refused => return Err(Fault::StreamRefused),
                    Read::Malformed => return Err(Fault::BadResponse(BadResponse::Http2)),
                    Read::Reset => {
                        // The instance has seen the request.
                        self.progress.set_answer(Answer::Heard);
                        return Err(Fault::NoAnswer);
                    }
                },
                Judged::Interim => {
                    if until == 0 {
                        until = self.cx.deadline.after(self.plan.live.service.timeouts.tunnel);
                    }
                    if until <= self.cx.deadline.now() {
                        return Err(Fault::ServerTimeout);
                    }
                    self.pass_on(Answer::Interim).await?;
                    // It was sent whole: a fault may still be answered.
                    self.progress.set_answer(Answer::Heard);
                    // The client has a part of what this instance says.
                    self.progress.bound().into_iter().for_each(|bound| bound.spend(u32::MAX));
                    self.progress.heard(self.cx.deadline.now());
                    progress = HeadProgress::default();
                }
                Judged::Switch => return Ok(None),
                Judged::Final(head) => return Ok(Some(head)),
            }
        }
    }

    async fn read(&mut self) -> Result<Read, Fault> {
        self.acknowledge();
        let Self { cx, plan, instance, progress, source, sink, .. } = self;
        let (instance, progress) = (*instance, *progress);
        let pace = Pace::new(cx.deadline, progress.moved(), plan.live.service.timeouts.server);
        let wait = LongWait::new(cx.deadline);
        let (client, mut watch, mut waited) = (sink.socket(), Watch::default(), false);
        // One future instead of several, one in the other: each would hold what the others do.
        let read = poll_fn(move |context| {
            let read = match source.poll_fill_at(&pace, (&cx.worker.buffers, &mut waited), context) {
                Poll::Ready(read) => Poll::Ready(Ok(read)),
                Poll::Pending if !wait.is_long() => Poll::Pending,
                Poll::Pending => progress.guard.poll_left(client, &mut watch, context).map(Err),
            };
            let late = || pace.late().min(instance.expires()).min(progress.abandoned());
            cx.deadline.bound(read, || (wait.look(pace.every()), late()), context)
        });
        match read.await {
            Ok(Err(left)) => Err(left.into()),
            Ok(Ok(Ok(0))) => Ok(Read::Closed),
            Ok(Ok(Ok(_))) => Ok(Read::Bytes),
            Ok(Ok(Err(error))) => broken(self.cx, self.plan, self.instance, self.progress, &error),
            Err(_) if self.instance.expires() <= self.cx.deadline.now() => Err(Fault::Removed),
            Err(_) if self.progress.abandoned() <= self.cx.deadline.now() => Err(Fault::ClientGone),
            Err(_) => Err(Fault::ServerTimeout),
        }
    }

    /// Acknowledges what has come of the response, if more must come. Only once, so that a long response pays nothing.
    fn acknowledge(&mut self) {
        let begun = self.progress.answer() != Answer::Awaited;
        if begun && !self.acknowledged {
            self.source.acknowledge();
        }
        self.acknowledged = begun;
    }

    /// Judges a head and rewrites it. The sink takes its memory here, when there is something to put in it.
    fn judge(&mut self) -> Result<Judged, Fault> {
        let limits = head_limits(&self.cx.globals.config);
        let Self { cx, plan, instance, progress, side, source, sink, .. } = self;
        match source {
            Source::Http1 { input, body, .. } => {
                let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
                let parsed = parse_response(input.unread(), side.head_request, limits, &mut space);
                let Some(head) = parsed.map_err(Fault::BadResponse)? else { return Ok(Judged::Partial) };
                sink.prepare(&cx.worker.buffers);
                **body = BodyReader::new(head.body, limits.bytes);
                let judged = pass_head(&head, (cx, plan, *instance, progress), *side, sink)?;
                let length = head.len;
                input.consume(length);
                Ok(judged)
            }
            Source::Http2(recv) => {
                let Some(response) = recv.take_head() else { return Ok(Judged::Partial) };
                let (headers, status) = (fields::lines(response.headers()), response.status().as_u16());
                if status == 101 {
                    // RFC 9113 §8.6: HTTP/2 has no such response.
                    return Err(Fault::UnaskedSwitch);
                }
                let kind = (side.head_request, recv.has_ended());
                let head = judge_http2_response(status, &headers, kind, limits).map_err(Fault::BadResponse)?;
                sink.prepare(&cx.worker.buffers);
                if plan.websocket && (200..300).contains(&status) {
                    sink.open_websocket(&head, || websocket_accept(plan));
                    return Ok(Judged::Switch);
                }
                if head.body == BodyLength::None && status >= 200 {
                    recv.skip_content();
                }
                pass_head(&head, (cx, plan, *instance, progress), *side, sink)
            }
        }
    }

    /// Moves the body, with the head before its first bytes.
    async fn body(&mut self, mut head: Final) -> Result<Answered, Fault> {
        loop {
            self.sink.prepare(&self.cx.worker.buffers);
            let mut moved = pump(&mut self.source, &mut self.sink).map_err(|_| Fault::BadResponseBody)?;
            if moved == Moved::More && self.sink.is_empty() {
                self.sink.release(&self.cx.worker.buffers);
                self.progress.heard(self.cx.deadline.now());
                let read = self.read().await?;
                moved = self.more(read, &mut head)?;
            }
            self.pass_on(Answer::Begun(head.status)).await?;
            if moved == Moved::Done && self.progress.is_abandoned() {
                return Ok(Answered::Abandoned { keep_instance: head.keep_instance });
            }
            if moved == Moved::Done {
                return Ok(Answered::Complete { keep_client: head.keep_client, keep_instance: head.keep_instance });
            }
        }
    }

    /// Moves the body into a coding, a part at a time, so that others get their turn.
    async fn compressed(&mut self, mut head: Final, coding: Coding) -> Result<Answered, Fault> {
        let (cx, plan) = (self.cx, self.plan);
        let body = (coding, self.source.length());
        let mut squeeze = Squeeze::new(body, plan.live.compressed(), Compressing::new(cx.worker)).map_err(stuck)?;
        loop {
            self.sink.prepare(&cx.worker.buffers);
            let mut moved = squeeze.pump(&mut self.source, &mut self.sink).map_err(stuck)?;
            if moved == Moved::More {
                moved = self.more_to_compress(&mut squeeze, &mut head).await?;
            }
            if moved == Moved::Done || squeeze.has_enough() {
                squeeze.pass(&mut self.sink);
                self.pass_on(Answer::Begun(head.status)).await?;
            }
            let Final { keep_client, keep_instance, .. } = head;
            match moved {
                Moved::Done if self.progress.is_abandoned() => return Ok(Answered::Abandoned { keep_instance }),
                Moved::Done => return Ok(Answered::Complete { keep_client, keep_instance }),
                Moved::More | Moved::Full => tokio::task::yield_now().await,
            }
        }
    }

    /// Reads more of a body that is compressed. If the instance pauses, all that it sent is sent on before.
    async fn more_to_compress(&mut self, squeeze: &mut Squeeze<'_>, head: &mut Final) -> Result<Moved, Fault> {
        let read = match self.read_at_once().await? {
            Some(read) => read,
            None => {
                squeeze.pause(&mut self.sink).map_err(stuck)?;
                self.pass_on(Answer::Begun(head.status)).await?;
                self.sink.release(&self.cx.worker.buffers);
                self.progress.heard(self.cx.deadline.now());
                let read = self.read().await?;
                self.sink.prepare(&self.cx.worker.buffers);
                read
            }
        };
        match read {
            Read::Bytes => Ok(Moved::More),
            Read::Closed if self.source.may_close() => {
                head.keep_instance = false;
                squeeze.end(&mut self.sink, &Trailers::default()).map_err(stuck)?;
                Ok(Moved::Done)
            }
            Read::Closed | Read::Broken | Read::Reset | Read::Refused | Read::Malformed => Err(Fault::BadResponseBody),
        }
    }

    /// Reads what has come already. `None`: nothing has.
    async fn read_at_once(&mut self) -> Result<Option<Read>, Fault> {
        self.progress.heard(self.cx.deadline.now());
        let mut read = pin!(self.read());
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(read.map(Some)),
            Poll::Pending => Poll::Ready(Ok(None)),
        })
        .await
    }

    /// What follows from a read for more of the body. A close ends it only where its framing says so.
    fn more(&mut self, read: Read, head: &mut Final) -> Result<Moved, Fault> {
        match read {
            Read::Bytes => Ok(Moved::More),
            Read::Closed if self.source.may_close() => {
                self.sink.prepare(&self.cx.worker.buffers);
                self.sink.end_body(&Trailers::default());
                head.keep_instance = false;
                Ok(Moved::Done)
            }
            Read::Closed | Read::Broken | Read::Reset | Read::Refused | Read::Malformed => Err(Fault::BadResponseBody),
        }
    }

    /// Sends what is in the sink to the client, or discards it if the client left and its request is finished anyway.
    async fn pass_on(&mut self, answer: Answer) -> Result<(), Fault> {
        if self.sink.is_empty() {
            return Ok(());
        }
        self.progress.set_answer(answer);
        if self.progress.is_abandoned() {
            self.sink.throw_away();
            return Ok(());
        }
        // While a client reads slowly, the instance's bytes stay in the kernel, not here.
        self.source.release(&self.cx.worker.buffers);
        let (count, sent) = match self.sink.flush_at_once().await {
            Flushed::All(sent) => sent,
            // Boxed, as few sends wait: otherwise every exchange would hold the memory for it.
            Flushed::Partly(written) => Box::pin(self.flush_rest(written)).await?,
        };
        let (instance, deadline) = (self.instance, self.cx.deadline);
        self.source.passed_on();
        self.cx.meter(instance.live).down(count);
        if sent.is_err() && self.plan.live.service.finishes_abandoned() && answer != Answer::Begun(101) {
            self.progress.abandon(deadline.after(self.plan.live.service.timeouts.tunnel));
            return Ok(());
        }
        let removed = sent.is_err() && instance.expires() <= deadline.now();
        sent.map_err(|_| if removed { Fault::Removed } else { Fault::ClientGone })
    }

    /// Sends what the client had no room for, unless it must give way.
    async fn flush_rest(&mut self, written: usize) -> Result<(usize, io::Result<()>), Left> {
        let instance = self.instance;
        let limits = (self.cx.globals.config.timeouts.client, || instance.expires());
        let flush = self.sink.flush_rest(written, self.cx.deadline, limits);
        self.progress.guard.unless_told(pin!(flush)).await
    }
}

/// What is compressed cannot go on.
#[cold]
fn stuck(_: Stuck) -> Fault {
    Fault::BadResponseBody
}

/// What a broken connection means. An instance may judge our certificate only when the handshake is over for us (RFC 8446
/// §4.4.2.4).
#[cold]
fn broken(
    cx: &Cx<'_>,
    plan: &Plan,
    instance: Reached<'_>,
    progress: &Progress<'_>,
    error: &io::Error,
) -> Result<Read, Fault> {
    match late_refusal(error).filter(|_| progress.answer() == Answer::Awaited) {
        Some(failure) => {
            let fault = failure.fault;
            tell(&plan.live, instance.live, &failure.into(), cx.deadline.now());
            Err(fault)
        }
        None => Ok(Read::broken(error)),
    }
}

/// The answer to the key of a client that asks for a WebSocket over HTTP/1 (RFC 6455 §4.2.2).
#[cold]
fn websocket_accept(plan: &Plan) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let key = WrittenRequest::of(plan.parts().0).and_then(|head| head.websocket_key());
    context.update(key.unwrap_or_default());
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

/// Whether an instance switches to the WebSocket that an HTTP/2 client asks for. The key is ours, so nobody else can tell (RFC
/// 6455 §4.1).
#[cold]
fn accepts_websocket(head: &ResponseHead<'_, '_>, plan: &Plan) -> bool {
    let accept = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    let is_ours = accept.is_some_and(|accept| accept.value == websocket_accept(plan).as_bytes());
    is_ours && head.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// Writes a head into the sink, as its status asks for.
fn pass_head(
    head: &ResponseHead<'_, '_>,
    (cx, plan, instance, progress): (&Cx<'_>, &Plan, Reached<'_>, &Progress<'_>),
    side: ClientSide,
    sink: &mut Sink<'_>,
) -> Result<Judged, Fault> {
    match head.status {
        101 if plan.websocket && matches!(sink, Sink::Http2(_)) && !accepts_websocket(head, plan) => {
            Err(Fault::BadResponse(BadResponse::Upgrade))
        }
        101 if plan.upgrade => {
            sink.interim(head, edits(head, cx, plan, instance.live).edits.as_deref());
            Ok(Judged::Switch)
        }
        101 => Err(Fault::UnaskedSwitch),
        // It would tell an HTTP/2 client that its WebSocket is open (RFC 8441 §5).
        200..=299 if plan.upgrade && matches!(sink, Sink::Http2(_)) => Err(Fault::BadResponse(BadResponse::Upgrade)),
        100..=199 => {
            // Interim responses are not for HTTP/1.0 (RFC 9110 §15.2).
            if side.version == Version::Http11 {
                sink.interim(head, None);
            }
            Ok(Judged::Interim)
        }
        status @ 400.. if is_sent_again((cx, plan, instance.live, progress), status) => {
            progress.failed(if status >= 500 { status } else { 0 });
            Ok(Judged::Final(Final { status, body: AnswerBody::Discarded, keep_client: true, keep_instance: false }))
        }
        status => {
            if plan.live.service.eject.is_some() && plan.live.service.http_version == HttpVersion::Http2 {
                progress.failed(grpc_failure(head));
            }
            if head.asks_for_connection_login {
                progress.asked_for_login();
            }
            let may_keep = progress.sent().is_whole() && !cx.worker.is_draining();
            let Changed { edits, coding } = edits(head, cx, plan, instance.live);
            let (keep_client, body) = match coding {
                None => (sink.begin(head, side, (may_keep, edits.as_deref())), AnswerBody::Passed),
                Some(coding) => begin_compressed(head, coding, side, (may_keep, edits.as_deref()), sink),
            };
            Ok(Judged::Final(Final { status, body, keep_client, keep_instance: head.keep_alive }))
        }
    }
}

/// Whether a request is sent again after this status of 400 or more. A 5xx is the instance's last error.
#[cold]
fn is_sent_again((cx, plan, instance, progress): (&Cx<'_>, &Plan, &InstanceLive, &Progress<'_>), status: u16) -> bool {
    if status >= 500 {
        err(instance, Verdict::Failed(status), cx.deadline.now());
    }
    progress.bound().is_some() && again::after_status(cx, plan, progress, status)
}

/// The changes to an answer.
struct Changed<'c> {
    edits: Option<Cow<'c, HeaderEdits>>,
    /// Its body is compressed.
    coding: Option<Coding>,
}

/// The changes to an answer; most answers have none.
fn edits<'c>(head: &ResponseHead<'_, '_>, cx: &'c Cx<'_>, plan: &Plan, instance: &InstanceLive) -> Changed<'c> {
    match plan.sticky.is_none() && cx.edits.is_none() {
        true => Changed { edits: None, coding: None },
        false => changed(head, cx, plan, instance),
    }
}

#[cold]
fn changed<'c>(head: &ResponseHead<'_, '_>, cx: &'c Cx<'_>, plan: &Plan, instance: &InstanceLive) -> Changed<'c> {
    let name = || plan.live.name_of(instance.id).unwrap_or_default();
    let base = cx.edits.as_deref().map(|edits| edits.for_instance(&name()));
    let sticky = plan.sticky.as_ref();
    let stuck = sticky.and_then(|sticky| sticky.edits((&plan.live, instance), head, base.as_deref(), today));
    if let (Some(noted), Some(sticky)) = (&cx.record.noted, sticky) {
        noted.cookies.set(sticky.letters());
    }
    let edits = stuck.map(Cow::Owned).or(base);
    let Some(negotiated) = &plan.negotiated else { return Changed { edits, coding: None } };
    let mut edits = edits.map(Cow::into_owned).unwrap_or_default();
    let asked = WrittenRequest::of(plan.parts().0).into_iter().flat_map(|head| head.fields());
    let asked = asked.filter(|(name, _)| name.eq_ignore_ascii_case("if-none-match")).map(|(_, value)| value);
    let coding = negotiated.judge(head, &mut edits, asked, cx.worker);
    Changed { edits: Some(Cow::Owned(edits)), coding }
}

/// Writes the head of an answer that is compressed. Returns whether we will take another request, and what becomes of the
/// body.
#[cold]
fn begin_compressed(
    head: &ResponseHead<'_, '_>,
    coding: Coding,
    side: ClientSide,
    changes: (bool, Option<&HeaderEdits>),
    sink: &mut Sink<'_>,
) -> (bool, AnswerBody) {
    let keep_client = sink.begin(&head.without_length(), side, changes);
    match head.body {
        // The answer to HEAD has the head of the answer to GET.
        BodyLength::None => (keep_client, AnswerBody::Passed),
        _ => (keep_client, AnswerBody::Compressed(coding)),
    }
}

/// The 5xx that a gRPC answer without a message stands for; 0: none. Trailers after messages are not looked at.
#[cold]
fn grpc_failure(head: &ResponseHead<'_, '_>) -> u16 {
    let code = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("grpc-status"));
    let known = code.and_then(|code| CODES.iter().find(|(known, _)| *known == code.value.trim_ascii()));
    known.map_or(0, |(_, status)| *status)
}
