//! HAProxy's workers: the current one with what it is known to run, and old ones that finish their connections. Sends
//! them commands; never decides on a reload, only notes why one is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Bind, Table};
use tokio::time::Instant;
use tracing::warn;

use super::old::OldWorker;
use crate::answers::{Refusal, refusal};
use crate::apply::{Applier, Failure};
use crate::master::Master;
use crate::model::Server;
use crate::names::BackendName;
use crate::plan::Reason;
use crate::reloader::Current;
use crate::running::Running;
use crate::runtime::Runtime;
use crate::scrape::{Scrape, ServiceLookup};
use crate::shape::Shape;

/// Spares are short when fewer than one in this many is free.
const FEW_SPARES: usize = 4;
/// Most servers deleted in one go: the loop waits for it.
const MOST_DELETED: usize = 500;
/// How long the keys must have been quiet before a reload that only makes spares.
const QUIET: Duration = Duration::from_secs(5);

/// All workers of one HAProxy.
pub(super) struct Workers {
    pub(super) current: Worker,
    pub(super) old: Vec<OldWorker>,
}

/// The current worker.
pub(super) struct Worker {
    pub(super) running: Running,
    pub(super) shape: Shape,
    pub(super) runtime: Runtime,
    pub(super) pid: u32,
    pub(super) master: Master,
    /// Ports of TCP services that it was started with.
    pub(super) open: BTreeSet<Bind>,
    pub(super) started: Instant,
    /// Why it needs a reload; empty if it does not.
    pub(super) reasons: BTreeSet<Reason>,
    /// Servers in maintenance that are to be deleted, and since when.
    pub(super) leaving: BTreeMap<(BackendName, Box<str>), Instant>,
}

impl Workers {
    /// Every worker, to be asked for statistics.
    pub(super) fn scrape(&self, table: &Arc<Table>) -> Scrape {
        let services = ServiceLookup::of(table, &self.current.running);
        let current = (self.current.pid, self.current.runtime.clone(), services);
        let old = self.old.iter().map(|old| (old.pid, old.services.clone())).collect();
        Scrape { master: self.current.master.clone(), current, old, drains: false }
    }

    /// Every worker once they drain: the current one too answers through its master only.
    pub(super) fn last_scrape(&self, table: &Arc<Table>) -> Scrape {
        let mut scrape = self.scrape(table);
        let (pid, _, services) = scrape.current.clone();
        scrape.old.push((pid, services));
        scrape.drains = true;
        scrape
    }

    /// What the next worker takes over.
    pub(super) fn hand_over(&self, table: &Arc<Table>) -> Current {
        Current {
            open: self.current.open.clone(),
            runtime: self.current.runtime.clone(),
            moved: self.current.running.moved.clone(),
            scrape: self.scrape(table),
        }
    }

    /// The old workers after the current one was replaced by a worker that runs `next`.
    pub(super) fn replaced(self, next: &Running, table: &Arc<Table>) -> Vec<OldWorker> {
        let Self { current, mut old } = self;
        old.push(current.grow_old(next, table));
        old
    }

    /// The processes of all workers.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.old.iter().map(|old| old.pid).chain([self.current.pid])
    }

    /// In old workers, ends sessions on servers that were taken out longer ago than `limit`.
    pub(super) async fn cut_departed(&mut self, limit: Duration) {
        for old in &mut self.old {
            let mut due: Vec<_> = old.departed.extract_if(.., |(_, _, since)| since.elapsed() >= limit).collect();
            if !due.is_empty() && old.cut(&due).await.is_err() {
                old.departed.append(&mut due);
            }
        }
    }
}

impl Worker {
    pub(super) fn applier(&self) -> Applier<'_> {
        Applier { runtime: &self.runtime, folder: &self.shape.folder }
    }

    /// Whether a reload is due for a reason, or to make spares while the keys are quiet.
    pub(super) fn needs_reload(&self, changed: Instant, now: Instant) -> bool {
        let few = self.running.free.len() * FEW_SPARES < self.shape.spares;
        let wants_spares = few && !self.running.moved.is_empty() && now >= changed + QUIET;
        !self.reasons.is_empty() || wants_spares
    }

    /// A command failed, so that nobody knows what the worker runs.
    pub(super) fn distrust(&mut self, failure: &Failure) {
        warn!("{failure}; HAProxy will be reloaded");
        self.reasons.insert(Reason::Unknown);
    }

    /// Deletes servers that are in maintenance, as far as nothing uses them any more. Sessions that still run on a
    /// server `limit` after it was taken out are ended.
    pub(super) async fn delete_leaving(&mut self, limit: Duration) {
        let now = Instant::now();
        let pools = self.running.backends.iter();
        let all: BTreeSet<_> = pools
            .flat_map(|(backend, pool)| pool.leaving.keys().map(|server| (backend.clone(), server.clone())))
            .collect();
        self.leaving.retain(|key, _| all.contains(key));
        for key in all.into_iter().take(MOST_DELETED) {
            let since = *self.leaving.entry(key.clone()).or_insert(now);
            let (backend, server) = &key;
            if now.duration_since(since) >= limit {
                let _ = self.runtime.ask_one(format!("shutdown sessions server {backend}/{server}")).await;
            }
            let answer = self.runtime.ask_one(format!("del server {backend}/{server}")).await;
            let Ok(answer) = answer else { return };
            if matches!(refusal(&answer), None | Some(Refusal::NoSuchServer)) {
                if let Some(pool) = self.running.backends.get_mut(backend) {
                    pool.leaving.remove(server);
                }
                self.leaving.remove(&key);
            }
        }
    }

    /// Asks HAProxy what it runs and repairs what differs, by commands or, where those cannot, by a reload.
    pub(super) async fn audit(&mut self) {
        let (commands, beyond) = match self.applier().audit(&self.running).await {
            Ok(found) => found,
            Err(fault) => {
                warn!("cannot ask HAProxy what it runs: {fault}; it will be reloaded");
                self.reasons.insert(Reason::Unknown);
                return;
            }
        };
        if let Some(first) = commands.first() {
            let first = first.lines(&self.shape.folder).join("; ");
            warn!("HAProxy does not run what it should; sending {} commands, the first: {first}", commands.len());
            if let Err(failure) = self.applier().apply(&commands, &self.running).await {
                self.distrust(&failure);
            }
        }
        if !beyond.is_empty() {
            warn!("servers of {} are missing in HAProxy; it will be reloaded", beyond.join(", "));
            self.reasons.insert(Reason::Unknown);
        }
    }

    fn grow_old(self, next: &Running, table: &Arc<Table>) -> OldWorker {
        let now = Instant::now();
        let services = ServiceLookup::of(table, &self.running);
        let mut departed = Vec::new();
        for (backend, pool) in &self.running.backends {
            let stays = next.backends.get(next.name_of(services.backend(backend)));
            let stays = |server: &Server| {
                stays.is_some_and(|pool| pool.servers.values().any(|other| other.address == server.address))
            };
            let left = pool.leaving.keys().map(|server| (server, self.leaving.get(&(backend.clone(), server.clone()))));
            let gone = pool.servers.values().filter(|server| !stays(server)).map(|server| (&server.name, None));
            departed
                .extend(left.chain(gone).map(|(s, since)| (backend.clone(), s.clone(), since.copied().unwrap_or(now))));
        }
        OldWorker { pid: self.pid, master: self.master, services, departed }
    }
}
