//! What the first table waits for besides the keys. Decides nothing.

use std::time::Duration;

use pointsman_store::Condition;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::standby::PATIENCE;

/// How long the first table waits for certificates from outside the keys.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits for certificates: without them, the first table would refuse clients that the second one serves. Those that we had
/// `issued` come with the store's keys: while it cannot be read, they are not waited for, nor longer than its keys if there is
/// a snapshot.
pub(super) async fn certificates<C, I>(
    certs: &mut watch::Receiver<Option<C>>,
    issued: &mut watch::Receiver<Option<I>>,
    condition: &mut watch::Receiver<Condition>,
    has_snapshot: bool,
) {
    let start = Instant::now();
    let longest = if has_snapshot { PATIENCE } else { LONGEST };
    let _ = timeout(LONGEST, certs.wait_for(Option::is_some)).await;
    let away = async { condition.wait_for(|condition| condition.outage().is_some()).await.is_ok() };
    tokio::select! {
        _ = timeout_at(start + longest, issued.wait_for(Option::is_some)) => {}
        true = away => {}
    }
    condition.mark_changed();
}
