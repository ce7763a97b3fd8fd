//! One request and its response, whatever versions of HTTP the two sides speak.
//!
//! ```text
//! Request ─┬─ Forward(Plan) ─> attempts ─> checkout ─> send what is held ─┬─ Up    rest of the body ─> instance
//!          │                      ^                                      └─ Down  client <─ head, body
//!          │                      └── once more: nothing came back, no harm in a second copy
//!          └─ Health, Refuse ─> local reply
//! every path ─> Record::finish counts the request
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `context` | the snapshot that a request sees |
//! | `decide` | what happens to a request: its plan |
//! | `admit` | the policy of its service |
//! | `changes`, `cors`, `filled` | what the policy changes; pages of other origins; texts with placeholders |
//! | `compress` | answers that are compressed |
//! | `reach` | what a request tells about the connection that it needs |
//! | `mirror` | copies of requests for other services |
//! | `split` | which service takes a request of one that is split |
//! | `sticky` | the instance that a client's cookie names, and the cookie that it gets |
//! | `certificate` | whether a client's certificate lets the request in |
//! | `gate`, `pass`, `password`, `inquiry` | what must be known before a request goes on: whether its password is right, and what another
//! server says |
//! | `turned`, `page` | why a service turns a request away; pages of errors |
//! | `sides` | client and instance, whatever version of HTTP they speak |
//! | `again`, `bound` | whether a request is sent again; how long it may take, and its place |
//! | `check_out` | an instance for a request, at once or after a wait |
//! | `progress` | how far both directions have come |
//! | `ask` | the beginning of a request to an instance that speaks HTTP/2 |
//! | `up`, `down` | the two directions |
//! | `verdict` | what an outcome says about the instance |
//! | `local` | responses of our own |
//! | `foresee` | the instance that a cookie or a key leads to, for operators |
//! | `traced` | what is noted of a request as it begins, and its trace on the way to the instance |
//! | `stream` | tunnels with HTTP/2 on a side |
//! | `lines` | log lines about requests that failed |

mod admit;
mod again;
mod ask;
mod bound;
mod certificate;
mod changes;
mod check_out;
mod compress;
pub(crate) mod context;
mod cors;
pub(crate) mod decide;
mod down;
mod filled;
pub(crate) mod foresee;
pub(crate) mod gate;
mod inquiry;
pub(crate) mod lines;
mod local;
mod mirror;
mod page;
mod pass;
mod password;
mod progress;
mod reach;
pub(crate) mod sides;
mod split;
mod sticky;
mod stream;
pub(crate) mod traced;
pub(crate) mod turned;
mod up;
mod verdict;

use std::future::{Future, poll_fn, ready};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use futures_util::future::Either;
use pointsman_engine::live::RetryReason;
use pointsman_wire::{BodyLength, BodyReader, BodyWriter};

use self::admit::LocalReply;
use self::again::Repetition;
use self::bound::Remainder;
use self::check_out::{check_out_at_once, pause, wait};
use self::context::Cx;
use self::decide::{Decision, Gated, Plan, Request, Sent};
use self::down::{Answered, Down};
use self::local::{Said, refuse, say, turn};
use self::mirror::{Copies, CopyClient, Receiver};
use self::page::Teller;
use self::progress::{Answer, Progress, Unserved};
use self::sides::{Downstream, source, split_link};
use self::up::Up;
use self::verdict::{is_broken, verdict};
use crate::access::Noted;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::net::buffer::Input;
use crate::net::send::{send_all, write_at_once};
use crate::pool::announced::{Announced, ForClient};
use crate::pool::checkout::{Checkout, Reuse};
use crate::pool::judge::{Verdict, answered, err};
use crate::pool::link::Link;
use crate::pool::logins::Logins;
use crate::pool::pick::Tried;
use crate::record::{Record, begins};
use crate::relay::{End, Relay};
use crate::worker::CopyAtWork;

/// How an attempt without a fault ended.
enum Done {
    /// The whole response was sent. `reusable`: the instance's connection may take another request.
    Complete { after: After, reusable: bool },
    /// It got an answer that is thrown away, and is sent again.
    Again,
    /// The client left, and its request was finished anyway. `reusable`: as above.
    Abandoned { reusable: bool },
    /// It became a tunnel, which is over.
    Tunnel(End),
}

/// Serves one request to its end, and counts it. What it takes stays in its place: an `async fn` would hold it twice.
pub(crate) fn exchange(
    mut cx: Cx<'_>,
    request: Request,
    mut downstream: Downstream<'_>,
) -> impl Future<Output = After> {
    let Request { decision, whole, noted } = request;
    cx.record.noted = noted;
    async move {
        let after = match decision {
            Decision::Forward(mut plan) => {
                cx.record.service = Some(Rc::clone(&plan.live));
                if let Some(noted) = &cx.record.noted {
                    noted.waits();
                    plan.sticky.iter().for_each(|sticky| noted.cookies.set(sticky.letters()));
                }
                cx.edits = plan.edits.take();
                if let Some(copies) = plan.copies.as_ref().filter(|_| whole) {
                    copies.complete();
                }
                let after = match attempts(&mut cx, &mut plan, &mut downstream, whole).await {
                    Ok(after) => after,
                    Err((fault, whole)) => {
                        let page = page::of_held(fault, &cx.globals.config, (&plan.live.service, &plan.held), cx.peer);
                        refuse(&mut cx, &mut downstream, (fault, page), whole).await
                    }
                };
                if let Some(fault) = cx.record.fault {
                    lines::unserved(&cx, (&plan.live, &plan.held), fault);
                    if let Downstream::Us(inquiry) = &downstream {
                        inquiry.fail(fault);
                    }
                }
                if let Some(copies) = plan.copies.take() {
                    send_copies(&cx, &plan, *copies);
                }
                cx.worker.buffers.give(std::mem::take(&mut plan.held));
                after
            }
            Decision::Health => {
                // As with HAProxy: whoever checks us is no visitor.
                cx.record.noted = None;
                say(&mut cx, &mut downstream, Said::of(200, Some("ok\n")), whole).await
            }
            Decision::Challenge(answer) => {
                Box::pin(say(&mut cx, &mut downstream, Said::of(200, Some(&answer)), whole)).await
            }
            Decision::Reply(reply) => {
                let LocalReply { live, status, location, edits } = *reply;
                (cx.record.service, cx.edits) = (Some(live), edits);
                let said = Said { location: location.as_deref(), ..Said::of(status, None) };
                Box::pin(say(&mut cx, &mut downstream, said, whole)).await
            }
            Decision::Gated(gated) => return behind_gate(cx, gated, whole, downstream).await,
            Decision::Turn(turned) => Box::pin(turn(&mut cx, &mut downstream, *turned, whole)).await,
            Decision::Refuse(fault) => {
                let page =
                    page::of(fault, &cx.globals.config, Teller { head: None, id: "", peer: cx.peer, service: None });
                refuse(&mut cx, &mut downstream, (fault, page), whole).await
            }
        };
        cx.record.finish(cx.worker, cx.peer);
        after
    }
}

/// Serves a request about which something must be known before.
#[cold]
fn behind_gate<'c>(
    mut cx: Cx<'c>,
    gated: Box<Gated>,
    whole: bool,
    mut downstream: Downstream<'c>,
) -> Pin<Box<dyn Future<Output = After> + 'c>> {
    Box::pin(async move {
        match pass::pass(&mut cx, &mut downstream, *gated, whole, boxed).await {
            Ok(decision) => {
                let noted = cx.record.noted.take();
                // What it took to ask another server is not the instance's time.
                cx.record.sent();
                boxed(cx, Request { decision, whole, noted }, downstream).await
            }
            Err(after) => {
                cx.record.finish(cx.worker, cx.peer);
                after
            }
        }
    })
}

/// The same as [`exchange`].
#[cold]
fn boxed<'c>(cx: Cx<'c>, request: Request, downstream: Downstream<'c>) -> Pin<Box<dyn Future<Output = After> + 'c>> {
    Box::pin(exchange(cx, request, downstream))
}

/// Sends copies of a request to other services, after the original. None is sent if something of it is missing.
#[cold]
fn send_copies(cx: &Cx<'_>, plan: &Plan, copies: Copies) {
    let Some((client, to, held)) = copies.finish(plan.parts()) else { return };
    for Receiver { live, key, open_for } in to {
        match CopyAtWork::new(cx.worker) {
            Some(place) => {
                let plan = plan.copy(live, (key, open_for), held.clone());
                drop(tokio::task::spawn_local(serve_copy(place, client.clone(), plan)));
            }
            None => cx.worker.stats().fault(Fault::CopyDropped.facts().index),
        }
    }
}

/// Serves one copy to its end.
async fn serve_copy(place: CopyAtWork, CopyClient { peer, side }: CopyClient, plan: Box<Plan>) {
    let worker = place.worker();
    let (deadline, logins, announced) = (worker.timers.deadline(), Logins::default(), Announced::default());
    let cx = Cx {
        worker,
        globals: Rc::clone(&worker.view().globals),
        peer: &peer,
        deadline: &deadline,
        logins: &logins,
        announced: &announced,
        record: Record::new(begins()),
        edits: None,
    };
    let request = Request { decision: Decision::Forward(plan), whole: true, noted: None };
    Box::pin(exchange(cx, request, Downstream::Nobody(side))).await;
}

/// Tries once, and again where that does no harm: see `again`. As [`exchange`], it holds once what it takes.
fn attempts(
    cx: &mut Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    whole: bool,
) -> impl Future<Output = Result<After, Unserved>> {
    let progress = Progress::new(whole, plan.guard(&cx.worker.half_closed));
    let for_client = plan.open_for.take().map(|open_for| ForClient { open_for, own: Some(cx.announced) });
    async move {
        if let Some(bounds) = plan.live.service.bounds.as_deref() {
            if let Some(limit) = again::begin(cx, plan, bounds, &progress) {
                let waits = Box::pin(again::wait_for_place(cx, plan, downstream, &progress, limit));
                waits.await.map_err(|fault| progress.unserved(fault))?;
                // Waiting for a place is not the instance's time.
                cx.record.sent();
            }
            cx.record.noted.iter().for_each(|noted| noted.admitted());
        }
        let (mut tried, mut reuse) = (Tried::default(), progress.sent().reuse(plan));
        loop {
            let mut want = plan.want(reuse, &progress.guard, for_client.as_ref());
            want.dials = cx.record.noted.as_deref().and_then(Noted::dials);
            let repeated = cx.record.is_repeated();
            let mut checked_out = match check_out_at_once(cx, plan, want, &mut tried, &progress) {
                Ok(checked_out) => Either::Left(ready(Ok(checked_out))),
                // Boxed, as few requests wait: otherwise every exchange would hold the memory for it.
                Err(held) => Either::Right(Box::pin(wait(cx, plan, downstream, want, (&mut tried, held), &progress))),
            }
            .await?;
            if let Some(noted) = &cx.record.noted {
                traced::begin_attempt(noted, plan, checked_out.instance());
            }
            let outcome = match progress.bound().and_then(Remainder::ends) {
                None => attempt(cx, plan, downstream, &mut checked_out, &progress).await,
                Some(_) => Box::pin(attempt_within(cx, plan, downstream, &mut checked_out, &progress)).await,
            };
            judge(plan, &checked_out, &outcome, &progress, cx.deadline.now());
            let repetition = match outcome {
                Ok(Done::Again) => Some(Repetition::OF_STATUS),
                Ok(_) => None,
                Err(fault) => again::after_fault(fault, (checked_out.reused, repeated, &tried), (cx, plan, &progress)),
            };
            let Some(Repetition { reason, is_told, pauses }) = repetition else {
                return conclude(cx, downstream, checked_out, outcome, &progress);
            };
            cx.record.repeat(checked_out.instance(), reason);
            if (is_told || !checked_out.reused) && plan.live.instances.len() > 1 {
                tried.add(checked_out.instance().id);
            }
            if reason != RetryReason::Status {
                reuse = Reuse::Never;
            }
            drop(checked_out);
            pause(pauses, cx, downstream, &progress).await?;
        }
    }
}

/// Tells the instance's health how an attempt ended, also if the request is sent again.
fn judge(plan: &Plan, checked_out: &Checkout, outcome: &Result<Done, Fault>, progress: &Progress<'_>, now: u64) {
    if let Err(fault) = outcome {
        blame(checked_out, *fault, progress, now);
    }
    if let Some(eject) = &plan.live.service.eject
        && let Some(verdict) = verdict(outcome.as_ref().map(drop).map_err(|fault| *fault), progress, checked_out.reused)
    {
        answered(checked_out.live(), eject, (checked_out.instance(), checked_out.ejections), verdict, now);
    }
}

/// Tells the instance's health of a fault. If an answer had begun, it is the instance's last error and no more.
#[cold]
fn blame(checked_out: &Checkout, fault: Fault, progress: &Progress<'_>, now: u64) {
    // Of a request that is not sent whole, the client may be late.
    let is_late = fault != Fault::RequestTimeout || progress.sent().is_whole();
    if is_late && !progress.is_answered() {
        checked_out.unanswered(fault, progress.answer() == Answer::Awaited, now);
    }
    if progress.is_answered() && is_broken(fault) {
        err(checked_out.instance(), Verdict::Broken(fault), now);
    }
}

/// One attempt of a request whose time is bounded.
async fn attempt_within(
    cx: &Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    progress: &Progress<'_>,
) -> Result<Done, Fault> {
    again::within(progress, attempt(cx, plan, downstream, checked_out, progress)).await
}

/// Records how the exchange ended: with an answer, a cut one, or a fault that is to be answered.
fn conclude(
    cx: &mut Cx<'_>,
    downstream: &mut Downstream<'_>,
    checked_out: Checkout,
    outcome: Result<Done, Fault>,
    progress: &Progress<'_>,
) -> Result<After, Unserved> {
    cx.record.instance = Some(Rc::clone(checked_out.instance()));
    if let Answer::Begun(status) = progress.answer() {
        cx.record.status = Some(status);
    }
    Ok(match outcome {
        // It would have been sent again.
        Ok(Done::Again) => return Err((Fault::NoAnswer, progress.sent().is_whole())),
        Ok(Done::Complete { after, reusable }) => {
            if reusable {
                keep(cx, checked_out, after, progress.is_login());
            }
            after
        }
        Ok(Done::Tunnel(End::Done)) => After::Close,
        Ok(Done::Tunnel(End::Broken)) => After::Broken,
        Ok(Done::Abandoned { reusable }) => {
            cx.record.fault = Some(Fault::ClientGone);
            if reusable {
                keep(cx, checked_out, After::Reset, progress.is_login());
            }
            After::Reset
        }
        Err(fault) if progress.begun() => {
            cx.record.fault = Some(fault);
            After::cut_by(fault)
        }
        Err(Fault::StreamRefused) if !matches!(progress.sent(), Sent::Held { .. }) && refuse_stream(downstream) => {
            cx.record.fault = Some(Fault::StreamRefused);
            After::Keep
        }
        // Sending our page may take long with a client that does not read: by then, the instance is free.
        Err(fault) => return Err((fault, progress.sent().is_whole())),
    })
}

/// Tells a client that nothing was done with its request, which we cannot repeat: it may send it again, as gRPC does (RFC
/// 9113 §8.7). `false`: it does not speak HTTP/2.
fn refuse_stream(downstream: &mut Downstream<'_>) -> bool {
    let Downstream::Http2(turn) = downstream else { return false };
    turn.reset(h2::Reason::REFUSED_STREAM);
    true
}

/// Keeps the instance's connection: one that is logged in only for the same client, for as long as that client stays.
fn keep(cx: &Cx<'_>, checked_out: Checkout, after: After, login: bool) {
    match (login || checked_out.private, after) {
        (false, _) if !checked_out.is_announced() => checked_out.keep(&cx.worker.home, cx.deadline.now()),
        (false, After::Keep) => checked_out.keep_announced(cx.announced, cx.deadline.now()),
        (true, After::Keep) => checked_out.keep_private().into_iter().for_each(|one| cx.logins.keep(one)),
        (_, After::Close | After::Linger | After::Reset | After::Broken | After::Abort) => {}
    }
}

/// One attempt on one connection. As [`exchange`], it holds once what it takes.
fn attempt(
    cx: &Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    progress: &Progress<'_>,
) -> impl Future<Output = Result<Done, Fault>> {
    progress.begin_attempt(plan.login || checked_out.private);
    async move {
        let (link, instance) = checked_out.parts();
        let written = match link {
            Link::Http1(stream) => write_at_once(stream, &plan.held).await,
            Link::Http2(_) => Ok(0),
        };
        match written {
            // Boxed, as few sends wait: otherwise every exchange would hold the memory for it.
            Ok(written) if written < plan.held.len() => {
                Box::pin(send_held(cx, plan, (downstream, link), written, progress)).await?;
            }
            written => not_late(written.map(drop))?,
        }
        // From now on the instance owes an answer, however long it took to read the request.
        progress.set_moved(cx.deadline.now());
        cx.meter(instance.live).up(plan.held.len());
        let mut input = downstream.input();
        let answered = if progress.sent().is_whole() {
            let mut body = BodyReader::new(BodyLength::None, 0);
            let (link, instance) = checked_out.parts();
            let (side, source) = (downstream.side(), source(link, &mut input, &mut body));
            let sink = downstream.sink(BodyWriter::new(BodyLength::None));
            Down { cx, plan, instance, progress, side, source, sink, acknowledged: false }.run().await
        } else {
            // Boxed, as few requests stream a body: otherwise every exchange would hold the memory for it.
            Box::pin(move_both(cx, plan, downstream, checked_out, &mut input, progress)).await
        };
        let done = match answered {
            // The instance took no more of the body, or the client broke it off: a tunnel cannot follow it.
            Ok(Answered::Switched) if !progress.sent().is_whole() => Err(Fault::NoAnswer),
            Ok(Answered::Switched) => Ok(Done::Tunnel(tunnel(cx, plan, downstream, checked_out, &mut input).await)),
            Ok(Answered::Complete { keep_client, keep_instance }) => {
                let whole = progress.sent().is_whole();
                let reusable = keep_instance && whole && input.unread().is_empty();
                Ok(Done::Complete { after: after(downstream, keep_client, whole), reusable })
            }
            Ok(Answered::Again) => Ok(Done::Again),
            Ok(Answered::Abandoned { keep_instance }) => {
                let whole = progress.sent().is_whole();
                Ok(Done::Abandoned { reusable: keep_instance && whole && input.unread().is_empty() })
            }
            Err(fault) => Err(fault),
        };
        input.discard(&cx.worker.buffers);
        done
    }
}

/// Sends what is held and was not written at once, unless the client leaves.
async fn send_held(
    cx: &Cx<'_>,
    plan: &Plan,
    (downstream, link): (&Downstream<'_>, &mut Link),
    written: usize,
    progress: &Progress<'_>,
) -> Result<(), Fault> {
    let sending = pin!(async {
        not_late(match link {
            Link::Http1(stream) => {
                let limit = plan.live.service.timeouts.server;
                send_all(cx.deadline, (limit, || u64::MAX), stream, &plan.held[written..]).await
            }
            Link::Http2(call) => ask::send_held(cx, plan, call, progress.sent().is_whole()).await?,
        })
    });
    progress.guard.during(downstream.socket(), sending).await
}

/// An instance that closes may have answered before: its answer is still read.
fn not_late(sent: io::Result<()>) -> Result<(), Fault> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Fault::ServerTimeout),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A client that asked for the close sends nothing more; any other may still send.
fn after(downstream: &Downstream<'_>, keep: bool, whole: bool) -> After {
    // A stream is over in any case, and its connection goes on.
    let Downstream::Http1(client) = downstream else { return After::Keep };
    match (keep, client.side.keep_alive || !whole || !client.input.unread().is_empty()) {
        (true, _) => After::Keep,
        (false, true) => After::Linger,
        (false, false) => After::Close,
    }
}

/// Moves the rest of the request's body and the response at the same time.
async fn move_both(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    input: &mut Input,
    progress: &Progress<'_>,
) -> Result<Answered, Fault> {
    let mut body = BodyReader::new(BodyLength::None, 0);
    let (link, instance) = checked_out.parts();
    let (from_instance, sink) = split_link(link, input, &mut body, plan.writer);
    let side = downstream.side();
    let (from_client, to_client) = downstream.split(BodyWriter::new(BodyLength::None));
    let mut down =
        Down { cx, plan, instance, progress, side, source: from_instance, sink: to_client, acknowledged: false };
    // Copies have come whole.
    let Some(source) = from_client else { return down.run().await };
    let deadline = cx.worker.timers.deadline();
    let meter = cx.meter(instance.live);
    let streamed = plan.held_body();
    let up = Up { cx, plan, meter, deadline: &deadline, progress, source, sink, acknowledged: false, streamed };
    let mut up = pin!(up.run());
    let (answered, delivered) = race(&mut up, down.run()).await?;
    if matches!(answered, Answered::Switched) && !delivered {
        // A tunnel begins after the request's body, which has the same time limits as the tunnel.
        let tunnel = plan.live.service.timeouts.tunnel;
        let ends = || cx.deadline.later(progress.moved().get(), tunnel).min(instance.expires());
        cx.deadline.watched(ends, up).await.map_err(|_| Fault::BodyTimeout)??;
    }
    Ok(answered)
}

/// Ends with the response, or with a fault of the request's body.
async fn race(
    up: &mut Pin<&mut impl Future<Output = Result<(), Fault>>>,
    down: impl Future<Output = Result<Answered, Fault>>,
) -> Result<(Answered, bool), Fault> {
    let (mut delivered, mut down) = (false, pin!(down));
    poll_fn(|context| {
        if !delivered && let Poll::Ready(uploaded) = up.as_mut().poll(context) {
            delivered = true;
            if let Err(fault) = uploaded {
                return Poll::Ready(Err(fault));
            }
        }
        down.as_mut().poll(context).map_ok(|answered| (answered, delivered))
    })
    .await
}

/// After 101: bytes both ways until both sides are done.
async fn tunnel(
    cx: &Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    from_instance: &mut Input,
) -> End {
    // A tunnel may last for days, and no longer needs the head.
    cx.worker.buffers.give(std::mem::take(&mut plan.held));
    let idle = plan.live.service.timeouts.tunnel;
    match (downstream, checked_out.parts()) {
        (Downstream::Http1(client), (Link::Http1(stream), instance)) => {
            let noted = cx.record.noted.as_deref();
            let relay = Relay { pool: &cx.worker.buffers, deadline: cx.deadline, instance, idle, noted };
            Box::pin(relay.run(&mut client.stream, &mut client.input, stream, from_instance)).await
        }
        (downstream, _) => Box::pin(stream::tunnel(cx, downstream, checked_out, from_instance, idle)).await,
    }
}
