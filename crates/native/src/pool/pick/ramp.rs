//! `slow_start`: the weights in effect while instances get their full share by and by. Reads no clock.

use std::time::Duration;

use crate::pool::view::ServiceLive;

/// The share that an instance begins with, percent.
const FIRST: u64 = 10;
/// The shortest step, milliseconds.
const STEP: u64 = 100;

/// The weights in effect of these instances, and when the next of them changes.
pub(super) fn weights(live: &ServiceLive, indices: &[u32], now: u64) -> (Vec<u64>, u64) {
    let weight = |index: &u32| u64::from(live.service.instances[*index as usize].weight);
    let Some(ramp) = live.service.timeouts.slow_start else {
        return (indices.iter().map(weight).collect(), u64::MAX);
    };
    let mut next = u64::MAX;
    let in_effect = |index: &u32| {
        let (percent, until) = percent(live.instances[*index as usize].shared.health.since(), now, ramp);
        next = next.min(until);
        weight(index) * percent
    };
    (indices.iter().map(in_effect).collect(), next)
}

/// The share of its weight that an instance has, percent. `age`: since it began; `None`: long ago.
pub fn share_in_effect(age: Option<Duration>, ramp: Option<Duration>) -> u64 {
    let passed = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    age.zip(ramp).map_or(100, |(age, ramp)| percent(1, passed(age).saturating_add(1), ramp).0)
}

/// The share of its weight that an instance has, and until when. `since`: when it began; 0: long ago.
fn percent(since: u64, now: u64, ramp: Duration) -> (u64, u64) {
    let ramp = u64::try_from(ramp.as_millis()).unwrap_or(u64::MAX);
    // Another worker's clock may be a tick ahead.
    let passed = now.saturating_sub(since);
    if since == 0 || passed >= ramp {
        return (100, u64::MAX);
    }
    let step = STEP.max(ramp / (100 - FIRST));
    let steps = passed / step;
    (FIRST + (100 - FIRST) * (steps * step) / ramp, since + ((steps + 1) * step).min(ramp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_by_steps() {
        let check =
            |now, ramp, expected| assert_eq!(percent(1_000, now, Duration::from_millis(ramp)), expected, "{now}");
        check(1_000, 10_000, (10, 1_111));
        check(900, 10_000, (10, 1_111));
        check(1_110, 10_000, (10, 1_111));
        check(1_111, 10_000, (10, 1_222));
        check(6_000, 10_000, (54, 6_106));
        check(10_999, 10_000, (99, 11_000));
        check(11_000, 10_000, (100, u64::MAX));
        check(1_100, 250, (46, 1_200));
        check(1_200, 250, (82, 1_250));
        check(1_000, 3_600_000, (10, 41_000));
        assert_eq!(percent(0, 5, Duration::from_secs(9)), (100, u64::MAX), "no time that counts");
    }
}
