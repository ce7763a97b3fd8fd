//! What is noted of a request as it begins, and what its trace changes in it: `traceparent` on its way to the instance, with
//! a span for each attempt. Without an access log and traces, a request pays nothing for it.

use std::rc::Rc;
use std::time::Instant;

use pointsman_wire::{HeaderEdits, RequestEdits, RequestHead, add_header};

use super::decide::{Decision, Plan};
use crate::access::{Access, Course, Noted, TRACE_PARENT, TRACE_STATE, TraceParent, rename_span};
use crate::net::peer::Peer;
use crate::pool::view::InstanceLive;
use crate::worker::Worker;

/// Notes a request whose head is judged, if anybody wants to know. `protocol`: the name of its version; `began`: when its
/// first byte came, if not just now; `id`: its id, if its service asked for one.
#[inline(never)]
pub(crate) fn note(
    (access, worker): (&Access, &Worker),
    (head, protocol, id): (&RequestHead<'_, '_>, &'static str, &str),
    (began, revision): (Option<Instant>, u64),
    peer: &Peer,
    decision: &mut Decision,
) -> Option<Box<Noted>> {
    let mut course = access.course((head, peer), began, || worker.home.with_rng(fastrand::Rng::f64));
    if let (Some(own), Some(question)) = (course.told(), decision.question_mut()) {
        edits(head, own).apply(question);
    }
    if let Some(plan) = decision.plan_mut() {
        match &mut course {
            Course::Passed(_) => {}
            Course::Cleared(own) => drop(replace(plan, head, *own)),
            Course::Made(own) => begin(plan, head, *own),
            Course::Sampled(trace) => trace.sent = Some(replace(plan, head, trace.own)),
        }
    }
    access.note((head, protocol, id), (began, revision), peer, course)
}

/// Names a new trace, of which nothing is recorded.
fn begin(plan: &mut Plan, head: &RequestHead<'_, '_>, own: TraceParent) {
    let is_named = |name: &str| name.eq_ignore_ascii_case(TRACE_PARENT) || name.eq_ignore_ascii_case(TRACE_STATE);
    let has_other = head.headers.iter().any(|header| is_named(header.name)) || adds_headers(plan);
    match has_other {
        true => drop(replace(plan, head, own)),
        false => plan.change_head(|held| add_header(held, TRACE_PARENT, &own.text())),
    }
}

/// Whether its service changes headers of requests.
fn adds_headers(plan: &Plan) -> bool {
    plan.live.service.policy.as_ref().is_some_and(|policy| policy.request_headers.is_some())
}

/// Names a trace instead of what is there. Returns the path that the instance is sent.
#[cold]
fn replace(plan: &mut Plan, head: &RequestHead<'_, '_>, own: TraceParent) -> Box<str> {
    let edits = edits(head, own);
    plan.change_head(|held| edits.apply(held));
    let target = plan.parts().0.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    String::from_utf8_lossy(path).into()
}

/// What names a trace in a head, instead of what is there.
fn edits(head: &RequestHead<'_, '_>, own: TraceParent) -> RequestEdits {
    let mut headers = HeaderEdits::default();
    headers.replace(TRACE_PARENT, &own.text());
    if TraceParent::of(head).is_none() {
        // Notes about a trace that is not known (W3C Trace Context §4.3).
        headers.leave_out(TRACE_STATE);
    }
    RequestEdits { headers, ..RequestEdits::default() }
}

/// An instance was checked out: the head then has the id of this attempt's span.
#[cold]
pub(super) fn begin_attempt(noted: &Noted, plan: &mut Plan, instance: &Rc<InstanceLive>) {
    let Some(trace) = &noted.trace else { return };
    if let Some(span) = trace.attempt(Some(instance)) {
        plan.change_head(|head| rename_span(head, span));
    }
}

/// No instance was checked out.
#[cold]
pub(super) fn no_attempt(noted: &Noted) {
    if let Some(trace) = &noted.trace {
        trace.attempt(None);
    }
}
