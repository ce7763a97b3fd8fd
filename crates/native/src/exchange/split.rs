//! Which service takes a request of a service that is split. Draws the lot; routes nothing.

use std::rc::Rc;

use pointsman_table::{ServiceName, Split, SplitBy};
use pointsman_wire::RequestHead;

use crate::net::peer::Peer;
use crate::pool::pick::{key_of_address, key_of_bytes};
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// The service that takes a request of `live`: itself, or the one that has this share of it. A side that is not served or has no
/// instances leaves its share to `live`.
#[cold]
pub(super) fn taker(
    (worker, view): (&Worker, &View),
    live: Rc<ServiceLive>,
    head: &RequestHead<'_, '_>,
    peer: &Peer,
) -> Rc<ServiceLive> {
    let Some(split) = live.service.split() else { return live };
    let chance = || worker.home.with_rng(|rng| rng.u64(..));
    let index =
        side(split, &live.service.name, head, peer, chance).and_then(|side| view.table.target(&live.service, side));
    let taker = index.and_then(|index| worker.service(view, index)).filter(|taker| !taker.service.is_empty());
    taker.unwrap_or(live)
}

/// The side of a request; `None`: the service itself.
fn side<'s>(
    split: &'s Split,
    own: &ServiceName,
    head: &RequestHead<'_, '_>,
    peer: &Peer,
    chance: impl FnOnce() -> u64,
) -> Option<&'s ServiceName> {
    let told = match &split.by {
        SplitBy::Chance => None,
        SplitBy::Client => return split.at(point(key_of_address(peer.client), split.total())),
        SplitBy::Header(name) => head.header(name),
        SplitBy::Cookie(name) => cookie(head, name),
    };
    match told {
        Some(told) if told == own.as_str().as_bytes() => None,
        Some(told) => split.side(told).or_else(|| split.at(point(key_of_bytes(told), split.total()))),
        None => split.at(point(chance(), split.total())),
    }
}

/// A point of `0..total`, from 64 random or hashed bits.
fn point(bits: u64, total: u32) -> u32 {
    // Hashes of instances use the same bits: without this, a side would get the same keys as one of its instances.
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    u32::try_from((u128::from(mixed) * u128::from(total)) >> 64).unwrap_or(0)
}

/// The value of a cookie of the request (RFC 6265 §4.2).
fn cookie<'h>(head: &RequestHead<'h, '_>, name: &str) -> Option<&'h [u8]> {
    let fields = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
    let pairs = fields.flat_map(|header| header.value.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
