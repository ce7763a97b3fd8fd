//! Writes the kept state when it changes, outside the control loop and at a limited pace. A failed write is a problem
//! that is listed until a later attempt succeeds; nothing else depends on it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::live::{DownBefore, Registry};
use pointsman_engine::sys::give_memory_back;
use pointsman_store::Api;
use pointsman_table::{Memory, Problem, ProblemKind, Table};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::{Kept, StateFile};
use crate::admin::view::epoch_seconds;
use crate::control::{Around, Status};

/// The time between two looks, in multiples of the last one's duration: a look may wait for a slow disk.
pub(super) const SHARE: u32 = 20;
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// How often the health of instances is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// While instances are down, the time when the file was written is renewed this often: they count as down for a minute.
const RENEW: Duration = Duration::from_secs(20);
/// The pause after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// Of a text of so many bytes the memory is given back at once.
const LARGE: usize = 1 << 20;
/// Deadline for a write under way and the final one, once the balancer ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// The sources of the kept state.
#[derive(Debug)]
pub struct Sources {
    /// The table.
    pub status: watch::Receiver<Status>,
    /// etcd's API, if the store has chosen one.
    pub api: watch::Receiver<Option<Api>>,
    /// Whether the balancer ends.
    pub ended: watch::Receiver<bool>,
    /// The health of instances, if the engine is our own.
    pub registry: Option<Arc<Registry>>,
}

/// Keeps the file until the balancer ends, and writes it once more then. A disk that hangs cannot keep it from ending.
pub async fn keep(file: StateFile, sources: Sources, around: watch::Sender<Around>) {
    let ended = sources.ended.clone();
    at_most_farewell(ended, keep_on(file, sources, around)).await;
}

/// Ends with `work`, or [`FAREWELL`] after the balancer began to end.
pub(super) async fn at_most_farewell(mut ended: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    let late = async {
        let _ = ended.wait_for(|ended| *ended).await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        () = work => {}
        () = late => warn!("the state was not written within {FAREWELL:?}; it is left as it was"),
    }
}

async fn keep_on(file: StateFile, sources: Sources, around: watch::Sender<Around>) {
    let Sources { mut status, mut api, mut ended, registry } = sources;
    let mut keeper = StateKeeper { file, around, registry, accepted: None, written: None, failed: false };
    let mut seen = None;
    let registry = keeper.registry.clone();
    let mut next = Instant::now();
    loop {
        let is_over = tokio::select! {
            _ = ended.wait_for(|ended| *ended) => true,
            () = news(&mut status, &mut api, registry.as_deref(), &mut seen) => false,
            // A failed write is repeated even if nothing changes.
            () = sleep_until(next), if keeper.failed => false,
        };
        if is_over {
            return keeper.save(&status, &api).await;
        }
        tokio::select! {
            () = sleep_until(next) => {}
            _ = ended.wait_for(|ended| *ended) => continue,
            () = keeper.note(status.clone()) => {}
        }
        let began = Instant::now();
        keeper.save(&status, &api).await;
        let pause = if keeper.failed { RETRY } else { (began.elapsed() * SHARE).clamp(SHORTEST, LONGEST) };
        next = Instant::now() + pause;
    }
}

/// What the file was written for last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WrittenFor {
    generation: u64,
    api: Option<Api>,
    /// How often checks had taken instances out or brought them back.
    flips: u64,
    judged: Judged,
}

/// The engine's problems with the newest table; `None`: it has not judged it yet.
type Judged = Option<Arc<[Problem]>>;

fn judged(status: &Status, generation: u64) -> Judged {
    (status.generation >= generation).then(|| Arc::clone(&status.refused))
}

/// Waits for another table, judged by the engine, or API than those seen last, or until checks find other instances down.
/// While some are down, or the engine does not get to judge, waits for [`RENEW`] at most.
async fn news(
    status: &mut watch::Receiver<Status>,
    api: &mut watch::Receiver<Option<Api>>,
    registry: Option<&Registry>,
    seen: &mut Option<WrittenFor>,
) {
    let mut renewal = Instant::now() + RENEW;
    loop {
        let (generation, judged) = {
            let status = status.borrow_and_update();
            let generation = status.table.as_ref().map(|table| table.generation());
            (generation, generation.and_then(|generation| judged(&status, generation)))
        };
        let flips = registry.map_or(0, Registry::check_flips);
        let is_judged = judged.is_some();
        let now = generation.map(|generation| WrittenFor { generation, api: *api.borrow_and_update(), flips, judged });
        let is_due = Instant::now() >= renewal;
        if is_due {
            renewal += RENEW;
        }
        let is_old = is_due && registry.is_some_and(|registry| !registry.down_by_checks().is_empty());
        if now.is_some() && (*seen != now && (is_judged || is_due) || is_old) {
            *seen = now;
            return;
        }
        tokio::select! {
            Ok(()) = status.changed() => {}
            Ok(()) = api.changed() => {}
            () = sleep(LOOK), if registry.is_some() => {}
            else => std::future::pending().await,
        }
    }
}

struct StateKeeper {
    file: StateFile,
    around: watch::Sender<Around>,
    registry: Option<Arc<Registry>>,
    /// The last table since the last write that the engine took whole.
    accepted: Option<Arc<Table>>,
    /// A fingerprint of the text that was written last; `None`: none yet, or the last attempt failed.
    written: Option<u64>,
    /// Whether the last attempt failed.
    failed: bool,
}

impl StateKeeper {
    /// Notes tables that come and go before the next write is due, as they have the last good forms of what is rejected
    /// then. Never ends.
    async fn note(&mut self, mut status: watch::Receiver<Status>) {
        loop {
            {
                let status = status.borrow_and_update();
                let taken =
                    |table: &&Arc<Table>| judged(&status, table.generation()).is_some_and(|found| !rejects(&found));
                self.accepted = status.table.as_ref().filter(taken).cloned().or(self.accepted.take());
            }
            if status.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    async fn save(&mut self, status: &watch::Receiver<Status>, api: &watch::Receiver<Option<Api>>) {
        let (file, written, api) = (self.file.clone(), self.written, *api.borrow());
        let (table, judged) = {
            let status = status.borrow();
            let Some(table) = status.table.clone() else { return };
            (Arc::clone(&table), judged(&status, table.generation()))
        };
        let down = self.registry.as_ref().map(|registry| registry.down_by_checks()).unwrap_or_default();
        let accepted = self.accepted.clone();
        let saved = spawn_blocking(move || {
            let former = || accepted.map_or_else(|| file.read().unwrap_or_default().memory, |table| table.memory());
            let memory = memory_of(&table, judged.as_deref(), former);
            let kept = Kept { api, memory, ..Kept::default() };
            save(&file, kept.with_down(down, epoch_seconds()), written)
        });
        let saved = saved.await;
        let error = match saved.map_err(io::Error::other).and_then(|saved| saved) {
            Ok(print) => {
                self.written = Some(print);
                self.accepted = None;
                None
            }
            Err(error) => {
                self.written = None;
                Some(error)
            }
        };
        self.failed = error.is_some();
        let advice = error.map(|error| {
            let path = self.file.path.display();
            format!("cannot write {path}: {error}; last good settings and etcd's API are forgotten at a restart")
        });
        let problem = advice.map(|advice| Problem::of_setting(ProblemKind::State, "state", advice));
        self.around.send_if_modified(|around| std::mem::replace(&mut around.state, problem.clone()) != problem);
    }
}

/// The last good settings of a table, which the engine has judged with these problems; `None`: not yet. `former`: what
/// was kept before, for services that the engine rejects.
fn memory_of(table: &Table, judged: Option<&[Problem]>, former: impl FnOnce() -> Memory) -> Memory {
    match judged.is_none_or(rejects) {
        true => table.memory_beside(former(), judged),
        false => table.memory(),
    }
}

/// What would be written now, for the program that takes over; `None`: no table is in use yet.
pub fn kept_now(file: &StateFile, status: &Status, api: Option<Api>, down: DownBefore) -> Option<Vec<u8>> {
    let table = status.table.as_ref()?;
    let judged = judged(status, table.generation());
    let memory = memory_of(table, judged.as_deref(), || file.read().unwrap_or_default().memory);
    Some(file.text(&Kept { api, memory, ..Kept::default() }.with_down(down, epoch_seconds())))
}

/// Whether the engine serves anything in an older form, by its problems: that is not what the table keeps.
fn rejects(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.kind == ProblemKind::Rejected)
}

/// As [`write_news`]. A text of megabytes leaves no memory behind: this thread may have nothing else to do.
fn save(file: &StateFile, kept: Kept, written: Option<u64>) -> io::Result<u64> {
    let (length, saved) = write_news(file, &kept, written);
    drop(kept);
    if length > LARGE {
        give_memory_back();
    }
    saved
}

/// Writes the file if its text differs from the last written one; returns the text's length and fingerprint.
fn write_news(file: &StateFile, kept: &Kept, written: Option<u64>) -> (usize, io::Result<u64>) {
    let text = file.text(kept);
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let print = hasher.finish();
    if written == Some(print) {
        return (text.len(), Ok(print));
    }
    let saved = file.write(&text);
    if saved.is_ok() && written.is_none() {
        file.tidy();
    }
    (text.len(), saved.map(|()| print))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_does_not_keep_the_balancer() {
        let ended = watch::Sender::new(false);
        let keeping = at_most_farewell(ended.subscribe(), std::future::pending());
        tokio::pin!(keeping);
        assert!(tokio::time::timeout(10 * FAREWELL, &mut keeping).await.is_err(), "it keeps on while nothing ends");
        ended.send_replace(true);
        assert!(tokio::time::timeout(2 * FAREWELL, keeping).await.is_ok());
    }
}
