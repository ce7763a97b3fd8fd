//! Local replies: responses of our own, where no instance gives one. Decides nothing.

use bytes::Bytes;
use pointsman_wire::{Answer, Version};

use super::context::Cx;
use super::sides::Downstream;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::http2::fields;
use crate::net::buffer::Size;
use crate::net::send::send;

/// Answers with a fault's status. `whole`: all of the request has come.
pub(crate) async fn refuse(cx: &mut Cx<'_>, downstream: &mut Downstream<'_>, fault: Fault, whole: bool) -> After {
    cx.record.fault = Some(fault);
    let Some(status) = fault.facts().status else {
        return After::cut_by(fault);
    };
    let globals = std::rc::Rc::clone(&cx.globals);
    let own = globals.config.errors.iter().find(|(of, _)| *of == status);
    say(cx, downstream, Said { status, body: own.map(|(_, body)| &**body), location: None }, whole).await
}

/// A response of our own: its status, its body, or else a short page that names the status, and where to look instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) status: u16,
    pub(crate) body: Option<&'a str>,
    pub(crate) location: Option<&'a str>,
}

/// Sends a response of our own. `whole`: all of the request has come, so that the connection may be kept.
pub(crate) async fn say(
    cx: &mut Cx<'_>,
    downstream: &mut Downstream<'_>,
    Said { status, body, location }: Said<'_>,
    whole: bool,
) -> After {
    cx.record.status = Some(status);
    let side = downstream.side();
    let keep_alive = side.keep_alive && whole && side.version == Version::Http11 && !cx.worker.is_draining();
    let answer = Answer { status, body, location, keep_alive, head_request: side.head_request, edits: cx.edits() };
    let limit = cx.globals.config.timeouts.client;
    let mut bytes = cx.worker.buffers.take(Size::Head);
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
        Downstream::Nobody(_) => Ok(()),
    };
    cx.worker.buffers.give(bytes);
    match (sent, keep_alive) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}
