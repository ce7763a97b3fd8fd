//! The order of the queue, and threads that queue, give up and leave at the same time.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::live::Slots;

const ONE: NonZeroU32 = NonZeroU32::MIN;

fn full() -> (Slots, Room) {
    let (slots, room) = (Slots::new(1), Room::default());
    assert!(slots.take(ONE));
    (slots, room)
}

/// Queues for a slot, as a request does.
async fn wait(room: &Room, slots: &Slots, rank: Rank) {
    let place = room.enter(rank).expect("there is room in the queue");
    loop {
        place.turn().await;
        if slots.take(ONE) {
            return;
        }
    }
}

fn give(room: &Room, slots: &Slots) {
    slots.give();
    room.call();
}

#[tokio::test(flavor = "current_thread")]
async fn first_come_first_served_however_often_one_looks_in_vain() {
    let (slots, room) = full();
    let order = RefCell::new(Vec::new());
    let work = async |name: u32| {
        wait(&room, &slots, Rank::New).await;
        order.borrow_mut().push(name);
        tokio::task::yield_now().await;
        // Nothing is free: the first one looks, finds no slot, and keeps its place.
        room.call();
        tokio::task::yield_now().await;
        give(&room, &slots);
    };
    tokio::join!(work(0), work(1), work(2), work(3), work(4), async {
        tokio::task::yield_now().await;
        give(&room, &slots);
    });
    assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
    assert!(!room.has_queue() && !slots.is_full(ONE));
}

#[tokio::test(flavor = "current_thread")]
async fn who_was_at_work_before_goes_first() {
    let (slots, room) = full();
    let order = RefCell::new(Vec::new());
    let work = async |name: &'static str, rank| {
        wait(&room, &slots, rank).await;
        order.borrow_mut().push(name);
        give(&room, &slots);
    };
    tokio::join!(work("new", Rank::New), work("again", Rank::Returning), work("and again", Rank::Returning), async {
        give(&room, &slots)
    });
    assert_eq!(*order.borrow(), ["again", "and again", "new"]);
}

#[tokio::test(flavor = "current_thread")]
async fn who_gives_up_hands_its_turn_on() {
    let (slots, room) = full();
    let mut second = pin!(wait(&room, &slots, Rank::New));
    {
        let first = room.enter(Rank::New).expect("room");
        assert!(poll(second.as_mut()).await.is_pending());
        give(&room, &slots);
        assert!(poll(second.as_mut()).await.is_pending(), "the first was called");
        drop(first);
    }
    assert!(poll(second).await.is_ready());
}

#[tokio::test(flavor = "current_thread")]
async fn who_may_use_nothing_that_is_free_stops_nobody() {
    let (slots, room) = full();
    let particular = room.enter(Rank::New).expect("room");
    particular.turn().await;
    particular.pass();
    let mut other = pin!(wait(&room, &slots, Rank::New));
    assert!(poll(other.as_mut()).await.is_pending());
    give(&room, &slots);
    assert!(poll(other.as_mut()).await.is_pending(), "the particular one looks first");
    particular.turn().await;
    particular.pass();
    assert!(poll(other).await.is_ready());
    assert!(room.enter(Rank::New).expect("room").turn_now(), "nobody else is in the way");
}

#[test]
fn the_queue_is_bounded() {
    let room = Room::default();
    let places: Vec<_> = (0..Room::MOST).map(|_| room.enter(Rank::New).expect("not full yet")).collect();
    assert!(room.enter(Rank::New).is_none());
    drop(places);
    assert!(!room.has_queue() && room.enter(Rank::New).is_some());
}

#[test]
fn those_that_may_use_only_some_instances_have_places_of_their_own() {
    let room = Room::default();
    let enter = |needs| room.enter_within(Rank::New, needs, 2);
    let stuck: Vec<_> = (0..2).map(|_| enter(Needs::Some).expect("room")).collect();
    assert!(enter(Needs::Some).is_none());
    let others: Vec<_> = (0..2).map(|_| enter(Needs::Any).expect("others have room")).collect();
    assert!(enter(Needs::Any).is_none());
    assert_eq!(room.queued(), 4);
    drop(stuck);
    assert!(enter(Needs::Any).is_none() && enter(Needs::Some).is_some());
    drop(others);
    assert!(enter(Needs::Any).is_some() && !room.has_queue());
}

#[test]
fn of_those_that_look_again_only_the_first_calls() {
    let room = Room::default();
    let places = [(); 3].map(|()| room.enter(Rank::New).expect("room"));
    for place in &places {
        assert!(place.turn_now());
        place.pass();
    }
    places[1].call_if_first();
    assert!(places.iter().all(|place| !place.turn_now()), "nobody was called");
    places[0].call_if_first();
    assert!(places[0].turn_now() && !places[1].turn_now());
    places[0].pass();
    assert!(places[1].turn_now(), "it looks again as well");
    let [first, second, _third] = places;
    drop(first);
    assert!(second.turn_now(), "its turn is called again");
    second.call_if_first();
    assert!(second.turn_now(), "it is the first now");
}

/// Threads take, hold, give up and give back as fast as they can. If a call were lost, the last ones would wait for
/// ever.
#[test]
fn no_call_is_lost_between_threads() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 4_000;
    let (slots, room) = (Arc::new(Slots::new(1)), Arc::new(Room::default()));
    let most = Arc::new(AtomicU32::default());
    let threads = (0..THREADS).map(|seed| {
        let (slots, room, most) = (Arc::clone(&slots), Arc::clone(&room), Arc::clone(&most));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                for round in 0..ROUNDS {
                    work(&room, &slots, &most, (seed + round) % 7).await;
                }
            });
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(most.load(Relaxed), 0);
    assert!(!room.has_queue() && slots.take(ONE), "the slot was given back");
}

/// Takes a slot as a request does; now and then it gives up while it waits.
async fn work(room: &Room, slots: &Slots, at_work: &AtomicU32, kind: u32) {
    if room.has_queue() || !slots.take(ONE) {
        let mut waiting = pin!(wait(room, slots, Rank::New));
        if kind == 0 {
            let mut is_ready = false;
            for _ in 0..3 {
                is_ready = is_ready || poll(waiting.as_mut()).await.is_ready();
                std::thread::yield_now();
            }
            if !is_ready {
                return;
            }
        } else {
            let patience = Duration::from_secs(60);
            tokio::time::timeout(patience, waiting).await.expect("a call was lost");
        }
    }
    assert!(at_work.fetch_add(1, Relaxed) < 1, "more than the limit");
    if kind < 4 {
        std::thread::yield_now();
    }
    at_work.fetch_sub(1, Relaxed);
    give(room, slots);
}

async fn poll<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

impl Place<'_> {
    /// Whether it may look at once.
    fn turn_now(&self) -> bool {
        self.poll_turn(&Context::from_waker(Waker::noop())).is_ready()
    }
}
