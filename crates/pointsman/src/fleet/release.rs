//! The word of an operator that lets all balancers of a prefix go on without what their guards hold: a key beside their
//! status, outside every watched prefix. Written by `pointsman guard release`, read only while something is held.

use std::time::Duration;

use pointsman_store::{ASIDE, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::control::Status;

/// How often to look for it while something is held.
const LOOK: Duration = Duration::from_millis(500);

/// The key. Its value changes with every release.
fn key(prefix: &str) -> String {
    format!("{ASIDE}{prefix}/guard-release")
}

/// Lets go what all balancers of the prefix hold now.
///
/// # Errors
/// Any error of the store.
pub async fn write(store: &Store, prefix: &str) -> Result<(), StoreError> {
    store.put(&key(prefix), format!("{:016x}", fastrand::u64(..)).as_bytes()).await.map(drop)
}

/// Counts the releases of what this balancer holds, forever.
pub async fn follow(store: &Store, prefix: &str, mut status: watch::Receiver<Status>, released: watch::Sender<u64>) {
    let key = key(prefix);
    loop {
        if status.wait_for(|status| status.held.is_some()).await.is_err() {
            std::future::pending().await
        }
        // An earlier release was not of this hold.
        let mut before = None;
        while status.borrow().held.is_some() {
            match store.get(&key).await {
                Ok(now) => {
                    let former = before.get_or_insert_with(|| now.clone());
                    // A wiped store has no such key: that is no release.
                    if now.is_some() && *former != now {
                        *former = now;
                        released.send_modify(|count| *count += 1);
                    }
                }
                Err(error) => debug!("cannot look for {key}: {error}"),
            }
            sleep(LOOK).await;
        }
    }
}
