//! The known containers of a daemon, and the next request to it. Pure: events and answers are arguments.
//!
//! ```text
//! event ──┐                        ┌── Job::List          all containers, at first and from time to time
//! answer ─┼──step──> Roster ──next_job── Job::Inspect(id) each container with an event
//! tick ───┘             └──containers──> those that run and have our labels
//! ```
//!
//! An event only says that a container changed. Two events are used directly, because no answer would tell in time: a
//! container that got its stop signal is *stopping*, and one that died is gone. Both are compared with the container's
//! start time, so the order of events and answers does not matter, nor whether an event comes twice: an event before
//! the start is obsolete.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{ContainerChange, ContainerEvent};
use crate::agent::container::{Container, State};
use crate::agent::{known, kontena, signal};

/// Maximum concurrent inspections.
const AT_ONCE: usize = 8;
/// With more containers to inspect than this, list everything again instead.
const MOST_DUE: usize = 1000;

/// The known containers.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Running containers with labels of ours.
    containers: BTreeMap<String, Container>,
    /// Running containers without. Labels never change, so their events do not matter.
    strangers: BTreeSet<String>,
    /// The time of the last signal of each kind to each container.
    signals: BTreeMap<String, BTreeMap<u8, i64>>,
    /// The time of each container's last death.
    deaths: BTreeMap<String, i64>,
    /// Containers to inspect.
    due: BTreeSet<String>,
    /// Containers being inspected, and whether another event came meanwhile.
    busy: BTreeMap<String, bool>,
    /// Containers whose inspection failed; retried at the next tick.
    failed: BTreeSet<String>,
    listing: Listing,
    seen: Seen,
    changed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listing {
    #[default]
    Due,
    Busy,
    Done,
}

/// Whether everything was seen since the connection began. Until then, the known containers may not be the real ones.
#[derive(Debug, Default)]
enum Seen {
    /// Not listed yet.
    #[default]
    Unlisted,
    /// Listed; these are still to be inspected.
    Awaited(BTreeSet<String>),
    /// Everything.
    Whole,
}

/// A request to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// List the running containers.
    List,
    /// Inspect one container.
    Inspect(String),
}

/// An input of the roster.
#[derive(Debug)]
pub(super) enum RosterEvent {
    /// A new connection to the same daemon; pending requests will not be answered.
    Connected,
    /// The daemon reported an event.
    Happened(ContainerEvent),
    /// The answer to [`Job::List`].
    Listed {
        /// Containers with labels of ours.
        ours: Vec<String>,
        /// Containers without.
        strangers: BTreeSet<String>,
    },
    /// The answer to [`Job::Inspect`].
    Inspected(String, Inspection),
    /// A few seconds have passed.
    Tick,
    /// A few minutes have passed. Events may get lost, so list everything again.
    Audit,
}

/// The daemon's answer about one container.
#[derive(Debug)]
pub(super) enum Inspection {
    /// The container.
    Is(Box<Container>),
    /// It does not exist.
    Gone,
    /// No answer.
    Failed,
}

impl Roster {
    /// Applies an event.
    pub(super) fn step(&mut self, event: RosterEvent) {
        match event {
            RosterEvent::Connected => {
                self.due.extend(std::mem::take(&mut self.busy).into_keys());
                (self.listing, self.seen) = (Listing::Due, Seen::Unlisted);
            }
            RosterEvent::Happened(happening) => self.happened(happening),
            RosterEvent::Listed { ours, strangers } => self.listed(ours, strangers),
            RosterEvent::Inspected(id, answer) => self.inspected(id, answer),
            RosterEvent::Tick => self.due.append(&mut self.failed),
            RosterEvent::Audit => self.listing = Listing::Due,
        }
    }

    /// The next request, if any; it then counts as sent.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        if self.due.len() > MOST_DUE {
            self.due.clear();
            self.listing = Listing::Due;
        }
        match self.listing {
            Listing::Due => {
                self.listing = Listing::Busy;
                return Some(Job::List);
            }
            // The list will tell which containers to inspect.
            Listing::Busy => return None,
            Listing::Done => {}
        }
        if self.busy.len() >= AT_ONCE {
            return None;
        }
        // Inspect a container only once at a time: the later answer could be the older one.
        let id = self.due.iter().find(|id| !self.busy.contains_key(*id))?.clone();
        self.due.remove(&id);
        self.busy.insert(id.clone(), false);
        Some(Job::Inspect(id))
    }

    /// The containers, if all are known and something changed since the last call, or the connection is new.
    pub(super) fn changes(&mut self) -> Option<BTreeMap<String, Container>> {
        if !matches!(self.seen, Seen::Whole) || !std::mem::take(&mut self.changed) {
            return None;
        }
        let marked = self.containers.iter().map(|(id, container)| {
            let stopping = self.is_stopping(id, container);
            (id.clone(), Container { stopping, ..container.clone() })
        });
        Some(marked.collect())
    }

    fn happened(&mut self, ContainerEvent { id, at, what }: ContainerEvent) {
        if self.strangers.contains(&id) {
            return;
        }
        match what {
            ContainerChange::Signal(signal) => {
                let last = self.signals.entry(id.clone()).or_default().entry(signal).or_default();
                *last = (*last).max(at);
                self.changed = true;
            }
            ContainerChange::Died => {
                let last = self.deaths.entry(id.clone()).or_default();
                *last = (*last).max(at);
                if self.containers.get(&id).is_some_and(|container| container.started <= at) {
                    self.remove(&id);
                }
            }
            ContainerChange::Changed => {}
        }
        match self.busy.get_mut(&id) {
            Some(again) => *again = true,
            None => drop(self.due.insert(id)),
        }
    }

    fn listed(&mut self, ours: Vec<String>, strangers: BTreeSet<String>) {
        let ours: BTreeSet<String> = ours.into_iter().collect();
        let ended: Vec<_> = self.containers.keys().filter(|id| !ours.contains(*id)).cloned().collect();
        ended.iter().for_each(|id| self.remove(id));
        // A container started a moment ago may be known although it is not in the list yet.
        let (due, busy) = (&self.due, &self.busy);
        let matters = |id: &String| ours.contains(id) || due.contains(id) || busy.contains_key(id);
        self.signals.retain(|id, _| matters(id));
        self.deaths.retain(|id, _| matters(id));
        self.strangers = strangers;
        self.failed.clear();
        self.listing = Listing::Done;
        match self.seen {
            Seen::Whole => {}
            Seen::Unlisted | Seen::Awaited(_) => self.seen = Seen::Awaited(ours.clone()),
        }
        for id in ours {
            match self.busy.get_mut(&id) {
                Some(again) => *again = true,
                None => drop(self.due.insert(id)),
            }
        }
        self.see(None);
    }

    fn inspected(&mut self, id: String, answer: Inspection) {
        if self.busy.remove(&id) == Some(true) {
            self.due.insert(id.clone());
        }
        match answer {
            Inspection::Is(container) if !is_ours(&container) => {
                self.forget(&id);
                self.strangers.insert(id.clone());
            }
            Inspection::Is(container) if container.state != State::Stopped => self.is(id.clone(), *container),
            Inspection::Is(_) | Inspection::Gone => self.forget(&id),
            Inspection::Failed => drop(self.failed.insert(id.clone())),
        }
        self.see(Some(&id));
    }

    /// It runs, unless it has died since.
    fn is(&mut self, id: String, container: Container) {
        if self.deaths.get(&id).is_some_and(|death| *death >= container.started) {
            return self.remove(&id);
        }
        self.deaths.remove(&id);
        if self.containers.get(&id) != Some(&container) {
            self.containers.insert(id, container);
            self.changed = true;
        }
    }

    fn remove(&mut self, id: &str) {
        self.changed |= self.containers.remove(id).is_some();
    }

    /// It does not exist. Anything new begins with a start.
    fn forget(&mut self, id: &str) {
        self.remove(id);
        if !self.due.contains(id) {
            self.signals.remove(id);
            self.deaths.remove(id);
        }
    }

    /// One more container of the list is answered.
    fn see(&mut self, id: Option<&str>) {
        if let Seen::Awaited(awaited) = &mut self.seen {
            id.map(|id| awaited.remove(id));
            if awaited.is_empty() {
                self.seen = Seen::Whole;
                self.changed = true;
            }
        }
    }

    /// Only the container's stop signal counts, and KILL, which stops everything. Other signals are for its own use,
    /// such as HUP and USR1 for servers that reload their configuration or reopen their logs.
    fn is_stopping(&self, id: &str, container: &Container) -> bool {
        let stops = |signal: u8| signal == container.stop_signal || signal == signal::KILL;
        let sent = self.signals.get(id);
        sent.is_some_and(|sent| sent.iter().any(|(signal, at)| stops(*signal) && *at >= container.started))
    }
}

/// Whether a container has labels that we use.
pub(super) fn has_labels<'a>(mut labels: impl Iterator<Item = &'a String>) -> bool {
    labels.any(|label| label.starts_with(known::PREFIX) || label == kontena::BALANCER)
}

fn is_ours(container: &Container) -> bool {
    has_labels(container.labels.keys())
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
