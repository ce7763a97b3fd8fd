//! The endpoints of one cluster: remembers which one answered last, and asks several so that none can hold a call up.
//! Does no IO itself.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use crate::error::StoreError;

/// If an endpoint is silent for this long, the next one is asked as well.
const STAGGER: Duration = Duration::from_millis(250);
/// An endpoint that answered this recently gets the next call without being checked.
const FRESH: Duration = Duration::from_secs(1);

/// Requests that may fail, one after another, before a lease ends: a renewal comes after a third of its time, and then
/// two endpoints may fail.
const ATTEMPTS: u32 = 6;
/// Shortest and longest deadline of a request under a lease.
const SHORTEST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(3);

/// The endpoints by number, and which of them to ask first.
#[derive(Debug)]
pub(crate) struct Members {
    count: usize,
    state: Mutex<Turn>,
}

#[derive(Debug)]
struct Turn {
    first: usize,
    /// When `first` answered, if it did and has not failed since.
    answered: Option<Instant>,
}

impl Members {
    /// Takes the number of endpoints; the first one is asked first.
    pub(crate) fn new(count: usize) -> Self {
        Self { count, state: Mutex::new(Turn { first: 0, answered: None }) }
    }

    /// Whether there is another endpoint to go on to.
    pub(crate) fn has_others(&self) -> bool {
        self.count > 1
    }

    /// All of them, from the one that answered last.
    pub(crate) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.turn().first, self.count);
        (0..count).map(move |step| (first + step) % count)
    }

    /// The endpoint that needs no check: the only one, or one that has just answered.
    pub(crate) fn trusted(&self) -> Option<usize> {
        let turn = self.turn();
        let is_fresh = turn.answered.is_some_and(|at| at.elapsed() < FRESH);
        (is_fresh || !self.has_others()).then_some(turn.first)
    }

    /// The deadline of a request under a lease of this time to live: with other endpoints, early enough to ask two of
    /// them before it ends.
    pub(crate) fn patience(&self, ttl: Duration) -> Duration {
        let share = if self.has_others() { (ttl / ATTEMPTS).max(SHORTEST) } else { ttl };
        share.min(LONGEST)
    }

    /// This one answered.
    pub(crate) fn answered(&self, member: usize) {
        *self.turn() = Turn { first: member, answered: Some(Instant::now()) };
    }

    /// This one did not answer, or cannot serve: the next call starts at the one after it.
    pub(crate) fn failed(&self, member: usize) {
        let mut turn = self.turn();
        if turn.first == member {
            *turn = Turn { first: (member + 1) % self.count, answered: None };
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first success. Asks in order: asks the next one when one fails, and also when one is silent for [`STAGGER`],
/// without giving that one up. If all fail, returns the most informative error: a refusal rather than silence.
pub(crate) async fn first_answer<T, F>(asked: impl IntoIterator<Item = F>) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let (mut rest, mut waiting, mut worst) = (asked.into_iter().fuse(), FuturesUnordered::new(), None);
    loop {
        let more = rest.next().map(|next| waiting.push(next)).is_some();
        let answer = tokio::select! {
            answer = waiting.next() => answer,
            () = sleep(STAGGER), if more => continue,
        };
        match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => worst = Some(more_telling(worst, error)),
            None => return Err(worst.expect("at least one endpoint was asked")),
        }
    }
}

fn more_telling(known: Option<StoreError>, new: StoreError) -> StoreError {
    match known {
        Some(known) if !matches!(known, StoreError::Unreachable { .. }) => known,
        Some(known) if matches!(new, StoreError::Unreachable { .. }) => known,
        Some(_) | None => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each endpoint answers after some ms: `+` well, `-` as unreachable, `!` with a refusal.
    async fn check(endpoints: &[(char, u64)], want: &str, within: u64) {
        let asked = endpoints.iter().enumerate().map(|(number, (sign, after))| async move {
            sleep(Duration::from_millis(*after)).await;
            let (endpoint, why) = (number.to_string(), String::new());
            match sign {
                '+' => Ok(number),
                '!' => Err(StoreError::Refused { endpoint, why }),
                _ => Err(StoreError::Unreachable { endpoint, why }),
            }
        });
        let start = Instant::now();
        let got = match first_answer(asked).await {
            Ok(number) => number.to_string(),
            Err(StoreError::Refused { endpoint, .. }) => format!("refused by {endpoint}"),
            Err(error) => error.to_string(),
        };
        assert_eq!((got.as_str(), start.elapsed()), (want, Duration::from_millis(within)), "{endpoints:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_endpoint_is_waited_for_alone() {
        check(&[('+', 100)], "0", 100).await;
        check(&[('+', 100), ('+', 0)], "0", 100).await;
        check(&[('+', 9_000), ('+', 10)], "1", 260).await;
        check(&[('-', 10), ('+', 10)], "1", 20).await;
        check(&[('+', 9_000), ('-', 9_000), ('+', 10)], "2", 510).await;
        check(&[('+', 600), ('+', 9_000)], "0", 600).await;
        check(&[('-', 10), ('!', 10), ('-', 10)], "refused by 1", 30).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_answered_is_asked_first() {
        let members = Members::new(3);
        let order = || members.order().collect::<Vec<_>>();
        assert_eq!((order(), members.trusted()), (vec![0, 1, 2], None));
        members.answered(1);
        assert_eq!((order(), members.trusted()), (vec![1, 2, 0], Some(1)));
        members.failed(0);
        assert_eq!(members.trusted(), Some(1));
        tokio::time::advance(FRESH).await;
        assert_eq!((order(), members.trusted()), (vec![1, 2, 0], None));
        members.failed(1);
        assert_eq!(order(), [2, 0, 1]);
        assert_eq!(Members::new(1).trusted(), Some(0));
    }
}
