//! Gives requests of a service with `limit/requests` their places, in the order in which they came, over all workers.
//! Picks no instance. May be dropped at any moment: the place goes to the next request.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use pointsman_engine::live::{Needs, Place, Rank};

use super::view::ServiceLive;
use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::watch::Guard;

/// A request's place, until dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    live: Rc<ServiceLive>,
    /// `None`: how long it is held is not measured.
    began: Option<Instant>,
}

impl Admitted {
    /// Takes a place if one is free.
    #[expect(clippy::disallowed_methods, reason = "how long places are held is measured")]
    fn take(live: &Rc<ServiceLive>, limit: NonZeroU32) -> Option<Self> {
        let bounded = live.bounded();
        let began = || bounded.spans.begin().then(Instant::now);
        bounded.places.take(limit).then(|| Self { live: Rc::clone(live), began: began() })
    }

    /// The same, unless others wait.
    pub(crate) fn at_once(live: &Rc<ServiceLive>, limit: NonZeroU32) -> Option<Self> {
        if live.bounded().queue.has_queue() { None } else { Self::take(live, limit) }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let bounded = self.live.bounded();
        self.began.iter().for_each(|began| bounded.spans.add(began.elapsed()));
        bounded.places.give();
        bounded.queue.call();
    }
}

/// Takes a place at once, or else in turn. A half-closed client goes behind the others.
///
/// # Errors
/// [`Fault::QueueFull`], [`Fault::QueueTimeout`], [`Fault::Shed`].
pub(crate) async fn admit(
    live: &Rc<ServiceLive>,
    limit: NonZeroU32,
    guard: &Guard<'_>,
    deadline: &Deadline,
) -> Result<Admitted, Fault> {
    let bounded = live.bounded();
    if let Some(admitted) = Admitted::at_once(live, limit) {
        return Ok(admitted);
    }
    let patience = live.patience();
    if bounded.is_hopeless(limit, patience) {
        return Err(Fault::Shed);
    }
    let end = deadline.after(patience);
    loop {
        let rank = if guard.is_half_closed() { Rank::HalfClosed } else { Rank::New };
        let place = bounded.queue.enter_within(rank, Needs::Any, live.longest_queue()).ok_or(Fault::QueueFull)?;
        if let Some(admitted) = guard.until_half_closed(in_turn(live, limit, &place, end, deadline)).await {
            return admitted;
        }
    }
}

async fn in_turn(
    live: &Rc<ServiceLive>,
    limit: NonZeroU32,
    place: &Place<'_>,
    end: u64,
    deadline: &Deadline,
) -> Result<Admitted, Fault> {
    loop {
        deadline.until(end, place.turn()).await.map_err(|_| Fault::QueueTimeout)?;
        let newest = live.newest();
        // Without the key there are places for all.
        let limit = newest.map_or(limit, |newest| newest.most_requests().unwrap_or(NonZeroU32::MAX));
        if let Some(admitted) = Admitted::take(live, limit) {
            return Ok(admitted);
        }
    }
}
