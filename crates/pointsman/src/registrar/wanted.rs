//! The keys that a process wants in the store. Plain data.

use std::collections::BTreeMap;

/// Keys and values below one prefix, relative to it: `services/shop/upstreams/node-1-web`, `10.0.0.7:8080`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Instances. Each key has one writer; a key of somebody else is a conflict.
    pub instances: BTreeMap<Box<str>, Box<str>>,
    /// Settings of services, shared by all writers with instances of the same service: the first one writes a key, and
    /// another takes it over when that one leaves.
    pub settings: BTreeMap<Box<str>, Box<str>>,
}

/// The wanted keys below each prefix, which has no trailing slash.
pub type Plan = BTreeMap<String, Wanted>;
