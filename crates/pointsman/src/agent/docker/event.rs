//! Interprets the daemon's events. Pure.

use std::collections::HashMap;

use bollard::models::{EventMessage, EventMessageTypeEnum};

use crate::agent::signal;

/// Events that may change what we know of a container. We do not subscribe to others: each run of a health check alone
/// causes two or three.
const CONTAINER: &[&str] = &[
    "start",
    "die",
    "stop",
    "kill",
    "pause",
    "unpause",
    "health_status",
    "rename",
    "update",
    "destroy",
    "restart",
    "oom",
];
/// The same for networks.
const NETWORK: &[&str] = &["connect", "disconnect"];

/// An event of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerEvent {
    /// The container's id.
    pub(super) id: String,
    /// Its time, in nanoseconds since 1970 on the daemon's clock.
    pub(super) at: i64,
    pub(super) what: ContainerChange,
}

/// The kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerChange {
    /// A signal was sent to the container.
    Signal(u8),
    /// The container's process ended.
    Died,
    /// Something else changed; inspect the container.
    Changed,
}

/// The filters for the daemon's event stream.
pub(super) fn filters() -> HashMap<&'static str, Vec<&'static str>> {
    let events = CONTAINER.iter().chain(NETWORK).copied().collect();
    HashMap::from([("type", vec!["container", "network"]), ("event", events)])
}

/// Reads an event; `None` if it is not about a container.
pub(super) fn read(message: EventMessage) -> Option<ContainerEvent> {
    let at = message.time_nano.or(message.time.map(|seconds| seconds.saturating_mul(1_000_000_000)))?;
    let actor = message.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    let id = match message.typ {
        Some(EventMessageTypeEnum::CONTAINER) => actor.id,
        Some(EventMessageTypeEnum::NETWORK) => attributes.get("container").cloned(),
        _ => None,
    };
    let what = match message.action.as_deref() {
        Some("kill") => attributes
            .get("signal")
            .and_then(|text| signal::parse(text))
            .map_or(ContainerChange::Changed, ContainerChange::Signal),
        Some("die") => ContainerChange::Died,
        _ => ContainerChange::Changed,
    };
    id.filter(|id| !id.is_empty()).map(|id| ContainerEvent { id, at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Option<(&str, i64, ContainerChange)>) {
        let happening = expected.map(|(id, at, what)| ContainerEvent { id: id.to_owned(), at, what });
        assert_eq!(read(serde_json::from_str(json).unwrap()), happening, "{json}");
    }

    #[test]
    fn reads_what_the_daemon_sends() {
        check(
            r#"{"status":"kill","id":"c1","Type":"container","Action":"kill","Actor":{"ID":"c1","Attributes":
               {"image":"x","name":"web","signal":"15"}},"scope":"local","time":3,"timeNano":3000000001}"#,
            Some(("c1", 3_000_000_001, ContainerChange::Signal(15))),
        );
        check(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"c1"},"time":3}"#,
            Some(("c1", 3_000_000_000, ContainerChange::Died)),
        );
        check(
            r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"c1"},"timeNano":4}"#,
            Some(("c1", 4, ContainerChange::Changed)),
        );
        check(
            r#"{"Type":"container","Action":"kill","Actor":{"ID":"c1","Attributes":{"signal":"?"}},"timeNano":4}"#,
            Some(("c1", 4, ContainerChange::Changed)),
        );
        check(
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}},"timeNano":4}"#,
            Some(("c1", 4, ContainerChange::Changed)),
        );
        check(r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1"},"timeNano":4}"#, None);
        check(r#"{"Type":"image","Action":"pull","Actor":{"ID":"i1"},"timeNano":4}"#, None);
        check(r#"{"Type":"container","Action":"die","Actor":{"ID":""},"timeNano":4}"#, None);
        check("{}", None);
    }
}
