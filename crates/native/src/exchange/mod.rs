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
//! | `reach` | what a request tells about the connection that it needs |
//! | `mirror` | copies of requests for other services |
//! | `split` | which service takes a request of one that is split |
//! | `sticky` | the instance that a client's cookie names, and the cookie that it gets |
//! | `certificate` | whether a client's certificate lets the request in |
//! | `turned`, `page` | why a service turns a request away; pages of errors |
//! | `sides` | client and instance, whatever version of HTTP they speak |
//! | `again`, `bound` | whether a request is sent again; how long it may take, and its place |
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
pub(crate) mod context;
mod cors;
pub(crate) mod decide;
mod down;
mod filled;
pub(crate) mod foresee;
pub(crate) mod lines;
mod local;
mod mirror;
mod page;
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

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use pointsman_engine::live::RetryReason;
use pointsman_wire::{BodyLength, BodyReader, BodyWriter};

use self::admit::LocalReply;
use self::again::{Repetition, Unreached, make_way};
use self::context::Cx;
use self::decide::{Decision, Plan, Request, Sent};
use self::down::{Answered, Down};
use self::local::{Said, refuse, say, turn};
use self::mirror::{Copies, CopyClient, Receiver};
use self::page::Teller;
use self::progress::{Answer, Progress};
use self::sides::{Downstream, Sink, Source, split_link};
use self::up::Up;
use self::verdict::verdict;
use crate::access::Noted;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::net::buffer::Input;
use crate::net::send::send;
use crate::pool::announced::{Announced, ForClient};
use crate::pool::checkout::{Checkout, Reuse, Want, checkout};
use crate::pool::judge::answered;
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
            Decision::Reply(reply) => {
                let LocalReply { live, status, location, edits } = *reply;
                (cx.record.service, cx.edits) = (Some(live), edits);
                let said = Said { location: location.as_deref(), ..Said::of(status, None) };
                Box::pin(say(&mut cx, &mut downstream, said, whole)).await
            }
            Decision::Turn(turned) => Box::pin(turn(&mut cx, &mut downstream, *turned, whole)).await,
            Decision::Refuse(fault) => {
                let page = page::of(fault, &cx.globals.config, Teller { head: None, peer: cx.peer, service: None });
                refuse(&mut cx, &mut downstream, (fault, page), whole).await
            }
        };
        cx.record.finish(cx.worker, cx.peer);
        after
    }
}

/// Sends copies of a request to other services, after the original. None is sent if something of it is missing.
#[cold]
fn send_copies(cx: &Cx<'_>, plan: &Plan, copies: Copies) {
    let Some((client, to, held)) = copies.finish(&plan.held) else { return };
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

/// A request that gets an answer of ours: why, and whether all of it has come from the client.
type Unserved = (Fault, bool);

/// Tries once, and again where that does no harm: see `again`.
async fn attempts(
    cx: &mut Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    whole: bool,
) -> Result<After, Unserved> {
    let progress = Progress::new(whole, plan.guard(&cx.worker.half_closed));
    let unserved = |fault| (fault, progress.sent().is_whole());
    if plan.live.service.bounds.is_some() {
        Box::pin(again::begin(cx, plan, downstream, &progress)).await.map_err(unserved)?;
        cx.record.noted.iter().for_each(|noted| noted.admitted());
    }
    let mut tried = Tried::default();
    let for_client = plan.open_for.take().map(|open_for| ForClient { open_for, own: Some(cx.announced) });
    let mut want = plan.want(progress.sent(), &progress.guard, for_client.as_ref());
    want.dials = cx.record.noted.as_deref().and_then(Noted::dials);
    loop {
        let checked_out = match progress.bound() {
            None => check_out(cx, plan, downstream, want, &mut tried).await,
            Some(_) => Box::pin(check_out_within(cx, plan, downstream, want, &mut tried, &progress)).await,
        };
        if let Some(noted) = &cx.record.noted {
            traced::checked_out(noted, plan, &tried, &checked_out);
        }
        let repeated = cx.record.is_repeated();
        let mut checked_out = match checked_out {
            Ok(checked_out) => checked_out,
            Err(fault) => match again::after_checkout((fault, repeated), (cx, plan, &progress), &mut tried) {
                Unreached::Again { pauses: false } => continue,
                Unreached::Again { pauses: true } => {
                    Box::pin(again::pause(cx, downstream, &progress)).await.map_err(unserved)?;
                    continue;
                }
                Unreached::Answer(fault) => return Err(unserved(fault)),
            },
        };
        progress.begin_attempt(plan.login || checked_out.private);
        let outcome = match progress.bound() {
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
            want.reuse = Reuse::Never;
        }
        drop(checked_out);
        if pauses {
            Box::pin(again::pause(cx, downstream, &progress)).await.map_err(unserved)?;
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

/// Tells the instance's health of a fault, unless an answer had begun.
#[cold]
fn blame(checked_out: &Checkout, fault: Fault, progress: &Progress<'_>, now: u64) {
    // Of a request that is not sent whole, the client may be late.
    let is_late = fault != Fault::RequestTimeout || progress.sent().is_whole();
    if is_late && !progress.is_answered() {
        checked_out.unanswered(fault, progress.answer() == Answer::Awaited, now);
    }
}

/// One attempt of a request of a service with bounds.
async fn attempt_within(
    cx: &Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    progress: &Progress<'_>,
) -> Result<Done, Fault> {
    again::within(progress, attempt(cx, plan, downstream, checked_out, progress)).await
}

/// Checks out an instance for a request of a service with bounds.
async fn check_out_within(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    want: Want<'_>,
    tried: &mut Tried,
    progress: &Progress<'_>,
) -> Result<Checkout, Fault> {
    let before = tried.count();
    let want = Want { tries: again::tries(progress, tried), ..want };
    let checked_out = again::within(progress, check_out(cx, plan, downstream, want, tried)).await;
    let failed = tried.count().saturating_sub(before);
    // After the last of them, none was tried.
    again::count_redispatches(progress, if checked_out.is_ok() { failed } else { failed.saturating_sub(1) });
    checked_out
}

/// Checks out an instance, unless the client leaves: with the client's own connection, if one is logged in for it. If
/// no slot is free, a half-closed client gives way, once, before this one is refused.
async fn check_out(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    want: Want<'_>,
    tried: &mut Tried,
) -> Result<Checkout, Fault> {
    let (client, guard) = (downstream.socket(), want.guard);
    if let Some((login, index)) = cx.logins.take(&plan.live, want.for_client) {
        // Boxed, as few requests have one.
        return guard.during(client, Box::pin(login.checkout(&plan.live, index, guard, cx.deadline)).as_mut()).await;
    }
    let mut gave_way = false;
    loop {
        let checkout = pin!(checkout(&cx.worker.home, &plan.live, want, tried, cx.deadline));
        match guard.during(client, checkout).await {
            Err(Fault::Full) if !gave_way && make_way(cx, plan, guard) => {
                gave_way = true;
                // The slot is free once that client's task has run.
                tokio::task::yield_now().await;
            }
            checked_out => return checked_out,
        }
    }
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
        Ok(Done::Tunnel(End::Broken)) => After::Reset,
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
        (_, After::Close | After::Linger | After::Reset | After::Abort) => {}
    }
}

/// One attempt on one connection.
async fn attempt(
    cx: &Cx<'_>,
    plan: &mut Plan,
    downstream: &mut Downstream<'_>,
    checked_out: &mut Checkout,
    progress: &Progress<'_>,
) -> Result<Done, Fault> {
    let (link, instance) = checked_out.parts();
    {
        let sent = pin!(send_held(cx, plan, link, progress.sent().is_whole()));
        progress.guard.during(downstream.socket(), sent).await?;
    }
    // From now on the instance owes an answer, however long it took to read the request.
    progress.set_moved(cx.deadline.now());
    cx.meter(instance.live).up(plan.held.len());
    let mut input = downstream.input();
    let answered = move_both(cx, plan, downstream, checked_out, &mut input, progress).await;
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

/// Sends what is held. An instance that closes may have answered before: its answer is still read.
async fn send_held(cx: &Cx<'_>, plan: &Plan, link: &mut Link, whole: bool) -> Result<(), Fault> {
    let sent = match link {
        Link::Http1(stream) => send(cx.deadline, plan.live.service.timeouts.server, stream, &plan.held).await,
        // Boxed: otherwise every exchange would hold the memory for it.
        Link::Http2(call) => Box::pin(ask::send_held(cx, plan, call, whole)).await?,
    };
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

/// Moves the response and, unless the request was sent whole, the rest of its body at the same time.
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
    let (from_instance, to_instance) = split_link(link, input, &mut body, plan.writer);
    let side = downstream.side();
    let (from_client, to_client) = downstream.split(BodyWriter::new(BodyLength::None));
    let mut down =
        Down { cx, plan, instance, progress, side, source: from_instance, sink: to_client, acknowledged: false };
    let Some(from_client) = from_client.filter(|_| !progress.sent().is_whole()) else {
        return down.run().await;
    };
    // Boxed, as few requests stream a body: otherwise every exchange would hold the memory for it.
    Box::pin(move_at_once(cx, plan, (from_client, to_instance), down, progress)).await
}

/// Moves the rest of the request's body and the response at the same time.
async fn move_at_once(
    cx: &Cx<'_>,
    plan: &Plan,
    (source, sink): (Source<'_>, Sink<'_>),
    mut down: Down<'_>,
    progress: &Progress<'_>,
) -> Result<Answered, Fault> {
    let instance = down.instance;
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
