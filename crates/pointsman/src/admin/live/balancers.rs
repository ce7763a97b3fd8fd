//! The fleet as a page shows it: every balancer of the prefix with its revision, read from the store while somebody
//! looks. Never written here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pointsman_store::Store;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::LiveHub;
use crate::control::epoch_millis;
use crate::fleet::{self, Member, Stage};

/// How often the balancers are listed.
const PACE: Duration = Duration::from_secs(5);
/// Deadline for a listing.
const DEADLINE: Duration = Duration::from_secs(4);
/// Most balancers shown.
const MOST: usize = 200;

/// The balancers, and when they were read.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FleetView {
    /// Milliseconds since the epoch; 0: never.
    at: u64,
    /// Why they could not be read since.
    error: Option<String>,
    members: Vec<FleetMember>,
}

#[derive(Clone, Debug, Serialize)]
struct FleetMember {
    name: String,
    version: String,
    engine: String,
    stage: Stage,
    revision: u64,
    store: Option<String>,
    down: usize,
    problems: usize,
    last_good: usize,
    listens: Vec<String>,
    admin: Option<String>,
}

impl From<Member> for FleetMember {
    fn from(member: Member) -> Self {
        let all = member.listens.http.iter().chain(&member.listens.https);
        Self {
            listens: all.map(ToString::to_string).collect(),
            admin: member.listens.admin.map(|admin| admin.to_string()),
            name: member.name,
            version: member.version,
            engine: member.engine,
            stage: member.stage,
            revision: member.revision,
            store: member.store,
            down: member.down,
            problems: member.problems,
            last_good: member.last_good.len(),
        }
    }
}

/// What was read last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFleet {
    view: Arc<Mutex<FleetView>>,
}

impl KnownFleet {
    pub(super) fn view(&self) -> FleetView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, members: Result<Vec<Member>, String>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        match members {
            Ok(members) => {
                let members = members.into_iter().take(MOST).map(FleetMember::from).collect();
                *view = FleetView { at: epoch_millis(SystemTime::now()), error: None, members };
            }
            Err(error) => view.error = Some(error),
        }
    }
}

/// Lists the balancers while a page is open. Never ends.
pub async fn watch_fleet(hub: LiveHub, store: Store, prefix: String) {
    loop {
        hub.watched().await;
        let members = timeout(DEADLINE, Box::pin(fleet::members(&store, &prefix))).await;
        let members = members.map_err(|_| format!("the store did not answer within {DEADLINE:?}"));
        hub.fleet.read(members.and_then(|members| members.map_err(|error| error.to_string())));
        sleep(PACE).await;
    }
}
