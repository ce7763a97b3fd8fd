//! One of two followers that run until the first of them finds a key. Its updates are passed on once it is chosen.

use std::future::Future;
use std::pin::Pin;

use pointsman_table::Change;
use tokio::sync::{mpsc, watch};

use crate::model::{Condition, Update};

/// Maximum number of waiting updates.
const ROOM: usize = 16;

/// The updates and the condition of one follower.
pub(crate) struct Side {
    updates: mpsc::Receiver<Update>,
    condition: watch::Receiver<Condition>,
}

impl Side {
    /// With the channels for its follower.
    pub(crate) fn new() -> (Self, mpsc::Sender<Update>, watch::Sender<Condition>) {
        let (to, updates) = mpsc::channel(ROOM);
        let (tell, condition) = watch::channel(Condition::Connecting { error: None });
        (Self { updates, condition }, to, tell)
    }

    /// The next update, or `None` when the condition has changed.
    pub(crate) async fn next(&mut self) -> Option<Update> {
        tokio::select! {
            Ok(()) = self.condition.changed() => None,
            Some(update) = self.updates.recv() => Some(update),
            else => std::future::pending().await,
        }
    }

    /// Publishes the follower's condition if it has changed.
    pub(crate) fn show(&self, condition: &watch::Sender<Condition>) {
        let now = self.condition.borrow().clone();
        condition.send_if_modified(|shown| {
            let is_news = *shown != now;
            *shown = now;
            is_news
        });
    }

    /// Passes everything on until the follower ends or nobody receives any more.
    pub(crate) async fn relay(
        mut self,
        mut follower: Pin<Box<impl Future<Output = ()>>>,
        updates: &mpsc::Sender<Update>,
        condition: &watch::Sender<Condition>,
    ) {
        loop {
            self.show(condition);
            let update = tokio::select! {
                () = &mut follower => return,
                () = updates.closed() => return,
                update = self.next() => update,
            };
            if let Some(update) = update
                && updates.send(update).await.is_err()
            {
                return;
            }
        }
    }
}

/// Whether keys exist after this update of a prefix without keys.
pub(crate) fn has_keys(update: &Update) -> bool {
    match update {
        Update::Reset { entries, .. } => !entries.is_empty(),
        Update::Changes { changes, .. } => changes.iter().any(|change| matches!(change, Change::Put { .. })),
    }
}

/// The update as a full listing, for a prefix that had no keys before.
pub(crate) fn as_reset(update: Update) -> Update {
    match update {
        Update::Reset { .. } => update,
        Update::Changes { revision, changes } => {
            let put = |change| match change {
                Change::Put { key, value } => Some((key, value)),
                Change::Delete { .. } | Change::DeleteTree { .. } => None,
            };
            Update::Reset { revision, entries: changes.into_iter().filter_map(put).collect() }
        }
    }
}
