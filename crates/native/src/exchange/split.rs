//! Which service takes a request of a service that is split. Draws the lot; routes nothing.

use std::rc::Rc;

use pointsman_table::{ServiceName, Split, SplitBy, hash_key};
use pointsman_wire::RequestHead;

use super::reach::cookie;
use crate::net::peer::Peer;
use crate::pool::pick::key_of_address;
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// The service that takes a request of `live`: itself, or the one that has this share of it. A side that is not served, or no
/// instance of which takes work, leaves its share to `live`.
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
    let taker = index.and_then(|index| worker.service(view, index)).filter(|taker| taker.service.may_take_work());
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
        Some(told) => split.side(told).or_else(|| split.at(point(hash_key(told), split.total()))),
        None => split.at(point(chance(), split.total())),
    }
}

/// A point of `0..total`, from 64 random or hashed bits.
fn point(bits: u64, total: u32) -> u32 {
    // Hashes of instances use the same bits: without this, a side would get the same keys as one of its instances.
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    u32::try_from((u128::from(mixed) * u128::from(total)) >> 64).unwrap_or(0)
}
