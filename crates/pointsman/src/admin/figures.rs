//! The source of the pages' figures: one per engine, with the same figures.

use std::sync::Arc;

use pointsman_engine::live::{Registry, Snapshot, Working};
use pointsman_haproxy::ledger::{Facts, Ledger};

/// The figures of the running engine.
#[derive(Clone, Debug)]
pub enum Figures {
    /// The native engine's own counters.
    Native(Arc<Registry>),
    /// HAProxy's counters.
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

    /// The instances with open requests now; `None` if HAProxy does not answer.
    pub async fn working(&self) -> Option<Vec<Working>> {
        match self {
            Self::Native(registry) => Some(registry.working()),
            Self::Haproxy(ledger) => ledger.fresh().await.then(|| ledger.snapshot().working()),
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
