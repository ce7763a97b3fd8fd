//! The instance that the cookie or the key of a request leads to, as `explain` shows it. Picks nothing.

use pointsman_engine::live::{InstanceStats, Snapshot};
use pointsman_native::{Foreseen, Foretold, InstanceNow, foresee};
use pointsman_table::{Protocol, Service};
use serde::{Deserialize, Serialize};

use super::query::ExplainRequest;

/// Where a request goes among the instances of its service, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickView {
    /// What leads to the instance: `balance uri`, `cookie SRV`.
    pub by: String,
    /// The key, or the cookie's value, if the request has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The instance, if something leads to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<String>,
    /// The reasons.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub why: Vec<String>,
}

impl PickView {
    /// `None`: the service has neither `cookie` nor a hashing balance.
    pub(super) fn new(
        service: &Service,
        snapshot: &Snapshot,
        (host, target): (&str, &str),
        request: &ExplainRequest,
    ) -> Option<Self> {
        let ExplainRequest { method, headers, client } = request;
        let asked = Foretold { method, host, target, headers, client: *client };
        let Foreseen { by, key, instance, why } = foresee(service, &now(service, snapshot), asked)?;
        Some(Self { by, key, instance, why })
    }
}

/// What is known of the service's instances. One that had no work yet counts as up.
fn now(service: &Service, snapshot: &Snapshot) -> Vec<InstanceNow> {
    let key: (Protocol, &str) = (service.protocol, service.name.as_str());
    let stats = snapshot.services.iter().find(|one| (one.protocol, one.service.as_str()) == key);
    let of = |name: &str| stats?.instances.iter().find(|one| one.instance == name);
    let known = |one: &InstanceStats| InstanceNow {
        up: one.up,
        sound: one.apart.is_none(),
        open: one.totals.active,
        age: one.age,
    };
    let unknown = InstanceNow { up: true, sound: true, open: 0, age: None };
    service.instances.iter().map(|instance| of(instance.name.as_str()).map_or(unknown, known)).collect()
}
