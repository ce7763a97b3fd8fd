//! The loop that turns a store's updates into published tables. Never touches a request, never waits for an engine.
//!
//! ```text
//! Update -> KeySet -> (burst ends: 5 ms quiet, 10 to 50 ms at most) -> compile -> watch<Arc<Table>> -> engine
//!                                                                        -> watch<Status>     -> admin
//! Applied, Condition ----------------------------------------------------^      Journal       -> log
//! ```

mod burst;
mod defaults;
mod journal;
pub mod local;
mod status;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant as Clock, SystemTime};

use pointsman_engine::Applied;
use pointsman_table::{BARRIER, Capabilities, Change, KeySet, Limits, Memory, Table, compile};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use burst::Burst;
pub use defaults::Defaults;
use journal::Journal;
pub(crate) use journal::{plural, serving};
pub use status::{Around, Status};

use crate::logging::LogLine;
use pointsman_store::{Condition, Update};

/// The loop's fixed inputs.
#[derive(Clone, Debug)]
pub struct ControlInputs {
    /// The prefix, for full keys in problems.
    pub prefix: Box<str>,
    /// Our own HTTP and admin addresses.
    pub own: Box<[SocketAddr]>,
    /// Reads this machine's addresses; called at every full listing, because they may change.
    pub local: fn() -> Vec<IpAddr>,
    /// What the engine can honour.
    pub capabilities: Capabilities,
    /// Keys that count as set while the store lacks them.
    pub defaults: Defaults,
    /// Last good settings from before the start.
    pub memory: Memory,
}

/// The loop's channels.
#[derive(Debug)]
pub struct ControlChannels {
    /// From the store.
    pub updates: mpsc::Receiver<Update>,
    /// The state of the store.
    pub condition: watch::Receiver<Condition>,
    /// From the engine.
    pub applied: mpsc::Receiver<Applied>,
    /// What is wrong around the keys.
    pub around: watch::Receiver<Around>,
    /// To the engine.
    pub tables: watch::Sender<Arc<Table>>,
    /// To admin.
    pub status: watch::Sender<Status>,
}

/// An input of the loop.
enum ControlEvent {
    /// An update from the store.
    Update(Update),
    /// The burst is over: compile.
    Quiet,
    /// A report to the log is due.
    Report,
    /// The engine uses a new table.
    Applied(Applied),
    /// The state of the store changed.
    Condition(Condition),
    /// Something around the keys went wrong, or is right again.
    Around(Around),
    /// The store's channel is closed.
    Stop,
}

/// Runs until the store's channel is closed; publishes pending changes first.
pub async fn run(inputs: ControlInputs, mut channels: ControlChannels) {
    channels.condition.mark_changed();
    let mut control = Control::new(inputs, channels.tables.clone(), channels.status.clone());
    loop {
        match control.next(&mut channels).await {
            ControlEvent::Update(update) => control.take(update),
            ControlEvent::Quiet => control.publish(),
            ControlEvent::Report => control.report(),
            ControlEvent::Applied(applied) => control.applied(applied),
            ControlEvent::Condition(condition) => control.condition(condition),
            ControlEvent::Around(around) => control.around(around),
            ControlEvent::Stop => return control.stop(),
        }
    }
}

struct Control {
    keys: KeySet,
    limits: Limits,
    local: fn() -> Vec<IpAddr>,
    defaults: Defaults,
    /// Last good settings from before the start, until the first table.
    memory: Option<Memory>,
    /// The last number in the key `barrier`, and the generation of the first table that shows it, once there is one.
    barrier: Option<(u64, Option<u64>)>,
    burst: Burst,
    journal: Journal,
    tables: watch::Sender<Arc<Table>>,
    status: watch::Sender<Status>,
}

impl Control {
    fn new(inputs: ControlInputs, tables: watch::Sender<Arc<Table>>, status: watch::Sender<Status>) -> Self {
        Self {
            keys: KeySet::default(),
            limits: Limits {
                prefix: inputs.prefix,
                own: inputs.own,
                local: Box::default(),
                capabilities: inputs.capabilities,
            },
            local: inputs.local,
            defaults: inputs.defaults,
            memory: Some(inputs.memory),
            barrier: None,
            burst: Burst::default(),
            journal: Journal::default(),
            tables,
            status,
        }
    }

    /// Due work goes first, so that a store that never pauses cannot delay its own changes.
    async fn next(&self, channels: &mut ControlChannels) -> ControlEvent {
        tokio::select! {
            biased;
            () = until(self.burst.due()) => ControlEvent::Quiet,
            () = until(self.journal.due()) => ControlEvent::Report,
            Some(applied) = channels.applied.recv() => ControlEvent::Applied(applied),
            Ok(()) = channels.condition.changed() => ControlEvent::Condition(channels.condition.borrow_and_update().clone()),
            Ok(()) = channels.around.changed() => ControlEvent::Around(channels.around.borrow_and_update().clone()),
            update = channels.updates.recv() => update.map_or(ControlEvent::Stop, ControlEvent::Update),
        }
    }

    fn take(&mut self, update: Update) {
        self.barrier = barrier_of(&update).map(|number| (number, None)).or(self.barrier);
        match self.defaults.complete(update) {
            Update::Reset { revision, entries } => {
                self.limits.local = (self.local)().into();
                self.keys.reset(revision, entries);
            }
            Update::Changes { revision, changes } => self.keys.apply(revision, changes),
        }
        self.burst.add(Instant::now());
    }

    fn publish(&mut self) {
        let recalled = self.memory.take().map(|memory| Table::recall(memory, &self.limits));
        let previous = self.status.borrow().table.clone().or(recalled);
        let start = Clock::now();
        let compiled = compile(&self.keys, previous.as_deref(), &self.limits);
        let took = start.elapsed();
        self.burst.end(took);
        let generation = compiled.table.generation();
        self.barrier = self.barrier.map(|(number, first)| (number, first.or(Some(generation))));
        self.tables.send_replace(compiled.table.clone());
        self.status.send_modify(|status| {
            status.table = Some(compiled.table);
            status.found = compiled.problems.into();
            status.barrier = self.barrier.and_then(|(number, first)| Some((number, first?)));
            status.compile = took;
            status.swaps += 1;
            status.changed = Some(SystemTime::now());
        });
        self.journal.changed(Instant::now());
    }

    fn applied(&mut self, applied: Applied) {
        let same = *self.status.borrow().refused == *applied.problems;
        self.status.send_modify(|status| {
            // Only the empty table before the first has generation 0. Under constant change, the newest is always ahead.
            status.served |= applied.generation > 0;
            status.generation = applied.generation;
            status.applied = applied.revision;
            status.barrier_served = match status.barrier {
                Some((number, first)) if first <= applied.generation => Some(number),
                _ => status.barrier_served,
            };
            status.refused = applied.problems.into();
        });
        if !same {
            self.journal.changed(Instant::now());
        }
    }

    fn condition(&mut self, condition: Condition) {
        self.journal.condition(Instant::now(), &condition).iter().for_each(LogLine::write);
        self.status.send_modify(|status| status.condition = condition);
    }

    fn around(&mut self, around: Around) {
        self.status.send_modify(|status| status.around = around);
        self.journal.changed(Instant::now());
    }

    fn stop(&mut self) {
        if self.burst.due().is_some() {
            self.publish();
        }
        self.report();
    }

    fn report(&mut self) {
        self.journal.report(Instant::now(), &self.status.borrow()).iter().for_each(LogLine::write);
    }
}

/// The number that an update sets in the key `barrier`.
fn barrier_of(update: &Update) -> Option<u64> {
    let value = match update {
        Update::Reset { entries, .. } => entries.iter().find(|(key, _)| **key == *BARRIER).map(|(_, value)| value),
        Update::Changes { changes, .. } => changes.iter().rev().find_map(|change| match change {
            Change::Put { key, value } if **key == *BARRIER => Some(value),
            Change::Put { .. } | Change::Delete { .. } | Change::DeleteTree { .. } => None,
        }),
    };
    std::str::from_utf8(value?).ok()?.trim().parse().ok()
}

/// Waits until an instant; forever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
