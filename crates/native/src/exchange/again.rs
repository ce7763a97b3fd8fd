//! Whether a request is sent again, and after which pause; how long it may take, and its place. Sends nothing.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use pointsman_engine::live::RetryReason;
use pointsman_table::{Bounds, Retries};

use super::bound::Remainder;
use super::context::Cx;
use super::decide::{Plan, Sent};
use super::progress::{Answer, Progress};
use super::sides::Downstream;
use crate::fault::{Fault, Repeat};
use crate::net::watch::Guard;
use crate::pool::admission::{Admitted, admit};
use crate::pool::checkout::TRIES;
use crate::pool::pick::Tried;

/// The first pause before an attempt, milliseconds; each one after it is twice as long.
const FIRST_PAUSE: u64 = 25;
/// The longest pause.
const LONGEST_PAUSE: u64 = 250;

/// Begins a request of a service with bounds: its time runs, and it gets its place if one is free. Else returns how many
/// places there are: [`wait_for_place`].
pub(super) fn begin(cx: &Cx<'_>, plan: &Plan, bounds: &Bounds, progress: &Progress<'_>) -> Option<NonZeroU32> {
    if bounds.retries.is_some() {
        plan.live.bounded().budget.request(plan.live.worker(), cx.deadline.now());
    }
    let ends = bounds.request.map(|limit| {
        let deadline = cx.worker.timers.deadline();
        let at = deadline.after(limit);
        (deadline, at)
    });
    let bound = progress.bind(Remainder::new(bounds.retries, ends));
    let limit = bounds.requests?;
    let Some(place) = Admitted::at_once(&plan.live, limit) else { return Some(limit) };
    bound.place.get_or_init(|| place);
    None
}

/// Waits for its place, in turn.
///
/// # Errors
/// Those of [`admit`], and [`Fault::RequestTimeout`].
pub(super) async fn wait_for_place(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    progress: &Progress<'_>,
    limit: NonZeroU32,
) -> Result<(), Fault> {
    let place = within(progress, place(cx, plan, downstream, &progress.guard, limit)).await?;
    if let Some(bound) = progress.bound() {
        bound.place.get_or_init(|| place);
    }
    Ok(())
}

/// Gets a place, unless the client leaves. If there is none in time, a half-closed client gives way, once.
async fn place(
    cx: &Cx<'_>,
    plan: &Plan,
    downstream: &Downstream<'_>,
    guard: &Guard<'_>,
    limit: NonZeroU32,
) -> Result<Admitted, Fault> {
    let mut gave_way = false;
    loop {
        let admitted = pin!(admit(&plan.live, limit, guard, cx.deadline));
        match guard.during(downstream.socket(), admitted).await {
            Err(Fault::QueueFull | Fault::QueueTimeout | Fault::Shed) if !gave_way && make_way(cx, plan, guard) => {
                gave_way = true;
                // The place is free once that client's task has run.
                tokio::task::yield_now().await;
            }
            admitted => return admitted,
        }
    }
}

/// Makes a half-closed client of the service give up its slot, unless this one is half-closed too.
pub(super) fn make_way(cx: &Cx<'_>, plan: &Plan, guard: &Guard<'_>) -> bool {
    !guard.is_half_closed() && cx.worker.half_closed.end_oldest(Some(plan.live.room_id()))
}

/// Does work of the request for as long as its `timeout/request` lasts. A tunnel has no such end.
///
/// # Errors
/// Those of the work, and [`Fault::RequestTimeout`].
pub(super) async fn within<T>(
    progress: &Progress<'_>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let Some((deadline, at)) = progress.bound().and_then(Remainder::ends) else { return work.await };
    let at = || if progress.answer() == Answer::Begun(101) { u64::MAX } else { at };
    deadline.watched(at, work).await.unwrap_or(Err(Fault::RequestTimeout))
}

/// How many instances may be tried until the next one takes the request.
pub(super) fn tries(progress: &Progress<'_>, tried: &Tried) -> u32 {
    match progress.bound().and_then(|bound| Some((bound, bound.retries?))) {
        None => TRIES,
        Some((bound, retries)) => tried.count() + 1 + if retries.on_connect() { bound.left() } else { 0 },
    }
}

/// What follows when no instance was checked out.
pub(super) enum Unreached {
    /// Look again among all instances, after a pause or at once.
    Again { pauses: bool },
    /// This is answered.
    Answer(Fault),
}

/// What follows when no instance was checked out: all have been tried, or none takes work. `is_repeated`: it was sent
/// before.
#[cold]
pub(super) fn after_checkout(
    (fault, is_repeated): (Fault, bool),
    (cx, plan, progress): (&Cx<'_>, &Plan, &Progress<'_>),
    tried: &mut Tried,
) -> Unreached {
    let bound = progress.bound().and_then(|bound| Some((bound, bound.retries?)));
    let is_unreached = fault.facts().repeat == Repeat::Elsewhere;
    match bound {
        // Its attempt is paid for.
        Some(_) if fault == Fault::NoInstance && tried.count() > 0 => {
            tried.forget();
            Unreached::Again { pauses: false }
        }
        Some((_, retries)) if is_unreached && retries.on_connect() && spend(cx, plan, progress, retries) => {
            tried.forget();
            plan.live.unserved().retried(RetryReason::Connect);
            Unreached::Again { pauses: true }
        }
        // No other instance takes new work: answer with the failure of the one that was tried.
        _ if fault == Fault::NoInstance && is_repeated => Unreached::Answer(Fault::NoAnswer),
        _ => Unreached::Answer(fault),
    }
}

/// Takes away the attempts that went to other instances because these did not take the connection.
pub(super) fn count_redispatches(progress: &Progress<'_>, instances: u32) {
    if let (Some(bound), 1..) = (progress.bound(), instances) {
        bound.spend(instances);
    }
}

/// Whether an answer with this status is thrown away, and the request sent again. Counts it then.
#[cold]
pub(super) fn after_status(cx: &Cx<'_>, plan: &Plan, progress: &Progress<'_>, status: u16) -> bool {
    let Some(retries) = progress.bound().and_then(|bound| bound.retries) else { return false };
    // Another connection is not logged in.
    retries.on_status(status)
        && !progress.is_login()
        && is_harmless(retries, plan, progress)
        && spend(cx, plan, progress, retries)
}

/// A request that is sent again after a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repetition {
    pub(super) reason: RetryReason,
    /// The instance said so itself: another one is to have it.
    pub(super) is_told: bool,
    pub(super) pauses: bool,
}

impl Repetition {
    /// After an answer with a status that is retried.
    pub(super) const OF_STATUS: Self = Self { reason: RetryReason::Status, is_told: true, pauses: true };
}

/// Whether the request is sent again after this fault. `reused`: the connection had served before. `is_repeated`: the
/// request was sent again before.
#[cold]
pub(super) fn after_fault(
    fault: Fault,
    (reused, is_repeated, tried): (bool, bool, &Tried),
    (cx, plan, progress): (&Cx<'_>, &Plan, &Progress<'_>),
) -> Option<Repetition> {
    cx.record.noted.iter().for_each(|noted| noted.failed(fault));
    let is_told = fault.facts().repeat == Repeat::Unprocessed;
    let reason = if fault.facts().repeat == Repeat::Elsewhere { RetryReason::Connect } else { RetryReason::Reset };
    let Some((bound, retries)) = progress.bound().and_then(|bound| Some((bound, bound.retries?))) else {
        // An instance that dies may close a pooled connection, and the one that replaces it as well: the next has it then.
        let is_replacement = tried.count() == 0 && plan.live.instances.len() > 1;
        let repeats = (!is_repeated || is_replacement) && may_repeat(fault, plan, progress);
        return repeats.then_some(Repetition { reason, is_told, pauses: false });
    };
    // That we kept a connection for too long is no attempt.
    if reused && !bound.renewed.get() && may_repeat(fault, plan, progress) {
        bound.renewed.set(true);
        return Some(Repetition { reason, is_told, pauses: false });
    }
    let (reason, is_wanted) = match fault {
        Fault::ServerTimeout => (RetryReason::Timeout, retries.on_timeout()),
        _ => match fault.facts().repeat {
            Repeat::Elsewhere => (reason, retries.on_connect()),
            Repeat::Unanswered => (reason, retries.on_reset()),
            Repeat::Unprocessed => (reason, true),
            Repeat::Never => (reason, false),
        },
    };
    let is_unprocessed = is_told && may_repeat(fault, plan, progress);
    let repeats =
        is_wanted && (is_unprocessed || is_harmless(retries, plan, progress)) && spend(cx, plan, progress, retries);
    repeats.then_some(Repetition { reason, is_told, pauses: reason != RetryReason::Connect })
}

/// Whether the request may be sent again after this fault.
fn may_repeat(fault: Fault, plan: &Plan, progress: &Progress<'_>) -> bool {
    match fault.facts().repeat {
        // `checkout` itself goes on to the next instance after a failed connect. What is left is an instance that ends
        // the TLS handshake when it is over for us.
        Repeat::Unanswered | Repeat::Elsewhere => {
            progress.answer() == Answer::Awaited && progress.sent().may_repeat(plan)
        }
        Repeat::Unprocessed => progress.answer() == Answer::Awaited && matches!(progress.sent(), Sent::Held { .. }),
        Repeat::Never => false,
    }
}

/// Whether a second copy does no harm, or is allowed, and the client was sent nothing of an answer.
fn is_harmless(retries: Retries, plan: &Plan, progress: &Progress<'_>) -> bool {
    let is_held = matches!(progress.sent(), Sent::Held { .. });
    let is_allowed = is_held && retries.is_of_all_methods();
    !progress.begun() && !progress.is_abandoned() && (is_allowed || progress.sent().may_repeat(plan))
}

/// Takes one attempt, if one is left and the service's budget allows it.
fn spend(cx: &Cx<'_>, plan: &Plan, progress: &Progress<'_>, retries: Retries) -> bool {
    let Some(bound) = progress.bound().filter(|bound| bound.left() > 0) else { return false };
    let is_allowed = plan.live.bounded().budget.retry(plan.live.worker(), cx.deadline.now(), retries.budget);
    if is_allowed {
        bound.spend(1);
    }
    is_allowed
}

/// Pauses before the next attempt, each time for longer, unless the client leaves.
///
/// # Errors
/// [`Fault::ClientGone`] and the like, and [`Fault::RequestTimeout`].
pub(super) async fn pause(cx: &Cx<'_>, downstream: &Downstream<'_>, progress: &Progress<'_>) -> Result<(), Fault> {
    let before = progress.bound().map_or(0, Remainder::pause);
    let most = LONGEST_PAUSE.min(FIRST_PAUSE << before.min(8));
    let millis = cx.worker.home.with_rng(|rng| rng.u64(most / 2..=most));
    let sleep = pin!(async {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, Fault>(())
    });
    within(progress, progress.guard.during(downstream.socket(), sleep)).await
}
