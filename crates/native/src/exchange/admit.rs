//! The policy of a service, run for one request before it is sent: its steps, in the order in which [`Policy`] has them.
//! Never waits, never sends.

use std::num::NonZeroU64;
use std::rc::Rc;

use pointsman_table::{Config, Policy, Scheme, host_name};
use pointsman_wire::{BadRequest, BodyLength, RequestHead};

use super::certificate;
use super::reach::is_secure;
use super::turned::{Denial, Turned, at_once, is_closed};
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::net::presented::Presented;
use crate::pool::view::ServiceLive;
use crate::worker::Worker;

/// What the policy found out about a request that may go on.
#[derive(Debug, Default)]
pub(super) struct LetIn<'p> {
    /// The certificate that its client showed.
    pub(super) certificate: Option<&'p Presented>,
    /// The most bytes of its body, if its length is not told.
    pub(super) most: Option<NonZeroU64>,
}

/// Takes the steps of a service's policy: the request goes on, or is answered here.
#[inline(never)]
pub(super) fn admit<'p>(
    (worker, config): (&Worker, &Config),
    policy: &Policy,
    live: &Rc<ServiceLive>,
    head: &RequestHead<'_, '_>,
    peer: &'p Peer,
) -> Result<LetIn<'p>, Denial> {
    if policy.scheme == Scheme::Https && !is_secure(head, peer) {
        return Err(redirect(head));
    }
    let certificate = match &policy.client_auth {
        Some(auth) => certificate::presented(auth, head, peer, worker.keys().as_deref()).map_err(Denial::Refuse)?,
        None => None,
    };
    at_once((worker, &live.service), policy, head, peer)
        .and_then(|()| is_closed(policy, head, peer))
        .map_err(|grounds| Denial::Turn(Turned::of_service(live, grounds, config, head, peer)))?;
    let most = policy.max_body.filter(|_| head.body == BodyLength::Chunked).and_then(NonZeroU64::new);
    Ok(LetIn { certificate, most })
}

/// The same address over HTTPS, without a port. A request that names no host cannot be led there.
#[cold]
fn redirect(head: &RequestHead<'_, '_>) -> Denial {
    let host = host_name(head.host);
    if host.is_empty() {
        return Denial::Refuse(Fault::BadRequest(BadRequest::NoHost));
    }
    // `OPTIONS *` asks about the whole server.
    let target = if head.target == "*" { "/" } else { &*head.target };
    Denial::Redirect(format!("https://{host}{target}").into())
}
