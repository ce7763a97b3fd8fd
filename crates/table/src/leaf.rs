//! Where a rule leads, and its rank among the rules for one host.

use std::cmp::Reverse;

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) priority: i64,
    /// How closely it looks at the path: 0 not at all, 1 by expression, else 2 and a prefix's length.
    pub(crate) closeness: u32,
    pub(crate) service: u32,
    /// Which of the service's path rules; `NO_RULE` for none.
    pub(crate) rule: u32,
    /// Bytes of the target to take off.
    pub(crate) strip: u32,
}

/// Stands for "no path rule".
pub(crate) const NO_RULE: u32 = u32::MAX;

impl Leaf {
    /// A rule for any path, of the usual priority.
    pub(crate) fn plain(service: u32) -> Self {
        Self { priority: 0, closeness: 0, service, rule: NO_RULE, strip: 0 }
    }

    /// Precedence among rules for one host.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (self.priority, self.closeness, Reverse(self.service), self.strip)
    }
}
