//! What `/api/live`, `/api/history` and `/api/service` say, read back. The form is that of `admin::live`; a member that is
//! not known is skipped.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::admin::view::{CertificateView, ProblemView, ServiceView};

/// One message: what changed, or everything if it is `full`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LiveMessage {
    /// The balancer's time, in milliseconds since the epoch.
    pub(super) at: u64,
    pub(super) full: bool,
    pub(super) meta: Option<MetaTold>,
    pub(super) now: Option<NowTold>,
    pub(super) problems: Option<ProblemsTold>,
    pub(super) down: Option<Vec<DownTold>>,
    pub(super) certificates: Option<Vec<CertificateView>>,
    pub(super) fleet: Option<FleetTold>,
    pub(super) changes: Vec<ChangeTold>,
    pub(super) rows: RowsTold,
    pub(super) past: Option<PointTold>,
}

/// The balancer itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetaTold {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) engine: String,
    pub(super) prefix: String,
    pub(super) store: Vec<String>,
    /// `connecting`, `watching` or `lost`.
    pub(super) state: String,
    /// Milliseconds since the epoch.
    pub(super) since: u64,
    pub(super) via: Option<String>,
    pub(super) error: Option<String>,
    pub(super) revision: u64,
    pub(super) applied: u64,
    pub(super) unready: Option<String>,
    pub(super) kept: bool,
}

/// Rates per second: HTTP requests, TCP connections, 4xx, 5xx, bytes in, bytes out; p50 and p99 in milliseconds; open work,
/// client connections; instances that take work, all, down.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct NowTold(
    pub(super) [f32; 6],
    pub(super) Option<f32>,
    pub(super) Option<f32>,
    pub(super) u64,
    pub(super) u64,
    pub(super) [u64; 3],
);

/// A point of the graphs: its time; rates as [`NowTold`] has them; p50, p99; open work.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PointTold(IgnoredAny, pub(super) [f32; 6], IgnoredAny, pub(super) Option<f32>, IgnoredAny);

/// `/api/history`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct HistoryTold {
    pub(super) fine: Vec<PointTold>,
}

/// The first problems, and how many there are.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ProblemsTold {
    pub(super) count: usize,
    pub(super) list: Vec<ProblemView>,
}

/// An instance that is down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DownTold {
    /// `http/shop`.
    pub(super) service: String,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) state: String,
    pub(super) why: Option<String>,
    pub(super) error: Option<String>,
    /// Seconds since the epoch.
    pub(super) since: Option<u64>,
}

/// The balancers of the prefix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FleetTold {
    /// When they were read, in milliseconds since the epoch; 0: never.
    pub(super) at: u64,
    pub(super) error: Option<String>,
    pub(super) members: Vec<MemberTold>,
}

/// One balancer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MemberTold {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) engine: String,
    pub(super) stage: String,
    pub(super) revision: u64,
    pub(super) store: Option<String>,
    pub(super) down: usize,
    pub(super) problems: usize,
    pub(super) last_good: usize,
    pub(super) listens: Vec<String>,
    pub(super) admin: Option<String>,
}

/// One change of the keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChangeTold {
    pub(super) number: u64,
    /// Milliseconds since the epoch.
    pub(super) at: u64,
    pub(super) served: Option<u64>,
    pub(super) revision: u64,
    pub(super) first: bool,
    pub(super) places: usize,
    pub(super) keys: Vec<KeyTold>,
    pub(super) more: usize,
}

/// One key of a change.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyTold {
    pub(super) key: String,
    /// `added`, `changed` or `removed`.
    pub(super) fate: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) secret: bool,
}

/// What changed in the list of services.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RowsTold {
    pub(super) names: Vec<NamesTold>,
    pub(super) figures: Vec<FiguresTold>,
    pub(super) gone: Vec<u32>,
}

/// A row's number, `http/shop`, the rule, what can be searched for; how many instances, and drained ones.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NamesTold(
    pub(super) u32,
    pub(super) String,
    pub(super) String,
    pub(super) String,
    pub(super) u32,
    pub(super) u32,
);

/// A row's number, instances that take work, instances down; requests, 4xx and 5xx per second; p50 and p99 in milliseconds;
/// open work, queue, problems; 1: in panic, 2: last good settings, 3: both.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct FiguresTold(
    pub(super) u32,
    pub(super) u32,
    pub(super) u32,
    pub(super) [f32; 3],
    pub(super) Option<f32>,
    pub(super) Option<f32>,
    pub(super) u64,
    pub(super) u64,
    pub(super) u32,
    pub(super) u8,
);

/// `/api/service`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServiceTold {
    /// Milliseconds since the epoch.
    pub(super) at: u64,
    pub(super) service: ServiceView,
}
