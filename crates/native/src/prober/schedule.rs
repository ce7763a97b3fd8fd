//! When checks run: at their interval with a little chance, faster while an instance's state is unsure, and only so many at
//! once. All times are monotonic. Knows no protocol.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::live::{CheckOutcome, Registry};
use pointsman_engine::seldom::{Seldom, untold_failures};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::plan::Check;
use super::probe::probe;
use super::said::CheckFailure;

/// While an instance's state is unsure, it is checked so many times as often...
const FASTER: u32 = 4;
/// ... but not in less than this, unless its interval is shorter.
const FASTEST: Duration = Duration::from_millis(250);
/// How far a pause may differ from the interval, in hundredths.
const JITTER: u64 = 10;
/// Checks that become due within this time start together, with the last of them: a thread that wakes up for each step of
/// each check pays more for waking up than for checks.
const TOGETHER: Duration = Duration::from_millis(20);
/// Checks that nobody wants any more are swept out when there are more than this beyond those that are wanted.
const STALE: usize = 1_000;
/// Least time between two log lines about checks that could not be made, milliseconds.
const UNMADE: u64 = 60_000;

/// The checks that wait for their time, and those that run.
#[derive(Debug)]
pub(super) struct Schedule {
    registry: Arc<Registry>,
    /// The most checks at once.
    most: usize,
    running: Cell<usize>,
    waiting: RefCell<BinaryHeap<Waiting>>,
    /// A check is over: there is room, or another time to wait for.
    changed: Notify,
    rng: RefCell<fastrand::Rng>,
    unmade: Seldom,
}

/// A check and its time. The soonest is the greatest.
#[derive(Debug)]
struct Waiting {
    at: Instant,
    check: Rc<Check>,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Waiting {}

impl Schedule {
    /// Counts flips in the registry, whose clock it has.
    pub(super) fn new(most: usize, registry: Arc<Registry>) -> Self {
        Self {
            registry,
            most,
            running: Cell::new(0),
            waiting: RefCell::default(),
            changed: Notify::new(),
            rng: RefCell::default(),
            unmade: Seldom::new(UNMADE),
        }
    }

    /// Adds new checks. The first comes soon, as nothing is known of the instance; when exactly, its address decides, so
    /// that not all come at once. `wanted`: how many checks there are at most.
    pub(super) fn begin(&self, new: Vec<Rc<Check>>, wanted: usize, now: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() > wanted + STALE {
            waiting.retain(|waiting| waiting.check.is_wanted());
        }
        let first = |check: &Check| fast(check.asks.interval).mul_f64((check.hash() % 1_000) as f64 / 1_000.0);
        waiting.extend(new.into_iter().map(|check| Waiting { at: now + first(&check), check }));
    }

    /// Waits until a check is due and there is room for it.
    pub(super) async fn due(&self) {
        loop {
            let changed = self.changed.notified();
            let has_room = self.running.get() < self.most;
            let next = self.waiting.borrow().peek().filter(|_| has_room).map(|waiting| waiting.at);
            let Some(at) = next else {
                changed.await;
                continue;
            };
            tokio::select! {
                biased;
                () = sleep_until(at + TOGETHER) => return,
                () = changed => {}
            }
        }
    }

    /// Starts the checks that are due, as far as there is room.
    pub(super) fn start(self: &Rc<Self>, now: Instant) {
        while self.running.get() < self.most {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.peek().is_none_or(|waiting| waiting.at > now) {
                return;
            }
            let Some(Waiting { check, .. }) = waiting.pop() else { return };
            drop(waiting);
            if check.is_wanted() {
                self.running.set(self.running.get() + 1);
                drop(tokio::task::spawn_local(Rc::clone(self).run(check)));
            }
        }
    }

    async fn run(self: Rc<Self>, check: Rc<Check>) {
        let began = Instant::now();
        let probed = probe(&check).await;
        let now = u64::try_from(self.registry.epoch().elapsed().as_millis()).unwrap_or(u64::MAX);
        let was_unknown = check.is_unsure();
        let outcome = match probed {
            Ok(said) => Some((true, said)),
            Err(CheckFailure::Instance(said)) => Some((false, said)),
            Err(CheckFailure::Ours(error)) => {
                self.tell_unmade(now, &error);
                None
            }
        };
        if let Some((passed, said)) = outcome {
            let said = format!("{} {said}", check.asks.way).into();
            check.tell(now, &CheckOutcome { passed, said, took: began.elapsed() }, &self.registry);
        }
        let pause = self.pause(check.asks.interval, check.is_unsure(), was_unknown);
        self.waiting.borrow_mut().push(Waiting { at: began + pause.max(began.elapsed()), check });
        self.running.set(self.running.get() - 1);
        self.changed.notify_one();
    }

    /// The time to the next check. The first long one is of any length, so that checks that began together spread.
    fn pause(&self, interval: Duration, is_unsure: bool, was_unsure: bool) -> Duration {
        let rng = &mut *self.rng.borrow_mut();
        let hundredths = match (is_unsure, was_unsure) {
            (false, true) => rng.u64(100 / u64::from(FASTER)..=100),
            _ => rng.u64(100 - JITTER..=100 + JITTER),
        };
        let usual = if is_unsure { fast(interval) } else { interval };
        usual.mul_f64(hundredths as f64 / 100.0)
    }

    fn tell_unmade(&self, now: u64, error: &std::io::Error) {
        if let Some(untold) = self.unmade.happened(now) {
            warn!("an instance cannot be checked: {error}{}", untold_failures(untold));
        }
    }
}

/// The interval while the state is unsure.
fn fast(interval: Duration) -> Duration {
    (interval / FASTER).max(FASTEST).min(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsure_checks_come_faster() {
        for (interval, fastest) in [(100, 100), (250, 250), (800, 250), (2_000, 500), (60_000, 15_000)] {
            assert_eq!(fast(Duration::from_millis(interval)), Duration::from_millis(fastest));
        }
    }

    #[test]
    fn pauses_are_about_the_interval_and_the_first_spreads() {
        let schedule = Schedule::new(1, Arc::new(Registry::new(1, crate::FAULTS)));
        let interval = Duration::from_secs(10);
        let within = |is_unsure, was_unsure, least: u64, most: u64| {
            let pauses = (0..1_000).map(|_| schedule.pause(interval, is_unsure, was_unsure).as_millis() as u64);
            let pauses: Vec<_> = pauses.collect();
            assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().max() > pauses.iter().min());
        };
        within(false, false, 9_000, 11_000);
        within(true, true, 2_250, 2_750);
        within(true, false, 2_250, 2_750);
        within(false, true, 2_500, 10_000);
    }
}
