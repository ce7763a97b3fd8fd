//! Where a rule leads, and its rank among the rules for one host.

use std::cmp::Reverse;

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) priority: i64,
    /// How specific its path is: 0 for any path, 1 for an expression, else 2 plus the prefix's length.
    pub(crate) closeness: u32,
    /// How many conditions the service has.
    pub(crate) conditions: u32,
    pub(crate) service: u32,
    /// Whether the service has no instances.
    pub(crate) is_empty: bool,
    /// Which of the service's path rules; `NO_RULE` for none.
    pub(crate) rule: u32,
    /// Bytes of the target to take off.
    pub(crate) strip: u32,
}

/// The rank of an expression.
pub(crate) const EXPRESSION: u32 = 1;

/// Stands for "no path rule".
pub(crate) const NO_RULE: u32 = u32::MAX;

impl Leaf {
    /// The rule of a host's only service, for any path, with the usual priority.
    pub(crate) fn plain(service: u32) -> Self {
        Self { priority: 0, closeness: 0, conditions: 0, service, is_empty: false, rule: NO_RULE, strip: 0 }
    }

    /// Precedence among rules for one host.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (self.priority, self.closeness, self.conditions, self.precedes(), self.strip)
    }

    /// Precedence among services with rules as close. Rules of one host that look at a path equally closely, and match
    /// it, are the same, expressions aside: of the same rule an empty service gives way to one that has instances.
    pub(crate) fn precedes(&self) -> impl Ord + use<> {
        let gives_way = self.is_empty && self.closeness != EXPRESSION;
        (Reverse(gives_way), Reverse(self.service))
    }
}
