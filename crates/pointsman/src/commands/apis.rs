//! etcd's two APIs from the operator's side: reports that both hold keys, and records a choice by `--etcd-api` that
//! other processes should follow. Chooses nothing.

use std::time::Duration;

use pointsman_store::{Api, Store, StoreError, StoreSettings};
use pointsman_table::{Problem, ProblemKind};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::control::Around;

/// The pause after a failed attempt to remember a choice.
const RETRY: Duration = Duration::from_secs(5);

/// Remembers what was chosen, and keeps the problem up to date while the store is followed.
pub(super) async fn keep(store: &Store, settings: &StoreSettings, around: &watch::Sender<Around>) {
    tokio::join!(watch(store, settings, around), remember(settings));
}

/// Keeps the problem up to date while the store is followed.
async fn watch(store: &Store, settings: &StoreSettings, around: &watch::Sender<Around>) {
    let mut ignored = store.ignored();
    loop {
        let problem = ignored.borrow_and_update().map(|api| problem(api, &settings.prefix));
        around.send_if_modified(|around| std::mem::replace(&mut around.apis, problem.clone()) != problem);
        if ignored.changed().await.is_err() {
            return;
        }
    }
}

/// Remembers in etcd which API `--etcd-api` chose.
async fn remember(settings: &StoreSettings) {
    while let Err(error) = Box::pin(Store::remember(settings)).await {
        debug!("cannot remember the choice of etcd's API: {error}");
        // This user may not write there; `--state` and `--etcd-api` still hold the choice.
        if matches!(error, StoreError::Refused { .. }) {
            return;
        }
        sleep(RETRY).await;
    }
}

/// The problem that this API holds keys that are not served.
pub(super) fn problem(ignored: Api, prefix: &str) -> Problem {
    let (unused, used) = if ignored == Api::V2 { ("2", "3") } else { ("3", "2") };
    let advice = format!(
        "etcd's API v{unused} holds keys here too, which are not served: v{used} is in use. Delete the keys of v{unused}, or \
         set --etcd-api {unused} on every balancer to use them, or --etcd-api {used} to keep v{used} and silence this"
    );
    let key = if prefix.is_empty() { "/" } else { prefix };
    Problem { key: key.into(), value: None, kind: ProblemKind::TwoApis, service: None, advice: advice.into() }
}
