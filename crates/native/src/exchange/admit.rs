//! The policy of a service, run for one request before it is sent: its steps, in the order in which [`Policy`] has them.
//! Never waits, never sends.

use std::num::NonZeroU64;
use std::rc::Rc;

use pointsman_table::{Policy, Scheme, host_name};
use pointsman_wire::{BadRequest, BodyLength, HeaderEdits, RequestEdits, RequestHead, Trust, add_header};

use super::compress::Negotiated;
use super::filled::Filling;
use super::gate::{Gate, Question};
use super::password::{self, Login};
use super::reach::is_secure;
use super::turned::{Turned, at_once, is_closed};
use super::{certificate, changes, cors};
use crate::access::REQUEST_ID;
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::net::presented::Presented;
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// The longest that is kept, bytes.
const LONGEST_ID: usize = 128;

/// What the policy found out about a request that may go on.
#[derive(Debug)]
pub(super) struct Approved<'p> {
    /// The certificate that its client showed.
    certificate: Option<&'p Presented>,
    /// What is changed in it.
    request: Option<Box<RequestEdits>>,
    /// What is changed in its answer.
    answer: Option<Rc<HeaderEdits>>,
    /// The most bytes of its body, if its length is not told.
    pub(super) most: Option<NonZeroU64>,
    /// What must be known before it goes on; `None`: all is, as usual.
    gate: Option<Box<Gate>>,
    /// Its answer may be compressed.
    pub(super) negotiated: Option<Box<Negotiated>>,
}

impl Approved<'_> {
    /// Changes a head that was written for an instance. Returns what is changed in the answer, and what must be known before.
    #[inline(never)]
    pub(super) fn apply(self, head: &mut Vec<u8>) -> (Option<Rc<HeaderEdits>>, Option<Box<Gate>>) {
        let Self { certificate, request, answer, most: _, gate, negotiated: _ } = self;
        if let Some(request) = request {
            request.apply(head);
        }
        if let Some(certificate) = certificate {
            let (own, chain) = (certificate.header(), certificate.chain_header());
            own.iter().for_each(|own| add_header(head, "Client-Cert", own.as_bytes()));
            chain.iter().for_each(|chain| add_header(head, "Client-Cert-Chain", chain.as_bytes()));
        }
        (answer, gate)
    }
}

/// Why a request does not go on.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its service turns it away.
    Turned(Box<Turned>),
    /// The policy answers it.
    Answered(Box<LocalReply>),
    /// One of these, if its password is right.
    Gated(Box<(Box<Login>, Self)>),
}

/// An answer of a service's policy, without a body of its own.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) live: Rc<ServiceLive>,
    pub(crate) status: u16,
    /// Where the client is to ask instead.
    pub(crate) location: Option<Box<str>>,
    /// What the service changes in its headers.
    pub(crate) edits: Option<Rc<HeaderEdits>>,
}

/// Takes the steps of a service's policy: the request goes on, or is answered here. `strip`: how much of its target is
/// taken off. A password that is computed meanwhile is awaited by the exchange: the steps behind it are taken as if it were
/// right. `id`: the request's, made here if anything asks for it.
#[inline(never)]
pub(super) fn admit<'p>(
    (worker, view): (&Worker, &View),
    policy: &Policy,
    live: &Rc<ServiceLive>,
    (head, strip): (&RequestHead<'_, '_>, usize),
    (peer, id): (&'p Peer, &mut String),
) -> Result<Approved<'p>, Stopped> {
    let (config, is_secure) = (&*view.globals.config, is_secure(head, peer));
    if live.asks_for_id {
        *id = request_id(worker, head, peer);
    }
    let id = &**id;
    let service = live.service.name.as_str();
    let filling = Filling { head: Some(head), peer, is_secure, service, request_id: id, groups: &[] };
    let answer = || changes::of_answer(policy, &filling, live.https_edits.as_ref().filter(|_| is_secure));
    let reply = |status, location| {
        Stopped::Answered(Box::new(LocalReply { live: Rc::clone(live), status, location, edits: answer() }))
    };
    let away = |grounds| Turned::of_service((live, answer()), grounds, config, (head, id), peer);
    let turn = |grounds| Stopped::Turned(away(grounds));
    let refuse = |fault| turn((fault, None, Vec::new()));
    if policy.scheme == Scheme::Https && !is_secure {
        return Err(over_https(head).map_or_else(refuse, |location| reply(301, Some(location))));
    }
    let certificate = match &policy.client_auth {
        Some(auth) => certificate::presented(auth, head, peer, worker.keys().as_deref()).map_err(refuse)?,
        None => None,
    };
    at_once((worker, &live.service), policy, head, peer).map_err(turn)?;
    // Before passwords are asked: browsers send none with this question.
    if policy.cors.is_some() && cors::is_preflight(head) {
        return Err(reply(204, None));
    }
    let login = match &policy.basic_auth {
        Some(users) => Some(password::check(worker, (users, service), head, away).map_err(Stopped::Turned)?),
        None => None,
    };
    let rest = || {
        if let Some(redirect) = &policy.redirect
            && let Some(location) = changes::redirected(redirect, &filling).map_err(refuse)?
        {
            return Err(reply(redirect.status, Some(location)));
        }
        is_closed(policy, head, peer).map_err(turn)?;
        changes::of_request(policy, &filling, strip).map_err(refuse)
    };
    let request = match rest() {
        Ok(request) => request,
        Err(stopped) => return Err(behind(login, stopped)),
    };
    let most = policy.max_body.filter(|_| head.body == BodyLength::Chunked).and_then(NonZeroU64::new);
    let question = policy.forward_auth.as_ref().map(|asked| Question::about((worker, view), (live, asked), head, peer));
    let gate = (login.is_some() || question.is_some()).then(|| Box::new(Gate { login, question }));
    let negotiated = Negotiated::of(live, head);
    Ok(Approved { certificate, request, answer: answer(), most, negotiated, gate })
}

/// An answer to a request whose password may turn out to be wrong.
#[cold]
fn behind(login: Option<Box<Login>>, stopped: Stopped) -> Stopped {
    match login {
        Some(login) => Stopped::Gated(Box::new((login, stopped))),
        None => stopped,
    }
}

/// The same address over HTTPS, without a port. A request that names no host cannot be led there.
#[cold]
fn over_https(head: &RequestHead<'_, '_>) -> Result<Box<str>, Fault> {
    let host = host_name(head.host);
    if host.is_empty() {
        return Err(Fault::BadRequest(BadRequest::NoHost));
    }
    // `OPTIONS *` asks about the whole server.
    let target = if head.target == "*" { "/" } else { &*head.target };
    Ok(format!("https://{host}{target}").into())
}

/// The id of a request: that of a trusted proxy, else a new one (RFC 9562 §5.4).
#[cold]
fn request_id(worker: &Worker, head: &RequestHead<'_, '_>, peer: &Peer) -> String {
    let is_id = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let told = head.header(REQUEST_ID).filter(|_| peer.trust == Trust::Full);
    if let Some(id) = told.and_then(|id| str::from_utf8(id).ok()).filter(is_id) {
        return id.to_owned();
    }
    let random = worker.home.with_rng(|rng| rng.u128(..));
    let version_4 = random & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let mut id = String::with_capacity(36);
    for (place, byte) in version_4.to_be_bytes().into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half & 15)]);
        id.push(digit(byte >> 4));
        id.push(digit(byte));
    }
    id
}
