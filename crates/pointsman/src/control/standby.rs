//! The keys of the snapshot, from the start until the store answers. Pure: time is an argument.

use std::time::{Duration, SystemTime};

use pointsman_table::KeySet;
use tokio::time::Instant;

/// How long the store may take to answer before the snapshot is served. One that cannot be reached says so earlier.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);
/// A snapshot that was not served guards against losses if it is at most this old: after a longer time, much may have
/// changed as it should.
const RECENT: Duration = Duration::from_secs(3600);

/// What was served before the start.
#[derive(Clone, Debug)]
pub struct Standby {
    /// The keys.
    pub keys: KeySet,
    /// When the store was known to hold them last.
    pub at: SystemTime,
    /// The etcd cluster that they come from; 0 if that is not known, and for a folder.
    pub cluster: u64,
}

impl Standby {
    /// Whether the store may be compared with it.
    pub(super) fn is_recent(&self) -> bool {
        // A clock that went back says nothing.
        SystemTime::now().duration_since(self.at).unwrap_or_default() <= RECENT
    }
}

/// What happens until the store answers.
#[derive(Debug)]
pub(super) enum Waiting {
    /// There is a snapshot, to be served from then on.
    Until(Box<Standby>, Instant),
    /// It is served.
    Serving(Box<Standby>),
    /// There is none.
    Bare,
    /// The store has answered.
    Over,
}

impl Waiting {
    pub(super) fn new(standby: Option<Standby>, now: Instant) -> Self {
        standby.map_or(Self::Bare, |standby| Self::Until(Box::new(standby), now + PATIENCE))
    }

    /// When to serve the snapshot.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Until(_, due) => Some(*due),
            Self::Serving(_) | Self::Bare | Self::Over => None,
        }
    }

    /// The store cannot be reached: there is nothing to wait for.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Self::Until(_, due) = self {
            *due = now;
        }
    }

    /// From now on it is served.
    pub(super) fn serve(&mut self) -> Option<&Standby> {
        if let Self::Until(..) = self
            && let Self::Until(standby, _) = std::mem::replace(self, Self::Bare)
        {
            *self = Self::Serving(standby);
        }
        match self {
            Self::Serving(standby) => Some(standby),
            Self::Until(..) | Self::Bare | Self::Over => None,
        }
    }

    /// The store answered. Once, the snapshot, if there is one, and whether it was served.
    pub(super) fn end(&mut self) -> Option<(Standby, bool)> {
        match std::mem::replace(self, Self::Over) {
            Self::Until(standby, _) => Some((*standby, false)),
            Self::Serving(standby) => Some((*standby, true)),
            Self::Bare | Self::Over => None,
        }
    }

    /// Whether the store has answered.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}
