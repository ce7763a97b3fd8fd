//! Whether an instance works and has room, and the queue of its service. All workers share it, and write it only when
//! it changes. Picks nothing.

mod answers;
pub(super) mod carried;
mod checks;
mod circuit;
mod peers;
mod room;
mod slots;
mod standing;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

pub use answers::{Grounds, Places};
pub use checks::{CheckFlip, CheckOutcome, CheckRules, CheckState, LastCheck};
pub use circuit::{Circuit, EjectionRules, Flip, HealthEvent};
pub use peers::{Peer, outliers};
pub use room::{Needs, Place, Rank, Room};
pub use slots::{Asked, IdlePlace, Slots, Wanted};
pub use standing::{Standing, StandingEvent, StandingFlip, StandingRules};

use answers::Answers;

/// An instance's [`Circuit`] and [`Standing`], shared by all workers.
///
/// Times are milliseconds since the registry began.
#[derive(Debug, Default)]
pub struct Health {
    circuit: AtomicU64,
    /// When the current ejection began, and the index of its fault in the lowest [`FAULT_BITS`]. Only read while the
    /// circuit is not closed.
    ejection: AtomicU64,
    /// What active checks say of it.
    checks: checks::Checks,
    /// When it returned, or appeared beside others, for `slow_start`; 0: at no time that counts.
    since: AtomicU64,
    answers: Answers,
    flips: Arc<FlipCount>,
    /// How often it was ejected, by [`Reason`].
    ejections: [AtomicU64; Reason::ALL.len()],
    /// When it failed last, and the fault's index or the answer's status in the lowest [`ERROR_BITS`]; 0: never.
    error: AtomicU64,
}

impl Health {
    pub(super) fn new(flips: &Arc<FlipCount>) -> Self {
        Self { flips: Arc::clone(flips), ..Self::default() }
    }

    /// Whether it may get work. Also true once an ejection is over, for the request that will try it.
    pub fn is_up(&self, now: u64) -> bool {
        self.down_until() <= now
    }

    /// When it may get work again, unless it flips earlier; a time in the past while it is up. While its checks fail, no
    /// time brings it back.
    pub fn down_until(&self) -> u64 {
        if self.checks.is_down() {
            return u64::MAX;
        }
        until(self.circuit.load(Relaxed)).max(self.answers.until())
    }

    /// Whether nothing is held against it: the usual case, in which a request and its answer change nothing.
    pub fn is_spotless(&self) -> bool {
        self.takes_connections() && self.answers_well()
    }

    /// Whether no failure is counted.
    fn takes_connections(&self) -> bool {
        self.circuit.load(Relaxed) == 0
    }

    /// Records an event. A flip increases the service's count.
    pub fn apply(&self, now: u64, rules: &EjectionRules, event: HealthEvent) -> Option<Flip> {
        let mut before = self.circuit.load(Relaxed);
        loop {
            let (after, flip) = unpack(before).step(now, rules, event);
            let after = pack(after);
            if after == before {
                return None;
            }
            match self.circuit.compare_exchange_weak(before, after, Relaxed, Relaxed) {
                Ok(_) => {
                    if flip == Some(Flip::Restored) {
                        self.since.store(now, Relaxed);
                    }
                    flip.inspect(|_| self.flips.add());
                    return flip;
                }
                Err(other) => before = other,
            }
        }
    }

    /// Records that a request is about to be sent there. The first one after an ejection is the trial: for `wait`
    /// milliseconds, or [`EjectionRules::longest`] if that is less, no other request goes there.
    pub fn approach(&self, now: u64, wait: u64) {
        if self.takes_connections() {
            return;
        }
        self.apply(now, &EjectionRules::default(), HealthEvent::Trying { limit: wait });
    }

    /// Records that it answered a request, or took a connection of a TCP service. `true`: it was ejected before.
    pub fn succeeded(&self, now: u64) -> bool {
        if self.takes_connections() {
            return false;
        }
        self.apply(now, &EjectionRules::default(), HealthEvent::Succeeded) == Some(Flip::Restored)
    }

    /// Records that it did not take a connection, or did not answer. `Some`: it is ejected now, for this long.
    pub fn failed(&self, now: u64) -> Option<Duration> {
        match self.apply(now, &EjectionRules::default(), HealthEvent::Failed) {
            Some(Flip::Ejected(lasts)) => Some(lasts),
            Some(Flip::HalfOpen | Flip::Restored | Flip::Due) | None => None,
        }
    }
}

impl Health {
    /// Whether it gets no work for its answers, or only a trial.
    pub fn takes_place(&self, now: u64) -> bool {
        self.answers.until() > now
    }

    /// Forgets what was held against its answers.
    pub fn pardon(&self) {
        if self.answers.pardon() {
            self.flips.add();
        }
    }

    /// Whether nothing is held against its answers.
    pub fn answers_well(&self) -> bool {
        self.answers.is_spotless()
    }

    /// Records what is learnt from its answers, or that a request is about to be sent there. A flip increases the service's
    /// count. `has_place`: whether the service has a place for one more ejected instance; asked under the lock of
    /// `places`.
    pub fn judge(
        &self,
        at: (u64, &StandingRules),
        event: StandingEvent,
        grounds: Option<Grounds>,
        places: (&Places, impl FnOnce() -> bool),
    ) -> Option<StandingFlip> {
        let flip = self.answers.apply(at, event, grounds, places);
        match flip {
            Some(StandingFlip::Ejected(_)) => {
                let is_outlier = matches!(grounds, Some(Grounds::Outlier(..)));
                self.count(if is_outlier { Reason::Outlier } else { Reason::Errors });
                self.flips.add();
            }
            Some(StandingFlip::Restored) => {
                self.since.store(at.0, Relaxed);
                self.flips.add();
            }
            Some(StandingFlip::OnTrial | StandingFlip::Spared) => self.flips.add(),
            None => {}
        }
        flip
    }

    /// Makes its next request a trial, if it is ejected for failed connects or missing answers.
    pub fn make_due(&self, now: u64) {
        self.apply(now, &EjectionRules::default(), HealthEvent::Due);
    }

    fn count(&self, reason: Reason) {
        self.ejections[reason as usize].fetch_add(1, Relaxed);
    }

    /// How often it was ejected for this reason.
    pub fn ejections(&self, reason: Reason) -> u64 {
        self.ejections[reason as usize].load(Relaxed)
    }

    /// Whether it is neither ejected nor half-open, nor down by its checks.
    pub fn is_sound(&self) -> bool {
        !self.checks.is_down() && self.ejection(u64::MAX).is_none()
    }
}

/// Why instances are ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Failed connects in a row.
    Connect,
    /// Requests in a row without an answer.
    Unanswered,
    /// Errors in a row: `eject`.
    Errors,
    /// A success rate far below that of its peers.
    Outlier,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Unanswered, Self::Errors, Self::Outlier];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unanswered => "unanswered",
            Self::Errors => "errors",
            Self::Outlier => "outlier",
        }
    }
}

/// When an instance began to get work, for `slow_start`.
impl Health {
    /// When it returned, or appeared beside others; 0: at no time that counts.
    pub fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// Records that it appeared in a service that had others, unless another worker has.
    pub fn appeared(&self, now: u64) {
        // If another worker was first, its time counts.
        let _ = self.since.compare_exchange(0, now, Relaxed, Relaxed);
    }

    /// Records that it left its service: it may appear again.
    pub fn left(&self) {
        self.since.store(0, Relaxed);
    }
}

/// What an instance did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceError {
    /// The index of the fault in the registry's names.
    Fault(usize),
    /// It answered with this status.
    Status(u16),
}

/// Its last failure, for readers.
impl Health {
    /// Records that it failed just now, whether it is ejected for it or not.
    pub fn erred(&self, now: u64, error: InstanceError) {
        let code = match error {
            InstanceError::Fault(index) => index as u64 & (FIRST_STATUS - 1),
            InstanceError::Status(status) => u64::from(status).max(FIRST_STATUS),
        };
        self.error.store(now.max(1) << ERROR_BITS | code, Relaxed);
    }

    /// When it failed last, and how; `None`: never.
    pub fn last_error(&self) -> Option<(u64, InstanceError)> {
        let word = self.error.load(Relaxed);
        let code = word & ((1 << ERROR_BITS) - 1);
        let error = match u16::try_from(code) {
            Ok(status) if code >= FIRST_STATUS => InstanceError::Status(status),
            _ => InstanceError::Fault(usize::try_from(code).unwrap_or(usize::MAX)),
        };
        (word > 0).then_some((word >> ERROR_BITS, error))
    }
}

/// Since when and why an instance is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// `ejected`, or `half-open` once a request may try it.
    pub state: &'static str,
    /// When the first of its ejections in a row began.
    pub since: u64,
    /// Why.
    pub cause: Cause,
}

/// Why an instance is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It did not take connections, or did not answer: the index of the last fault in the registry's names.
    Fault(usize),
    /// Its answers.
    Answers(Grounds),
}

impl Health {
    /// Records that it was ejected just now, for this fault.
    pub fn blame(&self, now: u64, fault: usize, reason: Reason) {
        self.count(reason);
        let is_first = matches!(unpack(self.circuit.load(Relaxed)), Circuit::Ejected { spells: 0..=1, .. });
        let since = if is_first { now } else { self.ejection.load(Relaxed) >> FAULT_BITS };
        self.ejection.store(since << FAULT_BITS | fault as u64 & ((1 << FAULT_BITS) - 1), Relaxed);
    }

    /// Its ejection. `None`: it works.
    pub fn ejection(&self, now: u64) -> Option<Ejection> {
        let state = match unpack(self.circuit.load(Relaxed)) {
            Circuit::Closed { .. } => return self.ejection_for_answers(now),
            Circuit::Ejected { until, .. } if now < until => "ejected",
            Circuit::Ejected { .. } | Circuit::HalfOpen { .. } => "half-open",
        };
        let word = self.ejection.load(Relaxed);
        let fault = usize::try_from(word & ((1 << FAULT_BITS) - 1)).unwrap_or(usize::MAX);
        Some(Ejection { state, since: word >> FAULT_BITS, cause: Cause::Fault(fault) })
    }

    fn ejection_for_answers(&self, now: u64) -> Option<Ejection> {
        let state = match self.answers.standing() {
            Standing::Working { .. } => return None,
            Standing::Ejected { until, .. } if now < until => "ejected",
            Standing::Ejected { .. } | Standing::OnTrial { .. } => "half-open",
        };
        let (since, grounds) = self.answers.grounds();
        Some(Ejection { state, since, cause: Cause::Answers(grounds) })
    }
}

/// Active checks: for the prober alone, and for readers.
impl Health {
    /// What its checks have said.
    pub fn check_state(&self) -> CheckState {
        self.checks.state()
    }

    /// The last check; `None`: it was not checked.
    pub fn last_check(&self) -> Option<LastCheck> {
        self.checks.last()
    }

    /// Records the outcome of a check. A flip increases the service's count; one that brings the instance back also ends
    /// its ejections.
    pub fn checked(&self, now: u64, rules: CheckRules, outcome: &CheckOutcome) -> Option<CheckFlip> {
        let flip = self.checks.record(now, rules, outcome);
        if flip == Some(CheckFlip::Rose) {
            // What requests saw while it was down says nothing about it now.
            self.succeeded(now);
            self.pardon();
            self.since.store(now, Relaxed);
        }
        flip.inspect(|_| self.flips.add())
    }

    /// It was down before this program started: it gets no work until checks say otherwise.
    pub fn begin_down(&self, now: u64, said: Cow<'static, str>) {
        if self.checks.begin_down(now, said) {
            self.flips.add();
        }
    }

    /// It is no longer checked, or is another one: nothing is known of it.
    pub fn forget_checks(&self) {
        if self.checks.forget() {
            self.flips.add();
        }
    }
}

/// How often the instances of one service have flipped. When it has changed, a cached list of those that are up is out
/// of date.
#[derive(Debug, Default)]
pub struct FlipCount(AtomicU64);

impl FlipCount {
    /// The count now. A reader that sees a new count also sees the flips that it counts.
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn add(&self) {
        self.0.fetch_add(1, Release);
    }
}

/// The circuit in one word: its kind in the lowest [`KIND_BITS`], then `failures` or `spells`, then `until`. A closed
/// circuit has an `until` of 0, so that one comparison tells whether it is up.
fn pack(circuit: Circuit) -> u64 {
    let word = |kind: u64, count: u32, until: u64| {
        let count = u64::from(count).min((1 << COUNT_BITS) - 1);
        until.min(u64::MAX >> UNTIL_SHIFT) << UNTIL_SHIFT | count << KIND_BITS | kind
    };
    match circuit {
        Circuit::Closed { failures } => word(CLOSED, failures, 0),
        Circuit::Ejected { until, spells } => word(EJECTED, spells, until),
        Circuit::HalfOpen { until, spells } => word(HALF_OPEN, spells, until),
    }
}

fn unpack(word: u64) -> Circuit {
    let count = (word >> KIND_BITS & ((1 << COUNT_BITS) - 1)) as u32;
    match word & ((1 << KIND_BITS) - 1) {
        EJECTED => Circuit::Ejected { until: until(word), spells: count },
        HALF_OPEN => Circuit::HalfOpen { until: until(word), spells: count },
        _ => Circuit::Closed { failures: count },
    }
}

fn until(word: u64) -> u64 {
    word >> UNTIL_SHIFT
}

const FAULT_BITS: u32 = 8;
const ERROR_BITS: u32 = 10;
/// Lower codes are faults.
const FIRST_STATUS: u64 = 256;
const CLOSED: u64 = 0;
const EJECTED: u64 = 1;
const HALF_OPEN: u64 = 2;
const KIND_BITS: u32 = 2;
const COUNT_BITS: u32 = 6;
const UNTIL_SHIFT: u32 = KIND_BITS + COUNT_BITS;

#[cfg(test)]
mod tests;
