//! What the guard holds, as pages and commands show it, and instances that it serves on. Judges nothing.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_table::Protocol;
use serde::{Deserialize, Serialize};

use super::view::{ExplainView, ProblemView, ServiceView, TableView, protocol_of};
use crate::control::HeldBack;

/// `/api/guard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    /// Whether anything is held.
    pub holds: bool,
    /// Since when, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<u64>,
    /// Until when at most, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<u64>,
    /// Keys that are served and that the store no longer has.
    pub keys: usize,
    /// Services of which the store has no key left: `services/shop`.
    pub services: Vec<String>,
    /// Instances that the store no longer has: `services/shop/web-1`.
    pub instances: Vec<String>,
    /// What was taken away, and how to let that in.
    pub problems: Vec<ProblemView>,
}

impl GuardView {
    /// What is held, if anything is.
    pub fn new(held: Option<&HeldBack>) -> Self {
        let Some(held) = held else { return Self::default() };
        Self {
            holds: true,
            since: Some(seconds(held.since)),
            until: Some(seconds(held.until)),
            keys: held.keys,
            services: held.services.iter().map(|(protocol, name)| format!("{protocol}/{name}")).collect(),
            instances: held
                .instances
                .iter()
                .map(|(protocol, service, name)| format!("{protocol}/{service}/{name}"))
                .collect(),
            problems: held.problems.iter().map(ProblemView::from).collect(),
        }
    }
}

impl TableView {
    /// Marks the instances that are held.
    #[must_use]
    pub fn with_held(mut self, held: Option<&HeldBack>) -> Self {
        mark(held, self.services.iter_mut());
        self
    }
}

impl ExplainView {
    /// Marks the instances that are held.
    #[must_use]
    pub fn with_held(mut self, held: Option<&HeldBack>) -> Self {
        mark(held, self.service.iter_mut());
        self
    }
}

fn mark<'s>(held: Option<&HeldBack>, services: impl Iterator<Item = &'s mut ServiceView>) {
    let Some(held) = held else { return };
    let names: HashSet<(Protocol, &str, &str)> =
        held.instances.iter().map(|(protocol, service, name)| (*protocol, service.as_str(), name.as_str())).collect();
    for service in services {
        let protocol = protocol_of(&service.protocol);
        let is_held = |name: &str| names.contains(&(protocol, service.name.as_str(), name));
        service.instances.iter_mut().filter(|instance| is_held(&instance.name)).for_each(|instance| instance.hold());
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
