//! The source of the pages' figures: one per engine, with the same figures.

use std::sync::Arc;

use pointsman_engine::live::{CarriedCounts, Earlier, InstancePath, Registry, Snapshot, Sums, Working};
use pointsman_haproxy::ledger::{Facts, Ledger};
use pointsman_table::Protocol;

/// The figures of the running engine.
#[derive(Clone, Debug)]
pub enum Figures {
    /// The native engine's own counters.
    Native(Arc<Registry>),
    /// HAProxy's counters.
    Haproxy(Arc<Ledger>),
}

/// The instances that a balancer's status reports.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// With open requests or connections.
    pub working: Vec<Working>,
    /// Down, or in maintenance.
    pub apart: Vec<InstancePath>,
}

impl Figures {
    /// All counters now.
    pub async fn snapshot(&self) -> Snapshot {
        match self {
            Self::Native(registry) => registry.snapshot(),
            Self::Haproxy(ledger) => {
                ledger.fresh().await;
                ledger.snapshot()
            }
        }
    }

    /// What all services of HTTP, and all of TCP, have counted.
    pub async fn sums(&self) -> [Sums; 2] {
        match self {
            Self::Native(registry) => registry.sums(),
            Self::Haproxy(_) => self.sums_of(&self.snapshot().await),
        }
    }

    /// The same, of the moment of this snapshot if the engine keeps no sums.
    pub fn sums_of(&self, snapshot: &Snapshot) -> [Sums; 2] {
        match self {
            Self::Native(registry) => registry.sums(),
            Self::Haproxy(_) => [Protocol::Http, Protocol::Tcp].map(|protocol| Sums::of(snapshot, protocol)),
        }
    }

    /// The counts of the program before this one.
    pub fn earlier(&self) -> &Earlier {
        match self {
            Self::Native(registry) => registry.earlier(),
            Self::Haproxy(ledger) => ledger.earlier(),
        }
    }

    /// The counts so far, for the program that takes over.
    pub async fn carried(&self) -> CarriedCounts {
        CarriedCounts::of(&self.snapshot().await, self.sums().await)
    }

    /// How many seconds there are between two points of the graphs: HAProxy is asked for its figures, all of them.
    pub fn past_step(&self) -> u64 {
        match self {
            Self::Native(_) => 5,
            Self::Haproxy(_) => 10,
        }
    }

    /// The instances with open requests and those set apart now; `None` if HAProxy does not answer.
    pub async fn survey(&self) -> Option<Survey> {
        match self {
            Self::Native(registry) => Some(Survey { working: registry.working(), apart: registry.apart() }),
            Self::Haproxy(ledger) => ledger.fresh().await.then(|| {
                let snapshot = ledger.own_snapshot();
                Survey { working: snapshot.working(), apart: snapshot.apart() }
            }),
        }
    }

    /// The health of instances, if the engine is our own.
    pub fn registry(&self) -> Option<Arc<Registry>> {
        match self {
            Self::Native(registry) => Some(Arc::clone(registry)),
            Self::Haproxy(_) => None,
        }
    }

    /// Facts about HAProxy, if it is the engine.
    pub fn haproxy(&self) -> Option<Facts> {
        match self {
            Self::Native(_) => None,
            Self::Haproxy(ledger) => Some(ledger.facts()),
        }
    }
}
