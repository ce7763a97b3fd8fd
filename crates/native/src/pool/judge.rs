//! Judges instances by the outcome of their work: failed connects, missing answers, and with `eject` the answers
//! themselves. Logs what is ejected, and what works again. Picks nothing, connects to nothing.

use std::time::Duration;

use pointsman_engine::live::{Grounds, InstanceError, Reason, StandingEvent, StandingFlip, StandingRules};
use pointsman_table::Eject;
use tracing::{info, warn};

use super::view::{InstanceLive, ServiceLive};
use crate::fault::{Fault, NAMES};

/// How an attempt shows the instance, if the service has `eject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, to the end, and not with a 5xx.
    Good,
    /// It answered with this 5xx.
    Failed(u16),
    /// Its answer was broken, or missing.
    Broken(Fault),
}

/// Notes that a request is about to be sent there. The first one after an ejection is the trial: other requests go
/// elsewhere until its outcome is known.
pub(super) fn approach(live: &ServiceLive, instance: &InstanceLive, now: u64) {
    if !instance.shared.health.is_spotless() {
        begin_trial(live, instance, now);
    }
}

#[cold]
fn begin_trial(live: &ServiceLive, instance: &InstanceLive, now: u64) {
    let limit = u64::try_from(live.service.timeouts.connect.as_millis()).unwrap_or(u64::MAX);
    instance.shared.health.approach(now, limit);
    if let Some(eject) = &live.service.eject {
        judge((live, eject), instance, StandingEvent::Trying { limit }, None, now);
    }
}

/// Notes that an instance of the service answered a request, or took a connection of a TCP service.
pub(crate) fn succeeded(live: &ServiceLive, instance: &InstanceLive, now: u64) {
    instance.answers.set(instance.answers.get().wrapping_add(1));
    if instance.shared.health.succeeded(now) {
        restored(live, instance, now);
    }
}

/// It works again. If all were down, the others may be back as well: each is tried by its next request, so that this one
/// does not get the work of all until their ejections are over.
#[cold]
fn restored(live: &ServiceLive, instance: &InstanceLive, now: u64) {
    if instance.shared.health.is_sound() {
        info!("{} is up again", live.describe(instance));
    }
    let others = || live.instances.iter().filter(|other| other.id != instance.id);
    if others().all(|other| !other.shared.health.is_up(now)) {
        others().for_each(|other| other.shared.health.make_due(now));
    }
}

/// Counts a failed connect, or a missing answer.
pub(super) fn failed(live: &ServiceLive, instance: &InstanceLive, fault: Fault, reason: Reason, now: u64) {
    instance.shared.health.erred(now, InstanceError::Fault(fault.facts().index));
    if let Some(lasts) = instance.shared.health.failed(now) {
        instance.shared.health.blame(now, fault.facts().index, reason);
        warn!("{} is ejected for {}: {fault}", live.describe(instance), in_words(lasts));
    }
}

/// How often the instance has been ejected for its answers, the lowest bits: tells requests that are sent now from those
/// sent before the next ejection. 0 without `eject`.
pub(super) fn ejections(live: &ServiceLive, instance: &InstanceLive) -> u16 {
    if live.service.eject.is_none() {
        return 0;
    }
    let health = &instance.shared.health;
    (health.ejections(Reason::Errors) + health.ejections(Reason::Outlier)) as u16
}

/// Judges an instance by the outcome of an attempt. A good answer of one in good standing writes nothing. `before`: its
/// [`ejections`] when the request was sent. If there are more now, the answer is a late one: it decides nothing.
pub(crate) fn answered(
    live: &ServiceLive,
    eject: &Eject,
    (instance, before): (&InstanceLive, u16),
    verdict: Verdict,
    now: u64,
) {
    let grounds = match verdict {
        Verdict::Good if instance.shared.health.answers_well() => return,
        Verdict::Good => None,
        Verdict::Failed(status) => Some(Grounds::Status(eject.errors.get(), status)),
        Verdict::Broken(fault) => Some(Grounds::Broken(eject.errors.get(), fault.facts().index)),
    };
    let event = match grounds {
        Some(_) => {
            instance.counters().errors.add(1);
            err(instance, verdict, now);
            StandingEvent::Bad
        }
        None => StandingEvent::Good,
    };
    if ejections(live, instance) == before {
        judge((live, eject), instance, event, grounds, now);
    }
}

/// Notes what was wrong with an answer, for operators.
#[cold]
pub(crate) fn err(instance: &InstanceLive, verdict: Verdict, now: u64) {
    let error = match verdict {
        Verdict::Good => return,
        Verdict::Failed(status) => InstanceError::Status(status),
        Verdict::Broken(fault) => InstanceError::Fault(fault.facts().index),
    };
    instance.shared.health.erred(now, error);
}

#[cold]
fn judge(
    (live, eject): (&ServiceLive, &Eject),
    instance: &InstanceLive,
    event: StandingEvent,
    grounds: Option<Grounds>,
    now: u64,
) {
    let has_place = || has_place((live, eject), instance, now);
    let flip = instance.shared.health.judge((now, &rules(eject)), event, grounds, (live.places(), has_place));
    match flip {
        Some(StandingFlip::Ejected(lasts)) => {
            let why = grounds.map(|grounds| grounds.in_words(NAMES)).unwrap_or_default();
            warn!("{} is ejected for {}: {why}", live.describe(instance), in_words(lasts));
        }
        Some(StandingFlip::Restored) => info!("{} is up again", live.describe(instance)),
        Some(StandingFlip::Spared) if instance.shared.lines.is_due(now) => {
            let share = eject.at_most;
            info!("{} is not ejected: no more than {share} of the instances may be at once", live.describe(instance));
        }
        Some(StandingFlip::OnTrial | StandingFlip::Spared) | None => {}
    }
}

/// Whether one more instance of the service may be ejected for its answers.
fn has_place((live, eject): (&ServiceLive, &Eject), instance: &InstanceLive, now: u64) -> bool {
    let newest = live.newest();
    let live = newest.as_deref().unwrap_or(live);
    let all = live.service.instances.iter().zip(&live.instances).filter(|(instance, _)| instance.takes_work());
    let (mut count, mut taken) = (0, 0);
    for (_, other) in all {
        count += 1;
        taken += usize::from(other.id != instance.id && other.shared.health.takes_place(now));
    }
    taken < eject.most(count)
}

/// The engine's form of the key.
pub(crate) fn rules(eject: &Eject) -> StandingRules {
    let lasts = u64::try_from(eject.lasts.as_millis()).unwrap_or(u64::MAX);
    StandingRules { errors: eject.errors.get(), lasts }
}

/// `10 s`, `250 ms`.
pub(crate) fn in_words(lasts: Duration) -> String {
    match lasts.subsec_millis() {
        0 => format!("{} s", lasts.as_secs()),
        _ => format!("{} ms", lasts.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use pointsman_engine::live::Registry;
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;
    use crate::pool::connections::Pools;
    use crate::pool::view::{Home, View};

    #[test]
    fn answers_to_requests_from_before_an_ejection_decide_nothing() {
        let mut keys = KeySet::default();
        let entries = [("default", "true"), ("eject", "errors=1 for=10s"), ("a", "h:1"), ("b", "h:2")];
        keys.reset(1, entries.map(|(key, value)| (format!("services/s/{key}").into(), value.as_bytes().into())));
        let home = Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(0));
        let view = View::empty().next(compile(&keys, None, &Limits::default()).table, &home, 0);
        let live = Rc::clone(view.service(0, &home).unwrap());
        let (eject, instance) = (live.service.eject.as_ref().unwrap(), &*live.instances[0]);
        let answer = |sent: u16, verdict, now| answered(&live, eject, (instance, sent), verdict, now);
        let before = ejections(&live, instance);
        answer(before, Verdict::Failed(500), 1);
        assert!(!instance.shared.health.is_up(10_000));
        approach(&live, instance, 10_001);
        let trial = ejections(&live, instance);
        for verdict in [Verdict::Good, Verdict::Failed(500)] {
            answer(before, verdict, 10_002);
            let state = instance.shared.health.ejection(10_002).map(|ejection| ejection.state);
            assert_eq!(state, Some("half-open"), "{verdict:?} is late");
        }
        answer(trial, Verdict::Good, 10_003);
        assert_eq!(instance.shared.health.ejection(10_003), None);
        answer(before, Verdict::Failed(500), 10_004);
        assert_eq!(instance.shared.health.ejection(10_004), None);
    }
}
