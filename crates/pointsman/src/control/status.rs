//! The balancer's state, for the admin pages and the status key.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_table::{Answers, InstanceName, OuterCert, Problem, Protocol, ServiceName, Table};

use super::expiry::utc;
use pointsman_engine::Phase;
use pointsman_store::Condition;

/// Problems outside the keys, each found by another part of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The balancer's own files cannot be written.
    pub state: Option<Problem>,
    /// The snapshot cannot be written, or could not be used.
    pub snapshot: Option<Problem>,
    /// The journal of changes cannot be written.
    pub journal: Option<Problem>,
    /// Both APIs of etcd hold keys.
    pub apis: Option<Problem>,
    /// The folder of `--certs` cannot be read.
    pub certs: Option<Problem>,
    /// Another program cannot take over from this one.
    pub takeover: Option<Problem>,
    /// Certificates by ACME.
    pub acme: AcmeReport,
}

/// How it stands with certificates by ACME, as far as the keys want them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeReport {
    /// Certificates that the authority does not issue, or was not asked for.
    pub problems: Arc<[Problem]>,
    /// One for each name, in their order.
    pub names: Arc<[AcmeName]>,
    /// How steps ended that this balancer took while it led, in the order of [`ACME_OUTCOMES`].
    pub outcomes: [u64; ACME_OUTCOMES.len()],
    /// What this balancer found of names that handshakes wanted, in the order of [`DEMAND_VERDICTS`].
    pub demands: [u64; DEMAND_VERDICTS.len()],
}

/// How orders of certificates end: the certificate is there; the authority refuses; it cannot be talked to; it is not asked, as the
/// name leads elsewhere.
pub const ACME_OUTCOMES: [&str; 4] = ["issued", "refused", "failed", "elsewhere"];

/// What becomes of names that handshakes want certificates for: one is on its way; the keys or the operator's URL do not allow the
/// name; there are too many new names; the URL or the store fails, or the authority did and is not asked again yet.
pub const DEMAND_VERDICTS: [&str; 4] = ["coming", "refused", "limited", "failed"];

/// A name that a certificate by ACME is wanted for. Times are in seconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeName {
    /// The name.
    pub name: Box<str>,
    /// How the table calls its certificate.
    pub certificate: Box<str>,
    /// Who issued the last certificate, and how long it counts.
    pub issued: Option<(Box<str>, i64)>,
    /// When a new one is due, if there is one.
    pub renew: Option<i64>,
    /// What comes next.
    pub next: &'static str,
    /// When, unless it is under way.
    pub due: Option<i64>,
    /// The last failure.
    pub error: Option<Box<str>>,
}

/// Certificates that we had issued, and the answers to authorities that issue more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuedCerts {
    /// The certificates.
    pub certs: Arc<[OuterCert]>,
    /// The answers.
    pub answers: Arc<Answers>,
}

/// What is held, for pages and commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Since when.
    pub since: SystemTime,
    /// Until when at most.
    pub until: SystemTime,
    /// The number of keys that are served and that the store no longer has.
    pub keys: usize,
    /// The services of which the store has no key left.
    pub services: Vec<(Protocol, ServiceName)>,
    /// The instances that the store no longer has, ordered by service.
    pub instances: Vec<(Protocol, ServiceName, InstanceName)>,
    /// What was taken away, and how to let that in.
    pub problems: Vec<Problem>,
}

/// The keys that are served come from the snapshot of an earlier run, as the store was not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromSnapshot {
    /// The store's revision then.
    pub revision: u64,
    /// When the store was known to hold these keys last.
    pub at: SystemTime,
}

impl FromSnapshot {
    /// How old it is; zero if the clock went back.
    /// The age in words. A machine's clock may be wrong at its start.
    pub fn shown_age(&self) -> String {
        match SystemTime::now().duration_since(self.at) {
            Ok(_) => format!("{:?} old", self.age()),
            Err(_) => "dated in the future: the clock was or is wrong".to_owned(),
        }
    }

    /// For how long the store may have had other keys.
    pub fn age(&self) -> Duration {
        let age = SystemTime::now().duration_since(self.at).unwrap_or_default();
        Duration::from_secs(age.as_secs())
    }
}

/// The state of the control side.
#[derive(Clone, Debug)]
pub struct Status {
    /// The newest table; `None` until the store has been read once.
    pub table: Option<Arc<Table>>,
    /// Problems that compile found with the keys.
    pub found: Arc<[Problem]>,
    /// Certificates that have expired, soon will, or are not valid yet.
    pub expiring: Arc<[Problem]>,
    /// Problems of the engine with the table.
    pub refused: Arc<[Problem]>,
    /// Problems outside the keys.
    pub around: Around,
    /// The revision of the table that the engine uses: what users see.
    pub applied: u64,
    /// The generation of that table: distinguishes it from other tables of the same revision.
    pub generation: u64,
    /// Whether the engine has ever used a table from the store.
    pub served: bool,
    /// The number in the key `barrier`, and the generation of the first table that shows it.
    pub barrier: Option<(u64, u64)>,
    /// The last such number that the engine uses.
    pub barrier_served: Option<u64>,
    /// The answers to authorities in the newest table, and the generation of the first table that has them.
    pub answers: (Arc<Answers>, u64),
    /// Those that the engine gives.
    pub answered: Arc<Answers>,
    /// Whether the store holds this balancer's current status key.
    pub kept: bool,
    /// The state of the store.
    pub condition: Condition,
    /// Set while the keys in use come from the snapshot.
    pub snapshot: Option<FromSnapshot>,
    /// What the guard holds.
    pub held: Option<Arc<HeldBack>>,
    /// How many changes the guard held so far.
    pub holds: u64,
    /// Since when it is in that state.
    pub since: SystemTime,
    /// When the table was last replaced.
    pub changed: Option<SystemTime>,
    /// The duration of the last compile.
    pub compile: Duration,
    /// The number of published tables.
    pub swaps: u64,
    /// Serving, draining or ending.
    pub phase: Phase,
}

impl Status {
    /// The state at the start.
    pub fn new() -> Self {
        Self {
            table: None,
            found: Arc::default(),
            expiring: Arc::default(),
            refused: Arc::default(),
            around: Around::default(),
            applied: 0,
            generation: 0,
            served: false,
            barrier: None,
            barrier_served: None,
            answers: (Arc::default(), 0),
            answered: Arc::default(),
            kept: false,
            condition: Condition::Connecting { error: None },
            snapshot: None,
            held: None,
            holds: 0,
            since: SystemTime::now(),
            changed: None,
            compile: Duration::ZERO,
            swaps: 0,
            phase: Phase::Serve,
        }
    }

    /// All problems, those of the keys first.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let Around { state, snapshot, journal, apis, certs, takeover, acme } = &self.around;
        let around =
            apis.iter().chain(certs).chain(&*acme.problems).chain(state).chain(snapshot).chain(journal).chain(takeover);
        let held = self.held.iter().flat_map(|held| &held.problems);
        held.chain(&*self.found).chain(self.expiring.iter()).chain(self.refused.iter()).chain(around)
    }

    /// The reason that the keys in use may be old: the store is lost, or was not read yet. `None` if it is watched, or nothing
    /// is served.
    pub fn store_lost(&self) -> Option<String> {
        if let Some(FromSnapshot { revision, at }) = self.snapshot {
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
            let why = self.condition.outage().map(|error| format!(": {error}")).unwrap_or_default();
            let at = utc(at);
            return Some(format!("serving the snapshot of revision {revision}, {at}; the store was not read yet{why}"));
        }
        match &self.condition {
            Condition::Lost { error } => Some(format!("the store is lost, serving its last keys: {error}")),
            Condition::Connecting { .. } | Condition::Watching { .. } => None,
        }
    }

    /// The reason that the balancer should get no traffic now; `None` if it should.
    pub fn unready(&self) -> Option<&'static str> {
        match (self.phase, &self.table) {
            (Phase::Drain | Phase::Halt, _) => Some("draining: finishing open requests and connections, then exiting"),
            (Phase::Serve, None) => Some("the store was not read yet"),
            (Phase::Serve, Some(_)) if !self.served => Some("the engine does not use the first table yet"),
            (Phase::Serve, Some(_)) => None,
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}
