//! What somebody wants in the store for as long as he is there. Plain data.

use std::collections::BTreeMap;

/// Keys and values below one prefix, relative to it: `services/shop/upstreams/node-1-web`, `10.0.0.7:8080`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Instances. Each key is one's own: nobody else writes it, and one that somebody else has is a conflict.
    pub instances: BTreeMap<Box<str>, Box<str>>,
    /// Settings of services, shared with whoever has instances of the same service: who comes first writes a key, and
    /// another takes it over when he leaves.
    pub settings: BTreeMap<Box<str>, Box<str>>,
}

/// What is wanted below each prefix, which is without a slash at its end.
pub type Plan = BTreeMap<String, Wanted>;
