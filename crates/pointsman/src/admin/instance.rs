//! One instance as pages and commands show it: its keys, its health and its counters. Judges nothing.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_engine::live::{InstanceStats, SetApart, sent_again};
use pointsman_native::share_in_effect;
use pointsman_table::Instance;
use serde::{Deserialize, Serialize};

use super::reason;

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its name within the service.
    pub name: String,
    /// Its address.
    pub target: String,
    /// The addresses that its host name resolves to.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resolved: Vec<String>,
    /// 0 to 256.
    pub weight: u16,
    /// Maximum concurrent connections.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_connections: Option<u32>,
    /// `up`, `backup`, `drain`, `down`; with HAProxy also `maintenance`.
    pub state: String,
    /// Since when: seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<u64>,
    /// Why its state is not `up`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// It gets work whatever its state: too few instances of its service are healthy to leave any out.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub in_panic: bool,
    /// Whether its value has the word `backup`.
    #[serde(skip)]
    pub is_backup: bool,
    /// What its last active check asked, and what came of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<String>,
    /// When that was, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checked: Option<u64>,
    /// How long it took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_ms: Option<u64>,
    /// Its last failure: the fault, or the status that it answered with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    /// When that was, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error_at: Option<u64>,
    /// Its weight now, while `slow_start` reduces it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight_now: Option<f64>,
    /// How often it was ejected, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub ejections: BTreeMap<String, u64>,
    /// The guard serves it on: the store no longer has its key.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub held: bool,
    /// Requests or connections running now.
    pub active: u64,
    /// Requests or connections so far.
    pub requests: u64,
    /// 5xx responses and failed connects so far.
    #[serde(default)]
    pub errors: u64,
    /// Responses so far, by class: `2xx`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub responses: BTreeMap<String, u64>,
    /// Bytes from clients so far.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bytes_in: u64,
    /// Bytes to clients so far.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bytes_out: u64,
}

/// The classes of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl InstanceView {
    pub(super) fn new(instance: &Instance) -> Self {
        let (state, why) = match instance {
            Instance { drain: true, .. } => ("drain", Some("its value has the word drain")),
            Instance { weight: 0, .. } => ("drain", Some("its weight is 0")),
            Instance { backup: true, .. } => ("backup", Some("serves when all others are down")),
            _ => ("up", None),
        };
        Self {
            name: instance.name.to_string(),
            target: instance.target.to_string(),
            resolved: instance.resolved.iter().map(ToString::to_string).collect(),
            weight: instance.weight,
            max_connections: instance.max_connections.map(Into::into),
            state: state.to_owned(),
            since: None,
            why: why.map(str::to_owned),
            in_panic: false,
            is_backup: instance.backup,
            check: None,
            checked: None,
            check_ms: None,
            last_error: None,
            last_error_at: None,
            weight_now: None,
            ejections: BTreeMap::new(),
            held: false,
            active: 0,
            requests: 0,
            errors: 0,
            responses: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Adds the engine's counters. `slow_start`: the service's.
    pub(super) fn add(&mut self, stats: &InstanceStats, slow_start: Option<Duration>) {
        let at = |age: Duration| epoch_seconds().saturating_sub(age.as_secs());
        self.active = stats.totals.active;
        self.requests = stats.totals.requests;
        self.responses = counted(CLASSES.into_iter().zip(stats.totals.responses));
        (self.bytes_in, self.bytes_out) = (stats.totals.bytes_in, stats.totals.bytes_out);
        let repeated = sent_again(stats.totals.reasons);
        self.errors = stats.totals.responses[4] + stats.totals.connect_failures + repeated;
        self.ejections = counted(stats.ejections.iter().map(|(reason, count)| (reason.as_str(), *count)));
        if let Some(check) = &stats.check {
            self.check = Some(check.said.clone());
            self.checked = check.age.map(at);
            self.check_ms = u64::try_from(check.took.as_millis()).ok();
        }
        if let Some((error, age)) = &stats.error {
            (self.last_error, self.last_error_at) = (Some(error.clone()), Some(at(*age)));
        }
        let percent = share_in_effect(stats.age, slow_start);
        self.weight_now = (percent < 100).then(|| f64::from(self.weight) * percent as f64 / 100.0);
        // A drained instance stays `drain`, even if it is down.
        if self.state == "drain" {
            return;
        }
        self.since = stats.lasts.map(at);
        if let Some(apart) = &stats.apart {
            self.set_apart(apart);
        }
    }

    /// The guard serves it on.
    pub(super) fn hold(&mut self) {
        self.held = true;
        let more = self.why.take().map(|why| format!("; {why}")).unwrap_or_default();
        self.why = Some(format!("held by the guard, as the store no longer has its key{more}"));
    }

    fn set_apart(&mut self, apart: &SetApart) {
        reason::state(apart).clone_into(&mut self.state);
        self.since = Some(epoch_seconds().saturating_sub(apart.age.as_secs()));
        self.why = Some(reason::words(apart)).filter(|why| !why.is_empty());
    }
}

/// Marks those that `panic` gives work: all ordinary ones or, while none of those is healthy, all backups.
pub(super) fn mark_panic(instances: &mut [InstanceView]) {
    let ordinary_serve = instances.iter().any(|instance| instance.state == "up");
    for instance in instances {
        let is_used = instance.is_backup != ordinary_serve && instance.state != "drain";
        instance.in_panic = is_used && instance.state != "up";
    }
}

/// The counts above 0, by name.
pub(super) fn counted<'n>(counts: impl Iterator<Item = (&'n str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The time now, in seconds since the epoch.
pub fn epoch_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
