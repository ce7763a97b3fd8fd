//! Checks out an instance for a request: at once, or after waits, failed connections and pauses. Sends nothing.

use std::pin::pin;

use pointsman_table::Balance;

use super::again::{self, Unreached, make_way};
use super::context::Cx;
use super::decide::Plan;
use super::progress::{Progress, Unserved};
use super::sides::Downstream;
use super::traced::no_attempt;
use crate::fault::Fault;
use crate::pool::checkout::{Checkout, Hold, Want, checkout_at_once, search};
use crate::pool::pick::Tried;

/// Checks out an instance that needs no wait. Else the instance whose turn it is, if any, for [`wait`].
pub(super) fn check_out_at_once(
    cx: &Cx<'_>,
    plan: &Plan,
    want: Want<'_>,
    tried: &mut Tried,
    progress: &Progress<'_>,
) -> Result<Checkout, Option<Hold>> {
    if !cx.logins.is_empty() {
        return Err(None);
    }
    let want = Want { tries: again::tries(progress, tried), ..want };
    let checked_out = checkout_at_once(&cx.worker.home, &plan.live, want, tried, cx.deadline.now())?;
    cx.record.noted.iter().for_each(|noted| noted.checked_out(tried, true));
    Ok(checked_out)
}

/// Checks out an instance that [`check_out_at_once`] did not.
pub(super) async fn wait(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    want: Want<'_>,
    (tried, mut held): (&mut Tried, Option<Hold>),
    progress: &Progress<'_>,
) -> Result<Checkout, Unserved> {
    loop {
        let checked_out = match progress.bound() {
            None => check_out(cx, plan, downstream, want, tried, held.take()).await,
            // Boxed: else whoever waits would hold twice as much.
            Some(_) => Box::pin(check_out_within(cx, plan, downstream, want, (tried, held.take()), progress)).await,
        };
        cx.record.noted.iter().for_each(|noted| noted.checked_out(tried, checked_out.is_ok()));
        let fault = match checked_out {
            Ok(checked_out) => {
                if plan.live.service.balance == Balance::PowerOfTwo {
                    cx.record.sent();
                }
                return Ok(checked_out);
            }
            Err(fault) => fault,
        };
        cx.record.noted.iter().for_each(|noted| no_attempt(noted));
        match again::after_checkout((fault, cx.record.is_repeated()), (cx, plan, progress), tried) {
            Unreached::Again { pauses } => pause(pauses, cx, downstream, progress).await?,
            Unreached::Answer(fault) => return Err(progress.unserved(fault)),
        }
    }
}

/// Checks out an instance, unless the client leaves: with the client's own connection, if one is logged in for it. If
/// no slot is free, a half-closed client gives way, once, before this one is refused. `held`: the instance whose turn it is,
/// if it is known.
async fn check_out(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    want: Want<'_>,
    tried: &mut Tried,
    mut held: Option<Hold>,
) -> Result<Checkout, Fault> {
    let (client, guard) = (downstream.socket(), want.guard);
    if let Some((login, index)) = cx.logins.take(&plan.live, want.for_client) {
        // Boxed, as few requests have one.
        return guard.during(client, Box::pin(login.checkout(&plan.live, index, guard, cx.deadline)).as_mut()).await;
    }
    let mut gave_way = false;
    loop {
        let checkout = pin!(search(&cx.worker.home, &plan.live, want, tried, cx.deadline, held.take()));
        match guard.during(client, checkout).await {
            Err(Fault::Full) if !gave_way && make_way(cx, plan, guard) => {
                gave_way = true;
                // The slot is free once that client's task has run.
                tokio::task::yield_now().await;
            }
            checked_out => return checked_out,
        }
    }
}

/// Checks out an instance for a request of a service with bounds.
async fn check_out_within(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    want: Want<'_>,
    (tried, held): (&mut Tried, Option<Hold>),
    progress: &Progress<'_>,
) -> Result<Checkout, Fault> {
    let before = tried.count();
    let want = Want { tries: again::tries(progress, tried), ..want };
    let checked_out = again::within(progress, check_out(cx, plan, downstream, want, tried, held)).await;
    let failed = tried.count().saturating_sub(before);
    // After the last of them, none was tried.
    again::count_redispatches(progress, if checked_out.is_ok() { failed } else { failed.saturating_sub(1) });
    checked_out
}

/// Pauses before the next attempt, if it `pauses`.
pub(super) async fn pause(
    pauses: bool,
    cx: &Cx<'_>,
    downstream: &Downstream<'_>,
    progress: &Progress<'_>,
) -> Result<(), Unserved> {
    if pauses {
        Box::pin(again::pause(cx, downstream, progress)).await.map_err(|fault| progress.unserved(fault))?;
        // A pause is not the instance's time.
        cx.record.sent();
    }
    Ok(())
}
