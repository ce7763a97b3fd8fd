//! Writes the snapshot when what is served changes, outside the control loop, at most once a second, the newest first. A
//! failed write is a problem that is listed until a later attempt succeeds; serving goes on.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_engine::sys::give_memory_back;
use pointsman_store::{ClusterId, Condition};
use pointsman_table::{KeySet, Problem, ProblemKind};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::keeper::{LONGEST, RETRY, SHARE, SHORTEST, at_most_farewell};
use super::snapshot::SnapshotFile;
use crate::control::{Around, Status};

/// How often the file's time is renewed while the store is followed.
const RENEW: Duration = Duration::from_secs(20);

/// The sources of the snapshot.
#[derive(Debug)]
pub struct SnapshotSources {
    /// The keys as served, once they come from the store. Closed when the last were sent, as the balancer ends.
    pub served: watch::Receiver<Option<Arc<KeySet>>>,
    /// Whether the store is followed.
    pub status: watch::Receiver<Status>,
    /// The cluster that it follows.
    pub cluster: ClusterId,
    /// Whether the balancer ends.
    pub ended: watch::Receiver<bool>,
}

/// Keeps the file until the last keys came, and writes these too. A disk that hangs cannot keep the balancer from ending.
pub async fn keep(file: SnapshotFile, sources: SnapshotSources, around: watch::Sender<Around>) {
    let ended = sources.ended.clone();
    at_most_farewell(ended, SnapshotKeeper { file, around, written: None, failed: false }.run(sources)).await;
}

struct SnapshotKeeper {
    file: SnapshotFile,
    around: watch::Sender<Around>,
    /// What was written last.
    written: Option<Arc<KeySet>>,
    failed: bool,
}

impl SnapshotKeeper {
    async fn run(mut self, SnapshotSources { mut served, status, cluster, .. }: SnapshotSources) {
        let mut next = Instant::now();
        loop {
            let mut is_over = tokio::select! {
                changed = served.changed() => changed.is_err(),
                () = sleep_until(next), if self.failed => false,
                () = sleep(RENEW) => false,
            };
            // Until then, what comes takes the place of what came.
            while !is_over {
                tokio::select! {
                    () = sleep_until(next) => break,
                    changed = served.changed() => is_over = changed.is_err(),
                }
            }
            let newest = served.borrow_and_update().clone();
            let Some(keys) = newest else {
                if is_over {
                    return;
                }
                continue;
            };
            let began = Instant::now();
            self.save(&keys, &status, cluster.get()).await;
            let pause = if self.failed { RETRY } else { (began.elapsed() * SHARE).clamp(SHORTEST, LONGEST) };
            next = Instant::now() + pause;
            if is_over {
                return;
            }
        }
    }

    async fn save(&mut self, keys: &Arc<KeySet>, status: &watch::Receiver<Status>, cluster: u64) {
        let is_written = self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, keys));
        // What the guard holds is no longer the store's.
        let is_current = {
            let status = status.borrow();
            matches!(status.condition, Condition::Watching { .. }) && status.held.is_none()
        };
        if is_written && !is_current {
            return;
        }
        let (file, keys, is_first) = (self.file.clone(), Arc::clone(keys), self.written.is_none());
        let saved = spawn_blocking(move || {
            match is_written {
                // Somebody may have removed it.
                true => file.renew().or_else(|_| file.write(&keys, cluster)),
                false => file.write(&keys, cluster),
            }?;
            if is_first {
                file.tidy();
            }
            file.sweep(SystemTime::now());
            if !is_written {
                give_memory_back();
            }
            Ok(keys)
        });
        let saved = saved.await.map_err(io::Error::other).and_then(|saved: io::Result<_>| saved);
        self.failed = saved.is_err();
        let problem = saved.map(|keys| self.written = Some(keys)).err().map(|error| {
            let path = self.file.path().display();
            let advice =
                format!("cannot write {path}: {error}; a start without the store has an older snapshot, or none");
            Problem::of_setting(ProblemKind::State, "state", advice)
        });
        self.around.send_if_modified(|around| std::mem::replace(&mut around.snapshot, problem.clone()) != problem);
    }
}
