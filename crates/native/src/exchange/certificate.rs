//! Whether a request may reach a service that asks for clients' certificates, by what its client showed in the handshake.
//! Never waits, never sends.

use pointsman_table::{ClientAuth, host_name};
use pointsman_wire::RequestHead;

use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::net::presented::Presented;
use crate::tls::Keys;

/// What the client showed, for the service's instance; `None`: no certificate, and it may do without.
///
/// # Errors
/// [`Fault::ClientCertificate`]: it needs one. [`Fault::Misdirected`]: it was not asked for the right one, because its
/// connection was made for another name, or before the keys asked for it.
#[cold]
pub(crate) fn presented<'p>(
    auth: &ClientAuth,
    head: &RequestHead<'_, '_>,
    peer: &'p Peer,
    keys: Option<&Keys>,
) -> Result<Option<&'p Presented>, Fault> {
    let missing = if auth.is_required { Err(Fault::ClientCertificate) } else { Ok(None) };
    let Some(keys) = keys.filter(|_| peer.is_secure) else { return missing };
    let presented = peer.presented.as_deref().ok_or(Fault::Misdirected)?;
    let host = host_name(head.host);
    if presented.name.as_deref().is_some_and(|name| name != host) {
        return Err(Fault::Misdirected);
    }
    let judge = || keys.clients().accept(&auth.authorities, &presented.chain);
    match presented.is_of(&auth.authorities, judge) {
        true if presented.name.is_some() || is_asked_alike(presented, &host, keys) => Ok(Some(presented)),
        false if is_asked_alike(presented, &host, keys) => missing,
        true | false => Err(Fault::Misdirected),
    }
}

/// Whether a connection made for this host now would be asked for the same.
fn is_asked_alike(presented: &Presented, host: &str, keys: &Keys) -> bool {
    keys.config(Some(host)).1 == Some(presented.asked)
}
