//! Waits until it is known whether a request goes on, and answers one that does not. Holds up nobody else.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use pointsman_table::ForwardAuth;
use pointsman_wire::{
    BodyLength, BodyWriter, HeadLimits, HeaderEdits, HeaderSpace, MAX_HEADERS, RequestEdits, ResponseHead, Trailers,
    look_alikes, parse_response,
};

use super::context::Cx;
use super::decide::{Decision, Gated, Plan, Request};
use super::gate::Question;
use super::inquiry::{Heard, Inquiry};
use super::lines;
use super::local::turn;
use super::password::{Login, Pending};
use super::sides::Downstream;
use super::turned::Turned;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::http2::fields;
use crate::net::watch::Guard;
use crate::pool::announced::Announced;
use crate::pool::logins::Logins;
use crate::record::{Record, begins};

/// How long a password may wait to be computed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long another server may take to say whether a request goes on.
const LONGEST_INQUIRY: Duration = Duration::from_secs(10);
/// The group of half-closed clients that wait for no slot.
const NO_GROUP: usize = 0;
/// What the client keeps, not the instance.
const SET_COOKIE: &str = "set-cookie";

/// Serves a request; boxed.
pub(super) type Serve = for<'c> fn(Cx<'c>, Request, Downstream<'c>) -> Pin<Box<dyn Future<Output = After> + 'c>>;

/// Why a request does not go on.
enum Held {
    /// It is turned away.
    Turned(Box<Turned>),
    /// The server that was asked does not let it.
    Refused(Box<Heard>),
    /// Its client left.
    Left(Fault),
}

/// Waits until it is known whether a request goes on. Returns the decision about one that does; any other is answered.
pub(super) async fn pass(
    cx: &mut Cx<'_>,
    downstream: &mut Downstream<'_>,
    Gated { gate, mut then }: Gated,
    whole: bool,
    serve: Serve,
) -> Result<Decision, After> {
    let mut held = match gate.login {
        Some(login) => log_in(cx, downstream, *login).await,
        None => Ok(()),
    };
    if let (true, Some(question), Decision::Forward(plan)) = (held.is_ok(), gate.question, &mut then) {
        cx.record.service = Some(Rc::clone(&question.asker));
        held = Box::pin(ask(cx, downstream, question, plan, serve)).await;
        cx.edits = plan.edits.clone();
    }
    match held {
        Ok(()) => Ok(then),
        Err(Held::Turned(turned)) => Err(turn(cx, downstream, *turned, whole).await),
        Err(Held::Refused(heard)) => Err(Box::pin(hand_on(cx, downstream, *heard, whole)).await),
        Err(Held::Left(fault)) => {
            cx.record.fault = Some(fault);
            Err(After::cut_by(fault))
        }
    }
}

/// Waits for the answer whether a password is right.
async fn log_in(cx: &Cx<'_>, downstream: &Downstream<'_>, login: Login) -> Result<(), Held> {
    let Login { user, pending } = login;
    if let Some(pending) = pending {
        computed(cx, downstream, pending).await?;
    }
    if let Some(noted) = &cx.record.noted {
        noted.user(user);
    }
    Ok(())
}

async fn computed(cx: &Cx<'_>, downstream: &Downstream<'_>, mut pending: Pending) -> Result<(), Held> {
    let guard = Guard::new(&cx.worker.half_closed, NO_GROUP, true);
    let answer = async { Ok::<_, Fault>(cx.deadline.within(LONGEST_WAIT, &mut pending.matches).await) };
    let answer = guard.during(downstream.socket(), pin!(answer)).await.map_err(Held::Left)?;
    match answer {
        Ok(Ok(true)) if !pending.is_in_vain => Ok(()),
        Ok(Ok(_)) => Err(Held::Turned(pending.refused)),
        Ok(Err(_)) | Err(_) => Err(Held::Turned(pending.busy())),
    }
}

/// Asks another server. Of its answer, the request takes over what the key names.
async fn ask(
    cx: &Cx<'_>,
    downstream: &Downstream<'_>,
    question: Question,
    plan: &mut Plan,
    serve: Serve,
) -> Result<(), Held> {
    let Question { asker, asked, towards, head } = question;
    let heard = match asked {
        None => Err((Fault::AuthUnreachable, Unsaid::Fault(Fault::NoInstance))),
        Some(asked) => {
            let length = head.len();
            let decision = Decision::Forward(Box::new(Plan::plain(asked, towards, head, length)));
            inquire(cx, downstream, Request { decision, whole: true, noted: None }, serve).await
        }
    };
    let auth = asker.service.policy.as_ref().and_then(|policy| policy.forward_auth.as_ref());
    match (heard, auth) {
        (Err((left @ (Fault::ClientGone | Fault::GaveWay), _)), _) => Err(Held::Left(left)),
        (Ok(heard), Some(auth)) if (200..300).contains(&heard.status) => match take_over(&heard, auth, plan) {
            Some(()) => Ok(()),
            None => Err(failed(cx, (Fault::AuthBadAnswer, Unsaid::Unreadable), plan)),
        },
        // Nobody asked whether something had changed. A cache in front would serve what it keeps, as if the request had gone on.
        (Ok(heard), _) if heard.status == 304 => Err(failed(cx, (Fault::AuthBadAnswer, Unsaid::NotModified), plan)),
        (Ok(heard), _) => Err(Held::Refused(Box::new(heard))),
        (Err(fault), _) => Err(failed(cx, fault, plan)),
    }
}

/// Why nobody said whether a request goes on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unsaid {
    #[error("{0}")]
    Fault(Fault),
    #[error("the answer is too large")]
    TooLarge,
    #[error("the answer cannot be read")]
    Unreadable,
    #[error("it answered 304 to a question without conditions")]
    NotModified,
}

/// The answer to a question, whole; else the fault, and why.
async fn inquire(
    cx: &Cx<'_>,
    downstream: &Downstream<'_>,
    request: Request,
    serve: Serve,
) -> Result<Heard, (Fault, Unsaid)> {
    let inquiry = Inquiry::new(downstream.socket());
    let (deadline, logins, announced) = (cx.worker.timers.deadline(), Logins::default(), Announced::default());
    let own = Cx {
        worker: cx.worker,
        globals: Rc::clone(&cx.globals),
        peer: cx.peer,
        deadline: &deadline,
        logins: &logins,
        announced: &announced,
        record: Record::new(begins()),
        edits: None,
    };
    let in_time = {
        let mut asking = serve(own, request, Downstream::Us(&inquiry));
        let asked = poll_fn(|context| match asking.as_mut().poll(context) {
            Poll::Pending if !inquiry.is_too_large() => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        });
        cx.deadline.within(LONGEST_INQUIRY, asked).await
    };
    let heard = inquiry.into_heard();
    match (in_time, heard.fault) {
        _ if heard.is_too_large => Err((Fault::AuthBadAnswer, Unsaid::TooLarge)),
        (Err(_), _) => Err((Fault::AuthUnreachable, Unsaid::Fault(Fault::RequestTimeout))),
        (Ok(()), Some(left @ (Fault::ClientGone | Fault::GaveWay))) => Err((left, Unsaid::Fault(left))),
        (Ok(()), Some(fault @ (Fault::BadResponse(_) | Fault::BadResponseBody | Fault::UnaskedSwitch))) => {
            Err((Fault::AuthBadAnswer, Unsaid::Fault(fault)))
        }
        (Ok(()), Some(fault)) => Err((Fault::AuthUnreachable, Unsaid::Fault(fault))),
        (Ok(()), None) if heard.is_whole => Ok(heard),
        // It broke off in the middle.
        (Ok(()), None) => Err((Fault::AuthBadAnswer, Unsaid::Fault(Fault::BadResponseBody))),
    }
}

/// A request about which nobody could say anything: it does not go on.
#[cold]
fn failed(cx: &Cx<'_>, (fault, why): (Fault, Unsaid), plan: &mut Plan) -> Held {
    lines::unasked(cx, (&plan.live, &plan.held), fault, &why);
    let edits = plan.edits.take();
    Held::Turned(Turned::of_held((&plan.live, &plan.held, edits), fault, &cx.globals.config, cx.peer))
}

/// Reads a head that an [`Inquiry`] has kept.
fn read<T>(heard: &Heard, then: impl FnOnce(ResponseHead<'_, '_>) -> T) -> Option<T> {
    let mut space: HeaderSpace<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let limits = HeadLimits { bytes: heard.head.len() + 1, headers: MAX_HEADERS };
    parse_response(&heard.head, false, limits, &mut space).ok().flatten().map(then)
}

/// Takes headers of an answer over into the request, in place of all that the client sent under their names. `None`: the
/// answer cannot be read.
fn take_over(heard: &Heard, auth: &ForwardAuth, plan: &mut Plan) -> Option<()> {
    let mut edits = RequestEdits::default();
    let is_cookie = |name: &str| name.eq_ignore_ascii_case(SET_COOKIE);
    for name in auth.copied.iter().filter(|name| !is_cookie(name)) {
        own_names(plan.parts().0, name).for_each(|own| edits.headers.leave_out(own));
    }
    let cookies = read(heard, |head| {
        let mut cookies = HeaderEdits::default();
        for header in head.fields() {
            match auth.copied.iter().find(|name| name.eq_ignore_ascii_case(header.name)) {
                Some(name) if is_cookie(name) => cookies.add(name, header.value),
                Some(name) => edits.headers.add(name, header.value),
                None => {}
            }
        }
        cookies
    })?;
    plan.change_head(|head| edits.apply(head));
    if !cookies.is_empty() {
        let mut all = plan.edits.as_deref().cloned().unwrap_or_default();
        cookies.fields().for_each(|(name, value)| all.add(name, value));
        plan.edits = Some(Rc::new(all));
    }
    Some(())
}

/// The names in a head that some server could take for this one: it may read `_`, `.` and the like as `-`.
fn own_names<'h>(head: &'h [u8], name: &'h str) -> impl Iterator<Item = &'h str> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let names = lines.filter_map(|line| str::from_utf8(line.split(|byte| *byte == b':').next()?).ok());
    names.filter(move |own| look_alikes(own, name))
}

/// Gives the client the answer of the server that was asked.
async fn hand_on(cx: &mut Cx<'_>, downstream: &mut Downstream<'_>, heard: Heard, whole: bool) -> After {
    cx.record.status = Some(heard.status);
    let limit = cx.globals.config.timeouts.client;
    if let Downstream::Http2(turn) = downstream
        && turn.is_grpc
    {
        turn.out.begin(fields::grpc(heard.status));
        turn.out.end(None);
        let sent = turn.out.flush(cx.deadline, (limit, || u64::MAX)).await.1;
        return if sent.is_ok() { After::Keep } else { After::Close };
    }
    let side = downstream.side();
    let may_keep = whole && !cx.worker.is_draining();
    let (_, mut sink) = downstream.split(BodyWriter::new(BodyLength::None));
    sink.prepare(&cx.worker.buffers);
    let edits = cx.edits.as_deref().map(|edits| edits.for_instance(""));
    let keeps = read(&heard, |mut head| {
        let has_body = !side.head_request && head.body != BodyLength::None;
        head.body = if has_body { BodyLength::Length(heard.body.len() as u64) } else { BodyLength::None };
        let keeps = sink.begin(&head, side, (may_keep, edits.as_deref()));
        if has_body {
            sink.append(&heard.body);
        }
        sink.end_body(&Trailers::default());
        keeps
    });
    let (count, sent) = sink.flush(cx.deadline, (limit, || u64::MAX)).await;
    sink.release(&cx.worker.buffers);
    cx.record.noted.iter().for_each(|noted| noted.down(count));
    match (sent, keeps) {
        (Ok(()), Some(true)) => After::Keep,
        (Ok(()), _) => After::Linger,
        (Err(_), _) => After::Close,
    }
}
