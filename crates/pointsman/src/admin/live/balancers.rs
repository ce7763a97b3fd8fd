//! The fleet as a page shows it: every balancer of the prefix with its revision. Plain data; `fleet` reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::control::epoch_millis;

/// Most balancers shown.
const MOST: usize = 200;

/// The balancers, and when they were read.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FleetView {
    /// Milliseconds since the epoch; 0: never.
    at: u64,
    /// Why they could not be read since.
    error: Option<String>,
    members: Vec<FleetMember>,
}

/// One balancer.
#[derive(Clone, Debug, Serialize)]
pub struct FleetMember {
    /// Its name.
    pub name: String,
    /// `0.1.0`.
    pub version: String,
    /// `native` or `haproxy`.
    pub engine: String,
    /// `serving`, `draining` or `stopped`.
    pub stage: &'static str,
    /// The store's revision that it serves.
    pub revision: u64,
    /// The reason that it has lost the store, if it has.
    pub store: Option<String>,
    /// How many instances are down.
    pub down: usize,
    /// How many problems it has.
    pub problems: usize,
    /// How many services it serves with their last good settings.
    pub last_good: usize,
    /// Where it listens for HTTP and HTTPS.
    pub listens: Vec<String>,
    /// The address of its admin pages.
    pub admin: Option<String>,
}

/// What was read last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KnownFleet {
    view: Arc<Mutex<FleetView>>,
}

impl KnownFleet {
    pub(super) fn view(&self) -> FleetView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what was read, or why it could not be.
    pub fn take(&self, members: Result<Vec<FleetMember>, String>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        match members {
            Ok(mut members) => {
                members.truncate(MOST);
                *view = FleetView { at: epoch_millis(SystemTime::now()), error: None, members };
            }
            Err(error) => view.error = Some(error),
        }
    }
}
