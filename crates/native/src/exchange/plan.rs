//! What is to be done with a request, decided from its head in one step: nothing here waits.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use pointsman_table::{Balance, Config, Timeouts};
use pointsman_wire::{
    BodyLength, BodyReader, BodyWriter, Forward, HeadLimits, HeaderSpace, MAX_HEADERS, RequestHead, Version,
    parse_request,
};

use crate::fault::Fault;
use crate::http1::body::{Progress, transcode};
use crate::net::buffer::Input;
use crate::pool::checkout::Reuse;
use crate::pool::pick::{key_of_address, key_of_bytes};
use crate::view::{ServiceLive, View};
use crate::worker::Worker;

/// How much of a body is sent with the head, bytes: what can be sent again if it must be.
const FIRST_BODY: usize = 32 * 1024;

/// A request on its way: what to send, to which service, and what its answer must respect.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) live: Rc<ServiceLive>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: HeadLimits,
    /// What hashing balances go by.
    pub(crate) key: Option<u64>,
    pub(crate) client: ClientSide,
    /// It may be sent again when nobody can know whether it was acted on (RFC 9110 §9.2.2).
    pub(crate) repeatable: bool,
    /// It asks to switch protocols.
    pub(crate) upgrade: bool,
    /// The head for the instance, and body bytes that came with it.
    pub(crate) forward: Vec<u8>,
    /// Bytes of `forward` that are the head.
    pub(crate) forward_head: usize,
    pub(crate) body: BodyReader,
    pub(crate) writer: BodyWriter,
    /// All of the body is in `forward`, or was sent.
    pub(crate) complete: bool,
    /// Body bytes beyond `forward` were sent and are gone: it cannot be sent again.
    pub(crate) streamed: bool,
    pub(crate) started: Instant,
}

/// What an answer to the client must respect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSide {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) head_request: bool,
}

impl ClientSide {
    /// For a request of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self { version: Version::Http11, keep_alive: false, head_request: false };
}

/// What the head leads to.
#[derive(Debug)]
pub(crate) enum Judged {
    /// The head is not complete yet.
    Partial,
    /// To an instance.
    Forward(Box<Plan>),
    /// Answered by the balancer itself: its health page.
    Healthy(ClientSide),
    /// Answered by a fault.
    Refused(Fault, ClientSide),
}

/// Judges what was read from a client so far; takes a complete head, and the body bytes behind it, out of `input`.
pub(crate) fn judge(worker: &Worker, input: &mut Input, address: IpAddr, address_text: &str) -> Judged {
    let view = worker.view();
    let config = view.table.config();
    let limits = head_limits(config);
    let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let head = match parse_request(input.unread(), limits, &mut space) {
        Ok(Some(head)) => head,
        Ok(None) => return Judged::Partial,
        Err(bad) => return Judged::Refused(Fault::BadRequest(bad), ClientSide::UNKNOWN),
    };
    let length = head.len;
    let judged = judge_head(worker, &view, &head, limits, address, address_text);
    input.consume(length);
    match judged {
        Judged::Forward(plan) => with_body(plan, input),
        judged => judged,
    }
}

/// What the configuration allows a head.
pub(crate) fn head_limits(config: &Config) -> HeadLimits {
    HeadLimits { bytes: config.head_bytes, headers: config.headers }
}

fn judge_head(
    worker: &Worker,
    view: &View,
    head: &RequestHead<'_, '_>,
    limits: HeadLimits,
    address: IpAddr,
    address_text: &str,
) -> Judged {
    let client = client_side(head);
    if view.table.config().health_uri.as_deref().is_some_and(|uri| uri == path(head.target)) {
        return Judged::Healthy(without_body(head, client));
    }
    let Some(route) = view.table.route(head.host, head.target) else {
        return Judged::Refused(Fault::NoRoute, without_body(head, client));
    };
    let Some(live) = worker.service(view, route.service) else {
        return Judged::Refused(Fault::NoRoute, without_body(head, client));
    };
    let mut forward = worker.buffers.take_head();
    head.write(&Forward { strip: route.strip as usize, client: address_text, proto: "http" }, &mut forward);
    Judged::Forward(Box::new(Plan {
        key: key(&live.service.balance, head, address),
        live,
        timeouts: view.table.config().timeouts,
        limits,
        client,
        repeatable: head.repeatable(),
        upgrade: head.upgrade.is_some(),
        forward_head: forward.len(),
        forward,
        body: BodyReader::new(head.body, limits.bytes),
        writer: BodyWriter::new(head.body),
        complete: false,
        streamed: false,
        started: Instant::now(),
    }))
}

fn client_side(head: &RequestHead<'_, '_>) -> ClientSide {
    ClientSide { version: head.version, keep_alive: head.keep_alive, head_request: head.method == "HEAD" }
}

/// An answer of our own to a request with a body closes the connection: the body would have to be read first.
fn without_body(head: &RequestHead<'_, '_>, client: ClientSide) -> ClientSide {
    let no_body = matches!(head.body, BodyLength::None | BodyLength::Length(0));
    ClientSide { keep_alive: client.keep_alive && no_body, ..client }
}

/// Takes the body bytes that came with the head. Malformed ones are found before anything is sent.
fn with_body(mut plan: Box<Plan>, input: &mut Input) -> Judged {
    match transcode(&mut plan.body, &plan.writer, input, &mut plan.forward, FIRST_BODY) {
        Ok(progress) => {
            plan.complete = progress == Progress::Done;
            Judged::Forward(plan)
        }
        Err(bad) => Judged::Refused(Fault::BadRequestBody(bad), ClientSide { keep_alive: false, ..plan.client }),
    }
}

impl Plan {
    /// Which idle connections it may be sent on: any, if it can be sent again should the connection turn out closed.
    pub(crate) fn reuse(&self) -> Reuse {
        if self.repeatable && self.complete { Reuse::Any } else { Reuse::Fresh }
    }

    /// Whether it may be sent again after an instance closed without a byte of an answer: it does no harm twice, or
    /// its body has not begun, so nobody can have acted on it.
    pub(crate) fn may_repeat(&self) -> bool {
        !self.streamed && (self.repeatable || (!self.complete && self.forward.len() == self.forward_head))
    }
}

fn key(balance: &Balance, head: &RequestHead<'_, '_>, address: IpAddr) -> Option<u64> {
    match balance {
        Balance::Source => Some(key_of_address(address)),
        Balance::Uri => Some(key_of_bytes(path(head.target).as_bytes())),
        Balance::Header(name) => head.header(name).map(key_of_bytes),
        Balance::UrlParam(name) => url_param(head.target, name).map(|value| key_of_bytes(value.as_bytes())),
        Balance::RoundRobin
        | Balance::StaticRoundRobin
        | Balance::LeastConnections
        | Balance::First
        | Balance::Random
        | Balance::PowerOfTwo => None,
    }
}

fn path(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn url_param<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_params() {
        let check = |target, expected| assert_eq!(url_param(target, "user"), expected, "{target}");
        check("/x?user=7", Some("7"));
        check("/x?a=b&user=7&c=d", Some("7"));
        check("/x?users=7", None);
        check("/user=7", None);
        check("/x?user", None);
    }
}
