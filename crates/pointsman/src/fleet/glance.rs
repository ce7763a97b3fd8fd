//! Lists the balancers of the prefix for the pages that are open, and only then. Never writes to the store.

use std::time::Duration;

use pointsman_store::Store;
use tokio::time::{sleep, timeout};

use super::member::{Member, Stage};
use super::members;
use crate::admin::live::{FleetMember, LiveHub};

/// How often the balancers are listed.
const PACE: Duration = Duration::from_secs(5);
/// Deadline for a listing.
const DEADLINE: Duration = Duration::from_secs(4);

/// Lists the balancers while a page is open. Never ends.
pub async fn watch_fleet(hub: LiveHub, store: Store, prefix: String) {
    loop {
        hub.watched().await;
        let listed = timeout(DEADLINE, Box::pin(members(&store, &prefix))).await;
        let listed = listed.map_err(|_| format!("the store did not answer within {DEADLINE:?}"));
        let listed = listed.and_then(|listed| listed.map_err(|error| error.to_string()));
        hub.fleet.take(listed.map(|all| all.into_iter().map(shown).collect()));
        sleep(PACE).await;
    }
}

fn shown(member: Member) -> FleetMember {
    let all = member.listens.http.iter().chain(&member.listens.https);
    FleetMember {
        listens: all.map(ToString::to_string).collect(),
        admin: member.listens.admin.map(|admin| admin.to_string()),
        name: member.name,
        version: member.version,
        engine: member.engine,
        stage: match member.stage {
            Stage::Serving => "serving",
            Stage::Draining => "draining",
            Stage::Stopped => "stopped",
        },
        revision: member.revision,
        store: member.store,
        down: member.down,
        problems: member.problems,
        last_good: member.last_good.len(),
    }
}
