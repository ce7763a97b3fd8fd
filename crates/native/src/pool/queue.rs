//! The turns of a request in the queue of its service, while all instances are at their `maxconn`. Picks and takes
//! nothing itself.

use pointsman_engine::live::{Needs, Place, Rank};

use super::pick::Tried;
use super::view::ServiceLive;
use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::net::watch::Guard;

/// How often, in milliseconds, the first in the queue looks again without being called: an ejection may be over.
const LOOK_AGAIN: u64 = 1_000;

/// How a request queues.
pub(super) struct Turns<'a> {
    pub(super) live: &'a ServiceLive,
    pub(super) guard: &'a Guard<'a>,
    pub(super) tried: Tried,
    /// What it may use.
    pub(super) needs: Needs,
}

/// The outcome of a pick without queueing.
pub(super) enum Look<T> {
    One(T),
    Full,
    None,
}

impl<T> Look<T> {
    /// The outcome, unless the request must wait: an instance, or none.
    fn found(self) -> Option<Option<T>> {
        match self {
            Self::One(one) => Some(Some(one)),
            Self::None => Some(None),
            Self::Full => None,
        }
    }
}

/// Looks, if nobody queues. `None`: the request must wait.
#[inline]
pub(super) fn at_once<T>(live: &ServiceLive, look: impl Fn() -> Look<T>) -> Option<Option<T>> {
    if live.room().has_queue() { None } else { look().found() }
}

/// Looks at once if nobody waits, or else whenever it is its turn. A half-closed client goes behind the others.
///
/// # Errors
/// [`Fault::Full`].
pub(super) async fn in_turn<T>(
    turns: &Turns<'_>,
    deadline: &Deadline,
    look: impl Fn() -> Look<T>,
) -> Result<Option<T>, Fault> {
    if let Some(found) = at_once(turns.live, &look) {
        return Ok(found);
    }
    let room = turns.live.room();
    let end = deadline.after(turns.live.patience());
    loop {
        let place = room.enter_within(turns.rank(), turns.needs, turns.live.longest_queue()).ok_or(Fault::Full)?;
        let found = turns.guard.until_half_closed(turns.wait(&place, end, deadline, &look)).await;
        if let Some(found) = found {
            return found;
        }
    }
}

impl Turns<'_> {
    fn rank(&self) -> Rank {
        match (self.guard.is_half_closed(), self.tried.returning) {
            (true, _) => Rank::HalfClosed,
            (false, true) => Rank::Returning,
            (false, false) => Rank::New,
        }
    }

    /// Whether there may be free slots that it may not use, but those behind it may: with a `cookie`, those of instances
    /// that take work only for clients that stick to them.
    fn passes(&self) -> bool {
        self.needs == Needs::Some || self.live.service.cookie().is_some() || self.live.is_superseded()
    }

    async fn wait<T>(
        &self,
        place: &Place<'_>,
        end: u64,
        deadline: &Deadline,
        look: impl Fn() -> Look<T>,
    ) -> Result<Option<T>, Fault> {
        loop {
            turn(place, end, deadline).await?;
            match look().found() {
                Some(found) => return Ok(found),
                None if self.passes() => place.pass(),
                None => {}
            }
        }
    }
}

/// Waits until it is this request's turn to look for a slot.
async fn turn(place: &Place<'_>, end: u64, deadline: &Deadline) -> Result<(), Fault> {
    loop {
        let again = deadline.now() + LOOK_AGAIN;
        match deadline.until(end.min(again), place.turn()).await {
            Ok(()) => return Ok(()),
            Err(_) if end <= deadline.now() => return Err(Fault::Full),
            Err(_) => place.call_if_first(),
        }
    }
}
