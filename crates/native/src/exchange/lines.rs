//! Log lines that name the host and path of failed requests, at a limited rate; all failures are counted elsewhere.
//! Only called for faults, so that a request that is served pays nothing. Decides nothing.

use std::borrow::Cow;
use std::fmt::Display;

use pointsman_wire::RequestHead;
use tracing::{info, warn};

use super::context::Cx;
use super::reach::path;
use crate::fault::{Fault, Side};
use crate::net::peer::Peer;
use crate::pool::view::ServiceLive;
use crate::worker::Worker;

/// The most characters of host and path that are shown.
const LONGEST: usize = 200;

/// Logs a request that no service takes, or that is in a loop.
#[cold]
pub(crate) fn unrouted(worker: &Worker, peer: &Peer, head: &RequestHead<'_, '_>, fault: Fault) {
    let facts = fault.facts();
    if facts.side == Side::Keys && worker.home.registry.unrouted().is_due(worker.timers.now()) {
        let asked = asked(head.host, &head.target);
        info!("{}: {asked} from {}: {fault}", facts.name, peer.client);
    }
}

/// Logs a request that its instance did not answer, or not to the end.
#[cold]
pub(crate) fn unserved(cx: &Cx<'_>, (live, held): (&ServiceLive, &[u8]), fault: Fault) {
    let facts = fault.facts();
    // The head of a tunnel is not kept.
    let is_due = || !held.is_empty() && live.lines().is_due(cx.deadline.now());
    if facts.side == Side::Instance && is_due() {
        let status = cx.record.status.map(|status| format!("{status} for ")).unwrap_or_default();
        let named = host_and_target(held).map(|(host, target)| asked(&host, &target));
        let (asked, service) = (named.unwrap_or_else(|| "a request".to_owned()), &live.service.name);
        warn!("{}: {status}{asked} of service {service} from {}: {fault}", facts.name, cx.peer.client);
    }
}

/// Logs a request about which the server of `forward_auth` did not say anything, and why not.
#[cold]
pub(crate) fn unasked(cx: &Cx<'_>, (live, held): (&ServiceLive, &[u8]), fault: Fault, why: &dyn Display) {
    if live.lines().is_due(cx.deadline.now()) {
        let named = host_and_target(held).map(|(host, target)| asked(&host, &target));
        let (asked, service) = (named.unwrap_or_else(|| "a request".to_owned()), &live.service.name);
        warn!("{}: {asked} of service {service} from {}: {fault}: {why}", fault.facts().name, cx.peer.client);
    }
}

/// `shop.test/cart`. Never the query: it may hold secrets.
fn asked(host: &str, target: &str) -> String {
    let whole = host.chars().chain(path(target).chars());
    let shown: String = whole.take(LONGEST).collect();
    let is_cut = shown.len() < host.len() + path(target).len();
    if is_cut { shown + "…" } else { shown }
}

/// Host and target of a head that was written for an instance, so `virtual_path` is already removed. Other headers need
/// not be UTF-8.
fn host_and_target(head: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let mut lines = head[..end].split(|byte| *byte == b'\n');
    let target = lines.next()?.split(|byte| *byte == b' ').nth(1)?;
    let host = lines.find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(b"host").then(|| line[colon + 1..].trim_ascii())
    });
    Some((String::from_utf8_lossy(host.unwrap_or_default()), String::from_utf8_lossy(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_named_by_host_and_path() {
        for (head, expected) in [
            (
                &b"GET /cart?token=x HTTP/1.1\r\nAccept: a\r\nhost: shop.test:80\r\n\r\nHost: b"[..],
                Some("shop.test:80/cart"),
            ),
            (b"GET /a HTTP/1.1\r\nX-N: caf\xe9\r\nHost: shop.test\r\n\r\n", Some("shop.test/a")),
            (b"GET / HTTP/1.1\r\nAccept: a\r\n\r\nHost: b", Some("/")),
            (b"", None),
        ] {
            let named = host_and_target(head).map(|(host, target)| asked(&host, &target));
            assert_eq!(named.as_deref(), expected, "{}", head.escape_ascii());
        }
        let long = asked("a.test", &"/x".repeat(500));
        assert_eq!((long.chars().count(), long.ends_with('…')), (LONGEST + 1, true));
    }
}
