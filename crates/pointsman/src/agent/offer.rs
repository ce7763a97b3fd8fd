//! Defaults for this machine's containers, and one instance that a container offers. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_table::Protocol;

use super::container::Container;

/// Defaults for containers without the respective labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentDefaults {
    /// The balancer's prefix, `/haproxy-haproxy-1`; empty for the root of the store.
    pub prefix: Option<String>,
    /// This machine's name, put before containers' names; empty for none.
    pub node: String,
    /// This machine's address for other machines.
    pub host: Option<IpAddr>,
    /// The container network that the balancers are attached to.
    pub network: Option<String>,
}

impl AgentDefaults {
    /// The name of the container's instances: `node-1-web`.
    pub(super) fn instance(&self, container: &Container) -> String {
        match self.node.as_str() {
            "" => container.name.clone(),
            node => format!("{node}-{}", container.name),
        }
    }
}

/// One instance of one service, and the settings that its container wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The prefix of its keys: `/haproxy-haproxy-1`.
    pub prefix: String,
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// The service's name, one key segment.
    pub service: String,
    /// The instance's name, one key segment.
    pub instance: String,
    /// The instance's value: `10.0.0.7:8080 weight=2`.
    pub value: String,
    /// The service's keys, relative to its name, and their values.
    pub settings: BTreeMap<String, String>,
}

impl Offer {
    /// The service's key below the prefix: `services/shop`.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.protocol.tree(), self.service)
    }

    pub(super) fn instance_key(&self) -> String {
        format!("{}/upstreams/{}", self.folder(), self.instance)
    }
}
