//! The policy of a service, run for one request before it is sent: its steps, in the order in which [`Policy`] has them.
//! Never waits, never sends.

use std::rc::Rc;

use pointsman_table::{Policy, Scheme, host_name};
use pointsman_wire::{BadRequest, RequestHead, Trust};

use super::certificate;
use super::decide::Decision;
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::net::presented::Presented;
use crate::pool::view::ServiceLive;
use crate::worker::Worker;

/// What the policy found out about a request that may go on.
#[derive(Debug, Default)]
pub(super) struct Admitted<'p> {
    /// The certificate that its client showed.
    pub(super) certificate: Option<&'p Presented>,
}

/// Takes the steps of a service's policy: the request goes on, or is answered here.
#[inline(never)]
pub(super) fn admit<'p>(
    worker: &Worker,
    policy: &Policy,
    live: &Rc<ServiceLive>,
    head: &RequestHead<'_, '_>,
    peer: &'p Peer,
) -> Result<Admitted<'p>, Decision> {
    if policy.scheme == Scheme::Https && !is_secure(head, peer) {
        return Err(redirect(Rc::clone(live), head));
    }
    let certificate = match &policy.client_auth {
        Some(auth) => certificate::presented(auth, head, peer, worker.keys().as_deref()).map_err(Decision::Refuse)?,
        None => None,
    };
    Ok(Admitted { certificate })
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
fn redirect(live: Rc<ServiceLive>, head: &RequestHead<'_, '_>) -> Decision {
    let host = host_name(head.host);
    if host.is_empty() {
        return Decision::Refuse(Fault::BadRequest(BadRequest::NoHost));
    }
    // `OPTIONS *` asks about the whole server.
    let target = if head.target == "*" { "/" } else { &*head.target };
    Decision::Redirect(live, format!("https://{host}{target}").into())
}
