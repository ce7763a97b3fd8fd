//! Requests that their service turns away: why, and what their clients are told. Sends nothing.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use pointsman_engine::live::Rate;
use pointsman_table::{COME_AGAIN, Config, Policy, RateBy, RateLimit, Service};
use pointsman_wire::{BodyLength, HeaderEdits, RequestHead};

use super::page::{self, Teller};
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::pool::view::ServiceLive;
use crate::record::begins;
use crate::worker::Worker;

/// A request that is answered here, with a fault.
#[derive(Debug)]
pub(crate) struct Turned {
    /// The service that turns it away; `None`: it reached none.
    pub(crate) live: Option<Rc<ServiceLive>>,
    pub(crate) fault: Fault,
    /// After how many seconds it may come again.
    pub(crate) retry_after: Option<u32>,
    /// Headers about it.
    pub(crate) more: Vec<(&'static str, Box<str>)>,
    /// The page of the keys, if they have one.
    pub(crate) page: Option<Box<str>>,
    /// What its service changes in the headers of answers.
    pub(crate) edits: Option<Rc<HeaderEdits>>,
}

/// Why a request is turned away, when it may come again, and headers about it.
pub(super) type Grounds = (Fault, Option<u32>, Vec<(&'static str, Box<str>)>);

/// Runs the steps that may turn a request away before anything else looks at it: `allow` and `deny`, `rate_limit`, `max_body`.
pub(super) fn at_once(
    (worker, service): (&Worker, &Service),
    policy: &Policy,
    head: &RequestHead<'_, '_>,
    peer: &Peer,
) -> Result<(), Grounds> {
    if policy.access.as_ref().is_some_and(|access| !access.admits(peer.client)) {
        return Err((Fault::Denied, None, Vec::new()));
    }
    if let Some(limit) = &policy.rate_limit {
        count(worker, service, limit, head, peer)?;
    }
    match (policy.max_body, head.body) {
        (Some(most), BodyLength::Length(length)) if length > most => Err((Fault::BodyTooLarge, None, Vec::new())),
        _ => Ok(()),
    }
}

/// Whether the service is closed for a request.
pub(super) fn is_closed(policy: &Policy, head: &RequestHead<'_, '_>, peer: &Peer) -> Result<(), Grounds> {
    let Some(closed) = &policy.maintenance else { return Ok(()) };
    let has = |name: &str, value: &str| head.header_lines(name).any(|own| own == value.as_bytes());
    match closed.lets_in(peer.client, has) {
        true => Ok(()),
        false => Err((Fault::Maintenance, Some(COME_AGAIN), Vec::new())),
    }
}

/// Counts a request against its service's rate.
#[inline(never)]
fn count(
    worker: &Worker,
    service: &Service,
    limit: &RateLimit,
    head: &RequestHead<'_, '_>,
    peer: &Peer,
) -> Result<(), Grounds> {
    let rates = worker.home.registry.rates();
    let now = begins().saturating_duration_since(worker.home.registry.epoch()).as_nanos();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let rate = Rate { interval: limit.interval(), burst: limit.burst };
    let of_client = || rates.ask((service.name.as_str(), 'c', network(peer.client)), rate, now);
    let allowance = match &limit.by {
        RateBy::Client => of_client(),
        RateBy::Service => rates.ask((service.name.as_str(), 's'), rate, now),
        RateBy::Header(name) => match head.header_lines(name).next() {
            Some(value) => rates.ask((service.name.as_str(), 'h', value), rate, now),
            None => of_client(),
        },
    };
    if allowance.is_in {
        return Ok(());
    }
    let policy = format!("\"default\";q={};w={}", limit.count, limit.period.as_secs());
    let next = seconds(allowance.next);
    // draft-ietf-httpapi-ratelimit-headers-10 §3, §4.
    let more = vec![
        ("RateLimit-Policy", policy.into()),
        ("RateLimit", format!("\"default\";r={};t={next}", allowance.left).into()),
    ];
    Err((Fault::RateLimited, Some(next), more))
}

/// Whole seconds, at least one.
fn seconds(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds.div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1)
}

/// For whom a client's requests are counted: of IPv6, a network of 64 bits.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(_) => client,
    }
}

impl Turned {
    /// A request that a service turns away. `id`: its own; empty: it has none.
    #[cold]
    pub(super) fn of_service(
        (live, edits): (&Rc<ServiceLive>, Option<Rc<HeaderEdits>>),
        (fault, retry_after, more): Grounds,
        config: &Config,
        (head, id): (&RequestHead<'_, '_>, &str),
        peer: &Peer,
    ) -> Box<Self> {
        let page = page::of(fault, config, Teller { head: Some(head), id, peer, service: Some(&live.service) });
        Box::new(Self { live: Some(Rc::clone(live)), fault, retry_after, more, page, edits })
    }

    /// A request that was to go to an instance, of which this was held.
    #[cold]
    pub(crate) fn of_held(
        (live, held, edits): (&Rc<ServiceLive>, &[u8], Option<Rc<HeaderEdits>>),
        fault: Fault,
        config: &Config,
        peer: &Peer,
    ) -> Box<Self> {
        let page = page::of_held(fault, config, (&live.service, held), peer);
        Box::new(Self { live: Some(Rc::clone(live)), fault, retry_after: None, more: Vec::new(), page, edits })
    }

    /// A request that reached no service.
    #[cold]
    pub(super) fn of_none(fault: Fault, config: &Config, head: &RequestHead<'_, '_>, peer: &Peer) -> Box<Self> {
        let page = page::of(fault, config, Teller { head: Some(head), id: "", peer, service: None });
        Box::new(Self { live: None, fault, retry_after: None, more: Vec::new(), page, edits: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_counted_as_one() {
        let of = |client: &str| network(client.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!((seconds(1), seconds(1_000_000_000), seconds(1_000_000_001)), (1, 1, 2));
    }
}
