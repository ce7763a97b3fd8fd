//! Names of services and instances, and the protocols that are served. Judges nothing.

use std::fmt::{Display, Formatter, Result};
use std::sync::Arc;

/// A service's name: one path segment, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(pub(crate) Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for the server of a URL, which no key can name: a path segment has no slash.
    pub fn is_implied(&self) -> bool {
        self.0.contains("://")
    }
}

/// So that a map by name can be asked with a plain `str`.
impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for ServiceName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.as_str())
    }
}

/// An instance's name within its service: one path segment, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(pub(crate) Box<str>);

impl InstanceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for InstanceName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.as_str())
    }
}

/// What a service speaks, and which tree its keys live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Below `services/`.
    Http,
    /// Below `tcp-services/`.
    Tcp,
}

impl Protocol {
    /// The tree that holds its services: `services`, `tcp-services`.
    pub fn tree(self) -> &'static str {
        match self {
            Self::Http => "services",
            Self::Tcp => "tcp-services",
        }
    }
}

/// The tree's name in keys: `services`, `tcp-services`.
impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.tree())
    }
}
