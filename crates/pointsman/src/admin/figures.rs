//! Where the pages' figures come from: one source an engine, the same figures from each.

use std::sync::Arc;

use pointsman_engine::live::{Registry, Snapshot, Working};
use pointsman_haproxy::ledger::{Facts, Ledger};

/// The figures of the engine that serves.
#[derive(Clone, Debug)]
pub enum Figures {
    /// The native engine's own counters.
    Native(Arc<Registry>),
    /// What HAProxy counts.
    Haproxy(Arc<Ledger>),
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

    /// The instances that have work now; `None` if HAProxy does not say.
    pub async fn working(&self) -> Option<Vec<Working>> {
        match self {
            Self::Native(registry) => Some(registry.working()),
            Self::Haproxy(ledger) => ledger.fresh().await.then(|| ledger.snapshot().working()),
        }
    }

    /// What there is to say of HAProxy, if it serves.
    pub fn haproxy(&self) -> Option<Facts> {
        match self {
            Self::Native(_) => None,
            Self::Haproxy(ledger) => Some(ledger.facts()),
        }
    }
}
