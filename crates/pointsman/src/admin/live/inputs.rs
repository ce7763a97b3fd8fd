//! What the collector looks at. Plain data.

use std::time::SystemTime;

use tokio::sync::watch;

use crate::admin::Figures;
use crate::admin::source::SourceView;
use crate::control::{Status, Timeline};

/// What the collector looks at.
#[derive(Clone, Debug)]
pub struct LiveInputs {
    /// The control side's state.
    pub status: watch::Receiver<Status>,
    /// The last changes.
    pub timeline: Timeline,
    /// The counters.
    pub figures: Figures,
    /// The store and the prefix.
    pub source: SourceView,
    /// Name and engine.
    pub about: LiveAbout,
    /// When the program started.
    pub started: SystemTime,
}

/// What does not change while the program runs.
#[derive(Clone, Debug, Default)]
pub struct LiveAbout {
    /// The balancer's name.
    pub name: String,
    /// `native` or `haproxy`.
    pub engine: &'static str,
}
