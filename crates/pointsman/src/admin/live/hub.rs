//! Where pages and the collector meet: who looks, and what was seen last. The number of pages is bounded; one that does not
//! read is dropped. Collects nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_engine::live::Snapshot;
use tokio::sync::{Notify, mpsc};

use super::balancers::KnownFleet;
use super::past::Past;
use crate::admin::seats::Seat;

/// Most pages that are open at once. Fewer than the listener's connections, so that health checks find room.
pub(super) const MOST_PAGES: usize = 24;
/// Messages that may wait for a page that reads slowly.
const QUEUE: usize = 8;
/// How long the last look serves other questions.
const FRESH: Duration = Duration::from_millis(1500);

/// Where pages and the collector meet. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveHub {
    shared: Arc<HubShared>,
    /// The graphs' points.
    pub(in crate::admin) past: Past,
    /// Every balancer of the prefix.
    pub fleet: KnownFleet,
}

#[derive(Debug, Default)]
struct HubShared {
    viewers: Mutex<Vec<Viewer>>,
    latest: Mutex<Option<Arc<Look>>>,
    /// A page came.
    came: Notify,
    /// Somebody looks.
    watched: Notify,
    refused: AtomicU64,
}

/// An open page.
#[derive(Debug)]
struct Viewer {
    messages: mpsc::Sender<Bytes>,
    seat: Arc<Seat>,
    /// It had its full message.
    greeted: bool,
}

/// What the collector saw last.
#[derive(Debug)]
pub(in crate::admin) struct Look {
    pub(super) at: Instant,
    pub(in crate::admin) snapshot: Snapshot,
}

impl LiveHub {
    /// Without pages. `step`: how many seconds between two points of the graphs.
    pub fn new(step: u64) -> Self {
        Self { shared: Arc::default(), past: Past::new(step), fleet: KnownFleet::default() }
    }

    /// The messages for a page that was just opened. `None`: too many are open.
    pub(super) fn join(&self, seat: &Arc<Seat>) -> Option<mpsc::Receiver<Bytes>> {
        let mut viewers = self.viewers();
        viewers.retain(|viewer| !viewer.messages.is_closed());
        if viewers.len() >= MOST_PAGES {
            self.shared.refused.fetch_add(1, Relaxed);
            return None;
        }
        let (messages, receiver) = mpsc::channel(QUEUE);
        viewers.push(Viewer { messages, seat: Arc::clone(seat), greeted: false });
        self.shared.came.notify_one();
        self.shared.watched.notify_one();
        Some(receiver)
    }

    /// Waits until a page comes.
    pub(super) async fn came(&self) {
        self.shared.came.notified().await;
    }

    /// Pages that are open, and how many were refused so far.
    pub fn pages(&self) -> (u64, u64) {
        let open = self.viewers().iter().filter(|viewer| !viewer.messages.is_closed()).count();
        (open as u64, self.shared.refused.load(Relaxed))
    }

    pub(super) fn has_viewers(&self) -> bool {
        self.pages().0 > 0
    }

    /// Waits until a page is open.
    pub async fn watched(&self) {
        while !self.has_viewers() {
            self.shared.watched.notified().await;
        }
    }

    /// Sends to the pages that had their full message, and `full` to the others. One that has not read the last messages
    /// is dropped.
    pub(super) fn send(&self, news: Option<&Bytes>, full: impl FnOnce() -> Bytes) {
        let mut viewers = self.viewers();
        let is_anyone_new = viewers.iter().any(|viewer| !viewer.greeted);
        let full = if is_anyone_new { full() } else { Bytes::new() };
        viewers.retain_mut(|viewer| {
            let message = if viewer.greeted { news } else { Some(&full) };
            viewer.greeted = true;
            let Some(message) = message else { return true };
            let sent = viewer.messages.try_send(message.clone());
            if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                viewer.seat.give_up();
            }
            sent.is_ok()
        });
    }

    pub(in crate::admin) fn latest(&self) -> Option<Arc<Look>> {
        let latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone().filter(|look| look.at.elapsed() < FRESH)
    }

    pub(super) fn keep(&self, look: Option<Arc<Look>>) {
        *self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner) = look;
    }

    fn viewers(&self) -> MutexGuard<'_, Vec<Viewer>> {
        self.shared.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
