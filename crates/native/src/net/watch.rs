//! Watches a client while something else is awaited: whether it reset or half-closed its connection. Reads no byte:
//! what a client sends meanwhile stays in its socket. Lists the clients that half-closed, the oldest first.
//!
//! A reset shows as an error of the socket, and a FIN as the end of its reading side, even while bytes before it are
//! unread (epoll_ctl(2): `EPOLLERR`, `EPOLLRDHUP`).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{Interest, Ready};

use crate::net::deadline::{Deadline, TICK, millis};
use crate::net::socket::Socket;

/// Why the work for a client ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The client reset the connection.
    Reset,
    /// It had half-closed its connection, and another client needed its place.
    GaveWay,
}

/// A worker's clients that half-closed their connections and still wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct HalfClosed {
    waiting: RefCell<BTreeMap<u64, Rc<Seat>>>,
    /// How many there ever were.
    counted: Cell<u64>,
}

/// A client that half-closed its connection.
#[derive(Debug)]
struct Seat {
    /// What it waits for: see [`Guard::new`].
    group: usize,
    told: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl HalfClosed {
    /// Ends the work for the client that half-closed first, among those of the group if one is given. `false`: there is
    /// none.
    pub(crate) fn end_oldest(&self, group: Option<usize>) -> bool {
        let Some(seat) = self.take_oldest(group) else { return false };
        seat.told.set(true);
        seat.waker.take().into_iter().for_each(Waker::wake);
        true
    }

    fn take_oldest(&self, group: Option<usize>) -> Option<Rc<Seat>> {
        let mut waiting = self.waiting.borrow_mut();
        let oldest = waiting.iter().find(|(_, seat)| group.is_none_or(|group| group == seat.group));
        let number = *oldest?.0;
        waiting.remove(&number)
    }

    fn enter(&self, group: usize) -> (u64, Rc<Seat>) {
        let number = self.counted.get();
        self.counted.set(number + 1);
        let seat = Rc::new(Seat { group, told: Cell::new(false), waker: RefCell::default() });
        self.waiting.borrow_mut().insert(number, Rc::clone(&seat));
        (number, seat)
    }
}

/// Watches one client for as long as work is done for it.
#[derive(Debug)]
pub(crate) struct Guard<'w> {
    half_closed: &'w HalfClosed,
    group: usize,
    /// Whether the work ends when its client leaves.
    watches: bool,
    /// The client's seat, once it half-closed its connection.
    seat: OnceCell<(u64, Rc<Seat>)>,
}

impl<'w> Guard<'w> {
    /// `group`: clients of one group wait for the same slots. `watches`: the work ends when its client leaves.
    pub(crate) fn new(half_closed: &'w HalfClosed, group: usize, watches: bool) -> Self {
        Self { half_closed, group, watches, seat: OnceCell::new() }
    }

    /// Whether the client half-closed its connection.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.seat.get().is_some()
    }

    /// Does the work, and gives up when the client leaves. Costs nothing while the work need not wait.
    ///
    /// # Errors
    /// Those of the work, and why it was given up. The caller drops the work then.
    pub(crate) async fn during<T, E: From<Left>>(
        &self,
        client: Socket<'_>,
        mut work: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Result<T, E> {
        let mut watch = Watch::default();
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.poll_left(client, &mut watch, context).map(|left| Err(left.into())),
        })
        .await
    }

    /// Does work that itself notices when the client is gone; gives up only when the client must give way.
    ///
    /// # Errors
    /// As [`Guard::during`].
    pub(crate) async fn unless_told<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Left> {
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_told(context).map(Err),
        })
        .await
    }

    /// Does the work until the client half-closes its connection; to its end if it had done so before. `None`: it did
    /// so now. For use within [`Guard::during`], which watches.
    pub(crate) async fn until_half_closed<F: Future>(&self, work: F) -> Option<F::Output> {
        let before = self.is_half_closed();
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if !before && self.is_half_closed() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the client left; if not, the task is woken when it does.
    pub(crate) fn poll_left<'c>(
        &self,
        client: Socket<'c>,
        watch: &mut Watch<'c>,
        context: &mut Context<'_>,
    ) -> Poll<Left> {
        if !self.watches {
            return Poll::Pending;
        }
        while let Poll::Ready(signal) = watch.poll(client, context) {
            match signal {
                Signal::Reset => return Poll::Ready(Left::Reset),
                Signal::End => {
                    self.seat.get_or_init(|| self.half_closed.enter(self.group));
                    // The work may want to know.
                    context.waker().wake_by_ref();
                }
            }
        }
        self.poll_told(context)
    }

    fn poll_told(&self, context: &Context<'_>) -> Poll<Left> {
        match self.seat.get() {
            Some((_, seat)) if seat.told.get() => Poll::Ready(Left::GaveWay),
            Some((_, seat)) => {
                seat.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some((number, _)) = self.seat.get() {
            self.half_closed.waiting.borrow_mut().remove(number);
        }
    }
}

/// Tells whether a wait is long: one that is over within a tick needs no watch.
#[derive(Debug)]
pub(crate) struct LongWait<'d> {
    clock: &'d Deadline,
    began: u64,
}

impl<'d> LongWait<'d> {
    pub(crate) fn new(clock: &'d Deadline) -> Self {
        Self { clock, began: clock.now() }
    }

    /// Whether a tick has passed.
    pub(crate) fn is_long(&self) -> bool {
        self.clock.now() > self.began
    }

    /// How often to look, coarse time: `often` once the wait is long; before that a tick, when it becomes long.
    pub(crate) fn look(&self, often: u64) -> u64 {
        if self.is_long() { often } else { millis(TICK) }
    }
}

/// An event on a client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// A FIN: it sends no more.
    End,
    /// It reset the connection.
    Reset,
}

/// A wait for a signal.
#[derive(Default)]
pub(crate) enum Watch<'c> {
    /// Nothing came since the last read: whatever comes next is checked.
    #[default]
    Unread,
    /// Bytes or the end came: only signals after them count.
    Behind(Pin<Box<dyn Future<Output = io::Result<Ready>> + 'c>>),
}

/// Signals, and no bytes: tokio reports the end of the reading side to a wait for urgent data, which no client sends.
const SIGNALS: Interest = Interest::PRIORITY.add(Interest::ERROR);
const ALL: Interest = Interest::READABLE.add(Interest::WRITABLE).add(SIGNALS);

impl<'c> Watch<'c> {
    fn poll(&mut self, client: Socket<'c>, context: &mut Context<'_>) -> Poll<Signal> {
        loop {
            let news = match self {
                // No allocation, and the waker stays in its place from request to request.
                Self::Unread => client.poll_readable(context).map(drop),
                Self::Behind(wait) => wait.as_mut().poll(context).map(drop),
            };
            ready!(news);
            let ready = ready!(pin!(client.ready(ALL)).poll(context));
            // It fails only when the worker ends.
            let Ok(ready) = ready else { return Poll::Ready(Signal::Reset) };
            if ready.is_error() || ready.is_write_closed() {
                return Poll::Ready(Signal::Reset);
            }
            let ended = ready.is_read_closed();
            *self = Self::Behind(Box::pin(client.ready(if ended { Interest::ERROR } else { SIGNALS })));
            if ended {
                return Poll::Ready(Signal::End);
            }
        }
    }
}
