//! What is counted of HAProxy and of driving it, between the engine, which writes, and the admin pages, which read. Asks
//! HAProxy nothing itself: a page that wants figures of now says so, and waits a moment for the engine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::stats::{Names, Tally, Unreadable};
use pointsman_engine::live::Snapshot;

/// How long a page waits for figures of now; then it shows those that there are.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counters of HAProxy, and what is known of it.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
    wanted: Notify,
    /// How many censuses have begun.
    begun: AtomicU64,
    renewals: watch::Sender<Renewal>,
}

/// A census that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Renewal {
    /// The how manieth it was to begin.
    number: u64,
    /// Every worker answered.
    complete: bool,
}

#[derive(Debug, Default)]
struct Entries {
    tally: Tally,
    facts: Facts,
}

/// What is known of the HAProxy that we drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `2.6.12`; empty before it is known.
    pub version: String,
    /// Whether a worker takes connections.
    pub serving: bool,
    /// Workers of earlier configurations that finish their connections.
    pub old_workers: u64,
    /// Reloads after which the new configuration was served.
    pub reloads: u64,
    /// Reloads that HAProxy refused or did not answer; it served on as before.
    pub failed_reloads: u64,
    /// How long the last reload took, from writing the files to HAProxy's verdict.
    pub last_reload: Duration,
    /// Commands that changed something while it ran.
    pub commands: u64,
}

impl Ledger {
    /// Changes what is known.
    pub fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.entries().facts);
    }

    /// What is known.
    pub fn facts(&self) -> Facts {
        self.entries().facts.clone()
    }

    /// Takes up a worker's statistics, see [`Tally::read`].
    ///
    /// # Errors
    /// The text is no statistics.
    pub fn read(&self, pid: u32, text: &str, names: &Names<'_>) -> Result<(), Unreadable> {
        self.entries().tally.read(pid, text, names, Instant::now())
    }

    /// A worker has ended, see [`Tally::gone`].
    pub fn gone(&self, pid: u32) {
        self.entries().tally.gone(pid);
    }

    /// All figures as of the last time that workers were asked.
    pub fn snapshot(&self) -> Snapshot {
        self.entries().tally.snapshot()
    }

    /// For pages: waits until the workers were asked again, or for a second. Whether all that is shown now was asked
    /// after the call; to a page, figures that are a little old are better than none.
    pub async fn fresh(&self) -> bool {
        let before = self.begun.load(Ordering::Acquire);
        let mut renewed = self.renewals.subscribe();
        self.wanted.notify_one();
        let later = timeout(PATIENCE, renewed.wait_for(|renewal| renewal.number > before)).await;
        later.is_ok_and(|renewal| renewal.is_ok_and(|renewal| renewal.complete))
    }

    /// For the engine: until a page wants figures of now.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// For the engine: the workers are about to be asked. The number of this census.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// For the engine: this census is over; whether every worker answered.
    pub fn renewed(&self, number: u64, complete: bool) {
        self.renewals.send_replace(Renewal { number, complete });
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NAMES: Names<'_> = Names { service: &|_| None, instance: &|_| None };

    fn connections(total: u64) -> String {
        format!("# pxname,svname,type,scur,status,conn_tot\nhttp,FRONTEND,0,0,OPEN,{total}\n\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_gets_figures_of_now() {
        let ledger = Arc::new(Ledger::default());
        let engine = tokio::spawn({
            let ledger = ledger.clone();
            async move {
                for total in 1.. {
                    ledger.wanted().await;
                    let number = ledger.begin();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    ledger.read(1, &connections(total), &NAMES).unwrap();
                    ledger.renewed(number, true);
                }
            }
        });
        for total in 1..4 {
            ledger.fresh().await;
            assert_eq!(ledger.snapshot().connections_total, total);
        }
        engine.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_does_not_wait_for_an_engine_that_does_not_answer() {
        let ledger = Ledger::default();
        ledger.read(1, &connections(7), &NAMES).unwrap();
        ledger.note(|facts| facts.reloads += 1);
        let began = tokio::time::Instant::now();
        ledger.fresh().await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!((ledger.snapshot().connections_total, ledger.facts().reloads), (7, 1));
    }
}
