//! What the outcome of an attempt says about the instance, for services with `eject`. Judges no instance itself.

use super::progress::{Answer, Progress};
use crate::fault::Fault;
use crate::pool::judge::Verdict;

/// The verdict; `None`: nothing is known. `ended`: the fault, or that there was none. `reused`: the connection had
/// answered a request before.
pub(super) fn verdict(ended: Result<(), Fault>, progress: &Progress<'_>, reused: bool) -> Option<Verdict> {
    match (ended, progress.answer()) {
        (Ok(_), _) if progress.failure() > 0 => Some(Verdict::Failed(progress.failure())),
        (Ok(_), Answer::Begun(status)) if status >= 500 => Some(Verdict::Failed(status)),
        (Ok(_), _) => Some(Verdict::Good),
        // The instance may have closed a connection that was idle.
        (Err(Fault::NoAnswer), Answer::Awaited) if reused => None,
        (Err(fault), _) => is_broken(fault).then_some(Verdict::Broken(fault)),
    }
}

/// Faults of an instance's answer. Failed connects are judged where connections are made.
pub(super) fn is_broken(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::NoAnswer | Fault::ServerTimeout | Fault::BadResponse(_) | Fault::BadResponseBody | Fault::UnaskedSwitch
    )
}
