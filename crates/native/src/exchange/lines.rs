//! Lines of the log that name the host and path of requests that failed, at a bounded pace: all of them are counted
//! elsewhere. Only called for faults, so that a request that is served pays nothing. Decides nothing.

use pointsman_wire::RequestHead;
use tracing::{info, warn};

use super::context::Cx;
use super::decide::{Plan, path};
use crate::fault::{Fault, Side};
use crate::net::peer::Peer;
use crate::worker::Worker;

/// Longest host with its path that is shown, in characters.
const LONGEST: usize = 200;

/// A request that no service takes, or that goes in circles.
#[cold]
pub(crate) fn unrouted(worker: &Worker, peer: &Peer, head: &RequestHead<'_, '_>, fault: Fault) {
    let facts = fault.facts();
    if facts.side == Side::Keys && worker.home.registry.unrouted().is_due(worker.timers.now()) {
        let asked = asked(head.host, &head.target);
        info!("{}: {asked} from {}: {fault}", facts.name, peer.client);
    }
}

/// A request that its instance did not answer, or not to the end.
#[cold]
pub(crate) fn unserved(cx: &Cx<'_>, plan: &Plan, fault: Fault) {
    let facts = fault.facts();
    // Of a tunnel, the head is not kept.
    let is_due = || !plan.held.is_empty() && plan.live.lines().is_due(cx.deadline.now());
    if facts.side == Side::Instance && is_due() {
        let status = cx.record.status.map(|status| format!("{status} for ")).unwrap_or_default();
        let (host, target) = host_and_target(&plan.held).unwrap_or_default();
        let (asked, service) = (asked(host, target), &plan.live.service.name);
        warn!("{}: {status}{asked} of service {service} from {}: {fault}", facts.name, cx.peer.client);
    }
}

/// `shop.test/cart`. Never the query: it may hold secrets.
fn asked(host: &str, target: &str) -> String {
    let whole = host.chars().chain(path(target).chars());
    let shown: String = whole.take(LONGEST).collect();
    let is_cut = shown.len() < host.len() + path(target).len();
    if is_cut { shown + "…" } else { shown }
}

/// From a head that was written for an instance: `virtual_path` is taken off already.
fn host_and_target(head: &[u8]) -> Option<(&str, &str)> {
    let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(&head[..end]).ok()?.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?;
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    Some((host.unwrap_or_default(), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_named_by_host_and_path() {
        for (head, expected) in [
            ("GET /cart?token=x HTTP/1.1\r\nAccept: a\r\nhost: shop.test:80\r\n\r\nHost: b", Some("shop.test:80/cart")),
            ("GET / HTTP/1.1\r\nAccept: a\r\n\r\nHost: b", Some("/")),
            ("", None),
        ] {
            let named = host_and_target(head.as_bytes()).map(|(host, target)| asked(host, target));
            assert_eq!(named.as_deref(), expected, "{head:?}");
        }
        let long = asked("a.test", &"/x".repeat(500));
        assert_eq!((long.chars().count(), long.ends_with('…')), (LONGEST + 1, true));
    }
}
