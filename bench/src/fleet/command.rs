//! What `pointsman set --wait` does, but for starting a process: everything is opened anew each time.

use std::io;
use std::time::{Duration, Instant};

use pointsman::fleet::{self, FleetWait, Goal, Point, WaitOutcome};
use pointsman_store::{Store, StoreSettings};
use tokio::runtime::{Builder, Runtime};

/// For all of them to serve a change, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime of one thread, as the program's control side has.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Commands, one after another.
pub(super) struct SetCommand<'s> {
    runtime: Runtime,
    settings: &'s StoreSettings,
}

impl<'s> SetCommand<'s> {
    /// Of this store and prefix.
    pub(super) fn new(settings: &'s StoreSettings) -> io::Result<Self> {
        Ok(Self { runtime: runtime()?, settings })
    }

    /// Sets a key below the prefix; the answer is the revision.
    pub(super) fn set(&self, key: &str, value: &str) -> io::Result<u64> {
        self.runtime.block_on(self.put(key, value))
    }

    /// Sets it so many times, one after another on one connection; the answer is the last revision.
    pub(super) fn set_all(&self, key: &str, values: impl Iterator<Item = String>) -> io::Result<u64> {
        self.runtime.block_on(async {
            let store = Store::open(self.settings).map_err(io::Error::other)?;
            let (key, mut revision) = (format!("{}/{key}", self.settings.prefix), 0);
            for value in values {
                revision = store.put(&key, value.as_bytes()).await.map_err(io::Error::other)?;
            }
            Ok(revision)
        })
    }

    /// Sets it, and waits until so many balancers, which are all, serve that; when it began, had set it, and was over.
    pub(super) fn set_and_wait(&self, key: &str, value: &str, balancers: usize) -> io::Result<[Instant; 3]> {
        let start = Instant::now();
        self.runtime.block_on(async {
            let revision = self.put(key, value).await?;
            let set = Instant::now();
            self.served(revision, balancers).await?;
            Ok([start, set, Instant::now()])
        })
    }

    /// Waits until so many balancers, which are all, serve this revision.
    pub(super) fn wait(&self, revision: u64, balancers: usize) -> io::Result<()> {
        self.runtime.block_on(self.served(revision, balancers))
    }

    /// Waits until so many are listed; how long that took.
    pub(super) fn listed(&self, balancers: usize, patience: Duration) -> io::Result<Duration> {
        let start = Instant::now();
        self.runtime.block_on(async {
            let store = Store::open(self.settings).map_err(io::Error::other)?;
            loop {
                let listing = store.list(&fleet::folder(&self.settings.prefix)).await;
                let found = listing.map(|listing| listing.entries.len()).unwrap_or_default();
                if found == balancers {
                    return Ok(start.elapsed());
                }
                if start.elapsed() > patience {
                    return Err(io::Error::other(format!("{found} are listed instead of {balancers}")));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    async fn put(&self, key: &str, value: &str) -> io::Result<u64> {
        let store = Store::open(self.settings).map_err(io::Error::other)?;
        store.put(&format!("{}/{key}", self.settings.prefix), value.as_bytes()).await.map_err(io::Error::other)
    }

    async fn served(&self, revision: u64, balancers: usize) -> io::Result<()> {
        let goal = Goal { point: Point::Revision(revision), idle: None };
        let mut call = FleetWait::new(self.settings).await.map_err(io::Error::other)?;
        match Box::pin(call.wait(&goal, PATIENCE)).await {
            WaitOutcome::All(all) if all == balancers => Ok(()),
            WaitOutcome::Late(late) => Err(io::Error::other(format!("{} are late", late.len()))),
            other => Err(io::Error::other(format!("of {balancers}: {other:?}"))),
        }
    }
}
