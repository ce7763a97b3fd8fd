//! What the outcome of an attempt says about the instance, for services with `eject`. Judges no instance itself.

use pointsman_wire::ResponseHead;

use super::Done;
use super::progress::{Answer, Progress};
use crate::fault::Fault;
use crate::pool::judge::Verdict;

/// Codes of gRPC (INTERNAL, UNAVAILABLE) that say what a 5xx says, and that status.
const CODES: [(&[u8], u16); 2] = [(b"13", 500), (b"14", 503)];

/// The verdict; `None`: nothing is known. `reused`: the connection had answered a request before.
pub(super) fn verdict(outcome: &Result<Done, Fault>, progress: &Progress<'_>, reused: bool) -> Option<Verdict> {
    match (outcome, progress.answer()) {
        (Ok(Done::Tunnel(_)), _) => Some(Verdict::Good),
        (Ok(_), _) if progress.failure() > 0 => Some(Verdict::Failed(progress.failure())),
        (Ok(_), Answer::Begun(status)) if status >= 500 => Some(Verdict::Failed(status)),
        (Ok(_), _) => Some(Verdict::Good),
        // The instance may have closed a connection that was idle.
        (Err(Fault::NoAnswer), Answer::Awaited) if reused => None,
        (Err(fault), _) => is_broken(*fault).then_some(Verdict::Broken(*fault)),
    }
}

/// Faults of an instance's answer. Failed connects are judged where connections are made.
fn is_broken(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::NoAnswer | Fault::ServerTimeout | Fault::BadResponse(_) | Fault::BadResponseBody | Fault::UnaskedSwitch
    )
}

/// The 5xx that a gRPC answer without a message stands for; 0: none. Trailers after messages are not looked at.
#[cold]
pub(super) fn grpc_failure(head: &ResponseHead<'_, '_>) -> u16 {
    let code = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("grpc-status"));
    let known = code.and_then(|code| CODES.iter().find(|(known, _)| *known == code.value.trim_ascii()));
    known.map_or(0, |(_, status)| *status)
}
