//! Local replies: responses of our own, where no instance gives one. Decides nothing.

use pointsman_wire::{Answer, Version};

use super::context::Cx;
use super::sides::Downstream;
use crate::fault::Fault;
use crate::http1::client::After;
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
    let Downstream::Http1(client) = downstream;
    let side = client.side;
    let keep_alive = side.keep_alive && whole && side.version == Version::Http11 && !cx.worker.is_draining();
    let mut answer = cx.worker.buffers.take(Size::Head);
    Answer { status, body, location, keep_alive, head_request: side.head_request, edits: cx.edits() }
        .write(&mut answer);
    let sent = send(cx.deadline, cx.globals.config.timeouts.client, &mut client.stream, &answer).await;
    cx.worker.buffers.give(answer);
    match (sent, keep_alive) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}
