//! What another program knew of an instance's health, in times relative to now. Both programs have clocks of their own.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::{Circuit, FAULT_BITS, Grounds, Health, Standing, pack, unpack};

/// What is known of an instance's health; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedHealth {
    /// Its ejection for failed connects or missing answers.
    connects: Option<CarriedEjection>,
    /// Its ejection for its answers.
    answers: Option<CarriedEjection>,
    /// How long ago it returned, or appeared beside others, milliseconds.
    age: Option<u64>,
    /// How long ago active checks found it down, milliseconds.
    down: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct CarriedEjection {
    /// Ejections in a row.
    spells: u32,
    /// In how many milliseconds a request tries it.
    tried_in: u64,
    /// How long ago it began, milliseconds.
    age: u64,
    /// The name of the fault, if there was one.
    fault: Option<String>,
    /// Errors in a row, or its success rate.
    count: u32,
    /// The status of its last answer.
    status: Option<u16>,
    /// The success rate of its peers.
    peers: Option<u8>,
}

impl CarriedHealth {
    /// The longest time in it, milliseconds.
    pub fn longest(&self) -> u64 {
        let ejections = self.connects.iter().chain(&self.answers).map(|one| one.age);
        ejections.chain(self.age).chain(self.down).max().unwrap_or(0)
    }
}

impl Health {
    /// What the next program has to know; `None`: nothing. `faults`: the registry's names.
    pub fn carried(&self, now: u64, faults: &[&str]) -> Option<CarriedHealth> {
        let name = |fault: usize| faults.get(fault).map(|name| (*name).to_owned());
        let connects = match unpack(self.circuit.load(Relaxed)) {
            Circuit::Closed { .. } => None,
            Circuit::Ejected { until, spells } | Circuit::HalfOpen { until, spells } => {
                let word = self.ejection.load(Relaxed);
                let fault = usize::try_from(word & ((1 << FAULT_BITS) - 1)).unwrap_or(usize::MAX);
                let (tried_in, age) = (until.saturating_sub(now), now.saturating_sub(word >> FAULT_BITS));
                Some(CarriedEjection { spells, tried_in, age, fault: name(fault), ..CarriedEjection::default() })
            }
        };
        let answers = match self.answers.standing() {
            Standing::Working { .. } => None,
            Standing::Ejected { until, spells } | Standing::OnTrial { until, spells } => {
                let (since, grounds) = self.answers.grounds();
                let (tried_in, age) = (until.saturating_sub(now), now.saturating_sub(since));
                let plain = CarriedEjection { spells, tried_in, age, ..CarriedEjection::default() };
                Some(match grounds {
                    Grounds::Status(count, status) => CarriedEjection { count, status: Some(status), ..plain },
                    Grounds::Broken(count, fault) => CarriedEjection { count, fault: name(fault), ..plain },
                    Grounds::Outlier(rate, peers) => {
                        CarriedEjection { count: rate.into(), peers: Some(peers), ..plain }
                    }
                })
            }
        };
        let age = Some(self.since()).filter(|since| *since > 0).map(|since| now.saturating_sub(since));
        let down = self.checks.down_since().map(|since| now.saturating_sub(since));
        let carried = CarriedHealth { connects, answers, age, down };
        (carried != CarriedHealth::default()).then_some(carried)
    }

    /// Takes over what another program knew. Nobody else uses this one yet.
    pub fn recall(&self, now: u64, carried: &CarriedHealth, faults: &[&str]) {
        let place = |name: &Option<String>| {
            let found = faults.iter().position(|known| Some(*known) == name.as_deref());
            found.unwrap_or(usize::MAX)
        };
        let at = |age: u64| now.saturating_sub(age);
        if let Some(CarriedEjection { spells, tried_in, age, fault, .. }) = &carried.connects {
            let fault = place(fault) as u64 & ((1 << FAULT_BITS) - 1);
            self.ejection.store(at(*age) << FAULT_BITS | fault, Relaxed);
            let circuit = Circuit::Ejected { until: now.saturating_add(*tried_in), spells: *spells };
            self.circuit.store(pack(circuit), Relaxed);
        }
        if let Some(CarriedEjection { spells, tried_in, age, fault, count, status, peers }) = &carried.answers {
            let grounds = match (status, peers) {
                (Some(status), _) => Grounds::Status(*count, *status),
                (None, Some(peers)) => Grounds::Outlier(u8::try_from(*count).unwrap_or(100), *peers),
                (None, None) => Grounds::Broken(*count, place(fault)),
            };
            let standing = Standing::Ejected { until: now.saturating_add(*tried_in), spells: *spells };
            self.answers.recall(standing, at(*age), grounds);
        }
        self.since.store(carried.age.map_or(0, at), Relaxed);
        if let Some(age) = carried.down {
            self.checks.recall(at(age));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Places, Reason, StandingEvent, StandingRules};
    use super::*;

    const FAULTS: &[&str] = &["refused", "slow"];

    fn carry(from: &Health, then: u64, now: u64) -> Health {
        let carried = from.carried(then, FAULTS).unwrap();
        let text = serde_json::to_string(&carried).unwrap();
        let to = Health::new(&Arc::default());
        to.recall(now, &serde_json::from_str(&text).unwrap(), FAULTS);
        to
    }

    #[test]
    fn an_ejection_goes_on_by_another_clock() {
        let health = Health::default();
        while health.failed(100_000).is_none() {}
        health.blame(100_000, 1, Reason::Connect);
        let lasts = health.down_until() - 100_000;
        let next = carry(&health, 100_100, 5_000);
        assert_eq!(next.down_until(), 5_000 + lasts - 100);
        assert_eq!(next.ejection(5_000).unwrap().since, 4_900);
        assert!(next.succeeded(90_000), "it may come back");
    }

    #[test]
    fn an_ejection_for_answers_goes_on() {
        let (health, rules) = (Health::default(), StandingRules { errors: 1, lasts: 10_000 });
        let grounds = Some(Grounds::Status(1, 500));
        health.judge((100_000, &rules), StandingEvent::Bad, grounds, (&Places::default(), || true));
        let next = carry(&health, 103_000, 50_000);
        assert_eq!(next.down_until(), 57_000);
        assert_eq!(next.ejection(50_000).unwrap().cause, super::super::Cause::Answers(Grounds::Status(1, 500)));
    }

    #[test]
    fn a_slow_start_goes_on() {
        let health = Health::default();
        assert_eq!(health.carried(7, FAULTS), None);
        health.appeared(100_000);
        assert_eq!(carry(&health, 103_000, 50_000).since(), 47_000);
    }

    #[test]
    fn an_instance_stays_down_since_checks_found_it_so() {
        let health = Health::new(&Arc::default());
        health.begin_down(5_000, "GET / got 503".into());
        let next = carry(&health, 65_000, 100_000);
        assert!(next.last_check().is_none(), "it is not known to be down yet");
        next.begin_down(100_000, "before".into());
        assert_eq!(next.last_check().map(|last| last.since), Some(40_000));
        next.forget_checks();
        next.begin_down(200_000, "later".into());
        assert_eq!(next.last_check().map(|last| last.since), Some(200_000));
    }
}
