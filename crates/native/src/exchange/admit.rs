//! The policy of a service, run for one request before it is sent: its steps, in the order in which [`Policy`] has them.
//! Never waits, never sends.

use std::rc::Rc;

use pointsman_table::{Policy, Scheme, host_name};
use pointsman_wire::{BadRequest, HeaderEdits, RequestEdits, RequestHead, Trust, add_header};

use super::decide::{Decision, LocalReply};
use super::filled::Filling;
use super::{certificate, changes};
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::net::presented::Presented;
use crate::pool::view::ServiceLive;
use crate::worker::Worker;

/// What the policy found out about a request that may go on.
#[derive(Debug)]
pub(super) struct Admitted<'p> {
    /// The certificate that its client showed.
    certificate: Option<&'p Presented>,
    /// What is changed in it.
    request: Option<Box<RequestEdits>>,
    /// What is changed in its answer.
    answer: Option<Rc<HeaderEdits>>,
}

impl Admitted<'_> {
    /// Changes a head that was written for an instance. Returns what is changed in the answer.
    #[inline(never)]
    pub(super) fn apply(self, head: &mut Vec<u8>) -> Option<Rc<HeaderEdits>> {
        let Self { certificate, request, answer } = self;
        if let Some(request) = request {
            request.apply(head);
        }
        if let Some(certificate) = certificate {
            let (own, chain) = (certificate.header(), certificate.chain_header());
            own.iter().for_each(|own| add_header(head, "Client-Cert", own.as_bytes()));
            chain.iter().for_each(|chain| add_header(head, "Client-Cert-Chain", chain.as_bytes()));
        }
        answer
    }
}

/// Takes the steps of a service's policy: the request goes on, or is answered here. `strip`: how much of its target is
/// taken off.
#[inline(never)]
pub(super) fn admit<'p>(
    worker: &Worker,
    policy: &Policy,
    live: &Rc<ServiceLive>,
    (head, strip): (&RequestHead<'_, '_>, usize),
    peer: &'p Peer,
) -> Result<Admitted<'p>, Decision> {
    let is_secure = is_secure(head, peer);
    let service = live.service.name.as_str();
    let filling = Filling { head, peer, is_secure, service, request_id: "", groups: &[] };
    let answer = || changes::of_answer(policy, &filling, live.https_edits.as_ref().filter(|_| is_secure));
    let reply = |status, location| {
        Decision::Reply(Box::new(LocalReply { live: Rc::clone(live), status, location, edits: answer() }))
    };
    let refuse = |fault| match answer() {
        None => Decision::Refuse(fault),
        Some(edits) => Decision::RefuseWith(fault, edits),
    };
    if policy.scheme == Scheme::Https && !is_secure {
        return Err(over_https(head).map_or_else(refuse, |location| reply(301, Some(location))));
    }
    let certificate = match &policy.client_auth {
        Some(auth) => certificate::presented(auth, head, peer, worker.keys().as_deref()).map_err(refuse)?,
        None => None,
    };
    if let Some(redirect) = &policy.redirect
        && let Some(location) = changes::redirected(redirect, &filling).map_err(refuse)?
    {
        return Err(reply(redirect.status, Some(location)));
    }
    let request = changes::of_request(policy, &filling, strip).map_err(refuse)?;
    Ok(Admitted { certificate, request, answer: answer() })
}

/// Whether a request came over HTTPS: to us, or to a proxy that is trusted and says so.
pub(super) fn is_secure(head: &RequestHead<'_, '_>, peer: &Peer) -> bool {
    // The last line: a proxy may add one behind the client's own.
    let told = || head.headers.iter().rfind(|header| header.name.eq_ignore_ascii_case("x-forwarded-proto"));
    let says_so = || told().is_some_and(|header| header.value.eq_ignore_ascii_case(b"https"));
    peer.is_secure || (peer.trust == Trust::Full && says_so())
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
