//! What the old program, the new one and `pointsman upgrade` say to each other. Both programs may be of other versions:
//! unknown fields are ignored, missing ones have defaults, and what cannot be understood has another [`FORMAT`].

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_engine::inherited::ListenerRole;
use pointsman_engine::live::{CarriedCounts, HealthBefore};
use pointsman_engine::tickets::{TicketSecret, TicketSecrets};
use serde::{Deserialize, Serialize};

/// The version of these messages.
pub(super) const FORMAT: u32 = 1;

/// The first words of who connects.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum TakeoverAsk {
    /// A new program takes over.
    Take(Claimant),
    /// Start the program at your path, and let it take over, within so many milliseconds.
    Upgrade {
        within: u64,
        /// Not after this time, milliseconds since the epoch; 0: it is not said.
        #[serde(default)]
        until: u64,
        /// Only if you serve the keys below this prefix.
        #[serde(default)]
        prefix: Option<String>,
    },
}

/// The program that takes over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Claimant {
    pub(super) format: u32,
    pub(super) version: String,
    pub(super) prefix: String,
    pub(super) engine: String,
}

/// What the new program says later.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum TakerWord {
    /// It serves.
    Serving,
    /// It cannot.
    Failed { why: String },
}

/// What the old program says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum GiverWord {
    /// What it hands over. Frames follow: its state, its keys (both may be empty), and the sockets.
    Offer(Box<Offered>),
    /// It does not.
    Refused { why: String },
    /// It serves on: the new program must end.
    Withdrawn { why: String },
    /// The new program serves alone.
    Released,
    /// What it has counted.
    Counts { counts: Box<CarriedCounts> },
    /// The new program serves, in this process.
    Upgraded { pid: u32 },
}

/// What is handed over.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Offered {
    pub(super) version: String,
    /// The revision that it serves.
    pub(super) revision: u64,
    /// The sockets, in their order.
    pub(super) sockets: Vec<SocketNote>,
    pub(super) counts: CarriedCounts,
    pub(super) health: HealthBefore,
    /// Secrets of session tickets, Base64; the first makes tickets.
    pub(super) tickets: Vec<String>,
    pub(super) haproxy: Option<HaproxyBefore>,
}

/// One socket.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SocketNote {
    #[serde(default)]
    pub(super) role: Option<ListenerRole>,
    /// The service manager keeps it open.
    #[serde(default)]
    pub(super) stays: bool,
}

/// The HAProxy of the old program, which has listening sockets of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HaproxyBefore {
    /// The runtime socket of its worker.
    pub runtime: PathBuf,
    /// The addresses that it opened itself.
    pub open: Vec<SocketAddr>,
}

impl Offered {
    pub(super) fn secrets(&self) -> TicketSecrets {
        let decoded = |text: &String| TicketSecret::try_from(STANDARD.decode(text).ok()?).ok();
        self.tickets.iter().filter_map(decoded).collect::<Vec<_>>().into()
    }
}

/// As texts.
pub(super) fn encoded(secrets: &TicketSecrets) -> Vec<String> {
    secrets.iter().map(|secret| STANDARD.encode(secret)).collect()
}
