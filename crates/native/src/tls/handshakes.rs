//! How many handshakes a worker has at once, and how much of its time they get. A handshake costs as much as 50 requests:
//! a flood of them must leave established connections their share. Knows no TLS.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore};

/// Most handshakes of one worker at once in one stage; beyond, the oldest ends.
const MOST: usize = 1024;

/// The handshakes of one worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    /// Who may take the next step: one at a time.
    turn: Semaphore,
    /// Those that run, by stage, in the order of their start.
    running: [RefCell<BTreeMap<u64, Rc<Notify>>>; 2],
    counted: Cell<u64>,
}

/// A part of a handshake. Clients that never say what they want end others of their kind, and nobody's handshake that has
/// begun.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HandshakeStage {
    /// Until the whole ClientHello is here.
    Hello,
    /// From then on.
    Answer,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), running: Default::default(), counted: Cell::new(0) }
    }
}

/// A handshake that had to make room for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowded;

impl Handshakes {
    /// Runs a stage of a handshake. Steps of answers take turns with those of all others: while connections have work, one
    /// step of one handshake runs each time that all of them had their turn. A ClientHello is read at once: it costs no more
    /// than a request's head.
    ///
    /// # Errors
    /// [`Crowded`]: there are too many in this stage, and this is the oldest.
    pub(crate) async fn run<F: Future>(&self, stage: HandshakeStage, work: F) -> Result<F::Output, Crowded> {
        let entry = self.enter(stage);
        let mut work = pin!(async {
            match stage {
                HandshakeStage::Hello => work.await,
                HandshakeStage::Answer => self.in_turn(work).await,
            }
        });
        let mut told = pin!(entry.told.notified());
        poll_fn(|context| match told.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Crowded)),
            Poll::Pending => work.as_mut().poll(context).map(Ok),
        })
        .await
    }

    fn enter(&self, stage: HandshakeStage) -> Entry<'_> {
        let number = self.counted.get();
        self.counted.set(number + 1);
        let told = Rc::new(Notify::new());
        let of = &self.running[stage as usize];
        let mut running = of.borrow_mut();
        if running.len() >= MOST
            && let Some((_, oldest)) = running.pop_first()
        {
            oldest.notify_one();
        }
        running.insert(number, Rc::clone(&told));
        Entry { of, number, told }
    }

    async fn in_turn<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            // The semaphore is never closed; without a turn, a step would be taken all the same.
            let turn = self.turn.acquire().await;
            let step = work.as_mut().poll(&mut Context::from_waker(&waker));
            // Whatever else is ready runs before the next step of any handshake.
            tokio::task::yield_now().await;
            drop(turn);
            match step {
                Poll::Ready(done) => return done,
                Poll::Pending => poll_fn(|context| woken.poll(context)).await,
            }
        }
    }
}

/// A handshake's place among those that run.
struct Entry<'h> {
    of: &'h RefCell<BTreeMap<u64, Rc<Notify>>>,
    number: u64,
    told: Rc<Notify>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.of.borrow_mut().remove(&self.number);
    }
}

/// Remembers that a handshake can go on, until it has its turn.
#[derive(Debug, Default)]
struct Woken {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Woken {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        self.task.register(context.waker());
        if self.is_woken.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    async fn in_one_thread<T>(work: impl Future<Output = T>) -> T {
        LocalSet::new().run_until(work).await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_run_between_any_two_steps() {
        in_one_thread(async {
            let (handshakes, log) = (Rc::new(Handshakes::default()), Rc::new(RefCell::new(String::new())));
            let tasks: Vec<_> = (0..20).map(|_| tokio::task::spawn_local(two_steps(&handshakes, &log))).collect();
            let other = tokio::task::spawn_local({
                let log = Rc::clone(&log);
                async move {
                    for _ in 0..60 {
                        log.borrow_mut().push('.');
                        yield_now().await;
                    }
                }
            });
            for task in tasks {
                task.await.unwrap();
            }
            other.await.unwrap();
            let log = log.borrow();
            assert_eq!(log.matches('h').count(), 40, "{log}");
            assert!(!log.contains("hh"), "two steps in a row: {log}");
        })
        .await;
    }

    /// A handshake whose every step is noted.
    fn two_steps(handshakes: &Rc<Handshakes>, log: &Rc<RefCell<String>>) -> impl Future<Output = ()> + use<> {
        let (handshakes, log) = (Rc::clone(handshakes), Rc::clone(log));
        async move {
            let steps = async {
                log.borrow_mut().push('h');
                yield_now().await;
                log.borrow_mut().push('h');
            };
            handshakes.run(HandshakeStage::Answer, steps).await.unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_wake_up_is_lost() {
        in_one_thread(async {
            let handshakes = Rc::new(Handshakes::default());
            let tasks = (0..50).map(|number| {
                let (handshakes, (send, receive)) = (Rc::clone(&handshakes), tokio::sync::oneshot::channel());
                let task = tokio::task::spawn_local(async move {
                    handshakes.run(HandshakeStage::Answer, receive).await.unwrap().unwrap()
                });
                (number, send, task)
            });
            for (number, send, task) in tasks.collect::<Vec<_>>() {
                // Some while they wait for their turn, some after it.
                for _ in 0..number % 4 {
                    yield_now().await;
                }
                send.send(number).unwrap();
                assert_eq!(task.await.unwrap(), number);
            }
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_oldest_of_a_stage_makes_room() {
        in_one_thread(async {
            let handshakes = Rc::new(Handshakes::default());
            let start = |stage| {
                let handshakes = Rc::clone(&handshakes);
                tokio::task::spawn_local(async move { handshakes.run(stage, pending::<()>()).await })
            };
            let answered = start(HandshakeStage::Answer);
            let oldest = start(HandshakeStage::Hello);
            let others: Vec<_> = (1..MOST).map(|_| start(HandshakeStage::Hello)).collect();
            yield_now().await;
            assert!(!oldest.is_finished());
            let _one_more = start(HandshakeStage::Hello);
            assert!(oldest.await.unwrap().is_err());
            assert!(!answered.is_finished() && others.iter().all(|other| !other.is_finished()));
            others.iter().for_each(|other| other.abort());
        })
        .await;
    }
}
