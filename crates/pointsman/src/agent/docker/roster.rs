//! What is known of a daemon's containers, and what it is to be asked next. Pure: events and answers are arguments.
//!
//! ```text
//! event ──┐                        ┌── Job::List          everything, at first and now and then
//! answer ─┼──step──> Roster ──next_job── Job::Inspect(id) each container that something happened to
//! tick ───┘             └──containers──> those that run and have labels of ours
//! ```
//!
//! An event only says when something happened, and is believed in two cases that no answer tells of in time: a container
//! that was told to stop is *stopping*, and one that died is gone. Both are held against the time of its start, so that
//! it does not matter in which order events and answers come, or whether an event comes twice: what happened before the
//! start is over.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Happening, What};
use crate::agent::container::{Container, State};
use crate::agent::{known, kontena, signal};

/// How many containers the daemon is asked about at the same time.
const AT_ONCE: usize = 8;
/// With more than so many to be asked about, everything is listed again instead.
const MOST_DUE: usize = 1000;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Those that run and have labels of ours.
    containers: BTreeMap<String, Container>,
    /// Those without. Labels never change, so nothing that happens to them matters.
    strangers: BTreeSet<String>,
    /// When each signal was last sent to a container.
    signals: BTreeMap<String, BTreeMap<u8, i64>>,
    /// When a container last died.
    deaths: BTreeMap<String, i64>,
    /// To be asked about.
    due: BTreeSet<String>,
    /// Being asked about, and whether something happened meanwhile.
    busy: BTreeMap<String, bool>,
    /// The daemon had no answer; to be asked about again with the next tick.
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

/// Whether everything was seen since the connection began. Until then the containers known are not those there are.
#[derive(Debug, Default)]
enum Seen {
    /// Not listed yet.
    #[default]
    Unlisted,
    /// Listed; these have not been answered for yet.
    Awaited(BTreeSet<String>),
    /// All of it.
    Whole,
}

/// Something to ask the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Which containers run.
    List,
    /// All about one.
    Inspect(String),
}

/// What moves the roster.
#[derive(Debug)]
pub(super) enum RosterEvent {
    /// A new connection to the same daemon: what was being asked will not be answered.
    Connected,
    /// The daemon told of something.
    Happened(Happening),
    /// The answer to [`Job::List`].
    Listed {
        /// Those with labels of ours.
        ours: Vec<String>,
        /// Those without.
        strangers: BTreeSet<String>,
    },
    /// The answer to [`Job::Inspect`].
    Inspected(String, Inspection),
    /// A few seconds have passed.
    Tick,
    /// A few minutes have passed: events may get lost, the list is the truth.
    Audit,
}

/// What the daemon says of one container.
#[derive(Debug)]
pub(super) enum Inspection {
    /// This.
    Is(Box<Container>),
    /// There is none.
    Gone,
    /// Nothing.
    Failed,
}

impl Roster {
    /// Takes note of an event.
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

    /// What is to be asked now; it counts as asked.
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
            // The list will say who is to be asked about.
            Listing::Busy => return None,
            Listing::Done => {}
        }
        if self.busy.len() >= AT_ONCE {
            return None;
        }
        // A container is not asked about twice at the same time: the later answer could be the older one.
        let id = self.due.iter().find(|id| !self.busy.contains_key(*id))?.clone();
        self.due.remove(&id);
        self.busy.insert(id.clone(), false);
        Some(Job::Inspect(id))
    }

    /// The containers, if all are known and something changed since this was last asked, or the connection is new.
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

    fn happened(&mut self, Happening { id, at, what }: Happening) {
        if self.strangers.contains(&id) {
            return;
        }
        match what {
            What::Signal(signal) => {
                let last = self.signals.entry(id.clone()).or_default().entry(signal).or_default();
                *last = (*last).max(at);
                self.changed = true;
            }
            What::Died => {
                let last = self.deaths.entry(id.clone()).or_default();
                *last = (*last).max(at);
                if self.containers.get(&id).is_some_and(|container| container.started <= at) {
                    self.remove(&id);
                }
            }
            What::Changed => {}
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
        // Of one that was started a moment ago something may be known that the list does not know yet.
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

    /// It is not there. What is still to come of it begins with a start.
    fn forget(&mut self, id: &str) {
        self.remove(id);
        if !self.due.contains(id) {
            self.signals.remove(id);
            self.deaths.remove(id);
        }
    }

    /// One more of the list is answered for.
    fn see(&mut self, id: Option<&str>) {
        if let Seen::Awaited(awaited) = &mut self.seen {
            id.map(|id| awaited.remove(id));
            if awaited.is_empty() {
                self.seen = Seen::Whole;
                self.changed = true;
            }
        }
    }

    /// Only the signal that it takes for a stop counts, and KILL, which stops everything: others are its own affair, such
    /// as HUP and USR1, on which servers read their configuration or open their logs again.
    fn is_stopping(&self, id: &str, container: &Container) -> bool {
        let stops = |signal: u8| signal == container.stop_signal || signal == signal::KILL;
        let sent = self.signals.get(id);
        sent.is_some_and(|sent| sent.iter().any(|(signal, at)| stops(*signal) && *at >= container.started))
    }
}

/// Whether a container has labels that we read.
pub(super) fn has_labels<'a>(mut labels: impl Iterator<Item = &'a String>) -> bool {
    labels.any(|label| label.starts_with(known::PREFIX) || label == kontena::BALANCER)
}

fn is_ours(container: &Container) -> bool {
    has_labels(container.labels.keys())
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
