//! Local replies: responses of our own, where no instance gives one. Decides nothing.

use std::rc::Rc;

use bytes::Bytes;
use pointsman_wire::{Answer, Version};

use super::context::Cx;
use super::sides::Downstream;
use super::turned::Turned;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::http2::fields;
use crate::net::buffer::Size;
use crate::net::send::send;

/// The most that `Retry-After` says, seconds: how long requests take may have changed by then.
const LATEST: u32 = 300;

/// Answers with a fault's status, and the page of the keys if they have one. `whole`: all of the request has come.
pub(crate) async fn refuse(
    cx: &mut Cx<'_>,
    downstream: &mut Downstream<'_>,
    (fault, page): (Fault, Option<Box<str>>),
    whole: bool,
) -> After {
    cx.record.fault = Some(fault);
    let Some(status) = fault.facts().status else {
        return After::cut_by(fault);
    };
    let said = Said { retry_after: retry_after(cx, fault), ..Said::of(status, page.as_deref()) };
    say(cx, downstream, said, whole).await
}

/// Answers a request that is turned away.
pub(crate) async fn turn(cx: &mut Cx<'_>, downstream: &mut Downstream<'_>, turned: Turned, whole: bool) -> After {
    let Turned { live, fault, retry_after, more, page, edits } = turned;
    (cx.record.service, cx.edits) = (live, edits);
    cx.record.fault = Some(fault);
    let Some(status) = fault.facts().status else {
        return After::cut_by(fault);
    };
    say(cx, downstream, Said { retry_after, more: &more, ..Said::of(status, page.as_deref()) }, whole).await
}

/// A response of our own: its status, its body, or else a short page that names the status, where to look instead, after
/// how many seconds to come again, and further headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) status: u16,
    pub(crate) body: Option<&'a str>,
    pub(crate) location: Option<&'a str>,
    pub(crate) retry_after: Option<u32>,
    pub(crate) more: &'a [(&'static str, Box<str>)],
}

impl<'a> Said<'a> {
    /// A response with this status and body.
    pub(crate) fn of(status: u16, body: Option<&'a str>) -> Self {
        Self { status, body, location: None, retry_after: None, more: &[] }
    }
}

/// When a request that found every place taken may be sent again: once the queue is likely to be over, if that is known.
fn retry_after(cx: &Cx<'_>, fault: Fault) -> Option<u32> {
    if !fault.is_crowded() {
        return None;
    }
    let service = cx.record.service.as_ref().filter(|_| fault != Fault::Full);
    let wait = service.and_then(|live| live.bounded().expected_wait(live.most_requests()?));
    Some(wait.map_or(1, |wait| u32::try_from(wait.as_millis().div_ceil(1_000)).map_or(LATEST, |s| s.clamp(1, LATEST))))
}

/// Sends a response of our own. `whole`: all of the request has come, so that the connection may be kept.
pub(crate) async fn say(
    cx: &mut Cx<'_>,
    downstream: &mut Downstream<'_>,
    Said { status, body, location, retry_after, more }: Said<'_>,
    whole: bool,
) -> After {
    cx.record.status = Some(status);
    // No instance answers.
    cx.edits.iter_mut().for_each(|edits| *edits = Rc::new(edits.for_instance("").into_owned()));
    let side = downstream.side();
    let keep_alive = side.keep_alive && whole && side.version == Version::Http11 && !cx.worker.is_draining();
    let (head_request, edits) = (side.head_request, cx.edits.as_deref());
    let answer = Answer { status, body, location, retry_after, more, keep_alive, head_request, edits };
    let limit = cx.globals.config.timeouts.client;
    let mut bytes = cx.worker.buffers.take(Size::Head);
    if let Downstream::Http2(turn) = downstream {
        // Of the instance's response, which turned out to be malformed before a byte of it was sent.
        turn.out.throw_away();
    }
    let sent = match downstream {
        Downstream::Http1(client) => {
            answer.write(&mut bytes);
            cx.record.noted.iter().for_each(|noted| noted.down(bytes.len()));
            send(cx.deadline, limit, &mut client.stream, &bytes).await
        }
        Downstream::Http2(turn) if turn.is_grpc && status >= 400 => {
            turn.out.begin(fields::grpc(status));
            turn.out.end(None);
            Box::pin(turn.out.flush(cx.deadline, (limit, || u64::MAX))).await.1
        }
        Downstream::Http2(turn) => {
            answer.write_body(&mut bytes);
            turn.out.begin(fields::local(&answer));
            turn.out.data(Bytes::copy_from_slice(&bytes));
            turn.out.end(None);
            cx.record.noted.iter().for_each(|noted| noted.down(bytes.len()));
            Box::pin(turn.out.flush(cx.deadline, (limit, || u64::MAX))).await.1
        }
        Downstream::Nobody(_) | Downstream::Us(_) => Ok(()),
    };
    cx.worker.buffers.give(bytes);
    match (sent, keep_alive) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}
