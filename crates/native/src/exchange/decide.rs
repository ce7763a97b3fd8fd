//! Decides from a request's head, in one step, what happens to the request. Never waits, never sends.

use std::num::NonZeroU64;
use std::rc::Rc;

use pointsman_table::{Asked, Config, TooLong};
use pointsman_wire::{BodyLength, BodyWriter, Forward, HeadLimits, HeaderEdits, RequestHead};

use super::admit::{LocalReply, Stopped, admit};
use super::compress::Negotiated;
use super::gate::Gate;
use super::lines;
use super::mirror::Copies;
use super::reach::{key, open_for, path};
use super::split;
use super::sticky::{self, Sticky};
use super::turned::Turned;
use crate::access::Noted;
use crate::fault::Fault;
use crate::net::buffer::{Buffers, Size};
use crate::net::peer::Peer;
use crate::net::watch::{Guard, HalfClosed};
use crate::pool::announced::{ForClient, OpenFor};
use crate::pool::checkout::{Reuse, TRIES, Want};
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// How many proxies a request may have passed: more means a loop through several balancers or names, which no check of
/// one balancer's keys can find. The HAProxy engine has the same limit.
const MOST_HOPS: usize = 16;

/// The decision about a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It goes to an instance.
    Forward(Box<Plan>),
    /// We answer it with the health page.
    Health,
    /// An authority asks for the answer to its challenge, and gets this. Boxed twice: every request has room for the largest
    /// of these.
    Challenge(Box<Box<str>>),
    /// We answer it with the status of this fault.
    Refuse(Fault),
    /// We answer it with a fault and what is known about it.
    Turn(Box<Turned>),
    /// The policy of its service answers it.
    Reply(Box<LocalReply>),
    /// One of these, if what is not known yet lets it go on.
    Gated(Box<Gated>),
}

/// What must be known before a request goes on, and the decision then.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) gate: Gate,
    pub(crate) then: Decision,
}

impl Decision {
    /// Whether another server is asked before.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Gated(gated) if gated.gate.asks())
    }

    /// The head of the question whether a request may go on.
    pub(crate) fn question_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Gated(gated) => gated.gate.question_mut(),
            Self::Forward(_) | Self::Health | Self::Challenge(_) | Self::Refuse(_) | Self::Turn(_) | Self::Reply(_) => {
                None
            }
        }
    }

    /// The plan of a request that may go to an instance.
    pub(crate) fn plan_mut(&mut self) -> Option<&mut Plan> {
        match self {
            Self::Forward(plan) => Some(plan),
            Self::Gated(gated) => gated.then.plan_mut(),
            Self::Health | Self::Challenge(_) | Self::Refuse(_) | Self::Turn(_) | Self::Reply(_) => None,
        }
    }
}

/// A head, as conditions of services look at it.
struct AskedOf<'a>(&'a RequestHead<'a, 'a>);

impl Asked for AskedOf<'_> {
    fn method(&self) -> &str {
        self.0.method
    }

    fn any_header(&self, name: &str, holds: impl FnMut(&[u8]) -> bool) -> bool {
        self.0.header_lines(name).any(holds)
    }
}

/// A request and the decision about it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) decision: Decision,
    /// All of it has come from the client.
    pub(crate) whole: bool,
    /// What is noted of it for the access log.
    pub(crate) noted: Option<Box<Noted>>,
}

impl Request {
    /// A request that is refused with a fault, and that may not be complete.
    pub(crate) fn refused(fault: Fault) -> Self {
        Self { decision: Decision::Refuse(fault), whole: false, noted: None }
    }
}

/// A request on its way: what to send, and to which service. Does not change while it is sent.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) live: Rc<ServiceLive>,
    /// The key for hashing balances.
    key: Option<u64>,
    /// Its method is idempotent: it may be sent again even if an instance may have acted on it (RFC 9110 §9.2.2).
    repeatable: bool,
    /// What its client sticks to; `None`: the service has no `cookie`.
    pub(super) sticky: Option<Box<Sticky>>,
    /// It asks to switch protocols.
    pub(crate) upgrade: bool,
    /// It asks for a WebSocket.
    pub(crate) websocket: bool,
    /// It carries a login that holds for its connection to the instance.
    pub(crate) login: bool,
    /// What a new connection is set up with besides the keys; `None`: nothing, as usual.
    pub(crate) open_for: Option<Rc<OpenFor>>,
    /// What the service that it reached changes in the headers of the answer.
    pub(crate) edits: Option<Rc<HeaderEdits>>,
    /// Its answer may be compressed; `edits` are there then.
    pub(super) negotiated: Option<Box<Negotiated>>,
    /// Who gets copies of it; `None`: nobody, as usual.
    pub(super) copies: Option<Box<Copies>>,
    /// The most bytes of its body, if its length is not told.
    pub(crate) most: Option<NonZeroU64>,
    /// The head for the instance, and body bytes that came with it.
    pub(crate) held: Vec<u8>,
    /// Length of the head in `held`, bytes.
    head: usize,
    /// The body's framing towards the instance.
    pub(crate) writer: BodyWriter,
}

/// How much of a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Only what [`Plan::held`] holds. `whole`: the client has no more of it to send.
    Held { whole: bool },
    /// Body bytes beyond that were sent and are not kept; more must come from the client.
    Partly,
    /// All of it, but a part is not kept.
    Whole,
}

impl Sent {
    /// Whether all of the request has come from the client.
    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Held { whole: true })
    }

    /// Whether the request may be sent again after an instance closed without a byte of an answer: all that was sent is
    /// held, and either a second copy does no harm, or the body has not begun, so that no instance can have acted on
    /// it.
    pub(crate) fn may_repeat(self, plan: &Plan) -> bool {
        match self {
            Self::Held { whole } => plan.repeatable || (!whole && plan.held.len() == plan.head),
            Self::Partly | Self::Whole => false,
        }
    }

    /// Which pooled connections the request may be sent on: any, if the request can be sent again in case the
    /// connection turns out to be closed.
    pub(super) fn reuse(self, plan: &Plan) -> Reuse {
        if plan.repeatable && self == (Self::Held { whole: true }) { Reuse::Any } else { Reuse::Fresh }
    }
}

impl Plan {
    /// What a checkout needs.
    pub(super) fn want<'g>(
        &self,
        reuse: Reuse,
        guard: &'g Guard<'g>,
        for_client: Option<&'g ForClient<'g>>,
    ) -> Want<'g> {
        let stuck_to = self.sticky.as_ref().and_then(|sticky| sticky.wanted);
        Want { key: self.key, stuck_to, reuse, for_client, tries: TRIES, guard, dials: None }
    }

    /// The same request for another service, all of it held: the key for its balance, and what its connection is set up
    /// with.
    pub(super) fn copy(
        &self,
        live: Rc<ServiceLive>,
        towards: (Option<u64>, Option<Rc<OpenFor>>),
        held: Vec<u8>,
    ) -> Box<Self> {
        let plain = Self::plain(live, towards, held, self.head);
        Box::new(Self { repeatable: self.repeatable, writer: self.writer, ..plain })
    }

    /// A request that may be repeated, without a body: `head` bytes of `held`. Nothing is changed in its answer.
    pub(super) fn plain(
        live: Rc<ServiceLive>,
        (key, open_for): (Option<u64>, Option<Rc<OpenFor>>),
        held: Vec<u8>,
        head: usize,
    ) -> Self {
        Self {
            live,
            key,
            repeatable: true,
            upgrade: false,
            websocket: false,
            login: false,
            open_for,
            edits: None,
            negotiated: None,
            sticky: None,
            copies: None,
            most: None,
            held,
            head,
            writer: BodyWriter::new(BodyLength::None),
        }
    }

    /// Changes its head.
    #[cold]
    pub(super) fn change_head(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let body = self.held.split_off(self.head);
        change(&mut self.held);
        self.head = self.held.len();
        self.held.extend_from_slice(&body);
    }

    /// The head for the instance, and body bytes that came with it.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        self.held.split_at(self.head)
    }

    /// How many bytes of its body are held, where they are bounded; else 0.
    pub(super) fn held_body(&self) -> u64 {
        self.most.map_or(0, |_| self.writer.count(self.parts().1))
    }

    /// Whether what is held of its body is more than it may have.
    pub(crate) fn is_too_large(&self) -> bool {
        self.most.is_some_and(|most| self.held_body() > most.get())
    }

    /// Keeps no more memory than it needs: a client of HTTP/2 may have a hundred requests wait.
    pub(crate) fn fit(&mut self, buffers: &Buffers) {
        let fitting = self.held.as_slice().into();
        buffers.give(std::mem::replace(&mut self.held, fitting));
    }

    /// Watches the client, whose request may wait for a slot of its service.
    pub(crate) fn guard<'w>(&self, half_closed: &'w HalfClosed) -> Guard<'w> {
        Guard::new(half_closed, self.live.room_id(), !self.live.service.finishes_abandoned())
    }
}

/// The configuration's limits of a head.
pub(crate) fn head_limits(config: &Config) -> HeadLimits {
    HeadLimits { bytes: config.head_bytes, headers: config.headers }
}

/// Decides what happens to a request. `id`: where its id is put, if its service asks for one.
pub(crate) fn decide(
    worker: &Worker,
    view: &View,
    head: &RequestHead<'_, '_>,
    peer: &Peer,
    id: &mut String,
) -> Decision {
    if view.globals.config.health_uri.as_deref().is_some_and(|uri| uri == path(&head.target)) {
        return Decision::Health;
    }
    if let Some(answer) = view.table.answer(&head.target) {
        return Decision::Challenge(Box::new(answer.into()));
    }
    if head.hops >= MOST_HOPS {
        return Decision::Refuse(Fault::Loop);
    }
    let route = match view.table.find(head.host, &head.target, &AskedOf(head)) {
        Ok(Some(route)) => route,
        Ok(None) => return Decision::Refuse(Fault::NoRoute),
        Err(TooLong) => return Decision::Refuse(Fault::TargetTooLong),
    };
    let Some(live) = worker.service(view, route.service) else {
        return Decision::Refuse(Fault::NoRoute);
    };
    let mut approved = match &live.admitting {
        None => None,
        Some(policy) => match admit((worker, view), policy, &live, (head, route.strip as usize), (peer, id)) {
            Ok(approved) => Some(approved),
            Err(stopped) => return answered(stopped),
        },
    };
    let copies = match live.service.mirrors() {
        [] => None,
        _ => Copies::draw((worker, view), &live, head, peer),
    };
    let live = match live.service.split() {
        Some(_) => split::taker((worker, view), live, head, peer),
        None => live,
    };
    let mut held = worker.buffers.take(Size::Head);
    let (strip, client, trust) = (route.strip as usize, &*peer.text, peer.trust);
    let (sticky, cookie) = match live.service.cookie() {
        Some(cookie) => sticky::read(cookie, |id| sticky::named(&live, id), head, sticky::today),
        None => (None, None),
    };
    let cookie = cookie.as_deref();
    head.write(&Forward { strip, client, arrived: &peer.arrived, trust, websocket_key, cookie }, &mut held);
    let most = approved.as_ref().and_then(|approved| approved.most);
    let negotiated = approved.as_mut().and_then(|approved| approved.negotiated.take());
    let (edits, gate) = approved.map_or((None, None), |approved| approved.apply(&mut held));
    let decision = Decision::Forward(Box::new(Plan {
        key: key(&live.service.balance, head, peer),
        open_for: open_for(&live, head.host, peer),
        live,
        sticky,
        repeatable: head.repeatable(),
        upgrade: head.upgrade.is_some(),
        websocket: head.upgrade.is_some() && head.asks_for_websocket(),
        login: head.logs_connection_in,
        edits,
        negotiated,
        copies,
        most,
        head: held.len(),
        held,
        writer: BodyWriter::new(head.body),
    }));
    let Some(gate) = gate else { return decision };
    await_gate(*gate, decision)
}

/// The decision about a request that its service's policy stops.
#[cold]
fn answered(stopped: Stopped) -> Decision {
    match stopped {
        Stopped::Answered(reply) => Decision::Reply(reply),
        Stopped::Turned(turned) => Decision::Turn(turned),
        Stopped::Gated(gated) => {
            let (login, stopped) = *gated;
            await_gate(Gate { login: Some(login), question: None }, answered(stopped))
        }
    }
}

/// Puts what must be known before a decision.
#[cold]
fn await_gate(gate: Gate, then: Decision) -> Decision {
    Decision::Gated(Box::new(Gated { gate, then }))
}

/// The decision about a request with a head that no service takes: logged, and answered with the page of the keys, if they have
/// one.
#[cold]
pub(crate) fn refused(
    (worker, view): (&Worker, &View),
    peer: &Peer,
    head: &RequestHead<'_, '_>,
    fault: Fault,
) -> Decision {
    lines::unrouted(worker, peer, head, fault);
    Decision::Turn(Turned::of_none(fault, &view.globals.config, head, peer))
}

/// A nonce of 16 bytes in base64 (RFC 6455 §4.1): its last letter holds two bits.
#[cold]
fn websocket_key() -> String {
    let random = std::iter::repeat_with(fastrand::alphanumeric).take(21);
    random.chain("A==".chars()).collect()
}
