//! Figures of HAProxy and of the engine: the engine writes them, the admin pages read them. Never asks HAProxy itself:
//! a page that needs fresh figures says so and waits a moment for the engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::stats::{Names, Tally, Unreadable};
use pointsman_engine::live::{Earlier, Snapshot};

/// How long a page waits for fresh figures; then it shows the last ones.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counters and facts of one HAProxy.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
    wanted: Notify,
    /// How many scrapes have begun.
    begun: AtomicU64,
    ended: watch::Sender<EndedScrape>,
    earlier: Earlier,
}

/// A round of questions to all workers that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct EndedScrape {
    /// Its sequence number.
    number: u64,
    /// Every worker answered.
    complete: bool,
}

#[derive(Debug, Default)]
struct Entries {
    tally: Tally,
    facts: Facts,
}

/// Facts about the HAProxy that the engine drives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its version, such as `2.6.12`; empty until known.
    pub version: String,
    /// Whether a worker takes connections.
    pub serving: bool,
    /// Old workers that still finish their connections.
    pub old_workers: u64,
    /// Reloads that succeeded.
    pub reloads: u64,
    /// Reloads that HAProxy refused or did not answer; the old configuration stayed in force.
    pub failed_reloads: u64,
    /// How long the last reload took, from writing the files to HAProxy's verdict.
    pub last_reload: Duration,
    /// Commands that changed a running worker.
    pub commands: u64,
    /// The runtime socket of the worker that takes connections.
    pub runtime: PathBuf,
    /// The addresses that it opened itself.
    pub open: Vec<SocketAddr>,
}

impl Ledger {
    /// Changes the facts.
    pub fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.entries().facts);
    }

    /// The facts.
    pub fn facts(&self) -> Facts {
        self.entries().facts.clone()
    }

    /// Enters a worker's statistics, see [`Tally::read`].
    ///
    /// # Errors
    /// The text is not HAProxy's statistics.
    pub fn read(&self, pid: u32, text: &str, names: &Names<'_>) -> Result<(), Unreadable> {
        self.entries().tally.read(pid, text, names, Instant::now())
    }

    /// A worker has ended, see [`Tally::gone`].
    pub fn gone(&self, pid: u32) {
        self.entries().tally.gone(pid);
    }

    /// All figures as of the last scrape, with those of the program before.
    pub fn snapshot(&self) -> Snapshot {
        self.earlier.add_to(self.own_snapshot())
    }

    /// The figures of this program's HAProxy alone.
    pub fn own_snapshot(&self) -> Snapshot {
        self.entries().tally.snapshot()
    }

    /// The counts of the program before this one.
    pub fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// For pages: waits for a new scrape, at most a second. Returns whether every worker answered; if not, a page shows
    /// the last figures, which are better than none.
    pub async fn fresh(&self) -> bool {
        let before = self.begun.load(Ordering::Acquire);
        let mut ended = self.ended.subscribe();
        self.wanted.notify_one();
        let later = timeout(PATIENCE, ended.wait_for(|scrape| scrape.number > before)).await;
        later.is_ok_and(|scrape| scrape.is_ok_and(|scrape| scrape.complete))
    }

    /// For the engine: waits until a page wants fresh figures.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// For the engine: a scrape begins. Returns its number.
    pub fn begin_scrape(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// For the engine: a scrape has ended; `complete` if every worker answered.
    pub fn end_scrape(&self, number: u64, complete: bool) {
        self.ended.send_replace(EndedScrape { number, complete });
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
                    let number = ledger.begin_scrape();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    ledger.read(1, &connections(total), &NAMES).unwrap();
                    ledger.end_scrape(number, true);
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
