//! Coarse deadlines for thousands of waiting tasks: one slot per task, swept every [`TICK`]. Setting one is a few
//! stores, never a timer-wheel operation; it fires up to two ticks late, never early.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

/// How often deadlines are checked.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The longest time until a waiting task checks its deadline again, milliseconds: the deadline may have moved.
const LOOK_AGAIN: u64 = 5_000;

/// The deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// A worker's deadlines and its coarse clock, in milliseconds since the registry began.
#[derive(Debug)]
pub(crate) struct Timers {
    epoch: Instant,
    now: Cell<u64>,
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    used: Vec<Slot>,
    free: Vec<usize>,
    /// The slots that were idle for longest at the last search, and since when; the oldest is last.
    oldest: Vec<(u64, usize)>,
}

/// How many of the slots that are idle for longest one search finds.
const FOUND: usize = 64;

impl Slots {
    /// The next slot that the last search found and that is still idle.
    fn oldest(&mut self) -> Option<usize> {
        while let Some((since, slot)) = self.oldest.pop() {
            if self.used[slot].idle == since {
                return Some(slot);
            }
        }
        None
    }

    /// Searches all slots, once for many evictions: a flood needs an eviction for each new connection.
    fn look_for_oldest(&mut self) -> Option<usize> {
        let idle = self.used.iter().enumerate().filter(|(_, slot)| slot.idle < EVICTED);
        self.oldest.extend(idle.map(|(place, slot)| (slot.idle, place)));
        if self.oldest.len() > FOUND {
            self.oldest.select_nth_unstable(FOUND);
            self.oldest.truncate(FOUND);
            self.oldest.shrink_to(FOUND);
        }
        self.oldest.sort_unstable_by(|one, other| other.cmp(one));
        self.oldest()
    }
}

#[derive(Debug)]
struct Slot {
    at: u64,
    waker: Option<Waker>,
    /// Since when the task is idle, coarse time; or [`BUSY`] or [`EVICTED`].
    idle: u64,
}

/// The task is at work.
const BUSY: u64 = u64::MAX;
/// The task was told to end.
const EVICTED: u64 = u64::MAX - 1;

impl Slot {
    const FREE: Self = Self { at: u64::MAX, waker: None, idle: BUSY };
}

impl Timers {
    pub(crate) fn new(epoch: Instant) -> Rc<Self> {
        Rc::new(Self { epoch, now: Cell::new(0), slots: RefCell::default() })
    }

    /// The coarse time: at most one tick old while the worker is not overloaded.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Moves the clock and wakes every task whose deadline has passed.
    pub(crate) fn sweep(&self, now: Instant) {
        let now = millis(now.saturating_duration_since(self.epoch));
        self.now.set(now);
        self.wake_where(|at| at <= now);
    }

    /// Wakes every waiting task, so that it checks again what it waits for.
    pub(crate) fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    fn wake_where(&self, due: impl Fn(u64) -> bool) {
        for slot in &mut self.slots.borrow_mut().used {
            if due(slot.at)
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Tells the task that has been idle for longest to end. `false`: none is idle.
    pub(crate) fn evict_oldest(&self) -> bool {
        let mut slots = self.slots.borrow_mut();
        let Some(oldest) = slots.oldest().or_else(|| slots.look_for_oldest()) else { return false };
        let slot = &mut slots.used[oldest];
        slot.idle = EVICTED;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
        true
    }

    /// A slot for one task's waits.
    pub(crate) fn deadline(self: &Rc<Self>) -> Deadline {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.used.push(Slot::FREE);
            slots.used.len() - 1
        });
        Deadline { timers: Rc::clone(self), slot }
    }
}

/// One task's slot. One wait at a time; the slot is given back on drop.
#[derive(Debug)]
pub(crate) struct Deadline {
    timers: Rc<Timers>,
    slot: usize,
}

impl Deadline {
    /// The timers that it is one of.
    pub(crate) fn timers(&self) -> &Rc<Timers> {
        &self.timers
    }

    /// The coarse time now.
    pub(crate) fn now(&self) -> u64 {
        self.timers.now()
    }

    /// Marks the task as idle, so that it may be evicted, until the guard is dropped.
    pub(crate) fn idle(&self) -> Evictable<'_> {
        self.timers.slots.borrow_mut().used[self.slot].idle = self.now();
        Evictable(self)
    }

    /// The coarse time after a wait that begins now; a tick is added so that it is never early.
    pub(crate) fn after(&self, wait: Duration) -> u64 {
        self.later(self.now(), wait)
    }

    /// The coarse time after a wait that begins at `than`, likewise.
    pub(crate) fn later(&self, than: u64, wait: Duration) -> u64 {
        than.saturating_add(millis(wait + TICK))
    }

    /// Runs the work for at most this long.
    ///
    /// # Errors
    /// [`Elapsed`] when the work was not done in time; it is dropped then.
    pub(crate) fn within<F: Future>(
        &self,
        wait: Duration,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.until(self.after(wait), work)
    }

    /// Runs the work until a coarse time given by [`Deadline::after`].
    ///
    /// # Errors
    /// [`Elapsed`] when the work was not done in time.
    pub(crate) fn until<F: Future>(&self, at: u64, work: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.watched(move || at, work)
    }

    /// Runs the work until a coarse time that may change while it waits.
    ///
    /// # Errors
    /// [`Elapsed`] when the work was not done in time.
    pub(crate) fn watched<F: Future>(
        &self,
        at: impl Fn() -> u64,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.looking(|| LOOK_AGAIN, at, work)
    }

    /// Runs the work until a coarse time that may change while it waits, and polls it at least every `look`
    /// milliseconds: that poll may move the time.
    ///
    /// # Errors
    /// [`Elapsed`] when the work was not done in time.
    pub(crate) fn looking<F: Future>(
        &self,
        look: impl Fn() -> u64,
        at: impl Fn() -> u64,
        work: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        Timed { deadline: self, look, at, work }
    }

    /// The same for work that was polled already. `wait`: in how many milliseconds to look again, and until when it may
    /// wait.
    pub(crate) fn bound<T>(
        &self,
        work: Poll<T>,
        wait: impl FnOnce() -> (u64, u64),
        context: &Context<'_>,
    ) -> Poll<Result<T, Elapsed>> {
        let outcome = match work {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => {
                let (look, at) = wait();
                Err(ready!(self.arm(look, at, context)))
            }
        };
        self.disarm();
        Poll::Ready(outcome)
    }

    fn arm(&self, look: u64, at: u64, context: &Context<'_>) -> Poll<Elapsed> {
        if at <= self.now() {
            return Poll::Ready(Elapsed);
        }
        let slot = &mut self.timers.slots.borrow_mut().used[self.slot];
        slot.at = at.min(self.now() + look);
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => slot.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// The waker stays: the same task waits again soon.
    fn disarm(&self) {
        self.timers.slots.borrow_mut().used[self.slot].at = u64::MAX;
    }
}

pin_project! {
    /// Work with a deadline. Written as a future, because an `async fn` stores its arguments twice, and so does each
    /// one around it.
    struct Timed<'d, L, A, F> {
        deadline: &'d Deadline,
        look: L,
        at: A,
        #[pin]
        work: F,
    }
}

impl<L: Fn() -> u64, A: Fn() -> u64, F: Future> Future for Timed<'_, L, A, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let work = this.work.poll(context);
        this.deadline.bound(work, || ((this.look)(), (this.at)()), context)
    }
}

/// A task that is idle.
#[derive(Debug)]
pub(crate) struct Evictable<'d>(&'d Deadline);

impl Evictable<'_> {
    /// Whether the task was told to end, to make room for others.
    pub(crate) fn is_evicted(&self) -> bool {
        self.0.timers.slots.borrow().used[self.0.slot].idle == EVICTED
    }
}

impl Drop for Evictable<'_> {
    fn drop(&mut self) {
        self.0.timers.slots.borrow_mut().used[self.0.slot].idle = BUSY;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        slots.used[self.slot] = Slot::FREE;
        slots.free.push(self.slot);
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000).saturating_add(u64::from(duration.subsec_millis()))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the zero of a test's times")]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::pin::pin;

    fn block_on<F: Future>(work: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn work_that_is_done_wins() {
        let timers = Timers::new(Instant::now());
        let deadline = timers.deadline();
        assert_eq!(block_on(deadline.within(Duration::ZERO, async { 7 })), Ok(7));
    }

    #[test]
    fn a_sweep_past_the_deadline_ends_the_wait() {
        let epoch = Instant::now();
        let timers = Timers::new(epoch);
        let deadline = timers.deadline();
        let waited = block_on(async {
            tokio::join!(deadline.within(Duration::from_secs(1), pending::<()>()), async {
                timers.sweep(epoch + Duration::from_millis(1000));
                assert!(timers.slots.borrow().used[0].waker.is_some(), "woken a tick early");
                timers.sweep(epoch + Duration::from_millis(1101));
            })
        });
        assert_eq!(waited.0, Err(Elapsed));
    }

    #[test]
    fn activity_moves_the_deadline() {
        let epoch = Instant::now();
        let timers = Timers::new(epoch);
        let deadline = timers.deadline();
        let last = Cell::new(0);
        block_on(async {
            let wait = deadline.watched(|| deadline.later(last.get(), Duration::from_secs(1)), pending::<()>());
            let mut wait = pin!(wait);
            let mut poll = async |at: u64| {
                timers.sweep(epoch + Duration::from_millis(at));
                poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_ready())).await
            };
            assert!(!poll(900).await);
            last.set(900);
            assert!(!poll(1500).await);
            assert!(poll(2001).await);
        });
    }

    #[test]
    fn who_is_idle_for_longest_is_evicted_first() {
        let epoch = Instant::now();
        let timers = Timers::new(epoch);
        let [busy, older, younger] = [(); 3].map(|()| timers.deadline());
        let older = older.idle();
        timers.sweep(epoch + TICK);
        let younger = younger.idle();
        assert!(timers.evict_oldest());
        assert_eq!([older.is_evicted(), younger.is_evicted()], [true, false]);
        assert!(timers.evict_oldest());
        assert!(younger.is_evicted());
        assert!(!timers.evict_oldest(), "a task at work stays");
        drop((older, busy));
    }

    #[test]
    fn slots_are_given_back() {
        let timers = Timers::new(Instant::now());
        drop((timers.deadline(), timers.deadline()));
        drop((timers.deadline(), timers.deadline()));
        assert_eq!(timers.slots.borrow().used.len(), 2);
    }
}
